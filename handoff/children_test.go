package handoff

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/handoff/status"
	"holdfast/reaper"
)

// What the scripted children are called on their command line.
const (
	serverName = "server"
	checkName  = "check"
)

// child is one scripted process: a generation's main one, or a descendant that it has left.
type child struct {
	pid, generation int
	main            bool
	report, written int // its ends of the pipes to the loop; -1 = closed
	executed, ready bool
	stubborn        bool          // ignores its stop signal
	takes           time.Duration // to obey it
	leaves          bool          // a descendant behind when it exits
	exiting         bool
}

// children are the processes of a simulation, in the place of a reaper. Start, Signal, Reap and Census are called by the
// loop, everything else by the simulation.
type children struct {
	t       *testing.T
	clock   *simulatedClock
	signals reaper.Signals
	loop    *Loop

	mu      sync.Mutex
	random  *rand.Rand
	tame    bool // they all behave
	running map[int]*child
	exits   []reaper.Exit
	stopped []int // generations that were told to stop
	agenda  []appointment
	next    int // generations started
	pid     int
	reaped  uint64
	crashes int
}

type appointment struct {
	at time.Time
	do func()
}

// firstPID is above every pid that Linux gives.
const firstPID = 1 << 23

func (c *children) PID() int { return firstPID }

func (c *children) Reaped() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reaped
}

// runs says whether a process does.
func (c *children) runs(pid int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.running[pid] != nil
}

// at has f happen at an instant.
func (c *children) at(t time.Time, f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.schedule(t, f)
}

func (c *children) schedule(t time.Time, f func()) {
	c.agenda = append(c.agenda, appointment{t, f})
	slices.SortStableFunc(c.agenda, func(a, b appointment) int { return a.at.Compare(b.at) })
}

func (c *children) after(d time.Duration, f func()) { c.schedule(c.clock.instant().Add(d), f) }

func (c *children) due() (time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.agenda) == 0 {
		return time.Time{}, false
	}
	return c.agenda[0].at, true
}

// act has happen whatever is due.
func (c *children) act() {
	for {
		c.mu.Lock()
		if len(c.agenda) == 0 || c.agenda[0].at.After(c.clock.instant()) {
			c.mu.Unlock()
			return
		}
		do := c.agenda[0].do
		c.agenda = c.agenda[1:]
		c.mu.Unlock()
		do()
	}
}

// behave has those that run and those to come do no wrong any more.
func (c *children) behave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tame = true
}

// chance is true once in n times, and never for who behaves.
func (c *children) chance(n int) bool { return !c.tame && c.random.IntN(n) == 0 }

func (c *children) upTo(d time.Duration) time.Duration {
	return time.Duration(c.random.Int64N(int64(d)))
}

// Start starts a child as its script says, which is decided here.
func (c *children) Start(cmd reaper.Command) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.chance(50) {
		return 0, fmt.Errorf("start %s: %w", cmd.Argv[0], unix.EAGAIN)
	}
	c.pid++
	p := &child{pid: firstPID + c.pid, main: true, report: -1, written: -1}
	c.running[p.pid] = p
	if cmd.Argv[len(cmd.Argv)-1] == checkName {
		return p.pid, c.startCheck(p)
	}
	for _, kv := range cmd.Env {
		if n, ok := strings.CutPrefix(kv, "HOLDFAST_GENERATION="); ok {
			p.generation, _ = strconv.Atoi(n)
		}
	}
	c.next++
	p.report = c.duplicate(cmd.Report)
	p.written = c.duplicate(cmd.Files[readyFD])
	p.stubborn, p.leaves, p.takes = c.chance(10), c.chance(6), c.upTo(20*time.Second)
	switch {
	case c.chance(40): // it hangs before its program runs
	case p.generation > 1 && c.chance(30): // the first one would end holdfast
		c.after(c.upTo(time.Second), func() { c.fails(p) })
	default:
		c.after(c.upTo(time.Second), func() { c.executes(p) })
	}
	return p.pid, nil
}

func (c *children) duplicate(fd int) int {
	fd, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		c.t.Errorf("duplicate a pipe: %v", err)
	}
	return fd
}

func (c *children) startCheck(p *child) error {
	code := 0
	if c.chance(8) {
		code = 1
	}
	c.after(c.upTo(5*time.Second), func() { c.exit(p, syscall.WaitStatus(code<<8)) })
	return nil
}

// executes has the program run: it closes its end of the report.
func (c *children) executes(p *child) {
	c.mu.Lock()
	if p.exiting {
		c.mu.Unlock()
		return
	}
	p.executed = true
	c.closeReport(p)
	switch {
	case c.chance(15): // it never gets ready
	case c.chance(15):
		c.after(c.upTo(30*time.Second), func() { c.crash(p) })
	default:
		c.after(c.upTo(30*time.Second), func() { c.becomesReady(p) })
	}
	c.mu.Unlock()
	c.until(fmt.Sprintf("generation %d is seen to run", p.generation), func() bool {
		g, ok := c.loop.generations[p.generation]
		return !ok || g.executed || g.mainGone
	})
}

// fails has the program not be found.
func (c *children) fails(p *child) {
	c.mu.Lock()
	if !p.exiting {
		if _, err := unix.Write(p.report, []byte("a report")); err != nil {
			c.t.Errorf("report a failure: %v", err)
		}
	}
	c.mu.Unlock()
	c.exit(p, 127<<8)
}

func (c *children) becomesReady(p *child) {
	c.mu.Lock()
	if p.exiting {
		c.mu.Unlock()
		return
	}
	p.ready = true
	if _, err := unix.Write(p.written, []byte("\n")); err != nil && err != unix.EPIPE {
		c.t.Errorf("write the newline: %v", err)
	}
	if c.chance(12) {
		c.after(c.upTo(10*time.Minute), func() { c.crash(p) })
	}
	c.mu.Unlock()
	c.until(fmt.Sprintf("generation %d is seen to be ready", p.generation), func() bool {
		state, ok := c.loop.machine.Generation(p.generation)
		return !ok || state.Proven || state.MainGone || state.Stopped || state.State == status.Failed
	})
}

func (c *children) crash(p *child) {
	c.mu.Lock()
	wrong := !p.exiting && !c.tame
	if wrong {
		c.crashes++
	}
	c.mu.Unlock()
	if wrong {
		c.exit(p, 1<<8)
	}
}

// exit ends a child, and waits until the loop has noticed.
func (c *children) exit(p *child, status syscall.WaitStatus) {
	c.mu.Lock()
	if c.running[p.pid] == nil {
		c.mu.Unlock()
		return
	}
	p.exiting = true
	delete(c.running, p.pid)
	c.closeReport(p)
	if p.written >= 0 {
		unix.Close(p.written)
		p.written = -1
	}
	if p.main && p.leaves {
		c.pid++
		left := &child{pid: firstPID + c.pid, generation: p.generation, report: -1, written: -1, stubborn: c.chance(2), takes: time.Second}
		c.running[left.pid] = left
	}
	c.exits = append(c.exits, reaper.Exit{PID: p.pid, Status: status})
	want := c.reaped + uint64(len(c.exits))
	c.mu.Unlock()
	select {
	case c.signals.Child <- syscall.SIGCHLD:
	default:
	}
	c.until(fmt.Sprintf("the exit of %d is noticed", p.pid), func() bool { return c.Reaped() >= want })
}

func (c *children) closeReport(p *child) {
	if p.report >= 0 {
		unix.Close(p.report)
		p.report = -1
	}
}

// Signal has a signal reach a child: SIGKILL ends it at once, its stop signal when it likes.
func (c *children) Signal(pid int, s syscall.Signal, group bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.running[pid]
	switch {
	case p == nil:
		return unix.ESRCH
	case s == syscall.SIGKILL:
		c.after(0, func() { c.exit(p, syscall.WaitStatus(syscall.SIGKILL)) })
	case s == syscall.SIGTERM && p.main && p.generation != 0:
		c.stopped = append(c.stopped, p.generation)
		fallthrough
	case s == syscall.SIGTERM:
		if !p.stubborn || c.tame {
			c.after(p.takes, func() { c.exit(p, 0) })
		}
	}
	return nil
}

// takeStopped returns the generations whose main process has been told to stop since.
func (c *children) takeStopped() []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	told := c.stopped
	c.stopped = nil
	return told
}

// Stopped: none of them ever is.
func (*children) Stopped(int) syscall.Signal { return 0 }

// Reap gives up what has exited.
func (c *children) Reap() iter.Seq[reaper.Exit] {
	return func(yield func(reaper.Exit) bool) {
		for {
			c.mu.Lock()
			if len(c.exits) == 0 {
				c.mu.Unlock()
				return
			}
			e := c.exits[0]
			c.exits = c.exits[1:]
			c.reaped++
			c.mu.Unlock()
			if !yield(e) {
				return
			}
		}
	}
}

// Census lists who runs, by generation.
func (c *children) Census(families []*reaper.Family) (map[*reaper.Family][]reaper.Process, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	members := map[*reaper.Family][]reaper.Process{}
	for _, f := range families {
		members[f] = nil
		for _, p := range c.running {
			if f.Mark == fmt.Sprintf("HOLDFAST_GENERATION=%d", p.generation) {
				members[f] = append(members[f], reaper.Process{PID: p.pid, Parent: firstPID, State: 'S', Name: serverName})
			}
		}
	}
	return members, nil
}

// Holds is of no use here: they send no messages.
func (*children) Holds(*reaper.Family, []*reaper.Family, int) bool { return false }

// SignalMember is Signal: no number is ever another's.
func (c *children) SignalMember(p reaper.Process, s syscall.Signal) error {
	return c.Signal(p.PID, s, false)
}

// readyNow says whether a generation's main process runs and has said that it is ready.
func (c *children) readyNow(generation int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.running {
		if p.main && p.generation == generation {
			return p.ready
		}
	}
	return false
}

// until waits until the loop has noticed something that has just happened; what it looks at is the loop's own.
func (c *children) until(what string, noticed func() bool) {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		seen, done := false, make(chan struct{})
		c.loop.post(func() {
			defer close(done)
			seen = noticed()
		})
		select {
		case <-done:
		case <-c.loop.done:
			return
		}
		if seen {
			return
		}
		time.Sleep(20 * time.Microsecond)
	}
	c.t.Fatalf("waited in vain: %s; %+v", what, c.loop.machine)
}
