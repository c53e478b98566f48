package port

import (
	"io/fs"
	"net/netip"
	"strconv"
)

// DefaultBacklog is the length of a listening socket's accept queue where the Spec gives none. The kernel caps it at
// net.core.somaxconn (4096 since Linux 5.4).
const DefaultBacklog = 4096

// Spec says what a held port is: an address and the options of the sockets made for it. It is plain data.
type Spec struct {
	Name    string // what LISTEN_FDNAMES calls it; may be empty
	Network string // "tcp", "udp" or "unix"

	// Addr is the address of a tcp or udp port; its port is never 0.
	Addr netip.AddrPort
	// DualStack says that a port on [::] takes IPv4 too (IPV6_V6ONLY=0). Where the kernel has no IPv6, such a port is
	// opened on 0.0.0.0.
	DualStack bool

	Path string      // of a unix port; absolute
	Mode fs.FileMode // permission bits of a unix socket; 0 = 0777 without the umask's, as bind(2) makes it

	Backlog  int  // length of the accept queue, connections; 0 = DefaultBacklog
	Nonblock bool // whether a new socket has O_NONBLOCK
}

// String is the canonical form of the address, which labels the port in metrics and logs: ":8080", "127.0.0.1:80",
// "[::1]:80", "udp://:53", "unix:///run/app.sock". ParseSpec reads it back to the same address.
func (s Spec) String() string {
	switch {
	case s.Network == "unix":
		return "unix://" + s.Path
	case s.Network == "udp":
		return "udp://" + s.hostPort()
	default:
		return s.hostPort()
	}
}

func (s Spec) hostPort() string {
	if s.DualStack {
		return ":" + strconv.Itoa(int(s.Addr.Port()))
	}
	return s.Addr.String()
}

// backlog is what listen(2) is given.
func (s Spec) backlog() int {
	if s.Backlog > 0 {
		return s.Backlog
	}
	return DefaultBacklog
}
