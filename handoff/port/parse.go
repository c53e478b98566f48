package port

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path"
	"strconv"
	"strings"
)

// maxPath is the longest path that a client can put into a sockaddr_un (108 bytes with the final NUL, unix(7)).
const maxPath = 107

// ParseSpec reads the value of --listen: [NAME=]ADDR[?OPTION=VALUE[&…]], where ADDR is one of
//
//	:8080                  every address, IPv4 and IPv6 through one dual-stack socket
//	0.0.0.0:80             every IPv4 address
//	[::]:80                every IPv6 address, and only those, so that it goes together with 0.0.0.0:80
//	127.0.0.1:80 [::1]:80  one address
//	tcp://ADDR udp://ADDR  the same with the protocol said; without it: tcp
//	unix:///run/app.sock   a stream socket in the file system
//
// and the options are name=TEXT, nonblock=0|1, backlog=1…65535 (not for udp), mode=0660 (octal; unix only).
// A path is taken as it stands, without percent-decoding, up to the first '?'. Every error is one line that says what was
// wrong and what was expected.
func ParseSpec(s string) (Spec, error) {
	spec, err := parse(s)
	if err != nil {
		return Spec{}, fmt.Errorf("parse %q: %w", s, err)
	}
	return spec, nil
}

func parse(s string) (Spec, error) {
	name, rest, named := cutName(s)
	addr, options, hasOptions := strings.Cut(rest, "?")
	spec, err := parseAddr(addr)
	if err != nil {
		return Spec{}, err
	}
	if named {
		if err := spec.setName(name); err != nil {
			return Spec{}, err
		}
	}
	if !hasOptions {
		return spec, nil
	}
	return spec, spec.setOptions(options, named)
}

// cutName splits NAME= off. Every address has a colon, and no name has one, so an equals sign before the first colon
// ends a name.
func cutName(s string) (name, rest string, named bool) {
	equals, colon := strings.IndexByte(s, '='), strings.IndexByte(s, ':')
	if equals < 0 || colon >= 0 && colon < equals {
		return "", s, false
	}
	return s[:equals], s[equals+1:], true
}

func parseAddr(s string) (Spec, error) {
	switch scheme, rest, ok := strings.Cut(s, "://"); {
	case !ok:
		return parseInet("tcp", s)
	case scheme == "tcp" || scheme == "udp":
		return parseInet(scheme, rest)
	case scheme == "unix":
		return parsePath(rest)
	default:
		return Spec{}, fmt.Errorf("unknown protocol %q: expected tcp, udp or unix", scheme)
	}
}

func parseInet(network, s string) (Spec, error) {
	if s == "" {
		return Spec{}, errors.New(`no address: expected e.g. ":8080"`)
	}
	colon := strings.LastIndexByte(s, ':')
	if colon < 0 {
		return Spec{}, fmt.Errorf(`no port in %q: expected e.g. ":8080" or "127.0.0.1:8080"`, s)
	}
	number, err := parsePort(s[colon+1:])
	if err != nil {
		return Spec{}, err
	}
	spec := Spec{Network: network}
	if host := s[:colon]; host == "" {
		spec.DualStack = true
		spec.Addr = netip.AddrPortFrom(netip.IPv6Unspecified(), number)
	} else if spec.Addr, err = netip.ParseAddrPort(s); err != nil {
		return Spec{}, fmt.Errorf("%q is not an IP address: expected e.g. 127.0.0.1 or [::1], or nothing for every address", host)
	}
	spec.Addr = netip.AddrPortFrom(spec.Addr.Addr().Unmap(), number)
	if spec.Addr.Addr().IsMulticast() {
		return Spec{}, fmt.Errorf("%s is a multicast address: such a port can't be held", spec.Addr.Addr())
	}
	return spec, nil
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("port %q: expected a number from 1 to 65535", s)
	}
	if n == 0 {
		return 0, errors.New("port 0: a held port must be known; expected a number from 1 to 65535")
	}
	return uint16(n), nil
}

func parsePath(s string) (Spec, error) {
	switch {
	case !strings.HasPrefix(s, "/"):
		return Spec{}, fmt.Errorf("path %q is not absolute: expected e.g. unix:///run/app.sock", s)
	case strings.HasSuffix(s, "/"), path.Base(s) == ".", path.Base(s) == "..":
		return Spec{}, fmt.Errorf("path %q names a directory: expected e.g. unix:///run/app.sock", s)
	case strings.IndexByte(s, 0) >= 0:
		return Spec{}, fmt.Errorf("path %q holds a NUL byte", s)
	}
	s = path.Clean(s)
	if len(s) > maxPath {
		return Spec{}, fmt.Errorf("path of %d bytes: a unix socket's may have %d", len(s), maxPath)
	}
	return Spec{Network: "unix", Path: s}, nil
}

// setName checks a name as systemd does for LISTEN_FDNAMES (sd_listen_fds(3)); '=' is kept for NAME=ADDR.
func (s *Spec) setName(name string) error {
	if name == "" || len(name) > 255 {
		return fmt.Errorf("name of %d bytes: expected 1 to 255", len(name))
	}
	for _, c := range []byte(name) {
		if c <= ' ' || c > '~' || c == ':' || c == '=' {
			return fmt.Errorf("name %q: expected printable ASCII without ':', '=' and spaces", name)
		}
	}
	s.Name = name
	return nil
}

func (s *Spec) setOptions(options string, named bool) error {
	seen := map[string]bool{"name": named}
	for option := range strings.SplitSeq(options, "&") {
		key, value, ok := strings.Cut(option, "=")
		if !ok {
			return fmt.Errorf("option %q: expected key=value", option)
		}
		if seen[key] {
			return fmt.Errorf("option %q is given twice", key)
		}
		seen[key] = true
		if err := s.setOption(key, value); err != nil {
			return err
		}
	}
	return nil
}

func (s *Spec) setOption(key, value string) (err error) {
	switch key {
	case "name":
		return s.setName(value)
	case "nonblock":
		return s.setNonblock(value)
	case "backlog":
		return s.setBacklog(value)
	case "mode":
		return s.setMode(value)
	default:
		return fmt.Errorf("unknown option %q: expected name, nonblock, backlog or mode", key)
	}
}

func (s *Spec) setNonblock(value string) error {
	switch value {
	case "0", "1":
		s.Nonblock = value == "1"
		return nil
	default:
		return fmt.Errorf("nonblock %q: expected 0 or 1", value)
	}
}

func (s *Spec) setBacklog(value string) error {
	n, err := strconv.ParseUint(value, 10, 16)
	switch {
	case s.Network == "udp":
		return errors.New("backlog: udp has no accept queue")
	case err != nil || n == 0:
		return fmt.Errorf("backlog %q: expected a number from 1 to 65535", value)
	}
	s.Backlog = int(n)
	return nil
}

func (s *Spec) setMode(value string) error {
	n, err := strconv.ParseUint(value, 8, 32)
	switch {
	case s.Network != "unix":
		return errors.New("mode: only a unix socket has one")
	case err != nil || n == 0 || n > 0o777:
		return fmt.Errorf("mode %q: expected octal permissions from 0001 to 0777", value)
	}
	s.Mode = fs.FileMode(n)
	return nil
}
