package handoff

import (
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"holdfast/handoff/port"
	"holdfast/handoff/takeover"
)

// answerUnlink keeps a held path for its clients. Most servers remove the path of their unix socket before they bind it, and
// many when they stop; during a handoff it leads to another generation's socket at both times, and clients would find
// nothing there until the holder has put it back. So the call is answered with success and nothing is done, unless it is
// the live generation's, about a path that it has bound itself: that one may do with its path what it likes.
//
// A server that gives up when somebody answers at its path (php-fpm) is helped by answerConnect.
func (l *Loop) answerUnlink(g *generation, c *takeover.Call) error {
	p, err := l.pathOf(c, c.Path)
	if p == nil || err != nil {
		return err
	}
	stays := false
	l.ask(func() { stays = !l.mayUnlink(g, p) })
	if stays {
		l.log.Debug("a held path stays although a program removes it", "port", p.Spec(), "generation", g.number)
		return c.Return(0)
	}
	return nil
}

// answerConnect has nobody answer at a held path to a generation that has still to bind it. Some servers look so whether
// another instance of theirs runs, and give up when it does; during a handoff the live generation would answer.
//
// Its own sockets that become clients' are let go of, too.
func (l *Loop) answerConnect(g *generation, c *takeover.Call) error {
	if err := connecting(g, c); err != nil {
		return err
	}
	p, err := l.pathOf(c, func() (at int, name string, err error) {
		a, err := c.Sockaddr()
		if a.Kind != takeover.PathAddr {
			return unix.AT_FDCWD, "", err
		}
		return unix.AT_FDCWD, a.Name, err
	})
	if p == nil || err != nil {
		return err
	}
	unused := false
	l.ask(func() { unused = !l.given(p) && p.Live() != g.number && !g.ledger.has(p) && !g.proven(l) })
	if unused {
		l.log.Debug("a held path looks unused to a program that has still to bind it", "port", p.Spec(), "generation", g.number)
		return c.Return(unix.ECONNREFUSED)
	}
	return nil
}

// mayUnlink says whether a path is a generation's own to remove.
func (l *Loop) mayUnlink(g *generation, p *port.Port) bool {
	if !p.Held() || l.generations[g.number] != g && p.Live() == 0 {
		return true
	}
	return p.Live() == g.number && l.machine.Live == g.number && g.record.StoppedAt.IsZero() && g.ledger.has(p)
}

// holdsPath says whether a unix port is held.
func (l *Loop) holdsPath() bool {
	for _, p := range l.ports {
		if p.Spec().Network == "unix" {
			return true
		}
	}
	return false
}

// answerRename follows a server that binds a path which nobody knows, and renames that over the one where its clients look
// for it (haproxy: PATH.PID.tmp). The live generation's port moves. The next one's socket, bound to the same path or to one of
// its own, is for the same clients: it waits there for the cutover, and the call is answered without anything being renamed.
func (l *Loop) answerRename(g *generation, c *takeover.Call) error {
	p, err := l.pathOf(c, c.Path)
	if p == nil || err != nil {
		return err
	}
	at, name, err := c.NewPath()
	if err != nil {
		return err
	}
	to, err := c.Absolute(at, name)
	if err != nil {
		return err
	}
	done := false
	l.ask(func() { done = l.rename(g, p, to) })
	if done {
		return c.Return(0)
	}
	return nil
}

// rename decides on the renaming of a held port's path; done says that the program's call must not be carried out.
func (l *Loop) rename(g *generation, p *port.Port, to string) (done bool) {
	i := slices.IndexFunc(l.ports, func(q *port.Port) bool {
		return q != p && q.Spec().Network == "unix" && filepath.Base(q.Path()) == filepath.Base(to) && samePlace(q.Path(), to)
	})
	switch {
	case p.Live() != g.number:
		return true // the path leads to another generation's socket, and stays
	case i >= 0 && l.ports[i].Live() != g.number && g.ledger.has(p):
		return l.merge(g, p, l.ports[i])
	case !l.mayUnlink(g, p):
		return true
	}
	l.log.Info("port renamed by its program", "port", p.Spec(), "generation", g.number, "path", to)
	p.Move(to)
	return false
}

// merge gives a held port the socket that the generation has bound on a path of its own.
func (l *Loop) merge(g *generation, from, to *port.Port) (done bool) {
	inodes := from.Inodes(g.number)
	if err := to.Take(from, g.number); err != nil {
		l.log.Warn("a renamed socket is not held", "port", from.Spec(), "generation", g.number, "path", to.Path(), "err", err)
		return false
	}
	for _, inode := range inodes {
		if t, known := g.ledger.bound[inode]; known {
			t.Bound = to.Again(g.number, inode)
		}
	}
	if !from.Held() {
		l.letGo(from)
	}
	l.publish()
	return true
}

// pathOf returns the held port whose path a call is about, which read reads; nil if there is none. It may be called from
// anywhere.
func (l *Loop) pathOf(c *takeover.Call, read func() (at int, name string, err error)) (*port.Port, error) {
	held := l.held.Load()
	if held == nil {
		return nil, nil
	}
	paths := map[*port.Port][]string{}
	for _, p := range *held {
		if p.Spec().Network == "unix" {
			paths[p] = []string{p.Spec().Path, p.Path()}
		}
	}
	if len(paths) == 0 {
		return nil, nil
	}
	at, name, err := read()
	if err != nil {
		return nil, err
	}
	for p, known := range paths {
		for _, one := range known {
			if filepath.Base(one) != filepath.Base(name) {
				continue // which is what nearly all calls come to
			}
			path, err := c.Absolute(at, name)
			if err != nil {
				return nil, err
			}
			if samePlace(path, one) {
				return p, nil
			}
		}
	}
	return nil, nil
}

// samePlace says whether two paths of the same base name are one: /run and /var/run mostly are.
func samePlace(a, b string) bool {
	if a == b {
		return true
	}
	var x, y unix.Stat_t
	return unix.Stat(filepath.Dir(a), &x) == nil && unix.Stat(filepath.Dir(b), &y) == nil && x.Dev == y.Dev && x.Ino == y.Ino
}
