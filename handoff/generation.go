package handoff

import (
	"context"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"holdfast/handoff/activation"
	"holdfast/handoff/machine"
	"holdfast/handoff/port"
	"holdfast/handoff/ready"
	"holdfast/handoff/status"
	"holdfast/reaper"
)

// generation is the processes and descriptors of one generation; what is decided about it is the machine's.
type generation struct {
	number    int
	pid       int // of the main process
	family    *reaper.Family
	executed  bool
	mainGone  bool
	killed    bool
	leaving   *reaper.Exit     // the main process has exited, and it is to be found out whether another takes its place
	successor int              // the process that has said to become the main one (MAINPID=); 0 = none
	forbidden string           // why it must not go on: what it does needs a takeover that can't be had
	kept      []syscall.Signal // signals that came before the program ran, or while it was leaving
	behind    []syscall.Signal // signals that came while its stop signal was due, and go behind that

	env       []string
	launch    *launch // nil once the program runs
	notify    *ready.NotifySocket
	strangers bool // have sent to it, and that has been said
	// notified and written are closed when the generation has said that it is ready.
	notified, written chan struct{}
	writtenEnd        *os.File

	cancelProof  context.CancelCauseFunc
	stopSettling func()

	nextRelease time.Time // when sockets of its ledger are looked at next; zero = not again
	stopRelease func()

	// Who belongs to it has been found out at its settling (counted), or is just being (counting), so that its stop signal need
	// not wait for that long; stopDue: it is to get that signal when it has been found out.
	counted, counting, stopDue bool
	killing                    int  // how many times it is being found out who is to be killed, and they are killed
	missed                     bool // who was seen to be left meanwhile is still to be killed
	stale                      int  // how often in a row it was seen to be gone and may not be

	ledger  ledger
	unbound *unbound
	heard   atomic.Int32 // binds of which it was asked whether the program watches its socket already
	deafOn  []port.Spec  // where a socket was replaced that the program watches
	// proven are the ports that it had a socket on when it was proven: the next generation must have them, too.
	provenPorts []*port.Port

	record status.Generation
}

// start starts generation n, with from's sockets if from is not 0.
func (l *Loop) start(n, from int) {
	g := &generation{number: n, notified: make(chan struct{}), written: make(chan struct{}), ledger: newLedger(), unbound: newUnbound(l.o.Clock)}
	g.record = status.Generation{Number: n, Started: l.now(), Trigger: l.why()}
	l.generations[n] = g
	if g.record.Trigger == "restart" {
		l.records.counters.Restarts++
	}
	if err := l.tryStart(g, from); err != nil {
		l.log.Error("a generation does not start", "generation", n, "err", err)
		g.mainGone = true
		g.record.Exit = "never started"
		l.follow(machine.Event{Kind: machine.StartFailed, Gen: n, Code: startCode(err), Reason: err.Error()})
		return
	}
	l.log.Info("generation starting", "generation", n, "pid", g.pid, "trigger", g.record.Trigger, "config", g.record.ConfigHash)
}

// startCode is holdfast's own exit code where a generation could not be started.
func startCode(error) int { return 125 }

func (l *Loop) tryStart(g *generation, from int) error {
	if err := l.openSockets(g.number, from); err != nil {
		return err
	}
	g.record.ConfigHash = l.readConfig()
	env, err := l.environment()
	if err != nil {
		return err
	}
	specs, files := l.sockets(g.number)
	var pidVariable string
	g.env, pidVariable = l.variables(g, env, specs)
	if err := l.openNotify(g, env); err != nil {
		return err
	}
	if slices.Contains(l.o.Activation, activation.Inetd) && len(files) > 3 {
		files[0] = files[activation.First]
	}
	files, close, err := l.openWritten(g, files)
	if err != nil {
		return err
	}
	defer close()
	files = l.withInherited(files)
	terminal := -1
	if g.number == l.machine.Live { // else it gets it at the cutover
		terminal = l.terminal()
	}
	c := reaper.Command{Argv: l.o.Command, Env: g.env, PIDVariable: pidVariable, Files: files, Terminal: terminal, Session: l.o.Session}
	holder, done, err := l.behindFilter(&c, l.filter(g.number))
	if err != nil {
		return err
	}
	defer done()
	if g.launch, err = l.spawn(c); err != nil {
		holder.Close()
		return err
	}
	if holder != nil {
		go l.takeOver(g, holder)
	}
	g.pid = g.launch.pid
	if l.o.AtRoot {
		_ = os.Chdir("/") // that it is there is enough
	}
	if terminal >= 0 && !l.o.Session {
		l.foreground = g.pid
	}
	g.family = reaper.NewFamily(g.pid, activation.Mark(g.number))
	go l.awaitExecution(g)
	return nil
}

// openSockets gives generation n its sockets. The first generation's have been opened before anything was started.
func (l *Loop) openSockets(n, from int) error {
	for _, p := range l.ports {
		var err error
		_, has := p.FD(from)
		switch {
		case from != 0 && has:
			err = p.Adopt(from, n)
		case from == 0 && n != firstGeneration && l.given(p):
			err = p.Open(n)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// sockets returns what the generation's descriptors are duplicates of: stdin, stdout, stderr, then the held ports.
func (l *Loop) sockets(n int) (specs []port.Spec, files []int) {
	files = []int{0, 1, 2}
	for _, p := range l.ports {
		if fd, ok := p.FD(n); ok && l.given(p) {
			specs = append(specs, p.Spec())
			files = append(files, fd)
		}
	}
	return specs, files
}

// withInherited adds the descriptors that this process was given, as far as their numbers are free.
func (l *Loop) withInherited(files []int) []int {
	for _, fd := range l.o.Inherited {
		for len(files) <= fd {
			files = append(files, -1)
		}
		if files[fd] < 0 {
			files[fd] = fd
		}
	}
	return files
}

// terminal returns the terminal to give to a generation that is live from its start, or -1.
func (l *Loop) terminal() int {
	if !l.o.Session {
		return reaper.Terminal(0, l.foreground)
	}
	if reaper.LetTerminalGo(0) { // to the whole session, of which only this process is left
		l.dropped = append(l.dropped, syscall.SIGHUP, syscall.SIGCONT)
	}
	return 0 // if it is one, and nobody's: the child tries
}

// awaitExecution says when the program runs. That it could not be executed is told by the exit of the child.
func (l *Loop) awaitExecution(g *generation) {
	<-g.launch.told
	if g.launch.failure == "" {
		l.post(func() { l.executed(g) })
	}
}

// executed takes note that the program runs: signals that came before are now its own.
func (l *Loop) executed(g *generation) {
	if g.executed || g.mainGone {
		return
	}
	g.executed = true
	g.record.Executed = l.now()
	l.forwardKept(g)
	l.feed(machine.Event{Kind: machine.Executed, Gen: g.number})
}

// stable is how long a generation must have run for its exit not to count as one more in a row.
const stable = 10 * time.Second

func (l *Loop) mainExited(g *generation, e reaper.Exit) {
	if l.leave(g, e) {
		return
	}
	l.mainGone(g, e)
}

// mainGone takes note of the end of a main process that nobody follows.
func (l *Loop) mainGone(g *generation, e reaper.Exit) {
	if !g.executed {
		<-g.launch.told // its end of the pipe is closed by now
		if g.launch.failure == "" {
			g.kept = nil // too late: its pid may be another's already
			l.executed(g)
		}
	}
	g.mainGone = true
	g.record.Exit = e.String()
	code, reason := e.Code(), e.String()
	switch {
	case g.launch.failure != "":
		reason = g.launch.failure
	case g.forbidden != "":
		code, reason = startCode(nil), g.forbidden
	}
	log := l.log.Info
	if state, ok := l.machine.Generation(g.number); ok && !state.Stopped && e.Code() != 0 {
		log = l.log.Warn
	}
	if g.launch.failure != "" {
		log = l.log.Error
	}
	log("main process exited", "generation", g.number, "pid", g.pid, "exit", reason)
	l.feed(machine.Event{
		Kind: machine.MainExited, Gen: g.number, Code: code, Reason: reason,
		Stable: !g.record.ProvenAt.IsZero() && l.now().Sub(g.record.Started) >= stable,
	})
}

// notified takes a message of the generation, if it is one.
func (l *Loop) notified(g *generation, n ready.Notification) {
	defer n.Release()
	if n.PID == l.reaper.PID() {
		l.left(g)
		return
	}
	// The main one may have ended since: it is no member any more, but what it has said counts. Who is of another PID
	// namespace has no pid here, and costs no look: every container of a pod can send messages.
	main := n.PID == g.pid && !g.mainGone
	if n.PID == 0 || !main && (g.family == nil || !l.reaper.Holds(g.family, l.families(), n.PID)) {
		if !g.strangers {
			g.strangers = true
			l.log.Warn("a notify message was not taken: its sender is not of this generation", "generation", g.number, "pid", n.PID, "uid", n.UID)
		}
		return
	}
	if n.Status != "" {
		g.record.Detail = n.Status
	}
	if n.MainPID > 0 && l.o.Follow {
		g.successor = n.MainPID
	}
	key := timerKey{machine.ReadyTimer, g.number}
	if t, armed := l.timers[key]; armed && l.now().Add(n.Extend).After(t.at) { // it extends, as systemd has it, and never shortens
		l.armFor(key, n.Extend)
	}
	if n.Ready {
		select {
		case <-g.notified:
		default:
			close(g.notified)
		}
	}
	l.publish()
}

// close releases the descriptors and ends the goroutines of a generation; not its sockets, which the ports own.
func (g *generation) close() {
	if g.unbound != nil {
		g.unbound.close()
	}
	g.stopProving(errNotWanted)
	if g.stopSettling != nil {
		g.stopSettling()
	}
	if g.stopRelease != nil {
		g.stopRelease()
	}
	if g.notify != nil {
		go g.notify.Close() // its goroutine may be posting to this very loop
	}
	if g.writtenEnd != nil {
		g.writtenEnd.Close()
	}
}
