package catch

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"holdfast/reaper"
)

// obedient is the environment's variable that makes the test binary a process which says what comes, and obeys the last stop
// signal when SIGUSR2 comes.
const obedient = "HOLDFAST_TEST_OBEDIENT"

func TestMain(m *testing.M) {
	if os.Getenv(obedient) == "" {
		os.Exit(m.Run())
	}
	s, err := Catch()
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
	continued, obeyed := syscall.SIGCONT.String(), syscall.SIGUSR2.String()
	says("ready")
	for _, n := range []syscall.Signal{syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU} {
		for range 3 {
			send(n)
			says(reaper.SignalName(n))
			send(syscall.SIGUSR2)
			var status syscall.WaitStatus
			if _, err := syscall.Wait4(cmd.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil || status.StopSignal() != n {
				t.Fatalf("%s: %v, status %#x", reaper.SignalName(n), err, status)
			}
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
