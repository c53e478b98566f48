package reaper_test

import (
	"strings"
	"syscall"
	"testing"

	"holdfast/reaper"
)

func TestParseSignal(t *testing.T) {
	for _, c := range []struct {
		text string
		want syscall.Signal // 0 = an error
	}{
		{"TERM", syscall.SIGTERM}, {"SIGTERM", syscall.SIGTERM}, {"term", syscall.SIGTERM}, {"sigusr1", syscall.SIGUSR1},
		{"15", syscall.SIGTERM}, {"SIG15", syscall.SIGTERM}, {"1", syscall.SIGHUP}, {"64", 64}, {"34", 34}, {"32", 32},
		{"HUP", syscall.SIGHUP}, {"WINCH", syscall.SIGWINCH}, {"QUIT", syscall.SIGQUIT}, {"PWR", syscall.SIGPWR},
		{"RTMIN", 34}, {"SIGRTMIN", 34}, {"RTMIN+0", 34}, {"RTMIN+3", 37}, {"sigrtmin+30", 64}, {"RTMAX", 64},
		{"RTMAX-1", 63}, {"SIGRTMAX-30", 34},
		{"", 0}, {"SIG", 0}, {"0", 0}, {"65", 0}, {"-1", 0}, {"TERMINATE", 0}, {"SIGSIGTERM", 0}, {"TERM ", 0},
		{"RTMIN-1", 0}, {"RTMIN+31", 0}, {"RTMAX+1", 0}, {"RTMAX-31", 0}, {"RTMIN+", 0}, {"RTMIN+x", 0}, {"15.0", 0},
		{"99999999999999999999", 0},
	} {
		got, err := reaper.ParseSignal(c.text)
		if got != c.want || (err == nil) != (c.want != 0) {
			t.Errorf("ParseSignal(%q) = %d, %v, want %d", c.text, got, err, c.want)
		}
		if err != nil && (!strings.Contains(err.Error(), `"`+c.text+`"`) || !strings.Contains(err.Error(), "SIGUSR1")) {
			t.Errorf("ParseSignal(%q): %v: want the value and examples of what would be right", c.text, err)
		}
	}
}

func TestSignalName(t *testing.T) {
	for s, want := range map[syscall.Signal]string{
		1: "SIGHUP", 15: "SIGTERM", 17: "SIGCHLD", 28: "SIGWINCH", 31: "SIGSYS", 32: "SIG32", 33: "SIG33",
		34: "SIGRTMIN", 35: "SIGRTMIN+1", 37: "SIGRTMIN+3", 64: "SIGRTMIN+30", 65: "SIG65", 0: "SIG0",
	} {
		if got := reaper.SignalName(s); got != want {
			t.Errorf("SignalName(%d) = %q, want %q", int(s), got, want)
		}
	}
}

// TestSignalRoundTrip: every signal's name is read back as that signal.
func TestSignalRoundTrip(t *testing.T) {
	for n := syscall.Signal(1); n <= 64; n++ {
		if got, err := reaper.ParseSignal(reaper.SignalName(n)); err != nil || got != n {
			t.Errorf("ParseSignal(%q) = %d, %v, want %d", reaper.SignalName(n), got, err, n)
		}
	}
}
