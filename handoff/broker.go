package handoff

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"holdfast/handoff/takeover"
	"holdfast/reaper"
)

// takeOver waits for the listener that the generation's child sends, and serves it.
func (l *Loop) takeOver(g *generation, holder *os.File) {
	calls, err := takeover.Receive(context.Background(), holder)
	switch {
	case err == nil:
		l.broker(g, calls)
	case errors.Is(err, takeover.ErrLost):
		// Its binds would all fail with ENOSYS.
		l.post(func() {
			l.log.Error("generation cannot open ports", "generation", g.number, "err", err)
			l.kill(g, "it cannot open ports")
		})
	case errors.Is(err, takeover.ErrNoListener): // the child has died, and its exit says why
	default:
		l.post(func() {
			if !l.warned && l.o.Takeover != TakeoverRequire { // then the child ends, and says why
				l.warned = true
				l.log.Warn("no takeover: what the child binds for itself is not held; use --listen", "err", err)
			}
		})
	}
}

// filter says what generation n's programs are to ask about.
//
// A server that removes the path of its unix socket, before its bind or when it stops, must not remove it from under the
// live generation's clients. Whether a first generation will hold such a path is not known before it binds, so its calls
// are notified; of later ones only where a path is held. See unlink.go.
func (l *Loop) filter(n int) takeover.FilterOptions {
	return takeover.FilterOptions{
		Sockets: l.o.TakeoverAt == AtSocket,
		Unlinks: n == firstGeneration || l.holdsPath(),
		Connect: n != firstGeneration && l.holdsPath(),
	}
}

// behindFilter has c be started with a filter, where there is to be a takeover: holder is this process' end of the control
// socket then, and nil where not. done closes the child's end here, once the child has been started.
func (l *Loop) behindFilter(c *reaper.Command, o takeover.FilterOptions) (holder *os.File, done func(), err error) {
	if l.o.Takeover == TakeoverOff {
		return nil, func() {}, nil
	}
	holder, control, err := takeover.Pair()
	if err != nil {
		return nil, nil, err
	}
	c.Filter = o.Filter(control, l.o.Takeover == TakeoverRequire)
	return holder, func() { unix.Close(control) }, nil
}

// broker answers the system calls by which the generation's programs open ports, until none of them is left.
func (l *Loop) broker(g *generation, calls *takeover.Listener) {
	if err := calls.Serve(func(c *takeover.Call) { l.answerCall(g, c) }); err != nil {
		l.log.Error("the takeover of ports ended", "generation", g.number, "err", err)
	}
	calls.Close()
	g.unbound.close() // nobody is left to bind one
}

// answerCall reads what a call is about, which may take its time, and has it decided, by the loop where its state is
// needed. A call that is left unanswered goes on as if nobody had asked.
func (l *Loop) answerCall(g *generation, c *takeover.Call) {
	var err error
	switch c.Nr {
	case takeover.Setsockopt:
		err = noteOption(g, c)
	case takeover.Bind:
		err = l.answerBind(g, c)
	case takeover.Listen:
		err = l.answerListen(g, c)
	case takeover.Socket:
		err = l.giveSocket(g, c)
	case takeover.Connect:
		err = l.answerConnect(g, c)
	case takeover.Unlink:
		err = l.answerUnlink(g, c)
	case takeover.Rename:
		err = l.answerRename(g, c)
	}
	if err != nil && !errors.Is(err, takeover.ErrGone) {
		l.log.Debug("a call goes on unseen", "generation", g.number, "call", c.Nr, "err", err)
	}
}

// ask runs f in the loop's goroutine and waits for it.
func (l *Loop) ask(f func()) {
	done := make(chan struct{})
	l.post(func() {
		defer close(done)
		f()
	})
	select {
	case <-done:
	case <-l.done:
	}
}

// noteOption keeps what a program sets on a socket that it may bind.
func noteOption(g *generation, c *takeover.Call) error {
	o, err := c.Option()
	if err != nil {
		return err
	}
	inode, err := c.Inode()
	if err != nil {
		return err
	}
	g.unbound.note(inode, o)
	return nil
}

// answerListen tells the loop that a program listens. The program's own call goes on after it.
func (l *Loop) answerListen(g *generation, c *takeover.Call) error {
	inode, err := c.Inode()
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			l.listenUnseen(g, c)
		}
		return err
	}
	g.unbound.drop(inode) // it was not bound, and listens on a port of the kernel's choice
	l.ask(func() { l.listen(g, inode) })
	return nil
}

// servePrivately answers a check command's calls.
func (l *Loop) servePrivately(holder *os.File) {
	calls, err := takeover.Receive(context.Background(), holder)
	if err != nil {
		return // it has no filter, and binds for real: the generation that it checks for would do the same
	}
	options := newUnbound(l.o.Clock)
	calls.Serve(func(c *takeover.Call) { l.privateCall(options, c) }) // an error ends it, and the check then fails for itself
	calls.Close()
	options.close()
}

// privateCall answers the calls of a check command: they must not touch a real port. A TCP or UDP socket is replaced by one
// on a port of the kernel's choice, at the same address, so that a check still finds out that this machine does not have
// that; a unix socket by one with an abstract name. A held path stays: `nginx -t` removes those that it has been told to
// listen on.
func (l *Loop) privateCall(options *unbound, c *takeover.Call) {
	switch c.Nr {
	case takeover.Unlink, takeover.Rename:
		if p, err := l.pathOf(c, c.Path); err == nil && p != nil {
			c.Return(0)
		}
	case takeover.Setsockopt:
		if o, err := c.Option(); err == nil {
			if inode, err := c.Inode(); err == nil {
				options.note(inode, o)
			}
		}
	case takeover.Bind:
		privateBind(options, c)
	}
}

func privateBind(options *unbound, c *takeover.Call) {
	info, err := c.Socket()
	if err != nil {
		return
	}
	address, err := c.Sockaddr()
	if err != nil {
		return // as it will be for the kernel
	}
	fd := -1
	switch info.Kind {
	case takeover.TCP, takeover.TCPv6, takeover.UDP, takeover.UDPv6:
		fd, err = elsewhere(info, address, options.set(info.Inode))
	case takeover.UnixStream:
		if address.Kind == takeover.PathAddr {
			fd, err = nameless()
		}
	}
	var errno unix.Errno
	switch {
	case fd >= 0:
		c.Replace(fd, info.CloseOnExec)
		unix.Close(fd)
	case errors.As(err, &errno):
		c.Return(errno)
	}
}
