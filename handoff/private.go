package handoff

import (
	"fmt"

	"golang.org/x/sys/unix"

	"holdfast/handoff/takeover"
)

// elsewhere makes a socket that is bound where a check command's is to be, but for the port, which is one of the kernel's
// choice: -1 where its own may have what it asks for (port 0, or what the kernel refuses for the form of it). The caller
// closes it.
func elsewhere(info takeover.SocketInfo, address takeover.Sockaddr, set []takeover.Option) (fd int, err error) {
	v6 := info.Kind == takeover.TCPv6 || info.Kind == takeover.UDPv6
	if v6 && address.Kind != takeover.Inet6Addr || !v6 && address.Kind != takeover.InetAddr || address.Addr.Port() == 0 {
		return -1, nil
	}
	fd, err = makeSocket(takeover.Request{Kind: info.Kind, Nonblock: info.Nonblock})
	if err != nil {
		return -1, fmt.Errorf("make a private socket: %w", err)
	}
	for _, o := range set { // a foreign address is none with IP_FREEBIND, and IPV6_V6ONLY goes with the address
		_ = unix.SetsockoptString(fd, o.Level, o.Name, string(o.Value))
	}
	if err := unix.Bind(fd, anyPort(address)); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("bind a private socket to %s: %w", address, err)
	}
	return fd, nil
}

// anyPort is the address with port 0.
func anyPort(a takeover.Sockaddr) unix.Sockaddr {
	addr := a.Addr.Addr()
	if a.Kind == takeover.InetAddr {
		return &unix.SockaddrInet4{Addr: addr.As4()}
	}
	var zone uint32
	_, _ = fmt.Sscan(addr.Zone(), &zone) // a number
	return &unix.SockaddrInet6{Addr: addr.As16(), ZoneId: zone}
}
