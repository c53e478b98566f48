package handoff

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"holdfast/handoff/port"
	"holdfast/handoff/takeover"
)

// spec says which held port an address would be; ok is false for what is not to be held.
func (l *Loop) spec(a takeover.Sockaddr, path string, kind takeover.SocketKind, o socketOptions) (spec port.Spec, ok bool) {
	switch kind {
	case takeover.TCP, takeover.TCPv6:
		spec.Network = "tcp"
	case takeover.UDP, takeover.UDPv6:
		spec.Network = "udp"
	case takeover.UnixStream:
		spec.Network, spec.Path = "unix", path
		return spec, path != ""
	default:
		return spec, false
	}
	// The kernel refuses an address of the other family, but for an IPv4 socket AF_UNSPEC.
	v6 := kind == takeover.TCPv6 || kind == takeover.UDPv6
	if v6 && a.Kind != takeover.Inet6Addr || !v6 && a.Kind != takeover.InetAddr {
		return spec, false
	}
	// A socket that is bound to a device is in another group than one that is not, and no probe over loopback reaches it.
	if o.device || a.Addr.Port() == 0 || a.Addr.Addr().Zone() != "" {
		return spec, false
	}
	spec.Addr = a.Addr
	v6only := o.v6only
	if !o.v6onlySet {
		v6only = l.o.V6Only
	}
	if a.Addr.Addr().Is4In6() && v6only {
		return spec, false // the kernel refuses it
	}
	spec.DualStack = a.Kind == takeover.Inet6Addr && a.Addr.Addr().IsUnspecified() && !v6only
	return spec, !slices.Contains(l.o.TakeoverExclude, int(a.Addr.Port()))
}

// ownerOf says with which permissions the program would have made a unix socket.
func ownerOf(c *takeover.Call) (*port.Owner, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.PID))
	if err != nil {
		return nil, err
	}
	return parseOwner(text), nil
}

// parseOwner reads /proc/PID/status.
func parseOwner(text []byte) *port.Owner {
	owner := &port.Owner{UID: -1, GID: -1, Umask: 0o022}
	for line := range bytes.Lines(text) {
		key, value, _ := strings.Cut(string(line), ":")
		f := strings.Fields(value)
		switch {
		case key == "Uid" && len(f) == 4: // real, effective, saved, and that for files
			owner.UID = id(f[3])
		case key == "Gid" && len(f) == 4:
			owner.GID = id(f[3])
		case key == "Umask" && len(f) == 1:
			if n, err := strconv.ParseUint(f[0], 8, 16); err == nil && n <= 0o777 {
				owner.Umask = uint32(n)
			}
		}
	}
	return owner
}

// id reads a uid or gid; -1 if it is none.
func id(text string) int {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n == 1<<32-1 {
		return -1
	}
	return int(n)
}
