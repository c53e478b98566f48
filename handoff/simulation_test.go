package handoff

import (
	"flag"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"

	"holdfast/handoff/machine"
	"holdfast/handoff/port"
	"holdfast/handoff/ready"
	"holdfast/handoff/status"
	"holdfast/reaper"
)

// go test ./handoff -run TestSimulation -args -simulate 720h -seed 7
var (
	simulate = flag.Duration("simulate", 24*time.Hour, "how long each of TestSimulation's runs takes, by its own clock")
	seeded   = flag.Uint64("seed", 0, "the seed of TestSimulation's runs; 0: another each time")
)

// TestSimulation runs the real loop, with real sockets, for days by a clock that is set forward to whatever is due next.
// Its children are scripted (children_test.go): they start slowly, not at all, never get ready, crash, ignore their stop
// signal, leave descendants behind. After each thing that happens the loop is held to what it promises.
func TestSimulation(t *testing.T) {
	seed := *seeded
	if seed == 0 {
		seed = rand.Uint64()
	}
	for name, o := range map[string]Options{
		"overlap":     {},
		"soak":        {Soak: 10 * time.Minute},
		"sequential":  {Sequential: true},
		"check":       {Check: []string{checkName}, Soak: time.Minute},
		"few drain":   {MaxDraining: 1, DrainTimeout: 20 * time.Minute},
		"connections": {WaitConnections: true},
		jumping:       {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Logf("seed %d", seed)
			s := newSimulation(t, o, seed)
			s.jumps = name == jumping
			length := *simulate
			if o.WaitConnections {
				length /= 8 // /proc/net/tcp is read for real, and that takes its time
			}
			s.days(length)
			s.end()
			t.Logf("%v in %v: %d triggers, %d handoffs completed, %d failed, %d generations, %d crashes; the clock was set %d times",
				length, time.Since(s.began).Round(time.Millisecond), s.triggers, s.results[status.Completed], s.results[status.FailedHandoff],
				s.children.next, s.children.crashes, s.steps)
			if s.results[status.Completed] == 0 {
				t.Error("no handoff completed: that shows nothing")
			}
		})
	}
}

// simulation is one run: the loop in a goroutine of its own, and the test's, which is the world.
type simulation struct {
	t        *testing.T
	began    time.Time
	loop     *Loop
	clock    *simulatedClock
	children *children
	signals  reaper.Signals
	code     chan int
	random   *rand.Rand
	log      *logged
	fds      []string
	routines int

	triggers, steps int
	jumps           bool
	results         map[string]int
}

// jumping is the run in which what the clock shows jumps, by up to two days, back and forth: nothing must depend on it. (A
// real clock's readings hold a monotonic one beside it, by which they are compared; here it must go without.)
const jumping = "a clock that jumps"

const readyFD = 9 // where the children write their newline

func newSimulation(t *testing.T, o Options, seed uint64) *simulation {
	t.Helper()
	s := &simulation{
		t: t, began: time.Now(), random: rand.New(rand.NewPCG(seed, 0)), log: &logged{}, code: make(chan int, 1),
		signals:  reaper.Signals{Forward: make(chan os.Signal, 64), Child: make(chan os.Signal, 1)},
		routines: runtime.NumGoroutine(), fds: openFiles(t),
	}
	s.clock = &simulatedClock{FakeClock: clocktesting.NewFakeClock(time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC))}
	s.children = &children{t: t, clock: s.clock, random: rand.New(rand.NewPCG(seed, 1)), signals: s.signals, running: map[int]*child{}}
	o.Command, o.Clock, o.Log = []string{serverName}, s.clock, slog.New(slog.NewTextHandler(s.log, nil))
	o.Ready, o.ReadyTimeout = []ready.Mode{{Kind: ready.FD, FD: readyFD}}, time.Minute
	o.Takeover, o.ReloadSignal, o.Restart, o.Settle = TakeoverOff, syscall.SIGHUP, machine.Always, time.Second
	o.StopSignal, o.GracePeriod = syscall.SIGTERM, time.Minute
	if o.MaxDraining == 0 {
		o.MaxDraining = 8
	}
	if o.DrainTimeout == 0 {
		o.DrainTimeout = 30 * time.Second
	}
	for _, network := range []string{"tcp", "udp"} {
		spec, err := port.ParseSpec(network + "://" + freeAddress(t))
		if err != nil {
			t.Fatal(err)
		}
		o.Listen = append(o.Listen, spec)
	}
	var err error
	if s.loop, err = New(o, s.children, s.signals); err != nil {
		t.Fatal(err)
	}
	s.children.loop = s.loop
	go func() { s.code <- s.loop.Run() }()
	t.Cleanup(func() {
		if t.Failed() {
			text := s.log.String()
			t.Logf("the end of the log:\n%s", text[max(0, len(text)-6000):])
		}
	})
	return s
}

// days lets the clock go on, from one thing that is due to the next, and triggers a handoff now and then.
func (s *simulation) days(d time.Duration) {
	end := s.clock.instant().Add(d)
	s.children.at(s.clock.instant(), s.trigger)
	for s.clock.instant().Before(end) {
		s.next()
	}
}

// trigger asks for a handoff, sometimes more than once, and says when it will the next time.
func (s *simulation) trigger() {
	for range 1 + s.random.IntN(3) {
		s.triggers++
		s.signals.Forward <- syscall.SIGHUP
	}
	if s.jumps {
		s.clock.jump(time.Duration(s.random.Int64N(int64(96*time.Hour))) - 48*time.Hour)
	}
	pause := time.Duration(s.random.ExpFloat64() * float64(4*time.Minute))
	s.children.at(s.clock.instant().Add(min(pause, time.Hour)), s.trigger)
}

// next sets the clock to whatever is due next, has it happen, and looks.
func (s *simulation) next() {
	s.t.Helper()
	at, ok := s.clock.due()
	if child, has := s.children.due(); has && (!ok || child.Before(at)) {
		at, ok = child, true
	}
	if !ok {
		s.t.Fatal("nothing is due, ever")
	}
	s.steps++
	if at.After(s.clock.instant()) {
		s.clock.SetTime(at)
	}
	s.clock.settle()
	s.children.act()
	s.look()
}

// look holds the loop to its promises, in the loop's own goroutine, once all is quiet: what runs beside the loop and
// waits for nothing must have had its say before the clock goes on.
func (s *simulation) look() {
	s.t.Helper()
	s.children.until("all is quiet", func() bool {
		s.judge()
		return s.t.Failed() || s.quiet()
	})
	if s.t.Failed() {
		s.t.FailNow()
	}
}

// quiet says whether nothing will happen until a child does something, or the clock goes on.
func (s *simulation) quiet() bool {
	l := s.loop
	if l.censuses.under {
		return false
	}
	if l.machine.Confirming { // there is nothing to ask again with descriptors
		return false
	}
	if l.check != nil && !s.children.runs(l.check.launch.pid) {
		return false // it has ended, and is still to be told
	}
	for _, state := range l.machine.Gens {
		_, waits := l.timers[timerKey{machine.WaitTimer, state.Number}]
		_, proves := l.timers[timerKey{machine.ReadyTimer, state.Number}]
		g := l.generations[state.Number]
		switch {
		case waits && !state.Stopped: // nobody is connected: it will be told to stop
			return false
		case state.Stopped, state.MainGone, state.Proven, !state.Executed, state.State == status.Draining:
		case !proves && (!l.machine.Overdue || g.cancelProof == nil): // its time is over, and it is still to be said
			return false
		}
	}
	return true
}

func (s *simulation) judge() {
	l := s.loop
	snapshot := l.Snapshot()
	live := 0
	for _, g := range snapshot.Generations {
		if g.State == status.Live {
			live++
		}
	}
	if live > 1 {
		s.t.Errorf("%d generations are live", live)
	}
	if snapshot.Live != 0 && snapshot.Ready.Live == "" && !s.children.readyNow(snapshot.Live) {
		s.t.Errorf("generation %d is said to be ready and is not", snapshot.Live)
	}
	for _, p := range l.ports {
		if _, has := p.FD(p.Live()); !has || p.Live() != l.machine.Live {
			s.t.Errorf("the switch of %s points at generation %d, live is %d", p.Spec(), p.Live(), l.machine.Live)
		}
	}
	if n := len(l.generations); n > 2*l.o.MaxDraining+4 { // that drain, that have failed; live, new, and just killed
		s.t.Errorf("%d generations at once", n)
	}
	if n := len(l.timers); n > 4*len(l.generations)+3 {
		s.t.Errorf("%d timers for %d generations", n, len(l.generations))
	}
	for _, told := range s.children.takeStopped() {
		if !l.o.Sequential && told == l.machine.Live && l.machine.Ending == machine.NotEnding {
			s.t.Errorf("generation %d was told to stop and is live", told)
		}
	}
}

// end ends holdfast and sees that nothing is left.
func (s *simulation) end() {
	s.t.Helper()
	s.rest()
	s.results = map[string]int{}
	for key, n := range s.loop.Snapshot().Counters.Handoffs {
		s.results[key.Result] += int(n)
	}
	s.signals.Forward <- syscall.SIGTERM
	for ended := false; !ended; {
		select {
		case <-s.loop.done:
			ended = true
		default:
			s.next()
		}
	}
	<-s.code
	if n := len(s.children.running); n != 0 {
		s.t.Errorf("%d children are left", n)
	}
	var fds []string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if fds = openFiles(s.t); len(fds) <= len(s.fds) && runtime.NumGoroutine() <= s.routines {
			return
		}
	}
	s.t.Errorf("%d goroutines, were %d; descriptors %q, were %q", runtime.NumGoroutine(), s.routines, fds, s.fds)
}

// rest lets the children behave, asks for nothing more, and goes on until all that was asked for is done.
func (s *simulation) rest() {
	s.t.Helper()
	s.children.behave()
	for deadline := time.Now().Add(patience); ; s.next() {
		snapshot := s.loop.Snapshot()
		idle := snapshot.Handoff == nil && !snapshot.Pending && snapshot.Ready.Live == "" && snapshot.Ready.Handoff == ""
		if idle && !slices.ContainsFunc(snapshot.Generations, func(g status.Generation) bool {
			return g.State != status.Gone && g.Number != snapshot.Live
		}) {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("it does not come to rest: %+v", snapshot)
		}
	}
}

func openFiles(t *testing.T) (open []string) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil {
			open = append(open, target)
		}
	}
	return open
}

// simulatedClock knows when its next function is due, and calls it in a goroutine of its own: the loop, which it asks to
// run something, may be reading the clock.
type simulatedClock struct {
	*clocktesting.FakeClock
	off     atomic.Int64 // in ns, by which it shows another time than that by which things happen
	mu      sync.Mutex
	pending []*simulatedTimer
	calls   sync.WaitGroup
}

type simulatedTimer struct {
	clock.Timer
	clock *simulatedClock
	at    time.Time
}

// Now is what the clock shows.
func (c *simulatedClock) Now() time.Time { return c.instant().Add(time.Duration(c.off.Load())) }

// Since goes by what it shows.
func (c *simulatedClock) Since(t time.Time) time.Duration { return c.Now().Sub(t) }

// instant is the time by which things happen.
func (c *simulatedClock) instant() time.Time { return c.FakeClock.Now() }

func (c *simulatedClock) jump(to time.Duration) { c.off.Store(int64(to)) }

func (c *simulatedClock) AfterFunc(d time.Duration, f func()) clock.Timer {
	t := &simulatedTimer{clock: c, at: c.instant().Add(d)}
	c.mu.Lock()
	c.pending = append(c.pending, t)
	c.mu.Unlock()
	t.Timer = c.FakeClock.AfterFunc(d, func() {
		c.forget(t)
		c.calls.Go(f)
	})
	return t
}

func (t *simulatedTimer) Stop() bool {
	t.clock.forget(t)
	return t.Timer.Stop()
}

func (c *simulatedClock) forget(t *simulatedTimer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending = slices.DeleteFunc(c.pending, func(o *simulatedTimer) bool { return o == t })
}

// due is when the next function is.
func (c *simulatedClock) due() (at time.Time, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.pending {
		if !ok || t.at.Before(at) {
			at, ok = t.at, true
		}
	}
	return at, ok
}

// settle waits until all functions that were due have returned.
func (c *simulatedClock) settle() { c.calls.Wait() }
