package takeover

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// A Syscall is what a Call asks for.
type Syscall int

const (
	Unknown    Syscall = iota // nothing that the filter notifies
	Bind                      // Call.Sockaddr says to what
	Listen                    //
	Setsockopt                // one of the options that Kept lists; Call.Option says which
	Socket                    // of TCP, UDP or unix streams; Call.Kind says which
	Connect                   //
	Unlink                    // unlink(2), or unlinkat(2) without AT_REMOVEDIR; Call.Path says what
	Rename                    // rename(2), renameat(2), or renameat2(2) without RENAME_EXCHANGE; Call.Path and Call.NewPath say what
)

func (s Syscall) String() string {
	names := [...]string{"unknown", "bind", "listen", "setsockopt", "socket", "connect", "unlink", "rename"}
	if s < 0 || int(s) >= len(names) {
		return names[Unknown]
	}
	return names[s]
}

// An abi is how programs of one architecture call the kernel. The numbers are not unix.SYS_*, which are those of the
// architecture that this was built for only, so that every build can check both.
type abi struct {
	audit uint32 // AUDIT_ARCH_*
	x32   bool   // numbers from x32Bit on belong to another ABI of the same AUDIT_ARCH

	socket, connect, bind, listen, setsockopt, unlinkat uint32

	renameat, renameat2 uint32

	unlink, rename uint32
	hasOld         bool // newer architectures have none of the calls that take no descriptor of a directory
}

// x32Bit marks the system calls of x32 (arch/x86/include/uapi/asm/unistd.h).
const x32Bit = 0x40000000

func amd64() abi {
	return abi{
		audit: unix.AUDIT_ARCH_X86_64, x32: true,
		socket: 41, connect: 42, bind: 49, listen: 50, setsockopt: 54, unlinkat: 263, unlink: 87, rename: 82, renameat: 264, renameat2: 316, hasOld: true,
	}
}

func arm64() abi {
	return abi{audit: unix.AUDIT_ARCH_AARCH64, socket: 198, connect: 203, bind: 200, listen: 201, setsockopt: 208, unlinkat: 35, renameat: 38, renameat2: 276}
}

// native is the abi that this was built for; false where it has none here.
func native() (abi, bool) {
	switch runtime.GOARCH {
	case "amd64":
		return amd64(), true
	case "arm64":
		return arm64(), true
	default:
		return abi{}, false
	}
}

// syscall says what a notified call is, by the same rules as the filter.
func (a abi) syscall(d *data) Syscall {
	nr := uint32(d.nr)
	switch {
	case d.arch != a.audit:
		return Unknown
	case nr == a.bind:
		return Bind
	case nr == a.listen:
		return Listen
	case nr == a.setsockopt && kept(uint32(d.args[1]), uint32(d.args[2])):
		return Setsockopt
	case nr == a.socket && kindOf(d.args) != OtherSocket:
		return Socket
	case nr == a.connect:
		return Connect
	case a.hasOld && nr == a.unlink, nr == a.unlinkat && uint32(d.args[2])&unix.AT_REMOVEDIR == 0:
		return Unlink
	case a.hasOld && nr == a.rename, nr == a.renameat, nr == a.renameat2 && uint32(d.args[4])&unix.RENAME_EXCHANGE == 0:
		return Rename
	default:
		return Unknown
	}
}

// kindOf says what socket(2) is asked for. MPTCP, which Go's servers ask for, is TCP: no group of SO_REUSEPORT sockets
// takes MPTCP ones.
func kindOf(args [6]uint64) SocketKind {
	domain, protocol := uint32(args[0]), uint32(args[2])
	stream := protocol == 0 || protocol == unix.IPPROTO_TCP || protocol == unix.IPPROTO_MPTCP
	datagram := protocol == 0 || protocol == unix.IPPROTO_UDP
	local := protocol == 0 || protocol == unix.AF_UNIX
	switch kind := uint32(args[1]) & sockTypeMask; {
	case domain == unix.AF_INET && kind == unix.SOCK_STREAM && stream:
		return TCP
	case domain == unix.AF_INET6 && kind == unix.SOCK_STREAM && stream:
		return TCPv6
	case domain == unix.AF_INET && kind == unix.SOCK_DGRAM && datagram:
		return UDP
	case domain == unix.AF_INET6 && kind == unix.SOCK_DGRAM && datagram:
		return UDPv6
	case domain == unix.AF_UNIX && kind == unix.SOCK_STREAM && local:
		return UnixStream
	default:
		return OtherSocket
	}
}
