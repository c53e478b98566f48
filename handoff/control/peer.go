package control

import (
	"fmt"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// maxConns is more than people and exec probes need; reloads that wait each hold one.
const maxConns = 32

// listener lets in only those who may control holdfast, and closes the others at once: they get no answer that they
// could learn from.
type listener struct {
	*net.UnixListener
	slots chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if peer, err := credentials(c); err != nil || !trusted(peer) {
			c.Close()
			continue
		}
		select {
		case l.slots <- struct{}{}:
			return &conn{UnixConn: c, free: sync.OnceFunc(func() { <-l.slots })}, nil
		default:
			c.Close()
		}
	}
}

// trusted is root or our own user, in our PID namespace or one below it: the kernel shows the PID of any other as 0. The
// uid alone would not do, as the containers of a pod often have the same.
func trusted(peer *unix.Ucred) bool {
	return peer.Pid != 0 && (peer.Uid == 0 || int(peer.Uid) == os.Geteuid())
}

// credentials are those of the process that called connect, or, seen by a client, of the one that called listen.
func credentials(c *net.UnixConn) (*unix.Ucred, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("read peer credentials: %w", err)
	}
	var peer *unix.Ucred
	var sockErr error
	err = raw.Control(func(fd uintptr) {
		peer, sockErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err == nil {
		err = sockErr
	}
	if err != nil {
		return nil, fmt.Errorf("read peer credentials: %w", err)
	}
	return peer, nil
}

// conn gives its slot back when it is closed.
type conn struct {
	*net.UnixConn
	free func()
}

func (c *conn) Close() error {
	defer c.free()
	return c.UnixConn.Close()
}
