package reaper

import (
	"strings"
	"testing"
)

// FuzzParseSignal: a signal is one of the kernel's, by its name or number, or is refused in one line.
func FuzzParseSignal(f *testing.F) {
	for _, s := range []string{"TERM", "sigusr1", "15", "RTMIN+3", "RTMAX-1", "RTMIN-1", "0", "65", "RTMAX-99999999999999999999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSignal(text)
		switch {
		case err != nil:
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("%q: want one line, not %q", text, err)
			}
		case s < 1 || s > realTimeMax:
			t.Errorf("%q is signal %d", text, s)
		}
	})
}

// FuzzOutcome: what a child may have written, whole or not, is told in one line, and nothing is nothing.
func FuzzOutcome(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{byte(stepExecute), 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, byte(hintInterpreter), 0, 0, 0})
	f.Add([]byte{byte(stepExecute), 0, 0, 0, 255, 255, 255, 255, 2, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		c := Command{Argv: []string{"prog"}, Env: []string{"PATH=/a:/b"}}
		if err := c.Outcome(b); (err == nil) != (len(b) == 0) || err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v", b, err)
		}
	})
}

// FuzzFilterReport: one is taken whole, or not at all.
func FuzzFilterReport(f *testing.F) {
	f.Add(make([]byte, FilterReportSize))
	f.Add([]byte("F0000"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseFilterReport(b)
		if (err == nil) != (len(b) == FilterReportSize) || err == nil && (r.Failed() == nil) != (r.Errno == 0) {
			t.Errorf("%q: %+v, %v", b, r, err)
		}
	})
}

// FuzzEnvironment: what /proc/PID/environ shows may be anything that the process has written over it.
func FuzzEnvironment(f *testing.F) {
	f.Add([]byte("PATH=/bin\x00HOLDFAST_GENERATION=3\x00"))
	f.Add([]byte("nginx: worker process\x00=\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if startsLikeEnvironment(b) && !strings.Contains(string(b), "=") {
			t.Errorf("%q is no environment", b)
		}
	})
}
