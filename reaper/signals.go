package reaper

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Signals are the signals that have come, as package catch catches them. Forward carries, in the order in which they came,
// every signal that could be meant for the child (what comes right after a Pending may overtake it); Child says that Reap has something to do.
type Signals struct {
	Forward chan os.Signal
	Child   chan os.Signal

	// CatchStops has SIGTTIN and SIGTTOU caught, too, which are ignored else. This process must not write to its terminal in
	// the background then.
	CatchStops func()
	// Due says whether a Pending is still that, and came after every SIGCONT. If not, a SIGCONT has taken it back; should one
	// have come after that in turn, Forward carries it anew. acted is how many SIGCONTs Forward has carried; it wraps.
	Due func(p Pending, acted uint32) bool
	// Suspend has this process obey a stop signal that is Pending, unless a SIGCONT has come since, and returns when it goes on;
	// a process group that is orphaned is not stopped (setpgid(2)). Drop takes the signal instead, and says that it has.
	Suspend func(Pending) error
	Drop    func(Pending) (dropped bool)
	// Stop sends SIGSTOP to pid, which is that of this process or 0, its group, and says that it has; not if a SIGCONT has
	// come that Forward has not carried yet: nobody would send another. One that comes just then has no effect: where there is
	// a Pending, Suspend is exact.
	Stop func(pid int, acted uint32) (stopped bool, err error)
}

// Pending is a stop signal that has come and has not been obeyed: SIGTSTP, and with CatchStops SIGTTIN and SIGTTOU. The kernel keeps
// it pending, so that a SIGCONT takes it back (signal(7)), until Suspend or Drop is called; it does not come again before.
type Pending syscall.Signal

// Signal says that it is one.
func (Pending) Signal() {}

// String is the signal's name.
func (p Pending) String() string { return SignalName(syscall.Signal(p)) }

// HangUp is the SIGHUP by which the kernel says that the controlling terminal has gone. It is nobody's request.
type HangUp struct{}

// Signal says that it is one.
func (HangUp) Signal() {}

// String says it in words.
func (HangUp) String() string { return "the terminal has gone" }

// realTimeMax is the last signal number on Linux (signal(7)).
const realTimeMax = 64

// SignalName returns the name of a signal: SIGTERM, SIGRTMIN+3. Real-time signals count from 34, as glibc's do.
func SignalName(s syscall.Signal) string {
	if name := unix.SignalName(s); name != "" {
		return name
	}
	switch n := int(s) - 34; {
	case n == 0:
		return "SIGRTMIN"
	case n > 0 && s <= realTimeMax:
		return fmt.Sprintf("SIGRTMIN+%d", n)
	}
	return fmt.Sprintf("SIG%d", int(s))
}

// ParseSignal reads a signal's name or number: TERM, SIGTERM, 15, RTMIN+3, RTMAX-1.
func ParseSignal(text string) (syscall.Signal, error) {
	name := strings.TrimPrefix(strings.ToUpper(text), "SIG")
	if n, err := strconv.Atoi(name); err == nil && n >= 1 && n <= realTimeMax {
		return syscall.Signal(n), nil
	}
	if s := unix.SignalNum("SIG" + name); s != 0 {
		return s, nil
	}
	for base, n := range map[string]int{"RTMIN": 34, "RTMAX": realTimeMax} {
		rest, ok := strings.CutPrefix(name, base)
		if !ok {
			continue
		}
		offset, err := strconv.Atoi(rest)
		if rest == "" {
			offset, err = 0, nil
		}
		if n += offset; err == nil && n >= 34 && n <= realTimeMax {
			return syscall.Signal(n), nil
		}
	}
	return 0, fmt.Errorf("%q is not a signal: want a name or a number from 1 to %d, such as TERM, SIGUSR1 or 15", text, realTimeMax)
}
