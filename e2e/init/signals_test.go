package inits

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/reaper"
)

const sentinel = syscall.Signal(64)

// blockedChild starts an init whose child keeps every signal pending.
func blockedChild(t *testing.T, x tool, flags ...string) (s *subject, child int) {
	t.Helper()
	s = start(t, x, run{argv: x.argv(flags, mustWitness(t), "blocked")})
	s.says("^up$")
	child = s.child()
	if !s.until(func() bool { return comm(child) == "sleep" }) {
		panic(outcome("no child"))
	}
	return s, child
}

// forwarded sends one signal and says what the child got.
func forwarded(n syscall.Signal, flags ...string) func(*testing.T, tool) string {
	return func(t *testing.T, x tool) string {
		s, child := blockedChild(t, x, flags...)
		s.signal(n)
		last := sentinel
		if n == last {
			last--
		}
		s.signal(last)
		var got uint64
		stopped := false
		arrived := s.until(func() bool {
			got = pending(child)
			stopped = strings.HasPrefix(field(child, "State"), "T")
			return got&(1<<(last-1)) != 0
		})
		select {
		case <-s.done:
			return "ends it: " + s.code()
		default:
		}
		if !arrived {
			return "hangs"
		}
		// Two threads may have handled the two: what comes, comes within this time.
		for end := time.Now().Add(50 * time.Millisecond); got&(1<<(n-1)) == 0 && !stopped && time.Now().Before(end); time.Sleep(time.Millisecond) {
			got = pending(child)
			stopped = strings.HasPrefix(field(child, "State"), "T")
		}
		others := got &^ (1<<(last-1) | 1<<(n-1))
		switch {
		case stopped:
			return "child gets SIGSTOP"
		case got&(1<<(n-1)) != 0 && others == 0:
			return "forwarded"
		case others != 0:
			return fmt.Sprintf("child gets %s", reaper.SignalName(syscall.Signal(trailing(others))))
		}
		return "not forwarded"
	}
}

// trailing is the number of the lowest signal in a set.
func trailing(set uint64) (n int) {
	for n = 1; set&1 == 0; n++ {
		set >>= 1
	}
	return n
}

const (
	whyFault  = "sent by a user it is the child's; a fault of the init's own is told from it by si_code"
	whyReload = "it asks for a handoff: --reload-signal moves that to another one; under tini's name it is forwarded"
	whyLibc   = "glibc keeps it for itself; the raw system call does not"
	whyStop   = "as tini; dumb-init's way under its name, or with --job-control"
	whyBridle = "the init must be able to log to its terminal in the background, so it ignores them; dumb-init's way is had under its name, or with --job-control"
)

// signalCases is one case for each signal.
func signalCases() (all []testCase) {
	for n := syscall.Signal(1); n <= 64; n++ {
		c := testCase{section: "Signals, each sent to PID 1", name: fmt.Sprintf("%d %s", int(n), reaper.SignalName(n)), want: "forwarded", run: forwarded(n)}
		switch n {
		case syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGCHLD:
			continue
		case syscall.SIGHUP:
			c.want, c.why = "not forwarded", whyReload
		case syscall.SIGILL, syscall.SIGTRAP, syscall.SIGABRT, syscall.SIGBUS, syscall.SIGFPE, syscall.SIGSEGV, syscall.SIGSYS:
			c.why = whyFault
		case syscall.SIGTSTP:
			c.why = whyStop
		case syscall.SIGTTIN, syscall.SIGTTOU:
			c.want, c.why = "not forwarded", whyBridle
		case 32, 33:
			c.why = whyLibc
		}
		// With -short the real-time signals stand for each other.
		c.long = n > 37 && n < 64
		all = append(all, c)
	}
	return all
}

// moreSignalCases are about more than one signal.
func moreSignalCases() []testCase {
	const section = "Signals"
	return []testCase{
		{section: section, name: "31 real-time signals in a row, 100 times", want: "in order", run: inOrder},
		{section: section, name: "TERM, then another one, 20 times", want: "in order", run: behindTerm},
		{section: section, name: "HUP with another reload signal", want: "forwarded", why: "that flag is holdfast's alone",
			run: func(t *testing.T, x tool) string {
				if x.name != "holdfast" {
					return forwarded(syscall.SIGHUP)(t, x)
				}
				return forwarded(syscall.SIGHUP, "--reload-signal", "USR2")(t, x)
			}},
		{section: section, name: "rewritten: USR1 to USR2", want: "child gets SIGUSR2", why: "no such option", run: rewritten(syscall.SIGUSR1, "10:12", "USR1:SIGUSR2")},
		{section: section, name: "rewritten: TERM to RTMIN+3", want: "child gets SIGRTMIN+3", why: "dumb-init knows the first 31 only; the others have no such option", run: rewritten(syscall.SIGTERM, "", "TERM:RTMIN+3")},
		{section: section, name: "rewritten by numbers: 15 to 3", want: "child gets SIGQUIT", why: "no such option", run: rewritten(syscall.SIGTERM, "15:3", "15:3")},
		{section: section, name: "rewritten to nothing", want: "not forwarded", why: "no such option", run: rewritten(syscall.SIGUSR1, "10:0", "USR1:0")},
		{section: section, name: "rewritten: HUP, the reload signal, to nothing", want: "not forwarded", why: "no such option", run: rewritten(syscall.SIGHUP, "1:0", "HUP:0")},
		{section: section, name: "rewritten: HUP, the reload signal, to USR1", want: "child gets SIGUSR1", why: "no such option", run: rewritten(syscall.SIGHUP, "1:10", "HUP:USR1")},
		{section: section, name: "TSTP, with job control", want: "child gets SIGSTOP", why: "no such option", run: stopSignal(syscall.SIGTSTP)},
		{section: section, name: "TTOU, with job control", want: "child gets SIGSTOP", why: "no such option", run: stopSignal(syscall.SIGTTOU)},
		{section: section, name: "TSTP, with job control and rewritten to itself", want: "forwarded", why: "no such option", run: stopSignal(syscall.SIGTSTP, "20:20")},
		{section: section, name: "100 real-time signals at once", want: "100 arrive", why: "", run: manyRealTime},
		{section: section, name: "USR1 from within the namespace", want: "forwarded", run: fromWithin(syscall.SIGUSR1)},
		{section: section, name: "PIPE from within the namespace", want: "forwarded", run: fromWithin(syscall.SIGPIPE)},
		{section: section, name: "SEGV from within the namespace", want: "forwarded", why: whyFault, run: fromWithin(syscall.SIGSEGV)},
		{section: section, name: "ABRT from within the namespace", want: "forwarded", why: whyFault, run: fromWithin(syscall.SIGABRT)},
		{section: section, name: "its log's reader has left, verbose", want: "no SIGPIPE of its own reaches the child",
			why:   "dumb-init takes its own SIGPIPE for a user's, logs it, and so on without end; catatonit passes its own on, and the child dies of it",
			hangs: []string{"dumb-init"}, run: deadLog},
		{section: section, name: "the child ends while signals come", want: "exit 5", run: endsWhileSignalled},
		{section: section, name: "direct child only, by default", want: "the child only", why: "dumb-init's default is the group: --group, or -g, has that", run: whoGets()},
		{section: section, name: "to the group, on request", want: "the group", run: whoGets("-g")},
	}
}

// rewritten sends a signal that dumb-init is to rewrite as the numbers say, if it can, and holdfast as the words do.
func rewritten(n syscall.Signal, numbers, words string) func(*testing.T, tool) string {
	return func(t *testing.T, x tool) string {
		switch {
		case x.name == "holdfast":
			return forwarded(n, "--rewrite", words)(t, x)
		case x.name == "dumb-init" && numbers != "":
			return forwarded(n, "--rewrite", numbers)(t, x)
		}
		return "no such option"
	}
}

// stopSignal sends one of the terminal's to an init that does job control.
func stopSignal(n syscall.Signal, rewrites ...string) func(*testing.T, tool) string {
	return func(t *testing.T, x tool) string {
		var flags []string
		switch x.name {
		case "holdfast":
			flags = append(flags, "--job-control")
		case "dumb-init":
		default:
			return "no such option"
		}
		for _, r := range rewrites {
			flags = append(flags, "--rewrite", r)
		}
		return forwarded(n, flags...)(t, x)
	}
}

const recorder = `
import signal
every = signal.valid_signals()
signal.pthread_sigmask(signal.SIG_BLOCK, every)
print("up", flush=True)
came = []
while True:
    s = signal.sigwaitinfo(every).si_signo
    if s == 64:
        print("came", came == sorted(came), len(came), flush=True)
        came = []
    elif s >= 34:
        came.append(s)
`

// inOrder sends signals by rising number, so that whoever takes one at a time passes them on so, however many wait. One
// round may go wrong: a thread of Go's that has just been started may come in between.
func inOrder(t *testing.T, x tool) string {
	s := start(t, x, run{argv: x.argv(nil, "/usr/bin/python3", "-c", recorder)})
	s.says("^up$")
	wrong := 0
	for round := 1; round <= 100; round++ {
		for n := syscall.Signal(34); n <= 64; n++ {
			s.signal(n)
		}
		if !s.until(func() bool { return strings.Count(s.output(), "came") == round }) {
			return "hangs"
		}
		if !strings.HasPrefix(s.last(), "came True") {
			wrong++
		}
	}
	t.Logf("%s: %d wrong", x.name, wrong)
	if wrong > 1 {
		return fmt.Sprintf("in another order %d times", wrong)
	}
	return "in order"
}

// teller names the signals that it is sent, all at the last one. Of two that wait it takes that with the lower number first.
const teller = `
import os, signal
every = signal.valid_signals()
signal.pthread_sigmask(signal.SIG_BLOCK, every)
print("up", flush=True)
came = iter(lambda: signal.sigwaitinfo(every).si_signo, 64)
os.write(1, b"came" + b"".join(b" %d" % s for s in came) + b"\n") # in one: the init logs beside it
signal.sigwaitinfo([])
`

// behindTerm sends another signal right behind SIGTERM, about which an init may have more to do. Every other time holdfast has a
// grace period, and still more to do. As in inOrder, one round may go wrong.
func behindTerm(t *testing.T, x tool) string {
	wrong := 0
	for round := range 20 {
		var flags []string
		if x.name == "holdfast" && round%2 == 1 {
			flags = []string{"--grace-period", "1m"}
		}
		s := start(t, x, run{argv: x.argv(flags, "/usr/bin/python3", "-c", teller)})
		s.says("^up$")
		for _, n := range []syscall.Signal{syscall.SIGTERM, 40, sentinel} {
			s.signal(n)
		}
		if s.says("^came.*$") != "came 15 40" {
			wrong++
		}
		s.end()
	}
	t.Logf("%s: %d wrong", x.name, wrong)
	if wrong > 1 {
		return fmt.Sprintf("in another order %d times", wrong)
	}
	return "in order"
}

const counter = `
import signal
every = signal.valid_signals()
signal.pthread_sigmask(signal.SIG_BLOCK, every)
print("up", flush=True)
n = 0
while True:
    s = signal.sigwaitinfo(every).si_signo
    n += s == 40
    if s == 64:
        print("count", n, flush=True)
`

// manyRealTime: real-time signals do not merge (signal(7)).
func manyRealTime(t *testing.T, x tool) string {
	s := start(t, x, run{argv: x.argv(nil, "/usr/bin/python3", "-c", counter)})
	s.says("^up$")
	for range 100 {
		s.signal(40)
	}
	count := ""
	for i := 1; i <= 5 && count != "100"; i++ { // two threads may handle two at the same time: the last may come before others
		s.signal(sentinel)
		s.until(func() bool { return strings.Count(s.output(), "count") == i })
		_, count, _ = strings.Cut(s.last(), "count ")
	}
	return count + " arrive"
}

// fromWithin has an orphan in the namespace send it.
func fromWithin(n syscall.Signal) func(*testing.T, tool) string {
	return func(t *testing.T, x tool) string {
		s, child := blockedChild(t, x)
		s.inside("sh", "-c", fmt.Sprintf("kill -%d 1; kill -%d 1", int(n), int(sentinel)))
		if !s.until(func() bool { return s.gone() || pending(child)&(1<<(sentinel-1)) != 0 }) {
			return "hangs"
		}
		if s.gone() {
			return "ends it: " + s.code()
		}
		if s.untilWithin(50*time.Millisecond, func() bool { return pending(child)&(1<<(n-1)) != 0 }) {
			return "forwarded"
		}
		return "not forwarded"
	}
}

// deadLog: each line of the log to nobody raises a SIGPIPE.
func deadLog(t *testing.T, x tool) string {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer write.Close()
	read.Close()
	flags := []string{"-v"}
	env := os.Environ()
	if x.name == "catatonit" {
		flags, env = nil, append(env, "CATATONIT_DEBUG=1")
	}
	up := filepath.Join(t.TempDir(), "up")
	s := start(t, x, run{argv: x.argv(flags, "sh", "-c", `echo > "$1"; exec "$2" blocked 2>/dev/null >/dev/full`, "sh", up, mustWitness(t)), stdout: write, env: env})
	child := s.child()
	if s.until(func() bool { return s.gone() || comm(child) == "sleep" }); s.gone() {
		return s.ends()
	}
	for range 5 {
		s.signal(syscall.SIGUSR1)
		s.signal(sentinel)
		if !s.until(func() bool { return pending(child)&(1<<(sentinel-1)) != 0 }) {
			return "hangs"
		}
	}
	if pending(child)&(1<<(syscall.SIGPIPE-1)) != 0 {
		return "its own SIGPIPE reaches the child"
	}
	return "no SIGPIPE of its own reaches the child"
}

// endsWhileSignalled: a signal to a child that has just gone must do no harm.
func endsWhileSignalled(t *testing.T, x tool) string {
	for range 10 {
		s := start(t, x, run{argv: x.argv(nil, "sh", "-c", `trap '' USR1 USR2 WINCH; echo up; exit 5`)})
		for i := 0; ; i++ {
			select {
			case <-s.done:
			default:
				if i > 0 { // not before its handlers may be there
					_ = syscall.Kill(s.pid, []syscall.Signal{syscall.SIGWINCH, syscall.SIGCONT}[i%2])
				}
				if i < 1_000_000 {
					continue
				}
			}
			break
		}
		if got := s.ends(); got != "exit 5" {
			return got
		}
	}
	return "exit 5"
}

// whoGets signals an init whose child has a child in its process group. One kill(2) reaches all of a group at once.
func whoGets(flags ...string) func(*testing.T, tool) string {
	return func(t *testing.T, x tool) string {
		flags := flags
		if x.name == "dumb-init" {
			flags = nil // its default
		}
		s := start(t, x, run{argv: x.argv(flags, "sh", "-c", `"$0" blocked >/dev/null & exec "$0" blocked`, mustWitness(t))})
		child := s.child()
		var below []int
		s.until(func() bool {
			below = children(child)
			return len(below) == 1 && comm(child) == "sleep" && comm(below[0]) == "sleep"
		})
		s.signal(syscall.SIGUSR1)
		const usr1 = 1 << (syscall.SIGUSR1 - 1)
		switch {
		case !s.until(func() bool { return pending(child)&usr1 != 0 }):
			return "nobody"
		case pending(below[0])&usr1 != 0:
			return "the group"
		}
		return "the child only"
	}
}

// last is the last line.
func (s *subject) last() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.lines) == 0 {
		return ""
	}
	return s.lines[len(s.lines)-1]
}

// inside runs a command in the subject's namespaces and waits for its end.
func (s *subject) inside(argv ...string) string {
	s.t.Helper()
	cmd := exec.Command("nsenter", append(namespaces(s.pid), argv...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Fatalf("%q inside: %v: %s", argv, err, out)
	}
	return strings.TrimSpace(string(out))
}

// namespaces are nsenter's options for those that attributes makes.
func namespaces(pid int) []string {
	options := []string{"--target", fmt.Sprint(pid), "--pid", "--mount"}
	if os.Geteuid() != 0 {
		options = append(options, "--user", "--preserve-credentials")
	}
	return append(options, "--")
}

// comm is the name of a process.
func comm(pid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return strings.TrimSpace(string(b))
}
