package takeover

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"
)

// An AddrKind says which field of a Sockaddr counts.
type AddrKind int

const (
	OtherAddr    AddrKind = iota // Family says which; AF_UNSPEC, which old programs use for any IPv4 address, is one
	InetAddr                     // Addr: AF_INET
	Inet6Addr                    // Addr: AF_INET6, with IPv4 mapped into it as it came
	PathAddr                     // Name: a path, which may be relative to the target's directory
	AbstractAddr                 // Name: without the NUL that it begins with; it may hold others
	UnnamedAddr                  // AF_UNIX without a name: bind(2) chooses an abstract one
)

// A Sockaddr is an address as a program gave it to bind(2). It is comparable.
type Sockaddr struct {
	Kind   AddrKind
	Family uint16
	Addr   netip.AddrPort // the zone is the number of the interface
	Name   string
}

func (s Sockaddr) String() string {
	switch s.Kind {
	case InetAddr, Inet6Addr:
		return s.Addr.String()
	case PathAddr:
		return "unix:" + s.Name
	case AbstractAddr:
		return "unix:@" + s.Name
	case UnnamedAddr:
		return "unix:"
	default:
		return "family " + strconv.Itoa(int(s.Family))
	}
}

// The lengths that the kernel wants at least, and at most (net/ipv4/af_inet.c, net/ipv6/af_inet6.c, net/unix/af_unix.c,
// net/socket.c).
const (
	familyLength  = 2
	inetLength    = unix.SizeofSockaddrInet4
	inet6Length   = 24 // SIN6_LEN_RFC2133: the scope may be missing
	inet6Scoped   = unix.SizeofSockaddrInet6
	maxUnixLength = unix.SizeofSockaddrUnix
	maxLength     = 128 // struct sockaddr_storage
)

var errAddrLength = errors.New("bind(2) takes no address of this length")

// ParseSockaddr reads a struct sockaddr, as bind(2) does: what it refuses to read for its length is an error here.
func ParseSockaddr(b []byte) (Sockaddr, error) {
	if len(b) < familyLength || len(b) > maxLength {
		return Sockaddr{}, fmt.Errorf("parse address of %d bytes: %w", len(b), errAddrLength)
	}
	s := Sockaddr{Family: binary.NativeEndian.Uint16(b)}
	var ok bool
	switch s.Family {
	case unix.AF_INET:
		ok = s.inet(b)
	case unix.AF_INET6:
		ok = s.inet6(b)
	case unix.AF_UNIX:
		ok = s.unix(b)
	default:
		ok = true
	}
	if !ok {
		return Sockaddr{}, fmt.Errorf("parse address of family %d and %d bytes: %w", s.Family, len(b), errAddrLength)
	}
	return s, nil
}

func (s *Sockaddr) inet(b []byte) bool {
	if len(b) < inetLength {
		return false
	}
	s.Kind = InetAddr
	s.Addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), binary.BigEndian.Uint16(b[2:]))
	return true
}

func (s *Sockaddr) inet6(b []byte) bool {
	if len(b) < inet6Length {
		return false
	}
	addr := netip.AddrFrom16([16]byte(b[8:24]))
	if len(b) >= inet6Scoped {
		if scope := binary.NativeEndian.Uint32(b[24:]); scope != 0 {
			addr = addr.WithZone(strconv.FormatUint(uint64(scope), 10))
		}
	}
	s.Kind = Inet6Addr
	s.Addr = netip.AddrPortFrom(addr, binary.BigEndian.Uint16(b[2:]))
	return true
}

func (s *Sockaddr) unix(b []byte) bool {
	name := b[familyLength:]
	switch {
	case len(b) > maxUnixLength:
		return false
	case len(name) == 0:
		s.Kind = UnnamedAddr
	case name[0] == 0:
		s.Kind, s.Name = AbstractAddr, string(name[1:])
	default:
		name, _, _ = bytes.Cut(name, []byte{0}) // a path need not end in NUL, and what follows one is not part of it
		s.Kind, s.Name = PathAddr, string(name)
	}
	return true
}
