package handoff

import (
	"golang.org/x/sys/unix"

	"holdfast/handoff/takeover"
)

// giveSocket answers a socket(2), with --takeover-at socket: the program gets a socket of the holder's making, of which the
// holder keeps a duplicate until the program binds it (the holder then binds it for the program, in its place) or turns out
// to be a client. So whatever the program has done with it before its bind, such as putting it into an epoll set, stays.
//
// Where that fails the program makes a socket of its own, and its bind replaces it.
func (l *Loop) giveSocket(g *generation, c *takeover.Call) error {
	if foreign, err := c.ForeignNetwork(); foreign || err != nil {
		return err
	}
	request := c.Request()
	fd, err := makeSocket(request)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := ownedBy(c, fd); err != nil {
		return err
	}
	inode, spare, err := duplicate(fd)
	if err != nil {
		return err
	}
	g.unbound.keep(inode, spare) // before the program can bind it
	if _, err := c.Give(fd, request.CloseOnExec); err != nil {
		g.unbound.drop(inode)
		return err
	}
	return nil
}

func makeSocket(r takeover.Request) (int, error) {
	domain, kind := unix.AF_INET, unix.SOCK_STREAM
	switch r.Kind {
	case takeover.TCPv6, takeover.UDPv6:
		domain = unix.AF_INET6
	case takeover.UnixStream:
		domain = unix.AF_UNIX
	}
	if r.Kind == takeover.UDP || r.Kind == takeover.UDPv6 {
		kind = unix.SOCK_DGRAM
	}
	if r.Nonblock {
		kind |= unix.SOCK_NONBLOCK
	}
	return unix.Socket(domain, kind|unix.SOCK_CLOEXEC, 0)
}

// ownedBy gives a socket to the program's user, by whom a firewall may tell its connections (iptables -m owner, as service
// meshes do). A holder that may not (CAP_CHOWN) leaves such a program to make its own.
func ownedBy(c *takeover.Call, fd int) error {
	uid, gid, err := c.Owner()
	if err != nil {
		return err
	}
	if uid == unix.Geteuid() && gid == unix.Getegid() {
		return nil
	}
	return unix.Fchown(fd, uid, gid) // sk_uid follows (sockfs_setattr in net/socket.c, Linux 4.10)
}

func duplicate(fd int) (inode uint64, copied int, err error) {
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return 0, -1, err
	}
	copied, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	return stat.Ino, copied, err
}

// connecting lets go of a socket that becomes a client's: a duplicate would keep its connection open after the program has
// closed it.
func connecting(g *generation, c *takeover.Call) error {
	if g.unbound.idle() {
		return nil
	}
	inode, err := c.Inode()
	if err != nil {
		return err
	}
	g.unbound.drop(inode)
	return nil
}
