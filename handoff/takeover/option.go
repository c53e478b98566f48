package takeover

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// An OptionName names a socket option: the level and the number that setsockopt(2) takes.
type OptionName struct{ Level, Name int }

// An Option is a socket option as a program set it, with the very bytes that it gave.
type Option struct {
	OptionName
	Value []byte // at most maxOption bytes
}

// maxOption is the length of the longest value that is kept; TCP_CONGESTION and SO_BINDTODEVICE take a name of 16 bytes.
const maxOption = 64

// Options that golang.org/x/sys/unix lacks (asm-generic/socket.h, linux/in.h, linux/in6.h, linux/udp.h).
const (
	soPreferBusyPoll = 69
	soBusyPollBudget = 70
	udpSegment       = 103
	udpGRO           = 104
)

// Kept lists the socket options that are notified, by level: those that a program sets on a socket before it binds it,
// and that the replacement must have as well.
//
// An option that servers set on every connection that they accept is not among them, however useful it may be on a
// listener: a notification costs 50 to 100 µs (make bench), and a Go server sets five such options on each. They are
// TCP_NODELAY, TCP_CORK, TCP_QUICKACK, TCP_USER_TIMEOUT, TCP_NOTSENT_LOWAT, TCP_LINGER2, TCP_SYNCNT, SO_KEEPALIVE and
// TCP_KEEP*, SO_LINGER, SO_RCVTIMEO, SO_SNDTIMEO, SO_RCVLOWAT. What a program sets of these before its bind, for the
// connections to inherit, does not survive the bind; set after it, it does, and with Sockets (the program keeps its
// socket) everything does.
//
// Neither do SO_ATTACH_FILTER and SO_ATTACH_BPF survive (their values are pointers), SO_REUSEADDR (every held TCP socket
// has it), SO_BROADCAST (every UDP socket in a program's place has it; Go sets it on all its sockets), membership of multicast groups, TLS and MD5 keys
// (TCP_ULP, TCP_MD5SIG), and whether the socket was MPTCP's.
func Kept() map[int][]int {
	return map[int][]int{
		unix.SOL_SOCKET: {
			unix.SO_REUSEPORT, unix.SO_BINDTODEVICE, unix.SO_BINDTOIFINDEX,
			unix.SO_RCVBUF, unix.SO_SNDBUF, unix.SO_RCVBUFFORCE, unix.SO_SNDBUFFORCE,
			unix.SO_MARK, unix.SO_PRIORITY, unix.SO_INCOMING_CPU, unix.SO_PASSCRED, unix.SO_RXQ_OVFL,
			unix.SO_BUSY_POLL, soPreferBusyPoll, soBusyPollBudget,
			unix.SO_TIMESTAMP, unix.SO_TIMESTAMPNS, unix.SO_TIMESTAMPING,
			unix.SO_TIMESTAMP_NEW, unix.SO_TIMESTAMPNS_NEW, unix.SO_TIMESTAMPING_NEW,
		},
		unix.IPPROTO_IP: {
			unix.IP_FREEBIND, unix.IP_TRANSPARENT, unix.IP_PKTINFO, unix.IP_RECVORIGDSTADDR, unix.IP_RECVERR,
			unix.IP_RECVTOS, unix.IP_RECVTTL, unix.IP_RECVOPTS, unix.IP_TOS, unix.IP_TTL, unix.IP_MINTTL, unix.IP_MTU_DISCOVER,
			unix.IP_MULTICAST_IF, unix.IP_MULTICAST_TTL, unix.IP_MULTICAST_LOOP, unix.IP_MULTICAST_ALL,
		},
		unix.IPPROTO_IPV6: {
			unix.IPV6_V6ONLY, unix.IPV6_FREEBIND, unix.IPV6_TRANSPARENT, unix.IPV6_RECVPKTINFO, unix.IPV6_2292PKTINFO,
			unix.IPV6_RECVORIGDSTADDR, unix.IPV6_RECVERR, unix.IPV6_RECVTCLASS, unix.IPV6_RECVHOPLIMIT,
			unix.IPV6_TCLASS, unix.IPV6_UNICAST_HOPS, unix.IPV6_MINHOPCOUNT, unix.IPV6_MTU_DISCOVER, unix.IPV6_MTU, unix.IPV6_DONTFRAG,
			unix.IPV6_MULTICAST_IF, unix.IPV6_MULTICAST_HOPS, unix.IPV6_MULTICAST_LOOP,
		},
		unix.IPPROTO_TCP: {
			unix.TCP_DEFER_ACCEPT, unix.TCP_FASTOPEN, unix.TCP_FASTOPEN_NO_COOKIE, unix.TCP_CONGESTION,
			unix.TCP_MAXSEG, unix.TCP_WINDOW_CLAMP, unix.TCP_SAVE_SYN,
		},
		unix.IPPROTO_UDP: {udpSegment, udpGRO},
	}
}

func kept(level, name uint32) bool { return slices.Contains(Kept()[int(level)], int(name)) }

// OptionName is what a Setsockopt is about.
func (c *Call) OptionName() OptionName {
	return OptionName{Level: int(int32(c.Args[1])), Name: int(int32(c.Args[2]))}
}

// Option reads what setsockopt(2) was given. The kernel may refuse it still.
func (c *Call) Option() (Option, error) {
	length := int32(c.Args[4]) // an int for the kernel, whatever the upper half holds
	if length <= 0 || length > maxOption {
		return Option{}, fmt.Errorf("read option of %d bytes: %w", length, unix.EINVAL)
	}
	b, err := c.memory(c.Args[3], int(length))
	if err != nil {
		return Option{}, fmt.Errorf("read option: %w", err)
	}
	return Option{OptionName: c.OptionName(), Value: b}, nil
}

// Int is the value of an option that is an int; false if it is too short for one. A byte is one where the kernel takes
// one (at the levels of IP and IPv6 it does).
func (o Option) Int() (int, bool) {
	if len(o.Value) < 4 {
		return 0, false
	}
	return int(int32(nativeUint32(o.Value))), true
}
