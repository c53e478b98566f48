package takeover

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// replaceBind puts held in the place of what the target binds to port.
func replaceBind(t *testing.T, held int, port string) func(*Call) {
	return func(c *Call) {
		if c.Nr != Bind {
			continueAll(c)
			return
		}
		addr, err := c.Sockaddr()
		if err != nil || addr.Addr.String() != "127.0.0.1:"+port && addr.Addr.String() != "[::ffff:127.0.0.1]:"+port {
			continueAll(c)
			return
		}
		info, err := c.Socket()
		if err != nil || info.Inode == 0 || info.Kind != TCP {
			t.Errorf("Socket: %+v, %v", info, err)
		}
		if err := unix.SetNonblock(held, info.Nonblock); err != nil {
			t.Error(err)
		}
		if err := c.Replace(held, info.CloseOnExec); err != nil {
			t.Errorf("Replace: %v", err)
		}
		if err := c.Replace(held, info.CloseOnExec); !errors.Is(err, ErrGone) {
			t.Errorf("second answer: %v, want ErrGone", err)
		}
		if c.Valid() {
			t.Error("an answered call is valid")
		}
	}
}

// servers are programs that listen on the port %[1]s of 127.0.0.1, say on which one, and greet one client.
func servers(t *testing.T) map[string]start {
	all := map[string]start{"c-like": {target: "serve"}, "go": {target: "gonet"}}
	for name, script := range map[string][]string{
		"python3": {"-c", `
import socket, sys
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("127.0.0.1", int(sys.argv[1]))); s.listen(); print("listening on", s.getsockname()[1], flush=True)
c, _ = s.accept(); c.sendall(b"hello"); c.close()`},
		"node": {"-e", `
const s = require("net").createServer(c => { c.end("hello"); s.close() });
s.listen(+process.argv[1], "127.0.0.1", () => console.log("listening on", s.address().port))`},
	} {
		if path, err := exec.LookPath(name); err == nil {
			all[name] = start{command: append([]string{path}, script...)}
		} else {
			t.Logf("no %s", name)
		}
	}
	return all
}

func TestReplace(t *testing.T) {
	for name, o := range servers(t) {
		t.Run(name, func(t *testing.T) {
			held, addr := heldSocket(t)
			port := freePort(t)
			o.args = []string{port}
			s := begin(t, o, replaceBind(t, held, port))
			if got := greeting(t, addr); got != "hello" {
				t.Errorf("greeted with %q", got)
			}
			if out := s.wait(); !strings.Contains(out, fmt.Sprint("listening on ", addr.Port())) {
				t.Errorf("output %q, want port %d", out, addr.Port())
			}
			if s.count(Bind) == 0 || s.count(Listen) == 0 || s.count(Unknown) != 0 {
				t.Errorf("%d binds, %d listens, %d others", s.count(Bind), s.count(Listen), s.count(Unknown))
			}
		})
	}
}

// TestReplaceCloseOnExec sees that the descriptor's own flag is what Replace was told.
func TestReplaceCloseOnExec(t *testing.T) {
	for _, cloexec := range []bool{true, false} {
		held, addr := heldSocket(t)
		s := begin(t, start{target: "serve", args: []string{freePort(t)}}, func(c *Call) {
			if c.Nr == Bind {
				_ = c.Replace(held, cloexec)
			}
		})
		greeting(t, addr)
		if out := s.wait(); !strings.Contains(out, fmt.Sprint("cloexec ", cloexec)) {
			t.Errorf("output %q, want cloexec %v", out, cloexec)
		}
	}
}

func TestReturn(t *testing.T) {
	for errno, want := range map[unix.Errno]string{0: "bind: <nil>", unix.EADDRINUSE: "bind: address already in use", unix.EACCES: "bind: permission denied"} {
		s := begin(t, start{target: "once", args: []string{freePort(t)}}, func(c *Call) {
			if err := c.Return(errno); err != nil {
				t.Errorf("Return: %v", err)
			}
			if err := c.Continue(); !errors.Is(err, ErrGone) {
				t.Errorf("second answer: %v, want ErrGone", err)
			}
		})
		if out := strings.TrimSpace(s.wait()); out != want {
			t.Errorf("%d: %q, want %q", errno, out, want)
		}
	}
}

func TestContinue(t *testing.T) {
	for name, handle := range map[string]func(*Call){"continued": continueAll, "forgotten": func(*Call) {}} {
		t.Run(name, func(t *testing.T) {
			s := begin(t, start{target: "once", args: []string{freePort(t)}}, handle)
			if out := strings.TrimSpace(s.wait()); out != "bind: <nil>" || s.count(Bind) != 1 {
				t.Errorf("%q after %d binds", out, s.count(Bind))
			}
		})
	}
}

// TestReplaceFails sees that a call can still be answered after a Replace that could not be.
func TestReplaceFails(t *testing.T) {
	s := begin(t, start{target: "once", args: []string{freePort(t)}}, func(c *Call) {
		if err := c.Replace(1<<20, false); !errors.Is(err, unix.EBADF) {
			t.Errorf("Replace: %v, want EBADF", err)
		}
		if err := c.Return(unix.EADDRINUSE); err != nil {
			t.Errorf("Return: %v", err)
		}
	})
	if out := s.wait(); !strings.Contains(out, "address already in use") {
		t.Errorf("output %q", out)
	}
}

func TestGive(t *testing.T) {
	held, addr := heldSocket(t)
	s := begin(t, start{target: "given", filter: "sockets"}, func(c *Call) {
		switch {
		case c.Nr != Socket || c.FD != -1:
			t.Errorf("%v of %d", c.Nr, c.FD)
		case c.Args[0] == unix.AF_INET:
			if n, err := c.Give(held, true); err != nil || n < 3 {
				t.Errorf("Give: %d, %v", n, err)
			}
		case c.Args[0] == unix.AF_UNIX:
			if r := c.Request(); r != (Request{Kind: UnixStream}) {
				t.Errorf("%+v", r)
			}
		default:
			if r := c.Request(); r != (Request{Kind: UDPv6, Nonblock: true}) {
				t.Errorf("%+v", r)
			}
			_ = c.Return(unix.EMFILE)
		}
	})
	want := fmt.Sprintf("got true %d cloexec true\nothers true true\nudp: too many open files\n", addr.Port())
	if out := s.wait(); out != want {
		t.Errorf("output %q, want %q", out, want)
	}
	if n := s.count(Socket); n != 3 {
		t.Errorf("%d calls, want 3", n)
	}
}

func TestOptions(t *testing.T) {
	got := make(chan string, 100)
	s := begin(t, start{target: "options"}, func(c *Call) {
		o, err := c.Option()
		value, ok := o.Int()
		got <- fmt.Sprintln(c.Nr, c.OptionName(), err == nil, value, ok)
	})
	out := s.wait()
	close(got)
	var all string
	for one := range got {
		all += one
	}
	want := `setsockopt {41 26} true 1 true
setsockopt {1 15} true 1 true
setsockopt {41 26} true 0 true
setsockopt {1 8} true 50000 true
setsockopt {0 8} true 0 false
setsockopt {6 13} true 1870166136 true
setsockopt {1 15} true 7 true
setsockopt {1 15} true 0 false
setsockopt {1 15} false 0 false
setsockopt {1 15} false 0 false
setsockopt {1 15} false 0 false
`
	if all != want {
		t.Errorf("saw\n%s, want\n%s", all, want)
	}
	if out != "above: errno 0\nshort: invalid argument\npointer: bad address\nlong: errno 0\nnegative: invalid argument\n" {
		t.Errorf("output %q", out)
	}
}

func TestUnnotified(t *testing.T) {
	s := begin(t, start{target: "unnotified"}, continueAll)
	if out := s.wait(); out != "" || len(s.all()) != 0 {
		t.Errorf("%d calls; output %q", len(s.all()), out)
	}
}

func TestGrandchild(t *testing.T) {
	held, _ := heldSocket(t)
	s := begin(t, start{target: "grandchild", args: []string{freePort(t), "3"}}, func(c *Call) {
		if c.Nr == Bind {
			_ = c.Replace(held, false)
		}
	})
	if out := strings.TrimSpace(s.wait()); out != "bind: <nil>" || s.count(Bind) != 1 {
		t.Fatalf("%q after %d binds", out, s.count(Bind))
	}
	if pid := s.all()[0].PID; pid == s.cmd.Process.Pid {
		t.Errorf("bound by the first process, %d", pid)
	}
}

func TestSocket(t *testing.T) {
	var seen []string
	s := begin(t, start{target: "sockets"}, func(c *Call) {
		info, err := c.Socket()
		if err != nil {
			t.Errorf("Socket: %v", err)
		}
		if pid, err := c.Process(); err != nil || pid == 0 {
			t.Errorf("Process: %d, %v", pid, err)
		}
		seen = append(seen, fmt.Sprintln("inode", info.Inode), fmt.Sprintln(info.Kind, info.Nonblock, info.CloseOnExec))
	})
	out := s.wait()
	var kinds []string
	for i := 0; i < len(seen); i += 2 {
		kinds = append(kinds, strings.TrimSpace(seen[i+1]))
		if !strings.Contains(out, seen[i]) {
			t.Errorf("no socket has %s", seen[i])
		}
	}
	want := []string{"tcp", "tcp6", "udp", "udp6", "unix stream", "unix dgram", "unix seqpacket", "other", "tcp", "tcp6"}
	if strings.Contains(out, "none:") {
		t.Logf("not here:\n%s", out)
		want = want[:len(kinds)/3]
	}
	var all []string
	for _, kind := range want {
		all = append(all, kind+" false false", kind+" true false", kind+" false true")
	}
	if fmt.Sprint(kinds) != fmt.Sprint(all) {
		t.Errorf("saw %q,\nwant %q", kinds, all)
	}
}
