package takeover

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/e2e/freeport"
)

const (
	patience = 90 * time.Second
	nobody   = 65532
)

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// A subject is a program that has been started with a filter.
type subject struct {
	t      *testing.T
	cmd    *exec.Cmd
	l      *Listener
	output output // what it wrote to stdout
	errors output
	served chan struct{} // closed when Serve has returned
	err    error         // what it returned
	ended  chan struct{}

	mu    sync.Mutex
	calls []*Call
}

type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

type start struct {
	filter  string   // words for the shim
	uid     int      // 0 = the test's
	target  string   // a target of this binary, or
	command []string // another program
	args    []string

	calls    int // the bounds of Serve, where they are not the usual
	patience time.Duration
}

// launch starts the shim and returns the holder's end.
func (s *subject) launch(o start) *os.File {
	s.t.Helper()
	holder, child, err := Pair()
	if err != nil {
		s.t.Fatal(err)
	}
	binary := os.Getenv(binaryVar)
	command := o.command
	if command == nil {
		command = []string{binary}
	}
	control := os.NewFile(uintptr(child), "control")
	defer control.Close()
	s.cmd = exec.Command(binary, append(command, o.args...)...)
	s.cmd.Env = append(os.Environ(), roleVar+"=shim", roleVar+"_NEXT="+o.target, filterVar+"="+o.filter, "GORACE=atexit_sleep_ms=0")
	s.cmd.ExtraFiles = []*os.File{control}
	s.cmd.Stdout, s.cmd.Stderr = &s.output, &s.errors
	if o.uid != 0 {
		s.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(o.uid), Gid: uint32(o.uid)}}
	}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	if o.uid != 0 {
		// The child changed its uid while it still shared this process's memory (CLONE_VM), whose flag that takes away.
		if err := unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0); err != nil {
			s.t.Fatal(err)
		}
	}
	go func() {
		_ = s.cmd.Wait()
		close(s.ended)
	}()
	s.t.Cleanup(s.end)
	return holder
}

// begin starts a program and serves its calls with handle.
func begin(t *testing.T, o start, handle func(*Call)) *subject {
	t.Helper()
	s := newSubject(t)
	holder := s.launch(o)
	l, err := Receive(testContext(t), holder)
	if err != nil {
		t.Fatalf("%v; output: %s%s", err, &s.output, &s.errors)
	}
	s.l = l
	if o.calls != 0 {
		s.l.calls, s.l.patience = o.calls, o.patience
	}
	go s.serve(handle)
	return s
}

func newSubject(t *testing.T) *subject {
	return &subject{t: t, served: make(chan struct{}), ended: make(chan struct{})}
}

func (s *subject) serve(handle func(*Call)) {
	defer close(s.served)
	s.err = s.l.Serve(func(c *Call) {
		s.mu.Lock()
		s.calls = append(s.calls, c)
		s.mu.Unlock()
		handle(c)
	})
}

// wait returns the program's output after its end and that of Serve.
func (s *subject) wait() string {
	s.t.Helper()
	s.over(s.ended, "the program")
	s.over(s.served, "Serve")
	return s.output.String()
}

func (s *subject) over(what <-chan struct{}, name string) {
	s.t.Helper()
	select {
	case <-what:
	case <-time.After(patience):
		s.t.Fatalf("%s does not end; output so far: %s%s", name, &s.output, &s.errors)
	}
}

// all returns the calls so far.
func (s *subject) all() []*Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*Call(nil), s.calls...)
}

func (s *subject) count(nr Syscall) (n int) {
	for _, c := range s.all() {
		if c.Nr == nr {
			n++
		}
	}
	return n
}

// end kills what is left and checks that Serve ends by itself.
func (s *subject) end() {
	select {
	case <-s.ended:
	default:
		_ = s.cmd.Process.Kill()
		<-s.ended
	}
	if s.l == nil {
		return
	}
	select {
	case <-s.served:
		if s.err != nil {
			s.t.Errorf("Serve: %v", s.err)
		}
	case <-time.After(patience):
		s.t.Error("Serve does not end although the program did")
	}
	if err := s.l.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		s.t.Errorf("Close: %v", err)
	}
	if s.t.Failed() {
		s.t.Logf("output: %s%s", &s.output, &s.errors)
	}
}

func continueAll(c *Call) { _ = c.Continue() }

// eventually waits until ok, looking every millisecond.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for: %s", what)
		}
	}
}

// heldSocket is a bound TCP socket that does not listen, and its address.
func heldSocket(t *testing.T) (fd int, addr netip.AddrPort) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	in := sa.(*unix.SockaddrInet4)
	return fd, netip.AddrPortFrom(netip.AddrFrom4(in.Addr), uint16(in.Port))
}

func freePort(t testing.TB) string {
	t.Helper()
	return strconv.Itoa(freeport.Choose(t))
}

// greeting connects until someone listens and returns what it says.
func greeting(t *testing.T, addr netip.AddrPort) (text string) {
	t.Helper()
	eventually(t, "a listener on "+addr.String(), func() bool {
		conn, err := net.DialTimeout("tcp", addr.String(), patience)
		if err != nil {
			return false
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(patience))
		b, err := io.ReadAll(conn)
		text = string(b)
		return err == nil
	})
	return text
}

// descriptors counts those of this process.
func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func lines(s string) []string { return strings.Split(strings.TrimSpace(s), "\n") }
