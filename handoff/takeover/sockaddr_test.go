package takeover

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The families are in the byte order of both architectures, little-endian.
const (
	inet4   = "\x02\x00\x1f\x90\x7f\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00"
	inet6   = "\x0a\x00\x1f\x90\x00\x00\x00\x00\xfe\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"
	mapped  = "\x0a\x00\x00\x50\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x7f\x00\x00\x01\x00\x00\x00\x00"
	netlink = "\x10\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
)

func TestParseSockaddr(t *testing.T) {
	for in, want := range map[string]struct {
		text string
		kind AddrKind
	}{
		inet4:                                    {"127.0.0.1:8080", InetAddr},
		inet4 + "more":                           {"127.0.0.1:8080", InetAddr},
		inet6:                                    {"[fe80::1]:8080", Inet6Addr},
		inet6 + "\x03\x00\x00\x00":               {"[fe80::1%3]:8080", Inet6Addr},
		inet6 + "\x03\x00\x00":                   {"[fe80::1]:8080", Inet6Addr},
		mapped:                                   {"[::ffff:127.0.0.1]:80", Inet6Addr},
		"\x01\x00/run/app.sock\x00":              {"unix:/run/app.sock", PathAddr},
		"\x01\x00/run/app.sock":                  {"unix:/run/app.sock", PathAddr},
		"\x01\x00/run/app.sock\x00rest":          {"unix:/run/app.sock", PathAddr},
		"\x01\x00app.sock":                       {"unix:app.sock", PathAddr},
		"\x01\x00" + strings.Repeat("x", 108):    {"unix:" + strings.Repeat("x", 108), PathAddr},
		"\x01\x00\x00app\x00x":                   {"unix:@app\x00x", AbstractAddr},
		"\x01\x00\x00":                           {"unix:@", AbstractAddr},
		"\x01\x00":                               {"unix:", UnnamedAddr},
		netlink:                                  {"family 16", OtherAddr},
		"\x00\x00" + inet4[2:]:                   {"family 0", OtherAddr},
		"\xff\xff" + strings.Repeat("\x00", 126): {"family 65535", OtherAddr},
	} {
		got, err := ParseSockaddr([]byte(in))
		if err != nil || got.String() != want.text || got.Kind != want.kind {
			t.Errorf("%q: %v of kind %d, %v; want %v of kind %d", in, got, got.Kind, err, want.text, want.kind)
		}
	}
}

func TestParseSockaddrFails(t *testing.T) {
	for _, in := range []string{"", "\x02", inet4[:15], inet6[:23], "\x01\x00" + strings.Repeat("x", 109), inet4 + strings.Repeat("x", 113)} {
		if got, err := ParseSockaddr([]byte(in)); err == nil || got != (Sockaddr{}) {
			t.Errorf("%q: %+v, %v; want an error", in, got, err)
		}
	}
}

func FuzzParseSockaddr(f *testing.F) {
	for _, seed := range []string{"", inet4, inet6, mapped, netlink, "\x01\x00/run/app.sock\x00"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseSockaddr(b)
		if err != nil {
			if s != (Sockaddr{}) {
				t.Errorf("%+v beside %v", s, err)
			}
			return
		}
		_ = s.String()
		isInet, isUnix := s.Kind == InetAddr || s.Kind == Inet6Addr, s.Kind == PathAddr || s.Kind == AbstractAddr || s.Kind == UnnamedAddr
		switch {
		case isInet != s.Addr.IsValid(), isInet && s.Name != "":
			t.Errorf("%+v", s)
		case isUnix != (s.Family == unix.AF_UNIX), s.Kind == PathAddr && (s.Name == "" || strings.Contains(s.Name, "\x00")):
			t.Errorf("%+v", s)
		case s.Kind == InetAddr != s.Addr.Addr().Is4(), s.Kind == Inet6Addr != s.Addr.Addr().Is6():
			t.Errorf("%+v", s)
		}
		if again, err := ParseSockaddr(b); err != nil || again != s {
			t.Errorf("%+v, then %+v, %v", s, again, err)
		}
	})
}
