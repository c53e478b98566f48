package main

import (
	"errors"
	"strings"
	"testing"
)

// FuzzFlags: whatever is on the command line and in the environment, it is taken or refused in one line.
func FuzzFlags(f *testing.F) {
	f.Add("--listen\n:8080\n--\nserver", "HOLDFAST_SETTLE=1s")
	f.Add("-g\n-e\n143\n-r\n15:2\n--ready\nhttp:/healthz\nserver\n--its-own", "HOLDFAST_WATCH=/a\x00HOLDFAST_PROBE_ADDR=")
	f.Add("--ready\nexec:sh -c 'a b'\n--check\n'\n--drain-timeout=-1s", "TINI_SUBREAPER=\x00HOLDFAST_VERSION=1")
	f.Add("--help", "HOLDFAST_LISTEN=:80\n:81")
	f.Fuzz(func(t *testing.T, args, environ string) {
		o, err := parseFlags(strings.Split(args, "\n"), strings.Split(environ, "\x00"))
		switch {
		case errors.Is(err, errHelp):
		case err == nil && !o.version && len(o.command) == 0:
			t.Errorf("%q, %q: taken without a command", args, environ)
		case err != nil && (err.Error() == "" || strings.Contains(strings.TrimSpace(err.Error()), "\n")):
			t.Errorf("%q, %q: want one line, not %q", args, environ, err)
		}
	})
}

// FuzzPersonality: under the names of other inits, too, nothing but their own words comes of a bad command line.
func FuzzPersonality(f *testing.F) {
	f.Add("tini", "-g\n-p\nSIGTERM\n--\nserver", "TINI_VERBOSITY=3")
	f.Add("dumb-init", "-r\n15:3\n--single-child\nserver", "DUMB_INIT_DEBUG=1")
	f.Add("catatonit", "-P", "")
	f.Add("docker-init", "-e\n300\nx", "TINI_KILL_PROCESS_GROUP=")
	f.Fuzz(func(t *testing.T, name, args, environ string) {
		p, ok := personalityOf(name)
		if !ok {
			return
		}
		_, err := p.parse(strings.Split(args, "\n"), strings.Split(environ, "\x00"))
		if err != nil && err.Error() == "" {
			t.Errorf("%s %q: refused without a word", name, args)
		}
	})
}
