package handoff

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/handoff/machine"
	"holdfast/handoff/port"
	"holdfast/handoff/takeover"
	"holdfast/reaper"
)

// idleLook is how long something must have waited on a port before the holder asks who would accept it, and the pause
// between two such questions.
const idleLook = time.Second

// startingWorkers is how long all workers of a generation may take to bind the sockets that they were given.
const startingWorkers = 5 * time.Second

// watchIdle notices that the generation which clients reach (the live one, or one that drains where the live one has not
// opened the port) has closed its listener on a port that it had opened itself, and lets the port go: clients are refused
// then, as they would be without holdfast. Where it has several listeners there, one for each worker, and has closed some
// of them, it takes those out of service: their share of the clients would wait in vain. The holder's own duplicate hides
// the close, so the sign is that something waits and is not taken. Nothing wakes up while nothing arrives.
func (l *Loop) watchIdle(p *port.Port) {
	if l.given(p) && len(p.Inodes(p.Live())) < 2 {
		return
	}
	p.NextArrival(func() {
		l.post(func() { l.after(idleLook, func() { l.lookIdle(p) }) })
	})
}

func (l *Loop) lookIdle(p *port.Port) { l.lookTwice(p, 0, nil) }

// lookTwice drops only what was left at the look before, too: a process that is being killed has no descriptors any more
// some time before its exit is seen.
func (l *Loop) lookTwice(p *port.Port, before int, leftBefore []uint64) {
	n := p.Live()
	g, ok := l.generations[n]
	switch {
	case !p.Held() || !ok:
		return
	case !p.Pending(n) || g.mainGone:
		l.watchIdle(p)
		return
	case !l.hasOpened(g, p):
		// It was given the socket of the generation before it (a sequential handoff, a restart) and still starts.
		l.log.Debug("the live generation has not opened this port yet", "port", p.Spec(), "generation", n)
		l.watchIdle(p)
		return
	case l.heldForNext(n):
		l.log.Debug("the generation may have closed this port on its way out: it is held for the next one", "port", p.Spec(), "generation", n)
		l.watchIdle(p)
		return
	}
	// Somebody may just be slow. Looking through descriptors may take a while, too. The sockets are noted before the processes:
	// who has got one since is not among those.
	inodes, changes := p.Inodes(n), g.ledger.changes
	l.census(func(s seen) {
		members, err := s.of(g)
		if err != nil {
			l.after(idleLook, func() { l.lookIdle(p) }) // nobody can be seen just now: that says nothing
			return
		}
		go func() {
			left := leftBy(members, inodes)
			l.post(func() { l.seeIdle(g, p, before, leftBefore, g.ledger.stillLeft(left, changes)) })
		}()
	})
}

// seeIdle takes note of the sockets on a port that a generation has been seen to have left.
func (l *Loop) seeIdle(g *generation, p *port.Port, before int, leftBefore, left []uint64) {
	n := g.number
	if p.Live() == n && p.Pending(n) && !l.heldForNext(n) {
		if len(left) > 0 && before != n {
			l.after(idleLook, func() { l.lookTwice(p, n, left) })
			return
		}
		l.dropLeft(g, p, slices.DeleteFunc(left, func(inode uint64) bool { return !slices.Contains(leftBefore, inode) }))
	}
	if p.Held() {
		l.watchIdle(p)
	}
}

// heldForNext says whether generation n has been told to stop so that the next one can start (the sequential strategy). A
// server closes its listener first and goes on with what it has begun; who comes meanwhile waits for the next one.
func (l *Loop) heldForNext(n int) bool {
	h := l.machine.Handoff
	return h.Stage == machine.Stopping && h.From == n
}

// dropLeft takes sockets out of service that no process of the generation has open any more. Those that it was given and
// that nobody has bound go as well, after a while, where others are in use: the generation has fewer workers than the one
// before it. Should there be one more later, it gets a socket of its own.
func (l *Loop) dropLeft(g *generation, p *port.Port, left []uint64) {
	switch {
	case len(left) < len(p.Inodes(g.number)):
		young := !g.proven(l) && l.now().Sub(g.record.Started) < startingWorkers
		for _, inode := range left {
			if _, bound := g.ledger.bound[inode]; bound || !young {
				l.retireOne(g, p, inode)
			}
		}
	case !l.given(p) && (g.proven(l) || len(g.ledger.on(left).given) == 0): // else it is held in any case, or is still to be opened
		l.dropClosed(g, p)
	}
}

// retireOne takes one of several sockets out of service.
func (l *Loop) retireOne(g *generation, p *port.Port, inode uint64) {
	if err := p.RetireOne(g.number, inode); err != nil {
		l.log.Warn("cannot retire a socket", "port", p.Spec(), "generation", g.number, "err", err)
		return
	}
	g.ledger.remove(inode)
	l.log.Info("a worker's socket is retired: no process has it open any more", "port", p.Spec(), "generation", g.number)
}

// hasOpened says whether the generation has come so far that a port which it does not have open is one that it has closed.
func (l *Loop) hasOpened(g *generation, p *port.Port) bool {
	bound := func(inode uint64) bool { _, known := g.ledger.bound[inode]; return known }
	return g.proven(l) || slices.ContainsFunc(p.Inodes(g.number), bound)
}

// dropClosed lets a port go that the generation which clients reach has closed.
func (l *Loop) dropClosed(g *generation, p *port.Port) {
	if g.number == l.machine.Live {
		l.log.Warn("the live generation has closed this port: it is let go, and clients are refused", "port", p.Spec(), "generation", g.number)
	}
	l.dropSocket(g, p)
}

// dropSocket lets go what a generation has on a port, and the port, if nobody else has anything there.
func (l *Loop) dropSocket(g *generation, p *port.Port) {
	l.retireDrained(p)
	if _, err := p.Retire(g.number); err != nil {
		l.log.Warn("cannot retire a socket", "port", p.Spec(), "generation", g.number, "err", err)
	}
	if !p.Held() {
		l.letGo(p)
	}
	l.publish()
}

func inodeSet(inodes []uint64) map[string]bool {
	set := make(map[string]bool, len(inodes))
	for _, inode := range inodes {
		set[strconv.FormatUint(inode, 10)] = true
	}
	return set
}

// anyOpen says whether one of the processes has one of the sockets open. It stops at the first, since listeners have low
// numbers and a busy server has many connections.
func anyOpen(processes []reaper.Process, inodes map[string]bool) bool {
	for _, p := range processes {
		if hasOpen(p.PID, inodes) {
			return true
		}
	}
	return false
}

// leftBy returns the sockets that none of the processes has open. It stops where all have been found.
func leftBy(processes []reaper.Process, inodes []uint64) (left []uint64) {
	left = slices.Clone(inodes)
	for _, p := range processes {
		if len(left) == 0 {
			break
		}
		found, all := openIn(p.PID, inodeSet(left), false)
		left = slices.DeleteFunc(left, func(inode uint64) bool { return all || found[strconv.FormatUint(inode, 10)] })
	}
	return left
}

// hasOpen says whether a process has one of the sockets open.
func hasOpen(pid int, inodes map[string]bool) bool {
	found, all := openIn(pid, inodes, true)
	return all || len(found) > 0
}

// openIn finds those of the sockets that a process has open, or the first of them. One that may not be looked into, not
// even with its own ids (takeover.As; the kernel protects a program that has changed its uid without executing another),
// has to be taken for one that has all; so has any that can't be looked into for want of descriptors of our own.
func openIn(pid int, inodes map[string]bool, first bool) (found map[string]bool, all bool) {
	err := takeover.As(pid, func() (err error) {
		found, err = findOpen(pid, inodes, first)
		return err
	})
	return found, err != nil && !vanished(err)
}

// vanished says that a process has ended.
func vanished(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH)
}

// findOpen looks for the sockets among a process's descriptors. It stops when it has found all of them, or the first, and
// has none to tell of where the process has ended.
func findOpen(pid int, inodes map[string]bool, first bool) (found map[string]bool, err error) {
	path := fmt.Sprintf("/proc/%d/fd", pid)
	dir, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	found = map[string]bool{}
	for {
		names, err := dir.Readdirnames(64)
		for _, name := range names {
			target, err := os.Readlink(path + "/" + name)
			if os.IsPermission(err) {
				// Root without CAP_SYS_PTRACE may list, but not read, the descriptors of a process that has changed its uid.
				return nil, err
			}
			if link, ok := strings.CutPrefix(target, "socket:["); ok && inodes[strings.TrimSuffix(link, "]")] {
				found[strings.TrimSuffix(link, "]")] = true
				if first || len(found) == len(inodes) {
					return found, nil
				}
			}
		}
		switch {
		case err == io.EOF:
			return found, nil
		case err != nil:
			return nil, err
		}
	}
}
