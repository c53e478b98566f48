package phases

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"holdfast/e2e/bench/proc"
	"holdfast/handoff/status"
)

// pod is a holdfast with a server, as PID 1 of a PID namespace.
type pod struct {
	cmd    *exec.Cmd
	dir    string
	probes string
	live   int // the generation
	settle time.Duration
}

const within = time.Minute

// start starts it and waits until the first generation is ready.
func start(o Options, settle time.Duration, flags []string, addresses ...string) (*pod, error) {
	dir, err := os.MkdirTemp("", "holdfast-bench-")
	if err != nil {
		return nil, err
	}
	probes, err := free(1)
	if err != nil {
		return nil, err
	}
	p := &pod{dir: dir, probes: probes[0], live: 1, settle: settle}
	argv := append([]string{"become", o.Holdfast, "-q", "--probe-addr", p.probes, "--settle", settle.String()}, flags...)
	p.cmd = exec.Command(o.Witness, append(append(argv, "--", o.Server), addresses...)...)
	p.cmd.Env = append(os.Environ(), "SUBJECT_NOTE="+p.note(), "SUBJECT_PATIENCE=20ms", "GOMAXPROCS=1")
	p.cmd.Stderr = os.Stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		p.cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		p.cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		p.cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	if err := p.cmd.Start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if _, err := p.until(5*time.Millisecond, func(s *status.Snapshot) bool { return s.Ready.Live == "" }); err != nil {
		p.end()
		return nil, err
	}
	return p, nil
}

func (p *pod) pid() int     { return p.cmd.Process.Pid }
func (p *pod) note() string { return filepath.Join(p.dir, "note") }

// end kills it, and with the PID 1 of its namespace everything below it.
func (p *pod) end() {
	_ = p.cmd.Process.Kill()
	_, _ = p.cmd.Process.Wait()
	_ = os.RemoveAll(p.dir)
}

// free returns n addresses that nobody listens on. They are on an address of the loopback that nobody uses otherwise, and
// below the ports that the kernel gives out: a connection, a probe of holdfast's say, could have one of those meanwhile.
func free(n int) (addresses []string, err error) {
	const first, last = 10_000, 32_000
	for port := first + rand.IntN(10_000); len(addresses) < n; port++ {
		if port > last {
			return nil, fmt.Errorf("%d free ports: %w", n, err)
		}
		var l net.Listener
		if l, err = net.Listen("tcp", fmt.Sprintf("127.0.77.1:%d", port)); err != nil {
			continue
		}
		addresses = append(addresses, l.Addr().String())
		if err := l.Close(); err != nil {
			return nil, err
		}
	}
	return addresses, nil
}

// until asks for the status until ok holds.
func (p *pod) until(pause time.Duration, ok func(*status.Snapshot) bool) (*status.Snapshot, error) {
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(pause) {
		response, err := client.Get("http://" + p.probes + "/statusz?format=json")
		if err != nil {
			continue // it does not listen yet
		}
		var d status.Document
		err = json.NewDecoder(response.Body).Decode(&d)
		response.Body.Close()
		if err != nil {
			return nil, fmt.Errorf("read /statusz: %w", err)
		}
		if ok(d.Snapshot) {
			return d.Snapshot, nil
		}
	}
	return nil, fmt.Errorf("holdfast does not get there within %v", within)
}

// Times are the stretches of one handoff, one after the other, in milliseconds.
type Times struct {
	Exec    float64 `json:"exec"`    // the signal is sent → the new program is executed
	Start   float64 `json:"start"`   // → it is about to open its ports (the server's own)
	Proven  float64 `json:"proven"`  // → it is proven ready on all of them
	Cutover float64 `json:"cutover"` // → the switch has turned
	Settle  float64 `json:"settle"`  // → the stop signal is sent, less the settle time
	Drain   float64 `json:"drain"`   // → the old one is gone (the server's own)
}

// Own is what holdfast itself takes: all but the server's start, the settle time and the drain.
func (t Times) Own() float64 { return t.Exec + t.Proven + t.Cutover + t.Settle }

// handOver performs a handoff that trigger asks for and returns its stretches; pause is how often it looks whether it is
// over.
func (p *pod) handOver(pause time.Duration, trigger func() error) (Times, *status.Snapshot, error) {
	began := time.Now()
	if err := trigger(); err != nil {
		return Times{}, nil, err
	}
	p.live++
	s, err := p.until(pause, func(s *status.Snapshot) bool {
		return s.Live == p.live && s.Handoff == nil && !slices.ContainsFunc(s.Generations, func(g status.Generation) bool {
			return g.Number != p.live && g.State != status.Gone
		})
	})
	if err != nil {
		return Times{}, nil, err
	}
	opening, err := p.lastNote()
	if err != nil {
		return Times{}, nil, err
	}
	live, old := generation(s, p.live), generation(s, p.live-1)
	t := Times{
		Exec: ms(live.Executed.Sub(began)), Start: ms(opening.Sub(live.Executed)), Proven: ms(live.ProvenAt.Sub(opening)),
		Cutover: ms(s.Last.CutoverAt.Sub(live.ProvenAt)), Settle: ms(old.StoppedAt.Sub(s.Last.CutoverAt) - p.settle), Drain: ms(old.GoneAt.Sub(old.StoppedAt)),
	}
	return t, s, nil
}

func (p *pod) hangUp() error { return p.cmd.Process.Signal(syscall.SIGHUP) }

func (p *pod) lastNote() (time.Time, error) {
	text, err := os.ReadFile(p.note())
	if err != nil {
		return time.Time{}, err
	}
	lines := strings.Fields(string(text))
	if len(lines) == 0 {
		return time.Time{}, errors.New("the server has noted nothing")
	}
	ns, err := strconv.ParseInt(lines[len(lines)-1], 10, 64)
	return time.Unix(0, ns), err
}

func generation(s *status.Snapshot, n int) status.Generation {
	for _, g := range s.Generations {
		if g.Number == n {
			return g
		}
	}
	return status.Generation{}
}

func (p *pod) memory() proc.Memory { return proc.MemoryOf(p.pid()) }

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
