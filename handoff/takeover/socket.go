package takeover

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A SocketKind is a family and a type.
type SocketKind int

const (
	OtherSocket SocketKind = iota
	TCP                    // MPTCP too, which Go's servers ask for
	TCPv6
	UDP
	UDPv6
	UnixStream
	UnixDgram
	UnixSeqpacket
)

func (k SocketKind) String() string {
	names := [...]string{"other", "tcp", "tcp6", "udp", "udp6", "unix stream", "unix dgram", "unix seqpacket"}
	if k < 0 || int(k) >= len(names) {
		return names[OtherSocket]
	}
	return names[k]
}

// SocketInfo is what a descriptor of the target is.
type SocketInfo struct {
	Inode       uint64
	Kind        SocketKind
	Nonblock    bool // O_NONBLOCK
	CloseOnExec bool // FD_CLOEXEC
}

// Socket looks at the target's FD. A descriptor that is no socket is ENOTSOCK, one that is not open EBADF, as the kernel
// would say. It does so through /proc, since pidfd_getfd(2) is forbidden by Docker's seccomp profile.
func (c *Call) Socket() (info SocketInfo, err error) {
	if c.PID <= 0 {
		return SocketInfo{}, fmt.Errorf("look at descriptor %d: %w", c.FD, errForeign)
	}
	err = c.asTarget(func() (err error) {
		info, err = look(c.PID, c.FD)
		return err
	})
	if err := c.checked(noSocket(err)); err != nil {
		return SocketInfo{}, fmt.Errorf("look at descriptor %d: %w", c.FD, err)
	}
	return info, nil
}

// Inode names the socket that the target's FD is, and costs less to find out than all that Socket tells. Errors as there.
func (c *Call) Inode() (inode uint64, err error) {
	if c.PID <= 0 {
		return 0, fmt.Errorf("look at descriptor %d: %w", c.FD, errForeign)
	}
	err = c.asTarget(func() (err error) {
		inode, err = socketInode(fdPath(c.PID, c.FD))
		return err
	})
	if err := c.checked(noSocket(err)); err != nil {
		return 0, fmt.Errorf("look at descriptor %d: %w", c.FD, err)
	}
	return inode, nil
}

func fdPath(tid, fd int) string { return procPath(tid, "fd/"+strconv.Itoa(fd)) }

func socketInode(path string) (uint64, error) {
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		return 0, err
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return 0, unix.ENOTSOCK
	}
	return stat.Ino, nil
}

func look(tid, fd int) (SocketInfo, error) {
	path := fdPath(tid, fd)
	inode, err := socketInode(path)
	if err != nil {
		return SocketInfo{}, err
	}
	kind, err := socketKind(path, tid, inode)
	if err != nil {
		return SocketInfo{}, err
	}
	flags, err := descriptorFlags(tid, fd)
	return SocketInfo{
		Inode:       inode,
		Kind:        kind,
		Nonblock:    flags&unix.O_NONBLOCK != 0,
		CloseOnExec: flags&unix.O_CLOEXEC != 0,
	}, err
}

// socketKind asks for the name of the socket's protocol in the kernel (sockfs_xattr_get in net/socket.c).
func socketKind(path string, tid int, inode uint64) (SocketKind, error) {
	name := make([]byte, 32) // struct proto's name has 32 bytes
	n, err := unix.Getxattr(path, "system.sockprotoname", name)
	if err == unix.ENODATA || err == unix.EOPNOTSUPP { // the path of a socket file, opened with O_PATH
		return OtherSocket, nil
	}
	if err != nil {
		return OtherSocket, err
	}
	protocol, _, _ := bytes.Cut(name[:n], []byte{0})
	switch string(protocol) {
	case "TCP", "MPTCP":
		return TCP, nil
	case "TCPv6", "MPTCPv6":
		return TCPv6, nil
	case "UDP":
		return UDP, nil
	case "UDPv6":
		return UDPv6, nil
	case "UNIX-STREAM":
		return UnixStream, nil
	case "UNIX": // datagrams and packets; before Linux 5.15 streams too
		return unixKind(tid, inode)
	default:
		return OtherSocket, nil
	}
}

// unixKind finds the type of a unix socket in the table of the target's network namespace.
func unixKind(tid int, inode uint64) (SocketKind, error) {
	table, err := os.ReadFile(procPath(tid, "net/unix"))
	if err != nil {
		return OtherSocket, err
	}
	want := strconv.FormatUint(inode, 10)
	for line := range bytes.Lines(table) {
		// Num RefCount Protocol Flags Type St Inode Path
		if f := strings.Fields(string(line)); len(f) >= 7 && f[6] == want {
			return unixType(f[4]), nil
		}
	}
	return OtherSocket, nil
}

func unixType(hex string) SocketKind {
	switch n, _ := strconv.ParseUint(hex, 16, 16); n {
	case unix.SOCK_STREAM:
		return UnixStream
	case unix.SOCK_DGRAM:
		return UnixDgram
	case unix.SOCK_SEQPACKET:
		return UnixSeqpacket
	default:
		return OtherSocket
	}
}

// descriptorFlags are the open flags of a descriptor, O_CLOEXEC among them (proc_pid_fdinfo(5)).
func descriptorFlags(tid, fd int) (int, error) {
	b, err := os.ReadFile(procPath(tid, "fdinfo/"+strconv.Itoa(fd)))
	if err != nil {
		return 0, err
	}
	return number(b, "flags", 0, 8)
}
