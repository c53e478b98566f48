package port

import (
	"net/netip"
	"strings"
	"testing"
)

func TestParseSpec(t *testing.T) {
	any6 := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(netip.IPv6Unspecified(), port) }
	for in, want := range map[string]Spec{
		":8080":                  {Network: "tcp", Addr: any6(8080), DualStack: true},
		"tcp://:8080":            {Network: "tcp", Addr: any6(8080), DualStack: true},
		"web=:8080":              {Network: "tcp", Addr: any6(8080), DualStack: true, Name: "web"},
		":8080?name=web":         {Network: "tcp", Addr: any6(8080), DualStack: true, Name: "web"},
		"0.0.0.0:80":             {Network: "tcp", Addr: netip.MustParseAddrPort("0.0.0.0:80")},
		"[::]:80":                {Network: "tcp", Addr: any6(80)},
		"[::1]:80":               {Network: "tcp", Addr: netip.MustParseAddrPort("[::1]:80")},
		"[::ffff:10.0.0.1]:80":   {Network: "tcp", Addr: netip.MustParseAddrPort("10.0.0.1:80")},
		"[fe80::1%eth0]:80":      {Network: "tcp", Addr: netip.MustParseAddrPort("[fe80::1%eth0]:80")},
		"a/b=127.0.0.1:80":       {Network: "tcp", Addr: netip.MustParseAddrPort("127.0.0.1:80"), Name: "a/b"},
		"dns=udp://:53":          {Network: "udp", Addr: any6(53), DualStack: true, Name: "dns"},
		":1?nonblock=1":          {Network: "tcp", Addr: any6(1), DualStack: true, Nonblock: true},
		":1?backlog=7":           {Network: "tcp", Addr: any6(1), DualStack: true, Backlog: 7},
		"unix:///run/a=b.sock":   {Network: "unix", Path: "/run/a=b.sock"},
		"app=unix:///run//a/./b": {Network: "unix", Path: "/run/a/b", Name: "app"},
		"unix:///a?mode=0660&backlog=1024&nonblock=1&name=web": {
			Network: "unix", Path: "/a", Mode: 0o660, Backlog: 1024, Nonblock: true, Name: "web",
		},
	} {
		got, err := ParseSpec(in)
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v; want %+v", in, got, err, want)
		}
		again, err := ParseSpec(got.String())
		if err != nil || again.String() != got.String() || again.Addr != got.Addr || again.Path != got.Path || again.DualStack != got.DualStack {
			t.Errorf("%q: %q is read back as %+v, %v", in, got, again, err)
		}
	}
}

func TestSpecString(t *testing.T) {
	for in, want := range map[string]string{
		"web=tcp://:8080?backlog=3": ":8080", "udp://:53": "udp://:53", "udp://[::1]:53": "udp://[::1]:53",
		"[::0]:80": "[::]:80", "x=unix:///run/app.sock?mode=600": "unix:///run/app.sock",
	} {
		got, err := ParseSpec(in)
		if err != nil || got.String() != want {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestParseSpecErrors(t *testing.T) {
	for in, want := range map[string]string{
		"":                                    "no address",
		"8080":                                `no port in "8080": expected e.g. ":8080"`,
		":":                                   `port "": expected a number`,
		":0":                                  "port 0",
		":65536":                              "expected a number from 1 to 65535",
		":http":                               `port "http"`,
		":+80":                                `port "+80"`,
		"localhost:80":                        `"localhost" is not an IP address`,
		"::1:80":                              `"::1" is not an IP address`,
		"http://:80":                          `unknown protocol "http": expected tcp, udp or unix`,
		"224.0.0.1:80":                        "multicast",
		"unix://run/a":                        "not absolute",
		"unix://@a":                           "not absolute",
		"unix:///run/":                        "names a directory",
		"unix:///a/..":                        "names a directory",
		"unix://":                             "not absolute",
		"unix:///" + strings.Repeat("x", 107): "path of 108 bytes",
		"=:80":                                "name of 0 bytes",
		"a b=:80":                             "printable ASCII",
		":80?name=a:b":                        "printable ASCII",
		strings.Repeat("n", 256) + "=:80":     "name of 256 bytes",
		"a=:80?name=b":                        `option "name" is given twice`,
		":80?backlog=1&backlog=2":             `option "backlog" is given twice`,
		":80?backlog=0":                       `backlog "0"`,
		":80?backlog=x":                       `backlog "x"`,
		"udp://:80?backlog=1":                 "udp has no accept queue",
		":80?mode=0660":                       "only a unix socket",
		"unix:///a?mode=0999":                 `mode "0999": expected octal`,
		"unix:///a?mode=01777":                "expected octal",
		":80?nonblock=yes":                    `nonblock "yes": expected 0 or 1`,
		":80?":                                `option "": expected key=value`,
		":80?reuse=1":                         `unknown option "reuse": expected name, nonblock, backlog or mode`,
	} {
		_, err := ParseSpec(in)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: error %v, want one line with %s", in, err, want)
		}
	}
}

func FuzzParseSpec(f *testing.F) {
	for _, s := range []string{":80", "a=udp://[::1]:5?nonblock=1", "unix:///a?mode=7&name=b", "0.0.0.0:1?backlog=2", "unix:///."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		spec, err := ParseSpec(s)
		if err != nil {
			return
		}
		if again, err := ParseSpec(spec.String()); err != nil || again.String() != spec.String() {
			t.Errorf("%q → %q → %q, %v", s, spec, again, err)
		}
	})
}
