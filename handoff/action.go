package handoff

import (
	"fmt"
	"slices"
	"syscall"
	"time"

	"holdfast/handoff/machine"
	"holdfast/handoff/port"
	"holdfast/handoff/status"
	"holdfast/reaper"
)

// carryOut does one thing that the machine has decided. What comes of it is fed by follow or posted later.
func (l *Loop) carryOut(a machine.Action) {
	switch a.Kind {
	case machine.Began:
		l.began(a)
	case machine.Decided:
		l.decided(a)
	case machine.BeganTell:
		l.beganTell(a)
	case machine.Reported:
		l.reported(a)
	case machine.StopTell:
		l.stopTell()
	case machine.RunCheck:
		l.runCheck(a.Gen)
	case machine.StopCheck:
		l.stopCheck()
	case machine.Start:
		l.start(a.Gen, a.From)
	case machine.Arm:
		l.arm(a)
	case machine.Disarm:
		l.disarm(timerKey{a.Timer, a.Gen})
	case machine.Cutover:
		l.cutover(a.Gen)
	case machine.Exit:
		l.killPending()
		l.log.Info("exiting", "code", l.exitCode(a.Code), "reason", a.Reason)
		l.part()
		l.exit = &a
		l.lastWords = l.whyItEnded(a)
	default:
		if g, ok := l.generations[a.Gen]; ok {
			l.ofGeneration(g, a)
		}
	}
}

func (l *Loop) ofGeneration(g *generation, a machine.Action) {
	switch a.Kind {
	case machine.Prove:
		l.prove(g)
	case machine.Recheck:
		l.recheck(g)
	case machine.StopProve:
		g.stopProving(errNotWanted)
	case machine.Settle:
		l.settle(g)
	case machine.AwaitConns:
		l.awaitConnections(g)
	case machine.Tell:
		l.tell(g)
	case machine.Measure:
		l.measure(g)
	case machine.Relay:
		l.eachPort(g, "relay stragglers", func(p *port.Port) error {
			if _, yielded := p.Yielded(); p.Live() == g.number && !yielded {
				return nil // the generation that is live now has not opened it: there is nobody to relay to
			}
			return p.Relay(g.number)
		})
	case machine.Stop:
		l.stop(g)
	case machine.Kill:
		l.kill(g, a.Reason)
	case machine.Retire:
		l.retire(g)
	case machine.Forward:
		l.forward(g, syscall.Signal(a.Signal))
	}
}

// eachPort does something for every held port and goes on after a failure, which it logs.
func (l *Loop) eachPort(g *generation, what string, do func(*port.Port) error) {
	for _, p := range l.ports {
		if _, has := p.FD(g.number); !has {
			continue
		}
		if err := do(p); err != nil {
			l.log.Warn("cannot "+what, "port", p.Spec(), "generation", g.number, "err", err)
		}
	}
}

// cutover turns the switch of every held port, one right after the other. If one does not turn, those that did are
// turned back.
func (l *Loop) cutover(to int) {
	before := map[*port.Port]int{}
	for _, p := range l.ports {
		if _, has := p.FD(to); !has && slices.ContainsFunc(l.near[placeOf(p.Spec())], func(q *port.Port) bool { _, has := q.FD(to); return has && q.Spec().Covers(p.Spec()) }) {
			continue // settle turns it over
		} else if !has {
			l.log.Warn("the new generation has not opened this port: it turns when that does, or goes with the old one", "port", p.Spec(), "generation", to)
			continue
		}
		from := p.Live()
		err := p.Turn(to)
		if err == nil {
			before[p] = from
			continue
		}
		for turned, from := range before {
			if back := turned.Turn(from); back != nil {
				l.log.Error("a switch does not turn back", "port", turned.Spec(), "generation", from, "err", back)
			}
		}
		l.follow(machine.Event{Kind: machine.CutoverFailed, Gen: to, Reason: fmt.Sprintf("the switch of %s does not turn: %v", p.Spec(), err)})
		return
	}
	l.giveTerminal(to)
	l.follow(machine.Event{Kind: machine.CutoverDone, Gen: to})
}

// giveTerminal hands the terminal on, where there is one: else Ctrl-C would reach nobody after a handoff. The generation may
// have been stopped because it wanted it before it was live.
func (l *Loop) giveTerminal(to int) {
	g, ok := l.generations[to]
	if !ok || g.mainGone {
		return
	}
	terminal := reaper.Terminal(0, l.foreground)
	if terminal >= 0 {
		group := groupOf(g.pid)
		if err := reaper.GiveTerminal(terminal, group); err != nil {
			l.log.Warn("the new generation has no terminal", "generation", to, "err", err)
			return
		}
		l.foreground = group
	}
	switch asked := asks(l.reaper.Stopped(g.pid)); {
	case asked && terminal >= 0:
		l.goOn(g)
	case asked:
		l.lendTerminal(g)
	}
}

// part sends SIGTERM to what the main process has left behind in its session, as dumb-init does.
func (l *Loop) part() {
	if g, ok := l.generations[l.machine.Live]; ok && l.o.Session && l.o.Group && g.pid != 0 {
		if s := l.rewritten(syscall.SIGTERM); s != 0 { // dumb-init rewrites its own, too
			_ = l.reaper.Signal(g.pid, s, true) // most often nobody is left
		}
	}
}

const (
	settlePause = 20 * time.Millisecond // between two looks at accept queues that should be empty
	settleMore  = 5 * time.Second       // a generation that accepts nothing for so long beyond the settle time is wedged
)

// settle gives handshakes that were in flight at the cutover the settle time to arrive, then waits until the generation
// has accepted what was queued for it. One that does not accept any more must not hold its clients up: they are relayed.
func (l *Loop) settle(g *generation) {
	var look func()
	deadline := l.now().Add(l.o.Settle + settleMore)
	look = func() {
		queued := l.queued(g.number)
		if queued > 0 && l.now().Before(deadline) {
			g.stopSettling = l.after(settlePause, look)
			return
		}
		if queued > 0 {
			l.log.Warn("connections are still queued: they will be relayed", "generation", g.number, "connections", queued)
		}
		l.feed(machine.Event{Kind: machine.Settled, Gen: g.number})
	}
	if g.stopSettling != nil {
		g.stopSettling()
	}
	l.yield(g)
	g.stopSettling = l.after(l.o.Settle, look)
	// In a pod of thousands of processes it takes a while to find out who belongs to whom. Here nobody waits for it.
	l.countMembers(g)
}

// queued counts what waits in a generation's own accept queues. A shared queue is everybody's: it does not count.
func (l *Loop) queued(generation int) (n int) {
	for _, p := range l.ports {
		if p.Kind() == "shared" || !p.Pending(generation) {
			continue
		}
		n++
	}
	return n
}

const connectionsPause = 250 * time.Millisecond

// awaitConnections looks now and then whether the generation's established connections are gone, until it gets its stop
// signal all the same: the machine bounds that. The tables may be long: the loop does not wait for them.
func (l *Loop) awaitConnections(g *generation) {
	again := func() { g.stopSettling = l.after(connectionsPause, func() { l.awaitConnections(g) }) }
	l.census(func(s seen) {
		members, err := s.of(g)
		if err != nil {
			again()
			return
		}
		ports := l.tcpPorts()
		go func() {
			n, err := connections(ports, members)
			l.post(func() {
				switch state, ok := l.machine.Generation(g.number); {
				case !ok || state.Stopped:
					return
				case reaper.Short(err):
					again()
					return
				case err != nil:
					l.log.Warn("cannot count connections: the stop signal is not held back", "generation", g.number, "err", err)
				case n > 0:
					again()
					return
				}
				l.feed(machine.Event{Kind: machine.ConnectionsGone, Gen: g.number})
			})
		}()
	})
}

// retire closes a generation's sockets, stragglers relayed first, and forgets it.
func (l *Loop) retire(g *generation) {
	for _, p := range slices.Clone(l.ports) {
		if _, has := p.FD(g.number); !has {
			continue
		}
		if p.Live() == g.number {
			l.retireDrained(p)
		}
		relayed, err := p.Retire(g.number)
		if !p.Held() {
			l.letGo(p)
		}
		if err != nil {
			l.log.Warn("cannot retire a socket", "port", p.Spec(), "generation", g.number, "err", err)
		}
		if relayed > 0 {
			l.log.Info("relayed the last stragglers", "port", p.Spec(), "generation", g.number, "connections", relayed)
		}
	}
	l.closeLedger(g)
	g.close()
	delete(l.generations, g.number)
	l.goneRecord(g)
}

// retireDrained closes the sockets that draining generations have on a port which the last generation that anybody was
// sent to there is leaving. The live one has not opened it: nobody needs them any more, and they would keep it held.
func (l *Loop) retireDrained(p *port.Port) {
	for n := range l.generations {
		state, _ := l.machine.Generation(n)
		if _, has := p.FD(n); !has || n == p.Live() || state.State != status.Draining || !state.Stopped {
			continue
		}
		if _, err := p.Retire(n); err != nil {
			l.log.Warn("cannot retire a socket", "port", p.Spec(), "generation", n, "err", err)
		}
	}
}

// letGo forgets a port on which no generation has a socket any more. What is being relayed from it goes on.
func (l *Loop) letGo(p *port.Port) {
	l.log.Info("port let go: no generation listens on it", "port", p.Spec())
	l.unhold(p)
	l.relayedBefore.Add(p.Relayed())
	go p.Finish()
}

// forwardKept passes on what was kept: it has come before a stop signal that is due.
func (l *Loop) forwardKept(g *generation) {
	kept := g.kept
	g.kept = nil
	for _, s := range kept {
		l.send(g, s)
	}
}

func (l *Loop) forwardAll(g *generation, signals []syscall.Signal) {
	for _, s := range signals {
		l.forward(g, s)
	}
}

// forward passes a signal on to a generation's main process, or keeps it until there is one that runs, and behind its stop
// signal where that is due: signals reach a process in the order in which they came.
func (l *Loop) forward(g *generation, s syscall.Signal) {
	switch {
	case g.mainGone:
	case g.stopDue:
		g.behind = append(g.behind, s)
	case !g.executed || g.leaving != nil:
		g.kept = append(g.kept, s)
	default:
		l.send(g, s)
	}
}

func (l *Loop) send(g *generation, s syscall.Signal) {
	// Ctrl-Z has stopped all of the foreground, and a shell's fg would have all go on.
	all := l.o.Group || s == syscall.SIGCONT && l.foreground != 0 && g.number == l.machine.Live
	if err := l.reaper.Signal(g.pid, s, all); err != nil {
		l.log.Warn("cannot forward a signal", "generation", g.number, "signal", reaper.SignalName(s), "err", err)
		return
	}
	l.records.forwarded(s)
	l.log.Debug("signal forwarded", "generation", g.number, "signal", reaper.SignalName(s))
}
