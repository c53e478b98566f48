package catch

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"holdfast/reaper"
)

// obedient is the environment's variable that makes the test binary a process which says what comes, and obeys the last stop
// signal when SIGUSR2 comes.
const obedient = "HOLDFAST_TEST_OBEDIENT"

// blocking is one that says that the process has been given the stop signals blocked.
const blocking = "HOLDFAST_TEST_BLOCKING"

// TestMain has all threads begin with the stop signals blocked, as the program's entry point does: one that Go makes while such
// a signal waits would take it.
func TestMain(m *testing.M) {
	if os.Getenv(blocking) == "" {
		runtime.LockOSThread()
		block(stopSignals)
		fmt.Println(syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), blocking+"=1")))
		os.Exit(1)
	}
	os.Unsetenv(blocking) // whatever is started from here begins anew
	if os.Getenv(obedient) == "" {
		os.Exit(m.Run())
	}
	s, err := catch(true)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	s.CatchStops()
	fmt.Println("ready")
	var last reaper.Pending
	for came := range s.Forward {
		if p, ok := came.(reaper.Pending); ok {
			last = p
		}
		if came == syscall.SIGUSR2 {
			if err := s.Suspend(last); err != nil {
				fmt.Println(err)
			}
		}
		fmt.Println(came)
	}
}

// expectPending waits for a stop signal.
func expectPending(t *testing.T, s reaper.Signals) reaper.Pending {
	t.Helper()
	select {
	case came := <-s.Forward:
		p, ok := came.(reaper.Pending)
		if !ok || p != reaper.Pending(syscall.SIGTSTP) {
			t.Fatalf("got %T %v, want a pending SIGTSTP", came, came)
		}
		return p
	case <-time.After(patience):
		t.Fatal("SIGTSTP does not arrive")
	}
	return 0
}

// TestDrop: a SIGCONT takes back what has been told of, and the next one is told of again.
func TestDrop(t *testing.T) {
	s := signals(t)
	kill := func(n syscall.Signal) {
		t.Helper()
		if err := syscall.Kill(os.Getpid(), n); err != nil {
			t.Fatal(err)
		}
	}
	kill(syscall.SIGTSTP)
	kill(syscall.SIGTSTP) // merges, as any but a real-time signal
	p := expectPending(t, s)
	kill(syscall.SIGCONT)
	expect(t, s, syscall.SIGCONT)
	if s.Drop(p) {
		t.Error("it is pending after a SIGCONT")
	}
	for range 3 {
		kill(syscall.SIGTSTP)
		if !s.Drop(expectPending(t, s)) {
			t.Error("it is not pending")
		}
	}
	kill(barrier)
	expect(t, s, barrier)
}

// TestSuspend: a process that obeys stops and goes on, and does not stop when a SIGCONT has come behind the stop signal.
func TestSuspend(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), obedient+"=1")
	// A group of its own, which is no orphaned one: this process is in another group of the session.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	lines := make(chan string, 64)
	go func() {
		defer close(lines)
		for in := bufio.NewScanner(out); in.Scan(); {
			lines <- in.Text()
		}
	}()
	says := func(want ...string) { // in whatever order
		t.Helper()
		for timeout := time.After(patience); len(want) > 0; {
			select {
			case got, ok := <-lines:
				i := slices.Index(want, got)
				if !ok || i < 0 {
					t.Fatalf("it says %q, want %q", got, want)
				}
				want = slices.Delete(want, i, i+1)
			case <-timeout:
				t.Fatalf("it does not say %q", want)
			}
		}
	}
	send := func(n syscall.Signal) {
		t.Helper()
		if err := syscall.Kill(cmd.Process.Pid, n); err != nil {
			t.Fatal(err)
		}
	}
	stops := func(by syscall.Signal) {
		t.Helper()
		for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
			var status syscall.WaitStatus
			if pid, err := syscall.Wait4(cmd.Process.Pid, &status, syscall.WUNTRACED|syscall.WNOHANG, nil); pid != 0 || err != nil {
				if err != nil || status.StopSignal() != by {
					t.Fatalf("%v, status %#x, want it stopped by %s", err, status, reaper.SignalName(by))
				}
				return
			}
		}
		t.Fatalf("it does not stop at %s", reaper.SignalName(by))
	}
	continued, obeyed := syscall.SIGCONT.String(), syscall.SIGUSR2.String()
	says("ready")
	for _, n := range []syscall.Signal{syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU} {
		for range 3 {
			send(n)
			says(reaper.SignalName(n))
			send(syscall.SIGUSR2)
			stops(n)
			send(syscall.SIGCONT)
			says(continued, obeyed)

			send(n)
			says(reaper.SignalName(n))
			send(syscall.SIGCONT)
			says(continued)
			send(syscall.SIGUSR2)
			says(obeyed)
		}
	}
	for range 2000 { // either of the above, and all between
		send(syscall.SIGTSTP)
		says(reaper.SignalName(syscall.SIGTSTP))
		send(syscall.SIGUSR2)
		send(syscall.SIGCONT)
		says(continued, obeyed)
	}
}
