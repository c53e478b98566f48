package handoff

import (
	"iter"
	"slices"
	"syscall"
	"testing"
	"time"

	"holdfast/handoff/machine"
	"holdfast/handoff/status"
	"holdfast/reaper"
)

// slow are processes whose census says when it has begun, and ends when it is let.
type slow struct {
	begun, ends chan struct{}
	found       map[string][]reaper.Process // by the family's mark
	reaped      uint64
	signalled   []int
	sent        []syscall.Signal // to those
}

func newSlow() *slow {
	return &slow{begun: make(chan struct{}, 100), ends: make(chan struct{}), found: map[string][]reaper.Process{}}
}

func (s *slow) PID() int                                         { return firstPID }
func (s *slow) Reaped() uint64                                   { return s.reaped }
func (s *slow) Start(reaper.Command) (int, error)                { return 0, syscall.EAGAIN }
func (s *slow) Reap() iter.Seq[reaper.Exit]                      { return func(func(reaper.Exit) bool) {} }
func (s *slow) Stopped(int) syscall.Signal                       { return 0 }
func (s *slow) Holds(*reaper.Family, []*reaper.Family, int) bool { return false }
func (s *slow) SignalMember(p reaper.Process, k syscall.Signal) error {
	return s.Signal(p.PID, k, false)
}

func (s *slow) Signal(pid int, k syscall.Signal, group bool) error {
	if !group {
		s.signalled, s.sent = append(s.signalled, pid), append(s.sent, k)
	}
	return nil
}

func (s *slow) Census(families []*reaper.Family) (map[*reaper.Family][]reaper.Process, error) {
	s.begun <- struct{}{}
	<-s.ends
	found := map[*reaper.Family][]reaper.Process{}
	for _, f := range families {
		found[f] = s.found[f.Mark]
	}
	return found, nil
}

// end lets the census that is under way end, and the loop take what it has found.
func (s *slow) end(t *testing.T, l *Loop) {
	t.Helper()
	<-s.begun
	s.ends <- struct{}{}
	run(t, l, "the census")
}

// of makes a generation whose processes have those pids.
func (s *slow) of(l *Loop, n int, state status.State, pids ...int) *generation {
	mark := string(rune('A' + n))
	g := &generation{number: n, pid: firstPID + n, executed: true, family: &reaper.Family{Main: firstPID + n, Mark: mark}}
	for _, pid := range pids {
		s.found[mark] = append(s.found[mark], reaper.Process{PID: pid})
	}
	l.generations[n] = g
	l.machine.Gens = append(l.machine.Gens, machine.Generation{Number: n, State: state, Executed: true, Proven: true})
	l.machine.Next = n
	if state == status.Live {
		l.machine.Live = n
	}
	return g
}

func newSlowLoop(t *testing.T) (*Loop, *slow) {
	l, _, _ := newLoop(t, Options{StopSignal: syscall.SIGALRM, Restart: machine.Always, MaxDraining: 8})
	s := newSlow()
	l.reaper = s
	t.Cleanup(func() { close(s.ends) })
	return l, s
}

// TestCensusAnew: who asks while a census is under way is answered by the next one, and all who do by the same; a
// generation that is started meanwhile has the census taken anew.
func TestCensusAnew(t *testing.T) {
	l, s := newSlowLoop(t)
	g := s.of(l, 1, status.Live, 11)
	var told []string
	ask := func(who string) {
		l.census(func(s seen) { told = append(told, who) })
	}
	expect := func(what string, want ...string) {
		t.Helper()
		if !slices.Equal(told, want) {
			t.Errorf("%s: %q were told, want %q", what, told, want)
		}
	}
	ask("first")
	ask("second")
	ask("third")
	expect("while it is under way")
	s.end(t, l)
	expect("after the first", "first")
	next := s.of(l, 2, status.Starting, 22)
	s.end(t, l)
	expect("after one that does not know all generations", "first")
	var members []reaper.Process
	l.census(func(s seen) { members = s.ofAny(next) })
	s.end(t, l)
	expect("after one that does", "first", "second", "third")
	s.end(t, l)
	if len(members) != 1 || members[0].PID != 22 {
		t.Errorf("generation 2 has %v", members)
	}
	if l.censuses.under || len(s.begun) != 0 || l.generations[1] != g {
		t.Errorf("another census is under way: nobody has asked for it")
	}
}

// TestStopWaitsForCensus: a stop signal that is due while it is still being found out who belongs to the generation is sent
// then, once; meanwhile signals are passed on. A second one does not wait.
func TestStopWaitsForCensus(t *testing.T) {
	l, s := newSlowLoop(t)
	old := s.of(l, 1, status.Draining, firstPID+1)
	s.of(l, 2, status.Live, firstPID+2)
	l.settle(old)
	l.stop(old)
	l.stop(old)
	l.signal(syscall.SIGUSR1)
	if !slices.Equal(s.signalled, []int{firstPID + 2}) || !old.record.StoppedAt.IsZero() {
		t.Fatalf("signalled %v during the census, want the live one alone", s.signalled)
	}
	s.end(t, l)
	if !slices.Equal(s.signalled, []int{firstPID + 2, firstPID + 1}) || old.record.StoppedAt.IsZero() {
		t.Errorf("signalled %v after it, want the old one, once", s.signalled)
	}
	s.end(t, l) // who has come since
	l.stop(old)
	if len(s.signalled) != 3 {
		t.Errorf("signalled %v, want the old one at once", s.signalled)
	}
}

// TestStopInOrder: what comes after SIGTERM reaches a process after its stop signal, however long that waits, and what came
// before it before. Where nobody is going to be killed it does not wait.
func TestStopInOrder(t *testing.T) {
	want := []syscall.Signal{syscall.SIGUSR1, syscall.SIGALRM, syscall.SIGUSR2, syscall.SIGWINCH}
	for _, when := range []string{"before", "meanwhile", "afterwards"} {
		t.Run("executed "+when, func(t *testing.T) {
			l, s := newSlowLoop(t)
			l.o.GracePeriod = time.Minute
			g := s.of(l, 1, status.Live)
			g.executed = when == "before"
			l.signal(syscall.SIGUSR1)
			l.signal(syscall.SIGTERM)
			l.signal(syscall.SIGUSR2)
			if when == "meanwhile" {
				l.executed(g)
			}
			l.signal(syscall.SIGWINCH)
			if n := len(s.sent); n > 1 {
				t.Fatalf("sent %v before it is known who is to be killed", s.sent)
			}
			s.end(t, l)
			if when == "afterwards" {
				l.executed(g)
			}
			if !slices.Equal(s.sent, want) {
				t.Errorf("sent %v, want %v", s.sent, want)
			}
		})
	}
	t.Run("without a grace period", func(t *testing.T) {
		l, s := newSlowLoop(t)
		s.of(l, 1, status.Live)
		for _, k := range []syscall.Signal{syscall.SIGUSR1, syscall.SIGTERM, syscall.SIGUSR2, syscall.SIGWINCH} {
			l.signal(k)
		}
		if !slices.Equal(s.sent, want) || l.censuses.under {
			t.Errorf("sent %v, want %v; a census is under way: %v", s.sent, want, l.censuses.under)
		}
	})
	for name, change := range map[string]func(*Loop, *slow){
		"beside another generation": func(l *Loop, s *slow) { s.of(l, 0, status.Draining) },
		"with a drain timeout":      func(l *Loop, _ *slow) { l.machine.Gens[0].Bounded = true },
	} {
		t.Run(name, func(t *testing.T) {
			l, s := newSlowLoop(t)
			s.of(l, 1, status.Live)
			change(l, s)
			l.signal(syscall.SIGTERM)
			if len(s.sent) != 0 || !l.censuses.under {
				t.Errorf("sent %v without a census", s.sent)
			}
		})
	}
}

// TestKill: a kill that waits for its census is not lost when holdfast exits; many processes are killed by and by.
func TestKill(t *testing.T) {
	l, s := newSlowLoop(t)
	many := make([]int, 3*signalledAtOnce)
	for i := range many {
		many[i] = firstPID + 1000 + i
	}
	old := s.of(l, 1, status.Draining, many...)
	s.of(l, 2, status.Live)
	l.kill(old, "a test")
	s.end(t, l)
	if len(s.signalled) != signalledAtOnce {
		t.Errorf("%d were signalled in one go, want %d", len(s.signalled), signalledAtOnce)
	}
	run(t, l, "some more")
	run(t, l, "the rest")
	if want := append(many, old.pid); !slices.Equal(s.signalled, want) || old.killing != 0 {
		t.Errorf("%d were signalled, want %d", len(s.signalled), len(want))
	}
	s.signalled = nil
	l.kill(old, "a test")
	ended := make(chan struct{})
	go func() { // the one that was asked for comes too late
		defer close(ended)
		s.ends <- struct{}{}
		s.ends <- struct{}{}
	}()
	l.carryOut(machine.Action{Kind: machine.Exit})
	<-ended
	if len(s.signalled) != len(many)+1 {
		t.Errorf("%d were signalled at the exit, want %d", len(s.signalled), len(many)+1)
	}
}

// TestEmptyStale: a generation is not taken for gone by a census during which a child was reaped, since that may have left
// another; but a pod in which that is always so must not keep it for ever.
func TestEmptyStale(t *testing.T) {
	l, s := newSlowLoop(t)
	old := s.of(l, 1, status.Draining)
	s.of(l, 2, status.Live)
	old.mainGone, l.machine.Gens[0].MainGone = true, true
	there := func() bool { return l.generations[1] != nil }
	l.lookForEmpty()
	s.reaped++
	s.end(t, l)
	if !there() {
		t.Fatal("it was taken for gone")
	}
	s.end(t, l) // it looks again by itself
	if there() {
		t.Error("it is not seen to be gone")
	}

	old = s.of(l, 3, status.Draining)
	old.mainGone, l.machine.Gens[len(l.machine.Gens)-1].MainGone = true, true
	l.lookForEmpty()
	for i := range maxStale + 1 {
		if l.generations[3] == nil {
			t.Fatalf("it was taken for gone by look %d", i)
		}
		s.reaped++
		s.end(t, l)
	}
	if l.generations[3] != nil {
		t.Error("it is kept for ever")
	}
}
