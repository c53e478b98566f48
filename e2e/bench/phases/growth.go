package phases

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/e2e/bench/witness"
)

// look is how often it is asked for the status, where the answer is long.
const look = 30 * time.Millisecond

func (o Options) grown(what string, n int, all []Times, bare float64) Growth {
	g := Growth{What: what, N: n, Own: summary(all, Times.Own), Bare: bare}
	at := func(f func(Times) float64) float64 { return summary(all, f).Median }
	o.Note("%d %s: %.1f ms of a handoff are holdfast's own (median of %d: %.1f exec, %.1f proof, %.1f cutover, %.1f stop; bare %.1f)", n, what, g.Own.Median, len(all),
		at(func(t Times) float64 { return t.Exec }), at(func(t Times) float64 { return t.Proven }), at(func(t Times) float64 { return t.Cutover }),
		at(func(t Times) float64 { return t.Settle }), bare)
	return g
}

func (p *pod) times(n int, pause time.Duration) (all []Times, err error) {
	for range n {
		t, _, err := p.handOver(pause, p.hangUp)
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	return all, nil
}

// ports lets the number of held ports grow.
func ports(o Options) (growths []Growth, err error) {
	for _, n := range o.Ports {
		addresses, err := free(n)
		if err != nil {
			return growths, err
		}
		bare, err := opening(o, addresses)
		if err != nil {
			return growths, err
		}
		p, err := start(o, settle, nil, addresses...)
		if err != nil {
			return growths, err
		}
		// The status lists them all. Asked for every 30 ms it takes a third of holdfast's processor time (1,000 ports: 1.1 s, else 0.7), which would be counted as
		// the handoff's.
		all, err := p.times(o.Each, max(look, time.Duration(n)*300*time.Microsecond))
		p.end()
		if err != nil {
			return growths, fmt.Errorf("%d ports: %w", n, err)
		}
		growths = append(growths, o.grown("held ports", n, all, bare))
	}
	return growths, nil
}

// opening is how long the bare server takes from the instant in which it opens its ports until it accepts on all.
func opening(o Options, addresses []string) (float64, error) {
	dir, err := os.MkdirTemp("", "holdfast-bench-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	p := pod{dir: dir}
	cmd := exec.Command(o.Server, addresses...)
	cmd.Env = append(os.Environ(), "SUBJECT_NOTE="+p.note(), "GOMAXPROCS=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	for i := len(addresses) - 1; i >= 0; i-- { // the last one is there last
		if err := reach(addresses[i]); err != nil {
			return 0, err
		}
	}
	opened := time.Now()
	began, err := p.lastNote()
	return ms(opened.Sub(began)), err
}

func reach(address string) error {
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(200 * time.Microsecond) {
		if conn, err := net.Dial("tcp", address); err == nil {
			return conn.Close()
		}
	}
	return fmt.Errorf("nobody listens on %s", address)
}

// connections lets the old generation have more and more of them open.
func connections(o Options) (growths []Growth, err error) {
	for _, n := range o.Connections {
		room, err := descriptors(n + reserve)
		if err != nil {
			return growths, err
		}
		if room < n {
			o.Note("%d connections need more descriptors than a process may have here: %d in their place", n, room)
			n = room
		}
		address, err := free(1)
		if err != nil {
			return growths, err
		}
		p, err := start(o, settle, nil, address...)
		if err != nil {
			return growths, err
		}
		all, err := p.crowded(address[0], n, crowds(o.Each, n))
		p.end()
		if err != nil {
			return growths, fmt.Errorf("%d connections: %w", n, err)
		}
		growths = append(growths, o.grown("open connections", n, all, 0))
	}
	return growths, nil
}

// crowds is how often a handoff of so many connections is measured: their making takes seconds.
func crowds(each, n int) int {
	if n > 10_000 {
		return min(each, 2)
	}
	return each
}

func (p *pod) crowded(address string, n, times int) (all []Times, err error) {
	for range times {
		fds, err := crowd(address, n)
		if err == nil {
			time.Sleep(200 * time.Millisecond) // until all are accepted
			var t Times
			t, _, err = p.handOver(look, p.hangUp)
			all = append(all, t)
		}
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// crowd opens n connections, from as many addresses of the loopback as are needed. The caller closes them.
func crowd(address string, n int) (fds []int, err error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return nil, err
	}
	to := &unix.SockaddrInet4{Port: number, Addr: [4]byte{127, 0, 77, 1}}
	for i := range n {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fds, err
		}
		fds = append(fds, fd)
		const each = 10_000 // connections from one address
		from := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 1, byte(1 + i/each)}}
		err = errors.Join(
			unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1), unix.Bind(fd, from), unix.Connect(fd, to))
		if err != nil {
			return fds, fmt.Errorf("connection %d: %w", i+1, err)
		}
	}
	return fds, nil
}

// reserve is what a process needs beside the descriptors of its connections.
const reserve = 500

// descriptors makes room for n of them in this process and those that it starts, and returns how many connections they are
// enough for.
func descriptors(n int) (connections int, err error) {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 0, err
	}
	if l.Cur < uint64(n) {
		// syscall's, not unix's: Go gives children the limit that was set so.
		more := syscall.Rlimit{Cur: uint64(n), Max: max(l.Max, uint64(n))}
		if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &more) == nil {
			l = more
		}
	}
	return int(l.Cur) - reserve, nil
}

// processes lets the pod have more and more of them: as those of an exec in a container, they are no generation's.
func processes(o Options) (growths []Growth, err error) {
	address, err := free(1)
	if err != nil {
		return nil, err
	}
	p, err := start(o, settle, nil, address...)
	if err != nil {
		return nil, err
	}
	defer p.end()
	have := 2 // holdfast and the server
	for _, n := range o.Processes {
		if n > have {
			if err := p.add(o, n-have); err != nil {
				return growths, err
			}
			have = n
		}
		all, err := p.times(o.Each, look)
		if err != nil {
			return growths, fmt.Errorf("%d processes: %w", n, err)
		}
		growths = append(growths, o.grown("processes in the pod", n, all, 0))
	}
	return growths, nil
}

// add starts n processes in the pod's PID namespace, which go with it.
func (p *pod) add(o Options, n int) error {
	var log witness.Log
	pid := strconv.Itoa(p.pid())
	cmd := exec.Command("nsenter", "-t", pid, "-p", "-m", o.Witness, "hold", strconv.Itoa(n-1))
	cmd.Stdout = &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() { _ = cmd.Wait() }()
	_, err := log.Wait("held", 0, within)
	return err
}

// files lets the watched directory have more and more of them. The trigger is a change of one; from that on the debounce,
// which the user chooses, is left out.
func files(o Options) (growths []Growth, err error) {
	const debounce = 20 * time.Millisecond
	for _, n := range o.Files {
		dir, err := os.MkdirTemp("", "holdfast-bench-watched-")
		if err != nil {
			return growths, err
		}
		defer os.RemoveAll(dir)
		for i := range n {
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("file-%d", i)), []byte("one\n"), 0o644); err != nil {
				return growths, err
			}
		}
		address, err := free(1)
		if err != nil {
			return growths, err
		}
		p, err := start(o, settle, []string{"--watch", dir, "--watch-debounce", debounce.String()}, address...)
		if err != nil {
			return growths, err
		}
		var all []Times
		for i := range o.Each {
			t, _, err := p.handOver(look, func() error {
				return os.WriteFile(filepath.Join(dir, "file-0"), fmt.Appendf(nil, "change %d\n", i), 0o644)
			})
			if err != nil {
				p.end()
				return growths, fmt.Errorf("%d files: %w", n, err)
			}
			t.Exec -= ms(debounce)
			all = append(all, t)
		}
		p.end()
		bare, err := readAll(dir)
		if err != nil {
			return growths, err
		}
		growths = append(growths, o.grown("watched files", n, all, bare))
	}
	return growths, nil
}

// readAll is how long it takes only to read the files.
func readAll(dir string) (float64, error) {
	began := time.Now()
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		if _, err := os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			return 0, err
		}
	}
	return ms(time.Since(began)), nil
}
