package port

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// From linux/sock_diag.h and linux/unix_diag.h, the same on every architecture. All words are in the machine's order.
const (
	sockDiagByFamily = 20
	diagShowQueue    = 0x10 // UDIAG_SHOW_RQLEN
	diagQueue        = 4    // UNIX_DIAG_RQLEN
	diagHeader       = 16 + 16
	noCookie         = 0xffffffff
	anyState         = 0xffffffff
)

// unixQueue is the length of a unix listener's accept queue and its maximum, by sock_diag(7) (Linux 3.3; it needs the
// unix_diag module).
func unixQueue(fd int) (length, limit int, err error) {
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return 0, 0, err
	}
	nl, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return 0, 0, err
	}
	defer unix.Close(nl)
	if err := unix.Sendto(nl, diagRequest(uint32(stat.Ino)), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, 0, err
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(nl, answer, unix.MSG_DONTWAIT) // the kernel answered within sendto
	if err != nil {
		return 0, 0, err
	}
	return diagAnswer(answer[:n])
}

// diagRequest is a nlmsghdr and a unix_diag_req for the socket with inode ino.
func diagRequest(ino uint32) []byte {
	order := binary.NativeEndian
	b := make([]byte, 0, 40)
	b = order.AppendUint32(b, 40)
	b = order.AppendUint16(b, sockDiagByFamily)
	b = order.AppendUint16(b, unix.NLM_F_REQUEST)
	b = order.AppendUint32(b, 0)
	b = order.AppendUint32(b, 0)
	b = append(b, unix.AF_UNIX, 0, 0, 0)
	for _, word := range []uint32{anyState, ino, diagShowQueue, noCookie, noCookie} {
		b = order.AppendUint32(b, word)
	}
	return b
}

// diagAnswer finds the lengths in a nlmsghdr, a unix_diag_msg and its attributes.
func diagAnswer(b []byte) (length, limit int, err error) {
	order := binary.NativeEndian
	if len(b) < diagHeader || order.Uint16(b[4:]) != sockDiagByFamily {
		return 0, 0, fmt.Errorf("no answer to a sock_diag request")
	}
	for b = b[diagHeader:]; len(b) >= 4; {
		size := int(order.Uint16(b))
		if size < 4 || size > len(b) {
			break
		}
		if order.Uint16(b[2:]) == diagQueue && size >= 12 {
			return int(order.Uint32(b[4:])), int(order.Uint32(b[8:])), nil
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return 0, 0, fmt.Errorf("no queue length in a sock_diag answer")
}
