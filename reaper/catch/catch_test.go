package catch

import (
	"errors"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"holdfast/reaper"
	"holdfast/reaper/early"
)

const patience = 90 * time.Second

// barrier is behind whatever was sent before it: of several signals that wait the kernel gives the one with the lowest
// number first.
const barrier = syscall.Signal(64)

// caught is this process' only Catch.
var caught = sync.OnceValues(func() (reaper.Signals, error) { return catch(true) })

func signals(t *testing.T) reaper.Signals {
	t.Helper()
	s, err := caught()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func expect(t *testing.T, s reaper.Signals, want ...syscall.Signal) {
	t.Helper()
	var got []syscall.Signal
	for range want {
		select {
		case g := <-s.Forward:
			if p, ok := g.(reaper.Pending); ok {
				if !s.Drop(p) {
					t.Errorf("%v is not pending", p)
				}
				g = syscall.Signal(p)
			}
			got = append(got, g.(syscall.Signal))
		case <-time.After(patience):
			t.Fatalf("got %v, want %v", got, want)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestCatch: every signal arrives, also those that os/signal never shows, and none ends this process.
func TestCatch(t *testing.T) {
	s := signals(t)
	for n := syscall.Signal(1); n <= 64; n++ {
		switch n {
		case syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGCHLD, syscall.SIGTTIN, syscall.SIGTTOU, syscall.SIGPIPE, syscall.SIGXFSZ:
			continue // the last two are own ones if they are from this very process
		}
		if err := syscall.Kill(os.Getpid(), n); err != nil {
			t.Fatal(err)
		}
		expect(t, s, n)
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGCHLD)
	select {
	case <-s.Child:
	case <-time.After(patience):
		t.Error("SIGCHLD does not arrive")
	}
}

// TestRealTime: real-time signals do not merge.
func TestRealTime(t *testing.T) {
	s := signals(t)
	want := make([]syscall.Signal, 300)
	for i := range want {
		want[i] = 40
		if err := syscall.Kill(os.Getpid(), 40); err != nil {
			t.Fatal(err)
		}
	}
	expect(t, s, want...)
}

// TestOrder: signals that come in a row keep their order. A thread that the runtime has just started may take one before it
// has been visited, and pass it on late: it does so once.
func TestOrder(t *testing.T) {
	s := signals(t)
	threads, _ := runtime.ThreadCreateProfile(nil)
	wrong := 0
	const rounds = 200
	for range rounds {
		var got, want []syscall.Signal
		for n := syscall.Signal(34); n <= 64; n++ {
			want = append(want, n)
			if err := syscall.Kill(os.Getpid(), n); err != nil {
				t.Fatal(err)
			}
		}
		for range want {
			select {
			case g := <-s.Forward:
				got = append(got, g.(syscall.Signal))
			case <-time.After(patience):
				t.Fatalf("got %v, want %v", got, want)
			}
		}
		if !slices.Equal(got, want) {
			wrong++
			t.Logf("%v", got)
		}
	}
	now, _ := runtime.ThreadCreateProfile(nil)
	if wrong > now-threads {
		t.Errorf("%d of %d in another order, with %d new threads", wrong, rounds, now-threads)
	}
}

// TestPipe: a user's SIGPIPE arrives, and one of this process' own does not and ends nothing, by way of os.Stderr neither.
func TestPipe(t *testing.T) {
	s := signals(t)
	stderr, err := unix.FcntlInt(2, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(stderr)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer write.Close()
	read.Close()
	if err := unix.Dup3(int(write.Fd()), 2, 0); err != nil {
		t.Fatal(err)
	}
	_, failed := os.Stderr.WriteString("to nobody")
	if err := unix.Dup3(stderr, 2, 0); err != nil {
		t.Fatal(err)
	}
	if failed == nil {
		t.Error("it was written")
	}
	killer, err := os.StartProcess("/bin/kill", []string{"kill", "-PIPE", strconv.Itoa(os.Getpid())}, &os.ProcAttr{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := killer.Wait(); err != nil {
		t.Fatal(err)
	}
	_ = syscall.Kill(os.Getpid(), barrier)
	expect(t, s, syscall.SIGPIPE, barrier)
}

// TestPreemption: the runtime's own SIGURG still does its work, and is nobody's signal.
func TestPreemption(t *testing.T) {
	s := signals(t)
	var stop, ended atomic.Bool
	spinning := make(chan struct{})
	go func() {
		close(spinning)
		// No call in it, so that the collection below would have to wait for its end: some seconds.
		for i := 0; i < 1<<33 && !stop.Load(); i++ {
		}
		ended.Store(true)
	}()
	<-spinning
	runtime.GC()
	if ended.Load() {
		t.Error("a goroutine that calls nothing is not preempted")
	}
	stop.Store(true)
	_ = syscall.Kill(os.Getpid(), barrier)
	expect(t, s, barrier)
}

// TestFault: a fault of this process' own is still a panic of Go's.
func TestFault(t *testing.T) {
	signals(t)
	defer func() {
		var fault runtime.Error
		if err, ok := recover().(error); !ok || !errors.As(err, &fault) {
			t.Errorf("recovered %v, want a runtime error", err)
		}
	}()
	var nothing *int
	t.Log(*nothing)
}

// TestIgnored: so that nothing that this process writes to its terminal in the background can stop it.
func TestIgnored(t *testing.T) {
	s := signals(t)
	for _, n := range []syscall.Signal{syscall.SIGTTIN, syscall.SIGTTOU, barrier} {
		_ = syscall.Kill(os.Getpid(), n)
	}
	expect(t, s, barrier)
}

// TestStop: nothing is stopped when a SIGCONT has come that nobody has acted on yet, or is about to come.
func TestStop(t *testing.T) {
	s := signals(t)
	acted := early.Continued()
	for range 3 {
		_ = syscall.Kill(os.Getpid(), syscall.SIGCONT)
		expect(t, s, syscall.SIGCONT)
	}
	child, err := os.StartProcess("/bin/sleep", []string{"sleep", "1000"}, &os.ProcAttr{})
	if err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	defer child.Kill()
	stops := func(acted uint32, want bool) {
		t.Helper()
		if stopped, err := s.Stop(child.Pid, acted); err != nil || stopped != want {
			t.Errorf("stopped: %v, %v; want %v", stopped, err, want)
		}
	}
	stops(acted+2, false)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	blocked, old := unix.Sigset_t{}, unix.Sigset_t{}
	blocked.Val[0] = 1 << (syscall.SIGCONT - 1)
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &blocked, &old); err != nil {
		t.Fatal(err)
	}
	defer unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil)
	info := [16]uint64{uint64(syscall.SIGCONT), 0xffffffff} // si_signo and si_code, SI_QUEUE: tgkill(2) would be taken for a visit
	if _, _, errno := unix.RawSyscall6(unix.SYS_RT_TGSIGQUEUEINFO, uintptr(os.Getpid()), uintptr(unix.Gettid()), uintptr(syscall.SIGCONT), uintptr(unsafe.Pointer(&info)), 0, 0); errno != 0 {
		t.Fatal(errno)
	}
	stops(acted+3, false)
	if err := unix.PthreadSigmask(unix.SIG_UNBLOCK, &blocked, nil); err != nil {
		t.Fatal(err)
	}
	expect(t, s, syscall.SIGCONT)
	stops(acted+3, false)
	stops(acted+4, true)
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(child.Pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		t.Errorf("the child: %v, %v; want it stopped", status, err)
	}
}
