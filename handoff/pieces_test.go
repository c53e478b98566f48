package handoff

import (
	"bytes"
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/handoff/machine"
	"holdfast/handoff/port"
	"holdfast/handoff/ready"
	"holdfast/handoff/status"
	"holdfast/reaper"
)

func TestBackoff(t *testing.T) {
	for n, want := range map[int]time.Duration{
		0: 100 * time.Millisecond, 1: 200 * time.Millisecond, 5: 3200 * time.Millisecond, 8: 25600 * time.Millisecond,
		9: 30 * time.Second, 40: 30 * time.Second, 63: 30 * time.Second, 15: 30 * time.Second, 16: 30 * time.Second, 100: 30 * time.Second, 1 << 40: 30 * time.Second,
	} {
		for range 100 {
			if got := backoff(n); got < want || got >= want+want/10 {
				t.Errorf("backoff(%d) = %v, want %v and at most a tenth more", n, got, want)
			}
		}
	}
}

// TestExtend: EXTEND_TIMEOUT_USEC gives more time, and never less.
func TestExtend(t *testing.T) {
	if !alone(t) {
		return
	}
	l, fake, log := newLoop(t, Options{})
	g := &generation{number: 1, notified: make(chan struct{})}
	sleeper(t, l, g, "sleep")
	live(l, g, false)
	key := timerKey{machine.ReadyTimer, 1}
	now := fake.Now()
	l.armFor(key, time.Minute)
	for _, c := range []struct{ extend, at time.Duration }{
		{time.Second, time.Minute}, {0, time.Minute}, {time.Minute, time.Minute}, {2 * time.Minute, 2 * time.Minute}, {time.Second, 2 * time.Minute},
	} {
		l.notified(g, ready.Notification{PID: g.pid, Extend: c.extend})
		if got := l.timers[key].at.Sub(now); got != c.at {
			t.Errorf("after %v: fires at %v, want %v", c.extend, got, c.at)
		}
	}
	l.notified(g, ready.Notification{PID: os.Getppid(), Ready: true, Extend: time.Hour})
	if l.timers[key].at.Sub(now) != 2*time.Minute || isClosed(g.notified) || !strings.Contains(log.String(), "not of this generation") {
		t.Error("a stranger's message was taken")
	}
	for range 2 {
		l.notified(g, ready.Notification{PID: g.pid, Ready: true, Status: "up"})
	}
	if !isClosed(g.notified) || g.record.Detail != "up" {
		t.Errorf("its own message was not taken: %q", g.record.Detail)
	}
	l.disarm(key)
	l.notified(g, ready.Notification{PID: g.pid, Extend: time.Hour})
	if len(l.timers) != 0 {
		t.Error("a timer that had been disarmed was armed")
	}
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// TestLookForEmptyShort: while there is no descriptor to look into /proc with, nothing is taken for gone; it is looked
// again by itself.
func TestLookForEmptyShort(t *testing.T) {
	if !alone(t) {
		return
	}
	l, fake, log := newLoop(t, Options{Restart: machine.Always})
	g := &generation{number: 1}
	sleeper(t, l, g, "sleep")
	live(l, g, true)
	g.mainGone, l.machine.Gens[0].MainGone, l.machine.Backoff = true, true, true
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	short := limit
	short.Cur = 3
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &short); err != nil {
		t.Fatal(err)
	}
	l.lookForEmpty()
	run(t, l, "a census that sees nothing")
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if l.machine.Gens[0].Empty || !strings.Contains(log.String(), "cannot see what is left") {
		t.Fatalf("it was taken for gone; log: %s", log)
	}
	go fake.Step(lookAgain) // it posts, and waits for that
	run(t, l, "another look")
	run(t, l, "the census")
	if l.machine.Gens[0].Empty || g.record.Processes != 1 {
		t.Errorf("empty %v, %d processes, want 1", l.machine.Gens[0].Empty, g.record.Processes)
	}
	if err := syscall.Kill(g.pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	reaped(t, l, g.pid)
	l.lookForEmpty()
	run(t, l, "the census")
	if !l.machine.Gens[0].Empty {
		t.Error("it is not seen to be gone")
	}
}

// TestSlowStart: a first generation that opens its first port only after its proof was given up is proven all the same.
func TestSlowStart(t *testing.T) {
	l, _, _ := newLoop(t, Options{Ready: []ready.Mode{{Kind: ready.Accept}}, ReadyTimeout: time.Minute})
	g := &generation{number: 1, executed: true}
	live(l, g, false)
	l.machine.Overdue = true
	address, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	spec, err := port.ParseSpec(address.Addr().String())
	address.Close()
	if err != nil {
		t.Fatal(err)
	}
	p := port.New(spec, l.log)
	if err := p.Open(1); err != nil {
		t.Fatal(err)
	}
	l.opened(g, p)
	if g.cancelProof == nil {
		t.Fatal("nothing proves it")
	}
	fd, _ := p.FD(1)
	go func() { // the generation's process
		if conn, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC); err == nil {
			unix.Close(conn)
		}
	}()
	for deadline := time.Now().Add(patience); !l.machine.Gens[0].Proven && time.Now().Before(deadline); {
		run(t, l, "the outcome")
	}
	if state := l.machine.Gens[0]; !state.Proven || l.machine.Overdue || l.Snapshot().Ready.Live != "" {
		t.Errorf("state %+v, not ready because %q", state, l.Snapshot().Ready.Live)
	}
}

// TestProofWithoutOutcome: a proof that ends by an error which time does not mend fails the generation at once.
func TestProofWithoutOutcome(t *testing.T) {
	l, _, _ := newLoop(t, Options{})
	old, g := &generation{number: 1, executed: true}, &generation{number: 2, executed: true}
	live(l, old, true)
	l.generations[2] = g
	l.machine.Next = 2
	l.machine.Gens = append(l.machine.Gens, machine.Generation{Number: 2, State: status.Proving, Executed: true})
	l.machine.Handoff = machine.Handoff{Stage: machine.Proving, From: 1, To: 2}
	g.mainGone = true // nothing to be sent to
	l.proofEnded(g, errors.New("it cannot be"))
	if state, _ := l.machine.Generation(2); state.State != status.Failed || l.machine.Handoff.Stage != machine.None {
		t.Errorf("state %+v, handoff %+v", state, l.machine.Handoff)
	}
	if last := l.Snapshot().Generations[1]; last.Detail != "it cannot be" {
		t.Errorf("detail %q", last.Detail)
	}
}

// TestPulse: the askers are the clock.
func TestPulse(t *testing.T) {
	l, fake, _ := newLoop(t, Options{})
	if got := l.Pulse(); got != 0 {
		t.Errorf("at once: %v", got)
	}
	fake.Step(5 * time.Second)
	if got := l.Pulse(); got != 5*time.Second {
		t.Errorf("a loop that does not answer: %v, want 5s", got)
	}
	<-l.pulse // what Run does
	l.asked.Store(nil)
	if got := l.Pulse(); got != 0 {
		t.Errorf("after its answer: %v", got)
	}
}

// TestReloadAnswer: whoever has waited for a handoff finds in the snapshot what came of it.
func TestReloadAnswer(t *testing.T) {
	l, _, _ := newLoop(t, Options{})
	old, g := &generation{number: 1, executed: true, mainGone: true}, &generation{number: 2, executed: true}
	live(l, old, true)
	l.generations[2] = g
	l.machine.Next, l.machine.Tickets = 2, 1
	l.machine.Gens[0].MainGone = true // so that nothing follows the cutover
	l.machine.Gens = append(l.machine.Gens, machine.Generation{Number: 2, State: status.Proving, Executed: true})
	l.machine.Handoff = machine.Handoff{Stage: machine.Proving, From: 1, To: 2, Through: 1}
	l.publish()
	result := make(chan waiterResult)
	l.waiters = []waiter{{ticket: 1, result: result}}
	fed := make(chan struct{})
	go func() {
		defer close(fed)
		l.feed(machine.Event{Kind: machine.Proven, Gen: 2})
	}()
	// The answer is not taken yet: the snapshot must not wait for that.
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); l.Snapshot().Live != 2; <-tick.C {
		if time.Now().After(deadline) {
			<-result
			<-fed
			t.Fatal("the answer comes before the snapshot")
		}
	}
	select {
	case r := <-result:
		if r.Result != status.Completed {
			t.Errorf("result %+v", r)
		}
	case <-time.After(patience):
		t.Error("there is no answer")
	}
	<-fed
}

// TestAfterTheEnd: nobody who asks waits for a loop that is over.
func TestAfterTheEnd(t *testing.T) {
	if !alone(t) {
		return
	}
	l, _, _ := newLoop(t, Options{Command: []string{"true"}, Takeover: TakeoverOff, ReadyTimeout: time.Minute})
	done := make(chan int)
	go func() { done <- l.Run() }()
	waiting := make(chan error)
	for code := -1; code < 0; {
		select {
		case code = <-done:
			if code != 0 {
				t.Errorf("code %d", code)
			}
		case <-time.After(time.Millisecond): // in place of SIGCHLD
			select {
			case l.signals.Child <- syscall.SIGCHLD:
			default:
			}
		case <-time.After(patience):
			t.Fatal("it does not end")
		}
	}
	go func() { waiting <- l.Reload(t.Context(), true) }()
	var failed *NotCompletedError
	if err := <-waiting; !errors.As(err, &failed) || failed.Result != status.Abandoned {
		t.Errorf("Reload: %v", err)
	}
	l.Changed("x", false)
}

// TestWritten: whatever a program writes to its descriptor of --ready fd:N, only a newline counts, and nothing is kept.
func TestWritten(t *testing.T) {
	read, write, err := pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		awaitNewline(read, done)
	}()
	for block, n := bytes.Repeat([]byte("x\x00"), 32<<10), 0; n < 64; n++ { // 4 MiB
		if _, err := unix.Write(write, block); err != nil {
			t.Fatal(err)
		}
	}
	if isClosed(done) {
		t.Error("ready without a newline")
	}
	if _, err := unix.Write(write, []byte("\n")); err != nil {
		t.Fatal(err)
	}
	<-done
	unix.Close(write)
	<-ended
}

// TestStrangers: a flood of messages from another PID namespace costs no look at the generation's processes, and one line.
func TestStrangers(t *testing.T) {
	l, _, log := newLoop(t, Options{})
	counting := &countingProcesses{Processes: l.reaper}
	l.reaper = counting
	g := &generation{number: 1, notified: make(chan struct{})}
	live(l, g, false)
	for range 1000 {
		l.notified(g, ready.Notification{Ready: true})
	}
	if n := strings.Count(log.String(), "not of this generation"); n != 1 || counting.looks != 0 || isClosed(g.notified) {
		t.Errorf("%d lines, %d looks, ready %v", n, counting.looks, isClosed(g.notified))
	}
}

type countingProcesses struct {
	Processes
	looks int
}

func (c *countingProcesses) Census(f []*reaper.Family) (map[*reaper.Family][]reaper.Process, error) {
	c.looks++
	return c.Processes.Census(f)
}
