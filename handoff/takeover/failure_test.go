package takeover

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestPointers(t *testing.T) {
	s := begin(t, start{target: "pointers"}, func(c *Call) {
		if addr, err := c.Sockaddr(); err == nil && c.Args[2] == 16 && addr.Family != unix.AF_UNSPEC {
			t.Errorf("read %v at %#x", addr, c.Args[1])
		}
		if _, err := c.Option(); err == nil && int32(c.Args[4]) <= 0 {
			t.Error("read an option that is not there")
		}
		_, err := c.Socket()
		switch c.FD {
		case 0, 2:
			if !errors.Is(err, unix.ENOTSOCK) {
				t.Errorf("Socket of %d: %v, want ENOTSOCK", c.FD, err)
			}
		case -1, 1 << 30:
			if !errors.Is(err, unix.EBADF) {
				t.Errorf("Socket of %d: %v, want EBADF", c.FD, err)
			}
		}
	})
	out := lines(s.wait())
	for _, line := range out {
		if !strings.HasSuffix(line, ": true") {
			t.Error(line)
		}
	}
	if len(out) != 16 || s.count(Bind) != 16 {
		t.Errorf("%d lines, %d calls", len(out), s.count(Bind))
	}
}

// TestReadErrors names what a bad address is, for each way to read it.
func TestReadErrors(t *testing.T) {
	s := begin(t, start{target: "once", args: []string{"7"}}, func(c *Call) {
		for name, read := range map[string]func(int, uint64, []byte) error{"process_vm_readv": readv, "/proc/TID/mem": pread} {
			b := make([]byte, 16)
			if err := read(c.PID, c.Args[1], b); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if addr, err := ParseSockaddr(b); err != nil || addr.Addr.String() != "127.0.0.1:7" {
				t.Errorf("%s: %v, %v", name, addr, err)
			}
			for _, at := range []uint64{0, 8, 0x10_0000_0000, 1 << 47, 1 << 63, ^uint64(0) - 3} {
				if err := read(c.PID, at, b); !errors.Is(err, unix.EFAULT) {
					t.Errorf("%s at %#x: %v, want EFAULT", name, at, err)
				}
			}
		}
		_ = c.Return(0)
	})
	s.wait()
}

// TestKilled kills the program while its bind is pending.
func TestKilled(t *testing.T) {
	pending, killed, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	held, _ := heldSocket(t)
	s := begin(t, start{target: "once", args: []string{freePort(t)}}, func(c *Call) {
		defer close(done)
		if !c.Valid() {
			t.Error("not valid before")
		}
		close(pending)
		<-killed
		if c.Valid() {
			t.Error("valid after")
		}
		for what, err := range map[string]error{
			"Sockaddr": second(c.Sockaddr()), "Socket": second(c.Socket()), "Process": second(c.Process()),
			"Replace": c.Replace(held, false), "Continue": c.Continue(), "Return": c.Return(0), "Give": second(c.Give(held, false)),
		} {
			if !errors.Is(err, ErrGone) {
				t.Errorf("%s: %v, want ErrGone", what, err)
			}
		}
	})
	<-pending
	if err := s.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-s.ended
	close(killed)
	<-done
}

func second[T any](_ T, err error) error { return err }

// TestKilledUnseen kills programs at any moment of their binds.
func TestKilledUnseen(t *testing.T) {
	for range 10 {
		s := begin(t, start{target: "binds", args: []string{"1000000", "8"}}, func(c *Call) {
			_, _ = c.Sockaddr()
			_ = c.Return(0)
		})
		eventually(t, "some binds", func() bool { return s.count(Bind) > 20 })
		_ = s.cmd.Process.Kill()
		s.wait()
	}
}

// TestClose sees what a program gets whose listener is closed.
func TestClose(t *testing.T) {
	pending, answered := make(chan struct{}), make(chan error, 1)
	ended := make(chan struct{})
	s := begin(t, start{target: "once", args: []string{freePort(t)}}, func(c *Call) {
		close(pending)
		<-ended
		answered <- c.Return(0)
	})
	<-pending
	if err := s.l.Close(); err != nil {
		t.Error(err)
	}
	s.over(s.ended, "the program")
	close(ended)
	if out := s.wait(); !strings.Contains(out, "function not implemented") {
		t.Errorf("output %q", out)
	}
	if err := <-answered; !errors.Is(err, ErrGone) {
		t.Errorf("answer after Close: %v, want ErrGone", err)
	}
}

// TestStuck has as many handlers as there may be wait: the other threads go on without being asked for.
func TestStuck(t *testing.T) {
	release := make(chan struct{})
	s := begin(t, start{target: "apart", args: []string{"8"}, calls: 2, patience: time.Millisecond}, func(c *Call) { <-release })
	eventually(t, "what the other threads do", func() bool { return strings.Count(s.output.String(), "bind: <nil>") == 6 })
	if n := s.count(Bind); n != 2 {
		t.Errorf("%d calls were handled, want 2", n)
	}
	close(release)
	if n := strings.Count(s.wait(), "bind: <nil>"); n != 8 {
		t.Errorf("%d binds, want 8", n)
	}
}

// TestSlow sees that slow calls do not stop others.
func TestSlow(t *testing.T) {
	release := make(chan struct{})
	first := make(chan struct{}, 1)
	first <- struct{}{}
	s := begin(t, start{target: "binds", args: []string{"800", "8"}}, func(c *Call) {
		select {
		case <-first:
			<-release
		default:
		}
		_ = c.Return(0)
	})
	eventually(t, "what the other threads do", func() bool { return s.count(Bind) == 701 }) // 7 × 100, and the one that waits
	close(release)
	if out := s.wait(); !strings.HasPrefix(out, "0 failed") || s.count(Bind) != 800 {
		t.Errorf("%d calls; output %q", s.count(Bind), out)
	}
}

func TestThreads(t *testing.T) {
	s := begin(t, start{target: "binds", args: []string{"4000", "16"}}, func(c *Call) {
		addr, err := c.Sockaddr()
		if err != nil || addr.Addr.String() != "127.0.0.1:9" {
			t.Errorf("%v, %v", addr, err)
		}
		if err := c.Return(0); err != nil {
			t.Error(err)
		}
	})
	out := s.wait()
	t.Log(strings.TrimSpace(out))
	if !strings.HasPrefix(out, "0 failed") || s.count(Bind) != 4000 {
		t.Errorf("%d calls; output %q", s.count(Bind), out)
	}
}

// TestPreempted has a thread bind under a storm of SIGURG. Without WAIT_KILLABLE_RECV calls are interrupted and come
// again; with it every call that was seen is answered.
func TestPreempted(t *testing.T) {
	for _, filter := range []string{"", "plain"} {
		t.Run("filter="+filter, func(t *testing.T) {
			held, _ := heldSocket(t)
			gone := make(chan struct{}, 1<<20)
			s := begin(t, start{target: "preempted", filter: filter, args: []string{"500"}}, func(c *Call) {
				if _, err := c.Sockaddr(); err != nil && !errors.Is(err, ErrGone) {
					t.Errorf("Sockaddr: %v", err)
				}
				if err := c.Replace(held, false); errors.Is(err, ErrGone) {
					gone <- struct{}{}
				} else if err != nil {
					t.Errorf("Replace: %v", err)
				}
			})
			if out := s.wait(); out != "wrong: 0\n" {
				t.Errorf("output %q", out)
			}
			t.Logf("%d calls for 500 binds, %d gone; %+v", s.count(Bind), len(gone), s.l.Flags())
			if s.l.Flags().WaitKillable && s.count(Bind) > 500+len(gone) {
				t.Error("calls came twice")
			}
		})
	}
}

// TestGiveDisturbed has the holder get signals all the while: none may make the target take descriptor 0 for its socket.
func TestGiveDisturbed(t *testing.T) {
	held, _ := heldSocket(t)
	storm := exec.CommandContext(testContext(t), "/bin/sh", "-c", "while kill -CHLD $PPID; do :; done")
	if err := storm.Start(); err != nil {
		t.Skip(err)
	}
	defer func() {
		_ = storm.Process.Kill()
		_ = storm.Wait()
	}()
	s := begin(t, start{target: "gives", filter: "sockets", args: []string{"3000"}}, func(c *Call) {
		if _, err := c.Give(held, false); err != nil {
			t.Errorf("Give: %v", err)
		}
	})
	if out := s.wait(); out != "wrong: 0\n" {
		t.Errorf("output %q", out)
	}
}

// TestFaulting has one handler stuck in memory that never comes: the program's other calls go on, and its end is the end
// of that too.
func TestFaulting(t *testing.T) {
	stuck := make(chan error, 1)
	s := begin(t, start{target: "faulting"}, func(c *Call) {
		if _, err := c.Sockaddr(); err != nil {
			stuck <- err
		}
	})
	ready := func() bool {
		return strings.Count(s.output.String(), "bind: <nil>") == 10 && s.count(Bind) == 11 || strings.Contains(s.output.String(), "none:")
	}
	eventually(t, "the other binds", ready)
	if out := s.output.String(); strings.Contains(out, "none:") {
		t.Skip(out)
	}
	_ = s.cmd.Process.Kill()
	s.wait()
	select {
	case err := <-stuck:
		if !errors.Is(err, ErrGone) {
			t.Errorf("Sockaddr: %v, want ErrGone", err)
		}
	default:
		t.Error("the read is stuck still, or came to an end")
	}
}

func TestDescriptors(t *testing.T) {
	held, _ := heldSocket(t)
	ready, counted := make(chan struct{}), make(chan struct{})
	n, after := 0, 0
	s := begin(t, start{target: "binds", args: []string{"202", "1"}}, func(c *Call) {
		if n++; n == 1 {
			close(ready)
			<-counted
		}
		_, _ = c.Sockaddr()
		_ = pread(c.PID, c.Args[1], make([]byte, 16))
		_, _ = c.Socket()
		_, _ = c.Process()
		if n == 202 {
			after = descriptors(t)
		}
		if n%2 == 0 {
			_ = c.Replace(held, false)
		}
	})
	<-ready
	before := descriptors(t)
	close(counted)
	if s.wait(); n != 202 || after != before {
		t.Errorf("%d descriptors before and %d after %d calls", before, after, n)
	}
}

func TestNested(t *testing.T) {
	s := begin(t, start{target: "nested"}, continueAll)
	if out := s.wait(); out != "nested: true true true\nbind: <nil>\n" || s.count(Bind) != 1 {
		t.Errorf("output %q after %d binds", out, s.count(Bind))
	}
}

func TestFlags(t *testing.T) {
	if knowsFlags(attempts()[0]) != nil {
		t.Skip("this kernel does not know them")
	}
	for filter, want := range map[string]Flags{
		"": {WaitKillable: true, SpecAllow: true}, "unknown": {SpecAllow: true}, "plain": {},
	} {
		want.NoNewPrivs = !privileged(t) && !noNewPrivs()
		s := begin(t, start{target: "once", filter: filter, args: []string{freePort(t)}}, continueAll)
		if out := s.wait(); out != "bind: <nil>\n" || s.l.Flags() != want {
			t.Errorf("%q: %+v, want %+v; output %q", filter, s.l.Flags(), want, out)
		}
	}
}

// TestInherited looks at what a program begins with.
func TestInherited(t *testing.T) {
	path, err := exec.LookPath("grep")
	if err != nil {
		t.Skip(err)
	}
	s := begin(t, start{command: []string{path, "-E", "SigBlk|NoNewPrivs"}, args: []string{"/proc/self/status"}}, continueAll)
	nnp := 0
	if !privileged(t) {
		nnp = 1
	}
	if out := s.wait(); !strings.Contains(out, "SigBlk:\t0000000000000000") || !strings.Contains(out, fmt.Sprint("NoNewPrivs:\t", nnp)) {
		t.Errorf("output %q, want no signal blocked and %d", out, nnp)
	}
}
