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
