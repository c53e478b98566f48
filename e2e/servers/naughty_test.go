package servers

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/e2e/load"
)

func buildNaughty(t *testing.T) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "naughty")
	if b, err := exec.Command("go", "build", "-o", out, "./naughty").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	return out
}

func orders(format string, a ...any) []string {
	return []string{"NAUGHTY=" + fmt.Sprintf(format, a...)}
}

// lives says whether p is still running after d.
func (p *process) lives(d time.Duration) bool {
	select {
	case <-p.done:
		return false
	case <-time.After(d):
		return true
	}
}

// open makes the file that something waits for.
func open(t *testing.T, file string) {
	t.Helper()
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

// waiting makes one request that is answered when the file exists, and returns when the server has it.
func waiting(t *testing.T, addr, file string) *load.Load {
	t.Helper()
	l := load.New(load.Options{Address: addr, Path: "/wait?for=" + file, NewWorkers: 1, MaxRequests: 1, Timeout: within})
	l.Start(t.Context())
	eventually(t, "the request is being answered", func() bool { return accepted(t, addr, "") == 1 })
	return l
}

// accepted counts the connections that have been accepted on addr, those that somebody has a descriptor of; only the one
// from client if that is not empty.
func accepted(t *testing.T, addr, client string) (n int) {
	t.Helper()
	number := func(addr string) int {
		a, err := netip.ParseAddrPort(addr)
		if err != nil {
			t.Fatal(err)
		}
		return int(a.Port())
	}
	from := ""
	if client != "" {
		from = fmt.Sprintf(":%04X", number(client))
	}
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); len(f) > 9 && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", number(addr))) &&
			strings.HasSuffix(f[2], from) && f[3] == "01" && f[9] != "0" {
			n++
		}
	}
	return n
}

// TestNaughty tries every directive but those of readiness.
func TestNaughty(t *testing.T) {
	bin := []string{buildNaughty(t)}
	serves := func(t *testing.T, addr string, generation int) {
		t.Helper()
		if o, g := ask(t, "tcp", addr, "/", within); o != load.OK || g != generation {
			t.Fatalf("%s from generation %d, want an answer of %d", o, g, generation)
		}
	}
	for name, try := range map[string]func(*testing.T, *os.File, string){
		"chosen by generation": func(t *testing.T, sock *os.File, addr string) {
			p := start(t, 12, sock, orders("1:exit=3 12:ok *:exit=4"), bin)
			serves(t, addr, 12)
			p.signal(t, syscall.SIGTERM)
			if c := p.exit(t); c != 0 {
				t.Errorf("exit %d", c)
			}
			if c := start(t, 1, sock, orders("1:exit=3 12:ok *:exit=4"), bin).exit(t); c != 3 {
				t.Errorf("exit %d, want 3", c)
			}
			if c := start(t, 2, sock, orders("1:exit=3 12:ok *:exit=4"), bin).exit(t); c != 4 {
				t.Errorf("exit %d, want 4", c)
			}
			if c := start(t, 2, sock, orders("2:bogus"), bin).exit(t); c != 1 {
				t.Errorf("an unknown directive: exit %d", c)
			}
		},
		"chosen by file": func(t *testing.T, sock *os.File, addr string) {
			file := filepath.Join(t.TempDir(), "orders")
			env := append(orders("*:exit=9"), "NAUGHTY_FILE="+file)
			for i, text := range []string{"1:exit=5", "2:exit=6\n1:ok\n"} {
				if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
				if c := start(t, i+1, sock, env, bin).exit(t); c != 5+i {
					t.Errorf("exit %d, want %d", c, 5+i)
				}
			}
		},
		"finishes on SIGTERM": func(t *testing.T, sock *os.File, addr string) {
			p := start(t, 1, sock, orders("*:term-exit=8"), bin)
			serves(t, addr, 1)
			gate := filepath.Join(t.TempDir(), "gate")
			l := waiting(t, addr, gate)
			p.signal(t, syscall.SIGTERM)
			open(t, gate)
			if c := p.exit(t); c != 8 {
				t.Errorf("exit %d", c)
			}
			if r := l.Stop(); r.Lost() != 0 || r.ByGeneration[1] != 1 {
				t.Error(r)
			}
		},
		"abrupt": func(t *testing.T, sock *os.File, addr string) {
			p := start(t, 1, sock, orders("*:abrupt"), bin)
			serves(t, addr, 1)
			l := waiting(t, addr, filepath.Join(t.TempDir(), "never"))
			p.signal(t, syscall.SIGTERM)
			p.exit(t)
			if r := l.Stop(); r.ByOutcome[load.EOF]+r.ByOutcome[load.Reset] != 1 {
				t.Error(r)
			}
		},
		"hang": func(t *testing.T, sock *os.File, addr string) {
			p := start(t, 1, sock, orders("*:hang"), bin)
			if o, _ := ask(t, "tcp", addr, "/", 300*time.Millisecond); o != load.Timeout {
				t.Error(o)
			}
			p.signal(t, syscall.SIGTERM)
			p.exit(t)
		},
		"noaccept": func(t *testing.T, sock *os.File, addr string) {
			p := start(t, 1, sock, orders("*:noaccept"), bin)
			if o, _ := ask(t, "tcp", addr, "/", 300*time.Millisecond); o != load.Timeout || !p.lives(0) {
				t.Error(o)
			}
		},
		"accept-after": func(t *testing.T, sock *os.File, addr string) {
			begin := time.Now()
			start(t, 1, sock, orders("*:accept-after=400ms"), bin)
			serves(t, addr, 1)
			if d := time.Since(begin); d < 400*time.Millisecond {
				t.Errorf("answered after %v", d)
			}
		},
		"crash-after": func(t *testing.T, sock *os.File, addr string) {
			if c := start(t, 1, sock, orders("*:crash-after=300ms"), bin).exit(t); c != 70 {
				t.Errorf("exit %d", c)
			}
		},
		"crash-when": func(t *testing.T, sock *os.File, addr string) {
			gate := filepath.Join(t.TempDir(), "gate")
			p := start(t, 1, sock, orders("*:crash-when=%s", gate), bin)
			serves(t, addr, 1)
			open(t, gate)
			if c := p.exit(t); c != 70 {
				t.Errorf("exit %d", c)
			}
		},
		"crash-after-request": func(t *testing.T, sock *os.File, addr string) {
			p := start(t, 1, sock, orders("*:crash-after-request=100ms"), bin)
			eventually(t, "health", func() bool { _, b, _ := get(addr, "/healthz", within); return b == "ok\n" })
			if !p.lives(400 * time.Millisecond) {
				t.Fatal("crashed without a user's request")
			}
			serves(t, addr, 1)
			if c := p.exit(t); c != 70 {
				t.Errorf("exit %d", c)
			}
		},
		"ignore-term": func(t *testing.T, sock *os.File, addr string) {
			p := start(t, 1, sock, orders("*:ignore-term"), bin)
			serves(t, addr, 1)
			p.signal(t, syscall.SIGTERM)
			if !p.lives(200 * time.Millisecond) {
				t.Fatal("ended")
			}
			serves(t, addr, 1)
		},
		"linger": func(t *testing.T, sock *os.File, addr string) {
			p := start(t, 1, sock, orders("*:linger=400ms"), bin)
			serves(t, addr, 1)
			begin := time.Now()
			p.signal(t, syscall.SIGTERM)
			p.exit(t)
			if d := time.Since(begin); d < 400*time.Millisecond {
				t.Errorf("ended after %v", d)
			}
		},
		"linger-until": func(t *testing.T, sock *os.File, addr string) {
			gate := filepath.Join(t.TempDir(), "gate")
			p := start(t, 1, sock, orders("*:linger-until=%s", gate), bin)
			serves(t, addr, 1)
			p.signal(t, syscall.SIGTERM)
			if !p.lives(200 * time.Millisecond) {
				t.Fatal("ended")
			}
			serves(t, addr, 1)
			open(t, gate)
			if c := p.exit(t); c != 0 {
				t.Errorf("exit %d", c)
			}
		},
		"grandchild": func(t *testing.T, sock *os.File, addr string) {
			for i, order := range []string{"grandchild", "grandchild=sockets"} {
				p := start(t, 1, sock, orders("*:%s", order), bin)
				serves(t, addr, 1)
				pid := child(t, p.cmd.Process.Pid)
				_ = syscall.Kill(pid, syscall.SIGTERM)
				p.signal(t, syscall.SIGTERM)
				p.exit(t)
				if sid, err := unix.Getsid(pid); err != nil || sid != pid {
					t.Errorf("%s: session %d of process %d: %v", order, sid, pid, err)
				}
				if held := sockets(t, pid); held != i {
					t.Errorf("%s: holds %d sockets", order, held)
				}
			}
		},
		"daemonize": func(t *testing.T, sock *os.File, addr string) {
			file := filepath.Join(t.TempDir(), "pid")
			p := start(t, 4, sock, orders("*:daemonize,pidfile=%s", file), bin)
			if c := p.exit(t); c != 0 {
				t.Errorf("exit %d", c)
			}
			serves(t, addr, 4)
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
			if held := sockets(t, pid); held < 1 || pid == p.cmd.Process.Pid {
				t.Errorf("process %d holds %d sockets", pid, held)
			}
		},
		"healthy-when": func(t *testing.T, sock *os.File, addr string) {
			file := filepath.Join(t.TempDir(), "healthy")
			start(t, 1, sock, orders("*:healthy-when=%s", file), bin)
			serves(t, addr, 1)
			if s, _, _ := get(addr, "/healthz", within); s != 500 {
				t.Errorf("status %d", s)
			}
			open(t, file)
			if s, _, _ := get(addr, "/healthz", within); s != 200 {
				t.Errorf("status %d", s)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sock, addr := socket(t)
			try(t, sock, addr)
		})
	}
}

// child returns the pid of the only child of pid and ends that child when the test is over.
func child(t *testing.T, pid int) int {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks { // the child of whichever thread started it
		b, _ := os.ReadFile(task)
		if c, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
			t.Cleanup(func() { _ = syscall.Kill(c, syscall.SIGKILL) })
			return c
		}
	}
	t.Fatalf("process %d has no child", pid)
	return 0
}

// sockets counts the sockets that pid holds open among its first descriptors, where those given to it are.
func sockets(t *testing.T, pid int) int {
	t.Helper()
	n := 0
	for fd := 3; fd < 32; fd++ {
		if l, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, fd)); strings.HasPrefix(l, "socket:") {
			n++
		}
	}
	return n
}

// TestNaughtyReadiness tries what it says about being ready.
func TestNaughtyReadiness(t *testing.T) {
	bin := []string{buildNaughty(t)}
	dir := t.TempDir()
	addr := &net.UnixAddr{Net: "unixgram", Name: filepath.Join(dir, "notify")}
	conn, err := net.ListenUnixgram("unixgram", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	sock, web := socket(t)
	gate := filepath.Join(dir, "gate")
	env := append(orders("*:ready-after=200ms,ready-when=%s,status=warm,barrier,noaccept,notify-fd=1", gate), "NOTIFY_SOCKET="+addr.Name)
	begin := time.Now()
	p := start(t, 1, sock, env, bin)

	buf, oob := make([]byte, 512), make([]byte, 512)
	_ = conn.SetReadDeadline(begin.Add(400 * time.Millisecond))
	if n, _, err := conn.ReadFrom(buf); err == nil {
		t.Fatalf("before the file exists: %q", buf[:n])
	}
	open(t, gate)
	_ = conn.SetReadDeadline(time.Now().Add(within))
	n, _, err := conn.ReadFrom(buf)
	if got := string(buf[:n]); err != nil || got != "STATUS=warm\nREADY=1\n" {
		t.Fatalf("%q, %v", got, err)
	}
	n, oobn, _, _, err := conn.ReadMsgUnix(buf, oob)
	if got := string(buf[:n]); err != nil || got != "BARRIER=1" {
		t.Fatalf("%q, %v", got, err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(messages) != 1 {
		t.Fatal(messages, err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		t.Fatal(fds, err)
	}
	if log := p.output(); strings.Contains(log, "barrier passed") {
		t.Errorf("it did not wait for its barrier: %s", log)
	}
	_ = unix.Close(fds[0])
	eventually(t, "the end of the barrier", func() bool { return strings.Contains(p.output(), "barrier passed") })
	if log := p.output(); !strings.HasPrefix(log, "\n") {
		t.Errorf("no newline on notify-fd: %q", log)
	}
	if o, _ := ask(t, "tcp", web, "/", 200*time.Millisecond); o != load.Timeout || !p.lives(0) {
		t.Errorf("noaccept: %s", o)
	}
}

// TestNaughtyBinds: without LISTEN_FDS it binds what it is told to, TCP and UDP; what is meant for another pid is left.
func TestNaughtyBinds(t *testing.T) {
	bin := buildNaughty(t)
	sock, addr := socket(t)
	_ = sock.Close()
	cmd := []string{"env", "LISTEN_FDS=1", "LISTEN_PID=1", bin, addr, "udp:" + addr}
	start(t, 6, nil, nil, cmd)
	eventually(t, "health", func() bool { s, _, _ := get(addr, "/healthz", within); return s == 200 })
	l := load.NewUDP(load.UDPOptions{Address: addr})
	l.Start(t.Context())
	eventually(t, "datagrams", func() bool { return l.Snapshot().Requests > 50 })
	if r := l.Stop(); r.Lost() != 0 || r.ByGeneration[6] != r.Requests {
		t.Error(r)
	}
}
