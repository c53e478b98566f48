// Package handoff runs generations of one command behind held ports and hands over from one to the next.
//
// Its invariants: at most one generation is live; a held port is never without a socket that somebody accepts on or will
// accept on; a failure of the new generation never touches the live one.
//
// What is to be done is decided in package machine, without effects. This package has the effects: one goroutine, Run,
// owns all state, feeds the machine one event after the other and carries out the actions that it returns. Everything
// that waits (readiness, watched files, the control socket) runs elsewhere and posts to it.
package handoff

import (
	"iter"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"holdfast/handoff/machine"
	"holdfast/handoff/port"
	"holdfast/handoff/status"
	"holdfast/reaper"
)

// Processes is what the loop needs of the processes below it; *reaper.Reaper has it. All of it belongs to the loop's
// goroutine.
type Processes interface {
	// PID is that of this process, Reaped how many children it has collected so far.
	PID() int
	Reaped() uint64
	Start(reaper.Command) (pid int, err error)
	// Signal sends to a child, or to its process group.
	Signal(pid int, s syscall.Signal, group bool) error
	// SignalMember sends to a process that a Census has found, if that is still the one.
	SignalMember(p reaper.Process, s syscall.Signal) error
	// Reap collects what has exited, one by one, and waits for nothing.
	Reap() iter.Seq[reaper.Exit]
	// Stopped returns, once, by which signal a child has been stopped and not continued since; 0 = it has not.
	Stopped(pid int) syscall.Signal
	// Census says whose each process is; its error is reaper.ErrNoProc, or a shortage that may pass. It may take long, and may
	// be called from anywhere, with clones.
	Census([]*reaper.Family) (map[*reaper.Family][]reaper.Process, error)
	// Holds says whether a process belongs to the first family, given all. It looks at few processes.
	Holds(f *reaper.Family, all []*reaper.Family, pid int) bool
}

// Loop is one run of holdfast. Its exported methods may be called from anywhere.
type Loop struct {
	o       Options
	log     *slog.Logger
	reaper  Processes
	signals reaper.Signals
	held    atomic.Pointer[[]*port.Port]  // the held ports, for others than the loop's goroutine to read
	kernel  port.Kernel                   // what the ports have in common
	opens   atomic.Pointer[chan struct{}] // closed when a generation next opens or closes a socket on a port

	posts chan func()               // to be run by the loop's goroutine
	done  chan struct{}             // closed when Run has returned
	pulse chan struct{}             // asks for a sign of life
	asked atomic.Pointer[time.Time] // when the oldest sign of life that has not come yet was asked for

	// All below belongs to the loop's goroutine.
	ports     []*port.Port           // the held ones; changed by hold and unhold only
	byAddress map[string]*port.Port  // the same, by their String
	near      map[place][]*port.Port // the same, by what those have in common that overlap
	listened  map[string]bool        // the addresses of --listen

	machine     machine.Machine
	queue       []machine.Event // events that actions have caused; they come before anything else
	generations map[int]*generation
	opening     map[string]*port.Port // bound, and not listened on yet; by their address
	warned      bool                  // that there is no takeover
	warnedDeaf  bool                  // that a program does not hear of connections
	warnedFew   bool                  // that there are too few descriptors
	tasks       map[int]*task         // running check and exec commands, by pid
	check       *task
	telling     *telling // the watch action in flight; nil = none
	timers      map[timerKey]*timer
	waiters     []waiter
	answers     []func() // to waiters, due when the snapshot has been published
	records     records
	exit        *machine.Action
	measurement int            // the last one that was begun
	tight       string         // what it has found: why a second generation would not fit; "" = it would
	lastWords   string         // why, if it is nothing that anybody has asked for
	stopSignal  syscall.Signal // once found out, with --stop-signal auto
	foreground  int            // the process group that has been given the terminal; 0 = none
	suspended   bool           // this process has stopped itself, and SIGCONT has not come yet
	continued   uint32         // how many SIGCONTs have been taken; wraps
	dropped     []os.Signal    // signals that this process has caused itself and is still to get
	neglect     neglect
	censuses    censuses

	public        []string // the command, as everybody may read it
	snapshot      atomic.Pointer[status.Snapshot]
	next          atomic.Pointer[chan struct{}] // closed when another snapshot is published
	relayedBefore atomic.Uint64                 // stragglers of ports that are not held any more

	drainers atomic.Pointer[[]drainer] // those whose connections others may count
	counts   counts
}

// New opens the first generation's sockets. It starts nothing.
func New(o Options, r Processes, signals reaper.Signals) (*Loop, error) {
	l := &Loop{
		o: o, log: o.Log, reaper: r, signals: signals, public: status.Public(o.Command),
		posts:       make(chan func()),
		done:        make(chan struct{}),
		pulse:       make(chan struct{}, 1),
		byAddress:   map[string]*port.Port{},
		near:        map[place][]*port.Port{},
		listened:    map[string]bool{},
		machine:     machine.New(o.machine()),
		generations: map[int]*generation{},
		opening:     map[string]*port.Port{},
		tasks:       map[int]*task{},
		timers:      map[timerKey]*timer{},
		records:     newRecords(o.Clock.Now()),
	}
	opens := make(chan struct{})
	l.opens.Store(&opens)
	for _, spec := range o.Listen {
		p := l.kernel.New(spec, o.Log)
		l.listened[p.String()] = true
		l.hold(p)
		if err := p.Open(firstGeneration); err != nil {
			l.closePorts()
			return nil, &ListenError{Spec: spec, Err: err}
		}
	}
	l.publish()
	return l, nil
}

const firstGeneration = 1

// ListenError says which held port could not be opened.
type ListenError struct {
	Spec port.Spec
	Err  error
}

func (e *ListenError) Error() string { return e.Err.Error() }
func (e *ListenError) Unwrap() error { return e.Err }

// Run starts the first generation and returns when everything has ended, with the code to exit with.
func (l *Loop) Run() (code int) {
	defer close(l.done)
	defer l.closePorts()
	l.feed(machine.Event{Kind: machine.Boot})
	for l.exit == nil {
		select {
		case <-l.signals.Child:
			l.reap()
		case s := <-l.signals.Forward:
			l.taken(s)
		case post := <-l.posts:
			post()
		case <-l.pulse:
			l.asked.Store(nil)
		}
	}
	l.answer(waiterResult{status.Abandoned, "holdfast has exited"}, ^uint64(0))
	l.giveAnswers()
	for _, g := range l.generations {
		g.close()
	}
	return l.exitCode(l.exit.Code)
}

// feed has the machine decide on e, and on all that follows from it at once, and carries the decisions out.
func (l *Loop) feed(e machine.Event) {
	l.queue = append(l.queue, e)
	for len(l.queue) > 0 && l.exit == nil {
		e, l.queue = l.queue[0], l.queue[1:]
		before := l.machine
		var actions []machine.Action
		l.machine, actions = before.Step(e)
		l.log.Debug("step", "event", e, "actions", actions)
		l.observe(e, before)
		for _, a := range actions {
			l.carryOut(a)
		}
	}
	l.publish()
	l.giveAnswers()
}

// follow is for the outcome of an action: it is fed before anything else.
func (l *Loop) follow(e machine.Event) { l.queue = append(l.queue, e) }

// post has f run by the loop's goroutine; after the end it does nothing.
func (l *Loop) post(f func()) {
	select {
	case l.posts <- f:
	case <-l.done:
	}
}

// Changed tells the loop that watched content has changed and what it is now; asked, that something which is no
// configuration has. If not, and if the generation that was started last
// has started from just that, because it was asked for otherwise while the watcher waited for quiet, nothing is to do;
// unless the last attempt has failed: then this is the repair, and whether it is one has to be seen.
func (l *Loop) Changed(hash string, asked bool) {
	l.post(func() {
		if g, ok := l.generations[l.machine.Next]; ok && !asked && g.record.ConfigHash == hash && l.records.rejected == "" {
			l.log.Info("the generation started last has this configuration already", "generation", g.number, "config", hash)
			return
		}
		l.feed(machine.Event{Kind: machine.Changed, Why: "watch"})
	})
}

func (l *Loop) now() time.Time { return l.o.Clock.Now() }

func (l *Loop) exitCode(code int) int {
	if to, ok := l.o.RemapExit[code]; ok {
		return to
	}
	return code
}

func (l *Loop) closePorts() {
	for _, p := range l.ports {
		if err := p.Close(); err != nil {
			l.log.Warn("a held port did not close", "port", p.Spec(), "err", err)
		}
	}
}

// taken takes a signal that has come. A terminal that has gone asks for no handoff: the child is told, as it would be by
// any init.
func (l *Loop) taken(came os.Signal) {
	if pending, ok := came.(reaper.Pending); ok {
		l.takenPending(pending)
		return
	}
	s, ok := came.(syscall.Signal)
	if !ok { // reaper.HangUp
		s = syscall.SIGHUP
	}
	if s == syscall.SIGCONT {
		l.continued++
	}
	if i := slices.Index(l.dropped, os.Signal(s)); i >= 0 {
		l.dropped = slices.Delete(l.dropped, i, i+1)
		return
	}
	switch {
	case ok && (s == syscall.SIGTSTP || s == syscall.SIGTTIN || s == syscall.SIGTTOU):
		l.takenStop(s)
	case ok:
		l.signal(s)
	default:
		if s = l.rewritten(s); s != 0 {
			l.feed(machine.Event{Kind: machine.Signal, Signal: int(s)})
		}
	}
}

// rewritten returns what a signal is to be taken for; 0 = nothing.
func (l *Loop) rewritten(s syscall.Signal) syscall.Signal {
	if to, ok := l.o.Rewrite[s]; ok {
		return to
	}
	return s
}

// signal decides what a signal to holdfast means.
func (l *Loop) signal(came syscall.Signal) {
	if came == syscall.SIGCONT {
		l.resume()
	}
	if s := l.rewritten(came); s != 0 {
		l.act(s)
	}
}

func (l *Loop) act(s syscall.Signal) {
	switch s {
	case l.o.ReloadSignal:
		l.feed(machine.Event{Kind: machine.Trigger, Why: "signal"})
	case syscall.SIGTERM:
		l.log.Info("terminating", "signal", reaper.SignalName(s))
		l.feed(machine.Event{Kind: machine.Terminate, Signal: int(s)})
	case syscall.SIGINT, syscall.SIGQUIT:
		l.feed(machine.Event{Kind: machine.Interrupt, Signal: int(s)})
	default:
		l.feed(machine.Event{Kind: machine.Signal, Signal: int(s)})
	}
}

// reap collects what has exited and says whose it was.
func (l *Loop) reap() {
	for e := range l.reaper.Reap() {
		if t, ok := l.tasks[e.PID]; ok {
			l.taskExited(t, e)
			continue
		}
		main := false
		for _, g := range l.generations {
			if g.pid == e.PID && !g.mainGone && g.leaving == nil {
				l.mainExited(g, e)
				main = true
				break
			}
		}
		if l.o.LogReaped && !main {
			l.log.Warn("orphan reaped", "pid", e.PID, "exit", e)
		}
	}
	if l.exit != nil {
		return // what is left is the kernel's to end, or nobody's: no look at all processes may hold up the end
	}
	l.watchStop()
	l.lookForEmpty()
	l.lookForNeglect()
	l.publish()
}

// Pulse asks the loop for a sign of life, without waiting for it, and returns for how long the last one asked for has
// been missing. The askers are the clock: a loop that nobody asks does not wake up.
func (l *Loop) Pulse() time.Duration {
	now := l.now()
	l.asked.CompareAndSwap(nil, &now) // before the asking: the answer may come at once
	select {
	case l.pulse <- struct{}{}:
	default:
	}
	if asked := l.asked.Load(); asked != nil {
		return now.Sub(*asked)
	}
	return 0
}
