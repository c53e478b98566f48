package inits

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/e2e/harness"
)

func terminalCases() []testCase {
	const section = "A terminal (docker run -it)"
	first := []testCase{
		{section: section, name: "Ctrl-C", want: "reaches the child", run: ctrlC},
		{section: section, name: "Ctrl-Z, and SIGCONT to the init", want: "stops, and goes on", why: "dumb-init gives the child a session of its own, an orphaned process group, which SIGTSTP does not stop (POSIX); catatonit leaves SIGTSTP blocked in it", hangs: []string{"dumb-init", "as dumb-init", "catatonit"}, run: ctrlZ},
	}
	return append(append(first, jobCases(section)...), []testCase{
		{section: section, name: "a shell's job control: Ctrl-Z, jobs, fg, Ctrl-C", want: "works", run: jobControl},
		{section: section, name: "the window's size changes", want: "the child is told", run: windowSize},
		{section: section, name: "the child has the foreground", want: "yes", run: foreground},
		{section: section, name: "stty tostop, and a log", want: "exit 7", run: tostop},
		{section: section, name: "started in the background", want: "the foreground is left alone",
			why: "whoever has the foreground keeps it: a shell's background job must not take it (tini's own TODO)", run: background},
		{section: section, name: "started in the background, stty tostop, and a log", want: "exit 7", why: "", run: backgroundToStop},
		{section: section, name: "no /dev/tty", want: "exit 7", run: noTTY},
		{section: section, name: "the terminal goes: the child gets SIGHUP", want: "exit 4", run: hangUp},
	}...)
}

// screen is a terminal and who reads and writes it.
type screen struct {
	master *os.File
	tty    *os.File
}

func openScreen(t *testing.T) screen {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no terminals here: ", err)
	}
	t.Cleanup(func() { master.Close() })
	raw, err := master.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var number int
	_ = raw.Control(func(fd uintptr) {
		if err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err == nil {
			number, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no terminals here: ", err)
	}
	t.Cleanup(func() { tty.Close() })
	return screen{master, tty}
}

func (v screen) types(t *testing.T, text string) {
	t.Helper()
	if _, err := v.master.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

// has returns the process group in the foreground, as the init's namespace counts: the terminal is asked from inside.
func (v screen) has(s *subject) int {
	for _, c := range append(children(s.pid), s.pid) {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c))
		if f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:])); len(f) > 5 {
			var group int
			fmt.Sscan(f[5], &group) // tpgid
			return group
		}
	}
	return -1
}

// onScreen starts an init on a terminal of its own.
func onScreen(t *testing.T, x tool, launch []string, flags []string, command ...string) (*subject, screen) {
	t.Helper()
	v := openScreen(t)
	s := start(t, x, run{argv: x.argv(flags, command...), launch: launch, tty: v.tty})
	go s.read(v.master)
	return s, v
}

// forget drops the lines so far.
func (s *subject) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = nil
}

// waiter is a shell that ends with code 3 at SIGINT, and says when its trap is there.
const waiter = `trap "exit 3" INT; trap "echo wide" WINCH; trap 'echo hung' HUP; echo up; while :; do sleep 0.01; done`

func ctrlC(t *testing.T, x tool) string {
	s, v := onScreen(t, x, nil, nil, "sh", "-c", waiter)
	s.says("^up$")
	v.types(t, "\x03")
	if got := s.ends(); got != "exit 3" {
		return got
	}
	return "reaches the child"
}

func ctrlZ(t *testing.T, x tool) string {
	s, v := onScreen(t, x, nil, nil, "sh", "-c", "echo up; exec sleep 1000")
	s.says("^up$")
	child := s.child()
	s.until(func() bool { return comm(child) == "sleep" })
	v.types(t, "\x1a")
	if !s.until(func() bool { return strings.HasPrefix(field(child, "State"), "T") }) {
		return "does not stop"
	}
	s.signal(syscall.SIGCONT)
	if !s.until(func() bool { return !strings.HasPrefix(field(child, "State"), "T") }) {
		return "does not go on"
	}
	v.types(t, "\x03")
	if got := s.ends(); got != "exit 130" {
		return got
	}
	return "stops, and goes on"
}

func jobControl(t *testing.T, x tool) string {
	s, v := onScreen(t, x, nil, nil, "sh", "-i")
	v.types(t, "echo re''ady\n")
	s.says("ready$")
	v.types(t, "sh -c 'echo r''unning; exec sleep 1000'\n")
	s.says("running$")
	v.types(t, "\x1a")
	s.says("Stopped")
	v.types(t, "jobs; echo list''ed\n")
	s.says("listed$")
	v.types(t, "fg\n")
	shell := s.child()
	if !s.until(func() bool {
		below := children(shell)
		return len(below) == 1 && comm(below[0]) == "sleep" && strings.HasPrefix(field(below[0], "State"), "S")
	}) {
		return "fg does not work"
	}
	v.types(t, "\x03")
	v.types(t, "\nexit 5\n")
	if got := s.ends(); got != "exit 5" {
		return got
	}
	return "works"
}

func windowSize(t *testing.T, x tool) string {
	s, v := onScreen(t, x, nil, nil, "sh", "-c", waiter)
	s.says("^up$")
	if err := v.resize(99); err != nil {
		t.Fatal(err)
	}
	s.says("^wide$")
	return "the child is told"
}

func foreground(t *testing.T, x tool) string {
	s, v := onScreen(t, x, nil, nil, "sh", "-c", waiter)
	s.says("^up$")
	child := s.child()
	group, err := syscall.Getpgid(child)
	if err != nil {
		t.Fatal(err)
	}
	if got := v.has(s); got != group {
		return "no"
	}
	return "yes"
}

// verbose are the flags that have an init log all it can.
func verbose(x tool) []string {
	if x.name == "catatonit" {
		return nil
	}
	return []string{"-v"}
}

func tostop(t *testing.T, x tool) string {
	s, _ := onScreen(t, x, nil, verbose(x), "sh", "-c", "stty tostop; trap : USR1; (sleep 0.1 & true); kill -USR1 1; sleep 0.2; exit 7")
	return s.ends()
}

func background(t *testing.T, x tool) string {
	s, v := onScreen(t, x, []string{"-background"}, nil, "sh", "-c", "echo up; exec sleep 1000")
	s.says("^up$")
	// The stand-in is the older of the two.
	all := children(s.pid)
	switch {
	case len(all) < 2: // SIGHUP has ended it
		return "takes the foreground"
	case v.has(s) == all[0]:
		return "the foreground is left alone"
	}
	return "takes the foreground"
}

func backgroundToStop(t *testing.T, x tool) string {
	s, v := onScreen(t, x, []string{"-background"}, verbose(x), "sh", "-c", "sleep 0.2 </dev/null >/dev/null 2>&1; exit 7")
	_ = v
	return s.ends()
}

func noTTY(t *testing.T, x tool) string {
	s, _ := onScreen(t, x, []string{"-nodev"}, nil, "sh", "-c", "exit 7")
	return s.ends()
}

// hangUp closes the terminal's other end.
func hangUp(t *testing.T, x tool) string {
	s, v := onScreen(t, x, nil, nil, "sh", "-c", `trap "exit 4" HUP; echo up; while :; do sleep 0.01; done`)
	s.says("^up$")
	v.tty.Close()
	v.master.Close()
	return s.ends()
}

// TestTerminalAfterHandoff: the generation that is live has the terminal. The one that drains must not hear of Ctrl-C, and
// the size of the window is for the live one.
func TestTerminalAfterHandoff(t *testing.T) {
	if err := harness.CanPID1(); err != nil {
		missing(t, err)
	}
	x := tool{name: "holdfast", bin: harness.Bin(t), own: true}
	s, v := onScreen(t, x, nil, []string{"--ready", "delay:0s", "--settle", "0s"}, "sh", "-c",
		`g=$HOLDFAST_GENERATION; trap 'echo int $g; exit 3' INT; trap 'echo wide $g' WINCH; trap '' TERM; echo up $g; while :; do sleep 0.01; done`)
	s.says("^up 1$")
	for g := 2; g <= 3; g++ {
		s.signal(syscall.SIGHUP)
		s.says(fmt.Sprintf("^up %d$", g))
		s.says(fmt.Sprintf("handoff.*completed.*generation=%d|generation=%d.*live", g, g))
		if err := v.resize(uint16(80 + g)); err != nil {
			t.Fatal(err)
		}
		s.says(fmt.Sprintf("^wide %d$", g))
	}
	v.types(t, "\x03")
	s.says("int 3$") // behind the terminal's ^C
	if got := s.ends(); got != "exit 3" {
		t.Errorf("%s, want exit 3", got)
	}
	if out := s.output(); strings.Contains(out, "int 1") || strings.Contains(out, "int 2") {
		t.Errorf("Ctrl-C reached a generation that drains:\n%s", out)
	}
}

// TestTerminalAsked: a generation that touches the terminal before it is live is stopped, and goes on when it is; also where stdin
// is something else, so that it is lent the terminal only then.
func TestTerminalAsked(t *testing.T) {
	if err := harness.CanPID1(); err != nil {
		missing(t, err)
	}
	x := tool{name: "holdfast", bin: harness.Bin(t), own: true}
	for name, stdin := range map[string]string{"stdin is the terminal": "", "stdin is not": "</dev/null"} {
		t.Run(name, func(t *testing.T) {
			v := openScreen(t)
			argv := x.argv([]string{"--ready", "delay:300ms", "--settle", "0s"}, "sh", "-c",
				"stty -echo </dev/tty; stty echo </dev/tty; echo up $HOLDFAST_GENERATION; while :; do sleep 0.01; done")
			s := start(t, x, run{argv: append([]string{"sh", "-c", `exec "$@" ` + stdin, "sh"}, argv...), tty: v.tty})
			go s.read(v.master)
			s.says("^up 1$")
			for g := 2; g <= 3; g++ {
				s.signal(syscall.SIGHUP)
				s.says(fmt.Sprintf("^up %d$", g))
				s.says(fmt.Sprintf("handoff.*completed.*generation=%d|generation=%d.*live", g, g))
			}
		})
	}
}

// resize changes the window.
func (v screen) resize(columns uint16) error {
	raw, err := v.master.SyscallConn()
	if err != nil {
		return err
	}
	if controlled := raw.Control(func(fd uintptr) {
		err = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: 7, Col: columns})
	}); controlled != nil {
		return controlled
	}
	return err
}
