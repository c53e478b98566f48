package servers

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/e2e/load"
)

// within bounds every wait for something that takes milliseconds on a quiet machine.
const within = time.Minute

// socket is a listening socket as a holder would make it, with no help of package net, which would make it non-blocking
// for everybody that shares it.
func socket(t *testing.T) (f *os.File, addr string) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f = os.NewFile(uintptr(fd), "listener")
	t.Cleanup(func() { _ = f.Close() })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 512); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return f, net.JoinHostPort("127.0.0.1", strconv.Itoa(name.(*unix.SockaddrInet4).Port))
}

// process is a started server.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
	mu   sync.Mutex
	out  []byte
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out = append(p.out, b...)
	return len(b), nil
}

// output is what p has written so far.
func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return string(p.out)
}

// start runs argv with the sockets as LISTEN_FDS. The shell is there because LISTEN_PID must be the pid of what it execs.
func start(t *testing.T, generation int, socket *os.File, env []string, argv []string) *process {
	t.Helper()
	cmd := exec.Command("/bin/sh", append([]string{"-c", `LISTEN_PID=$$ exec "$@"`, "sh"}, argv...)...)
	cmd.Env = append(append(os.Environ(), "HOLDFAST_GENERATION="+strconv.Itoa(generation)), env...)
	p := &process{cmd: cmd, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p, p
	cmd.WaitDelay = time.Second // a descendant may hold the pipe
	if socket != nil {
		cmd.ExtraFiles = []*os.File{socket}
		cmd.Env = append(cmd.Env, "LISTEN_FDS=1", "LISTEN_FDNAMES=web")
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = cmd.Wait(); close(p.done) }()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // its process group, which only holds what it started
		<-p.done
		if out := p.output(); t.Failed() && out != "" {
			t.Logf("%v: %s", argv, out)
		}
	})
	return p
}

// exit waits for p's exit code; -1 when it was killed.
func (p *process) exit(t *testing.T) int {
	t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(within):
		t.Fatalf("%v: not ended within %v", p.cmd.Args[3:], within)
		return 0
	}
}

func (p *process) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// get asks once, on a connection of its own, and returns the status and body.
func get(addr, path string, timeout time.Duration) (int, string, error) {
	c := http.Client{Timeout: timeout, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := c.Get("http://" + addr + path)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = r.Body.Close() }()
	b, err := io.ReadAll(r.Body)
	return r.StatusCode, string(b), err
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, within)
		}
	}
}

// TestServers starts each server twice on one shared socket and stops the first under load. What a server loses then
// is its own affair, and logged: with one shared listener nobody can help it. What it must do is to answer from the
// socket that it was given with its own generation, finish what it has begun, and end.
func TestServers(t *testing.T) {
	goActivation := filepath.Join(t.TempDir(), "goactivation")
	if err := BuildGoActivation(".", goActivation); err != nil {
		t.Fatal(err)
	}
	for _, s := range All(".") {
		if s.Activated == nil {
			continue
		}
		t.Run(s.Name, func(t *testing.T) {
			if why := s.Missing(); why != "" && os.Getenv("CI") == "" {
				t.Skip(why)
			} else if why != "" {
				t.Fatal(why)
			}
			sock, addr := socket(t)
			argv := s.Activated(Place{GoActivation: goActivation})
			old := start(t, 1, sock, nil, argv)
			l := load.New(load.Options{Address: addr, NewWorkers: 2, KeepAliveWorkers: 2, Think: 5 * time.Millisecond, Timeout: within})
			l.Start(t.Context())
			defer l.Stop()
			eventually(t, "answers of generation 1", func() bool { return l.Snapshot().ByGeneration[1] > 100 })
			if r := l.Snapshot(); r.Lost() > 0 {
				t.Fatal(r)
			}
			slow := beginSlow(t, addr) // with generation 1, which is alone
			start(t, 2, sock, nil, argv)
			eventually(t, "answers of generation 2", func() bool { return l.Snapshot().ByGeneration[2] > 20 })
			stop := time.Now()
			old.signal(t, unix.SignalNum("SIG"+s.Stop))
			code := old.exit(t)
			t.Logf("exit %d, %v after SIG%s", code, time.Since(stop).Round(time.Millisecond), s.Stop)
			if code != 0 {
				t.Errorf("exit %d", code)
			}
			if r, err := http.ReadResponse(bufio.NewReader(slow), nil); err != nil || r.StatusCode != 200 {
				t.Errorf("the request under way: %+v, %v", r, err)
			}
			// What failed in that instant may be counted a little later.
			since := l.Snapshot().ByGeneration[2]
			eventually(t, "answers after the end", func() bool { return l.Snapshot().ByGeneration[2] > since+50 })
			before := l.Snapshot()
			eventually(t, "more answers of generation 2", func() bool { return l.Snapshot().ByGeneration[2] > before.ByGeneration[2]+200 })
			after := l.Stop()
			t.Log(after)
			if after.Lost() != before.Lost() || after.ByGeneration[1] != before.ByGeneration[1] {
				t.Errorf("after the end of generation 1: lost %d more, generation 1 answered %d more", after.Lost()-before.Lost(), after.ByGeneration[1]-before.ByGeneration[1])
			}
		})
	}
}

// beginSlow sends a request that takes its time, and returns when the server has been seen to have accepted it. On a busy
// machine, whose table of connections is long, the answer may be there before that: then it is another request's turn.
func beginSlow(t *testing.T, addr string) net.Conn {
	t.Helper()
	const takes = 5 * time.Second
	for end := time.Now().Add(within); time.Now().Before(end); {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(2 * within))
		if _, err := fmt.Fprintf(conn, "GET /slow?ms=%d HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", takes.Milliseconds()); err != nil {
			t.Fatal(err)
		}
		for began := time.Now(); time.Since(began) < takes; time.Sleep(2 * time.Millisecond) {
			if accepted(t, addr, conn.LocalAddr().String()) > 0 {
				return conn
			}
		}
	}
	t.Fatalf("no slow request has been accepted within %v", within)
	return nil
}

// TestNginx binds its port itself.
func TestNginx(t *testing.T) {
	for _, s := range All(".") {
		if s.Name != "nginx" {
			continue
		}
		if why := s.Missing(); why != "" && os.Getenv("CI") == "" {
			t.Skip(why)
		} else if why != "" {
			t.Fatal(why)
		}
		sock, addr := socket(t)
		host, port, _ := net.SplitHostPort(addr)
		_ = sock.Close() // free again
		p := start(t, 7, nil, nil, s.Binding(Place{Host: host, Port: port, Scratch: t.TempDir()}))
		eventually(t, "an answer", func() bool { _, _, err := get(addr, "/healthz", within); return err == nil })
		l := load.New(load.Options{Address: addr, MaxRequests: 300})
		l.Start(t.Context())
		eventually(t, "300 requests", func() bool { return l.Snapshot().Requests == 300 })
		if r := l.Stop(); r.Lost() != 0 || r.ByGeneration[7] != 300 {
			t.Error(r)
		}
		p.signal(t, syscall.SIGQUIT)
		if code := p.exit(t); code != 0 {
			t.Errorf("exit %d", code)
		}
		return
	}
	t.Fatal("nginx is not listed")
}

// ask is one request by the load's client, for its exact outcome.
func ask(t *testing.T, network, addr, path string, timeout time.Duration) (load.Outcome, int) {
	t.Helper()
	l := load.New(load.Options{Network: network, Address: addr, Path: path, NewWorkers: 1, MaxRequests: 1, Timeout: timeout})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	l.Start(ctx)
	eventually(t, "one request", func() bool { return l.Snapshot().Requests == 1 })
	r := l.Stop()
	if r.Lost() == 0 {
		return load.OK, r.Generations()[0]
	}
	return r.Failures[0].Outcome, 0
}
