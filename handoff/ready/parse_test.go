package ready

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

func TestParseNotification(t *testing.T) {
	for text, want := range map[string]Notification{
		"":                                     {},
		"READY=1":                              {Ready: true},
		"READY=1\n":                            {Ready: true},
		"READY=0":                              {},
		"READY=11":                             {},
		"READY":                                {},
		"ready=1":                              {},
		" READY=1":                             {},
		"X=READY=1":                            {},
		"READY=1\nSTATUS=a b=c":                {Ready: true, Status: "a b=c"},
		"STATUS=one\nSTATUS=two":               {Status: "two"},
		"STATUS=a\tb\x00c\x7fd\x1b[31m":        {Status: "a b c d [31m"},
		"STATUS=" + strings.Repeat("x", 300):   {Status: strings.Repeat("x", 200)},
		"EXTEND_TIMEOUT_USEC=1500000":          {Extend: 1500 * time.Millisecond},
		"EXTEND_TIMEOUT_USEC=-1":               {},
		"EXTEND_TIMEOUT_USEC=x":                {},
		"EXTEND_TIMEOUT_USEC=4398046511104":    {}, // 2^42: more than fits
		"EXTEND_TIMEOUT_USEC=4398046511103":    {Extend: 4398046511103 * time.Microsecond},
		"MAINPID=1\nWATCHDOG=1\nBARRIER=1\n=x": {},
		"STOPPING=1\r\nREADY=1":                {Ready: true},
	} {
		var got Notification
		parseNotification(text, &got)
		if got.Ready != want.Ready || got.Status != want.Status || got.Extend != want.Extend || got.PID != 0 || got.fds != nil {
			t.Errorf("%.60q: got %+v, want %+v", text, got, want)
		}
	}
}

func TestParseControlGarbage(t *testing.T) {
	for _, control := range []string{"", "x", strings.Repeat("\xff", 64), strings.Repeat("\x00", 64)} {
		if n := parseControl([]byte(control)); n.PID != 0 || len(n.fds) != 0 {
			t.Errorf("%q: %+v", control, n)
		}
	}
}

func FuzzParseNotification(f *testing.F) {
	f.Add("READY=1\nSTATUS=x\nEXTEND_TIMEOUT_USEC=5")
	f.Add("STATUS=\xff\xfe\x00\n")
	f.Fuzz(func(t *testing.T, text string) {
		var n Notification
		parseNotification(text, &n)
		if n.Ready && !strings.Contains(text, "READY=1") {
			t.Errorf("ready by %q", text)
		}
		if n.Extend < 0 || len(n.Status) > 203 || strings.ContainsFunc(n.Status, func(r rune) bool { return r < ' ' || r == 0x7f }) || !utf8.ValidString(n.Status) {
			t.Errorf("%q gives %+v", text, n)
		}
	})
}

// FuzzParseControl: what comes beside a datagram names a sender only if the kernel's own credentials are in it.
func FuzzParseControl(f *testing.F) {
	credentials := unix.UnixCredentials(&unix.Ucred{Pid: 7, Uid: 8, Gid: 9})
	f.Add(credentials)
	f.Add(unix.UnixRights(1_000_000, 1_000_001))
	f.Add(append(unix.UnixRights(1_000_000), credentials...))
	f.Add([]byte(strings.Repeat("\xff", 64)))
	f.Fuzz(func(t *testing.T, control []byte) {
		n := parseControl(control)
		if len(n.fds) > len(control)/4 {
			t.Errorf("%d descriptors in %d bytes", len(n.fds), len(control))
		}
		if n.PID != 0 && len(control) < unix.CmsgLen(unix.SizeofUcred) {
			t.Errorf("%q: sender %d", control, n.PID)
		}
	})
}

// FuzzParseMode: a mode is taken with what it needs, or refused in one line.
func FuzzParseMode(f *testing.F) {
	for _, s := range []string{"accept", "http:8080/x", "http:/", "tcp:80", "notify", "fd:9", "exec:sh -c 'a b'", "delay:1s", "exec:'"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		m, err := ParseMode(text)
		switch {
		case err != nil:
			if s := err.Error(); s == "" || strings.Contains(s, "\n") {
				t.Errorf("%q: want one line, not %q", text, s)
			}
		case m.Kind == HTTP && !strings.HasPrefix(m.Path, "/"), m.Kind == Exec && len(m.Command) == 0, m.Kind == FD && (m.FD < 3 || m.FD > 1023),
			m.Kind == TCP && m.Port == 0, m.Delay < 0, m.Port < 0, m.Port > 65535:
			t.Errorf("%q: %+v", text, m)
		}
	})
}
