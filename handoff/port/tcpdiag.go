package port

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// From linux/inet_diag.h and linux/netlink.h, the same on every architecture. All words are in the machine's order but for
// the ports of a socket, which are in the network's.
const (
	netlinkHeader = 16
	inetRequest   = netlinkHeader + 8 + 48 // nlmsghdr, inet_diag_req_v2
	inetMessage   = netlinkHeader + 72     // nlmsghdr, inet_diag_msg
	atSource      = netlinkHeader + 4      // of a message's id.idiag_sport
	atInode       = inetMessage - 4
	established   = 1<<1 | 1<<8 // TCP_ESTABLISHED, TCP_CLOSE_WAIT
)

var errCut = errors.New("a sock_diag answer is cut")

// Established returns the inodes of all TCP connections of this network namespace whose own port is one of those. A client that
// has sent its last (CLOSE_WAIT) may still wait for the answer: it counts. It asks by sock_diag(7) (TCP: Linux 3.3), which
// needs the kernel's tcp_diag and no privilege; the error says that it is not to be had. With one port the kernel looks for
// that; else it tells of all connections. A connection that comes or goes meanwhile may be among them.
func Established(ports map[uint64]bool) (inodes []uint64, err error) {
	if len(ports) == 0 {
		return nil, nil
	}
	nl, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, fmt.Errorf("ask for connections: %w", err)
	}
	defer unix.Close(nl)
	only := uint64(0)
	for p := range ports {
		if len(ports) == 1 {
			only = p
		}
	}
	datagram := make([]byte, 32<<10) // as much as the kernel ever writes at once (netlink_dump)
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		err := unix.Sendto(nl, establishedRequest(family, uint16(only)), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		for done := false; err == nil && !done; {
			inodes, done, err = receiveEstablished(nl, datagram, ports, inodes)
		}
		if err != nil {
			return nil, fmt.Errorf("ask for connections: %w", err)
		}
	}
	return inodes, nil
}

// establishedRequest asks for the family's connections that have the port, or any; 0 = any.
func establishedRequest(family byte, port uint16) []byte {
	order := binary.NativeEndian
	b := make([]byte, 0, inetRequest)
	b = order.AppendUint32(b, inetRequest)
	b = order.AppendUint16(b, sockDiagByFamily)
	b = order.AppendUint16(b, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	b = order.AppendUint64(b, 0) // number and sender
	b = append(b, family, unix.IPPROTO_TCP, 0, 0)
	b = order.AppendUint32(b, established)
	b = binary.BigEndian.AppendUint16(b, port)
	return b[:inetRequest]
}

// receiveEstablished takes one datagram of the answer. The kernel has written it by then: the first one within sendto, each
// other one while the one before it was received.
func receiveEstablished(nl int, b []byte, ports map[uint64]bool, inodes []uint64) (more []uint64, done bool, err error) {
	n, _, err := unix.Recvfrom(nl, b, unix.MSG_DONTWAIT)
	if err != nil {
		return inodes, false, err
	}
	return parseEstablished(b[:n], ports, inodes)
}

// parseEstablished adds the inodes of a datagram's connections that have one of the ports. done: it was the last one.
func parseEstablished(b []byte, ports map[uint64]bool, inodes []uint64) (more []uint64, done bool, err error) {
	order := binary.NativeEndian
	for len(b) >= netlinkHeader {
		size := order.Uint32(b)
		if size < netlinkHeader || uint64(size) > uint64(len(b)) {
			return inodes, false, errCut
		}
		switch kind := order.Uint16(b[4:]); {
		case kind == unix.NLMSG_DONE, kind == unix.NLMSG_ERROR:
			if size >= netlinkHeader+4 {
				if code := int32(order.Uint32(b[netlinkHeader:])); code < 0 {
					return inodes, false, unix.Errno(-code)
				}
			}
			return inodes, kind == unix.NLMSG_DONE, nil
		case kind == sockDiagByFamily && size < inetMessage:
			return inodes, false, errCut
		case kind == sockDiagByFamily && ports[uint64(binary.BigEndian.Uint16(b[atSource:]))]:
			inodes = append(inodes, uint64(order.Uint32(b[atInode:])))
		}
		b = b[min(int(size+3)&^3, len(b)):]
	}
	return inodes, false, nil
}
