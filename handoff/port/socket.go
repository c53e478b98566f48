package port

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"
)

// A socket is one kernel socket of a held port. It belongs to one generation, or to several: one that died and the one
// that replaced it, or all of them where the kernel can't steer. The Port owns the descriptor and closes it. Nothing of
// Go's net or os ever touches it, since O_NONBLOCK lies in the open file description that the children share.
//
// All fields but fd and id are guarded by Port.mu; fd changes only when the socket is closed.
type socket struct {
	id int // names the socket in an epoll set
	fd int

	users    int  // how many generations have it
	left     bool // it is out of its group: someone shut the listener down
	retired  bool // no generation has it any more, but it could not leave the group yet; its stragglers are relayed
	relaying bool // the holder accepts from it
	standIn  bool // no generation's: it keeps a place in the group (see removable)

	busy    bool           // a goroutine is relaying from it
	helpers sync.WaitGroup // that goroutine
	relayed int            // how many stragglers it had

	// probed are where probes came from before any user was sent here: who fails its proof leaves them behind in its queue,
	// and they are nobody's stragglers.
	probed map[netip.AddrPort]bool
	led    bool // a switch has pointed here

	watched uint32 // the events that the epoll set reports for it, 0 = it is not in the set
	file    *file  // a unix socket's name
}

// bound makes a socket that is bound to addr, not listening. The caller closes it.
func bound(spec Spec, addr netip.AddrPort, options ...int) (fd int, err error) {
	fd, err = unix.Socket(family(addr), kind(spec), 0)
	if err != nil {
		return -1, fmt.Errorf("create socket: %w", err)
	}
	if err := prepare(fd, spec, addr, options); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func prepare(fd int, spec Spec, addr netip.AddrPort, options []int) error {
	for _, option := range options {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, 1); err != nil {
			return fmt.Errorf("set socket option %d: %w", option, err)
		}
	}
	if !addr.Addr().Is4() {
		only := 1
		// Java binds an IPv4 address by its IPv6 form, which a socket for IPv6 alone refuses (EINVAL).
		if spec.DualStack || addr.Addr().Is4In6() {
			only = 0
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only); err != nil {
			return fmt.Errorf("set IPV6_V6ONLY: %w", err)
		}
	}
	if err := unix.Bind(fd, sockaddr(addr)); err != nil {
		return fmt.Errorf("bind %s: %w", spec, err)
	}
	return nil
}

func family(addr netip.AddrPort) int {
	if addr.Addr().Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func kind(spec Spec) int {
	kind := unix.SOCK_STREAM | unix.SOCK_CLOEXEC
	if spec.Network == "udp" {
		kind = unix.SOCK_DGRAM | unix.SOCK_CLOEXEC
	}
	if spec.Nonblock {
		kind |= unix.SOCK_NONBLOCK
	}
	return kind
}

// groupOptions are what every socket of a port has. UDP goes without SO_REUSEADDR, with which any other socket that has
// it could share the address (socket(7)).
func groupOptions(spec Spec) []int {
	if spec.Network == "udp" {
		return []int{unix.SO_REUSEPORT}
	}
	return []int{unix.SO_REUSEPORT, unix.SO_REUSEADDR}
}

// trial finds out whether anybody else holds addr, which SO_REUSEPORT would hide: it binds a throw-away socket without
// that option. A bind suffices, since it conflicts with every listener (inet_csk_bind_conflict), and without a listen
// no client can get onto a socket that is about to be closed. SO_REUSEADDR lets it pass connections in TIME_WAIT.
func trial(spec Spec, addr netip.AddrPort) error {
	var options []int
	if spec.Network == "tcp" {
		options = append(options, unix.SO_REUSEADDR)
	}
	fd, err := bound(spec, addr, options...)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// noIPv6 says whether err is what a kernel without IPv6 answers to a dual-stack socket.
func noIPv6(err error) bool {
	return errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL)
}

// waiting says whether a connection (or datagram) can be taken from fd without waiting.
func waiting(fd int) bool {
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(poll, 0)
		if err != unix.EINTR {
			return err == nil && n == 1 && poll[0].Revents&unix.POLLIN != 0
		}
	}
}

// accept takes one connection from fd. The caller owns what it returns: a description of its own, close-on-exec and
// non-blocking.
func accept(fd int) (int, error) {
	for {
		conn, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		if err != unix.EINTR {
			return conn, err
		}
	}
}
