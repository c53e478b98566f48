package inits

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// jobCases are those of an init that a shell runs as its job, and of a child of more than one process.
func jobCases(section string) []testCase {
	return []testCase{
		{section: section, name: "run by a shell, not as PID 1: Ctrl-Z, fg, Ctrl-C", want: "the shell gets its prompt, and has it go on",
			why: "tini and catatonit do not stop with their child, so that the shell goes on waiting for them", hangs: []string{"tini", "catatonit"}, run: shellsJob()},
		{section: section, name: "the same, dumb-init with -c, holdfast with --job-control", want: "the shell gets its prompt, and has it go on",
			why: "tini and catatonit do not stop with their child, so that the shell goes on waiting for them", hangs: []string{"tini", "catatonit"}, run: shellsJob("-c")},
		{section: section, name: "the same, in a script", want: "the shell gets its prompt, and has it go on",
			why: "tini and catatonit do not stop with their child, so that the shell goes on waiting for them", hangs: []string{"tini", "catatonit"}, run: scriptsJob},
		{section: section, name: "the same, a child of two processes", want: "the shell gets its prompt, and has both go on",
			why: "tini and catatonit do not stop with their child, so that the shell goes on waiting for them", hangs: []string{"tini", "catatonit"}, run: familyJob},
		{section: section, name: "as PID 1, a child of two processes: Ctrl-Z, and SIGCONT to the init", want: "both go on",
			why: "tini and catatonit have the direct child go on alone; dumb-init's does not stop", hangs: []string{"tini", "dumb-init", "as dumb-init", "catatonit"}, run: familyStops},
		{section: section, name: "started by a shell with &, fg, and it reads", want: "it reads",
			why: "tini and catatonit take the foreground from the shell at once, which ends then", hangs: []string{"tini", "catatonit"}, run: readsLater},
		{section: section, name: "stdin is something else, and the child reads the terminal", want: "it reads",
			why: "tini gives a terminal only that is its stdin; dumb-init gives the child a session of its own, which has none", hangs: []string{"tini", "dumb-init", "as dumb-init"}, run: readsTerminal},
		{section: section, name: "a shell's job: SIGTSTP to the init, fg, Ctrl-C", want: "the shell gets its prompt, and has it go on",
			why: "tini and catatonit do not stop with their child, so that the shell goes on waiting for them", hangs: []string{"tini", "catatonit", "as catatonit"}, run: toldToStop},
		{section: section, name: "a shell's job: SIGTSTP three times, which the child catches", want: "gets all, goes on",
			why: "dumb-init stops itself and its child, whatever that does at SIGTSTP; catatonit does not forward it", hangs: []string{"dumb-init", "as dumb-init", "catatonit", "as catatonit"}, run: caughtStop},
		{section: section, name: "a shell's job: SIGTSTP and SIGCONT at once, 20 times", want: "goes on",
			why: "dumb-init stops, too, when SIGCONT has come between its taking SIGTSTP and its stop", hangs: []string{"dumb-init"}, run: quickJob(nil)},
		{section: section, name: "SIGTSTP and SIGCONT at once, 20 times, dumb-init with -c, holdfast with --job-control", want: "goes on",
			why: "dumb-init stops, too, when SIGCONT has come between its taking SIGTSTP and its stop", hangs: []string{"dumb-init"}, run: quickJob([]string{"-c"})},
	}
}

// jobs are the flags for an init that a shell runs as its job.
func jobs(x tool, dumbInit []string) []string {
	switch {
	case x.name == "dumb-init":
		return dumbInit
	case x.name == "tini":
		return []string{"-s"}
	case x.name == "holdfast" && dumbInit != nil:
		return []string{"-q", "--job-control"}
	case x.name == "holdfast":
		return []string{"-q"}
	}
	return nil
}

// jobLine is what is typed for a job that runs a script, which is to be quoted.
func jobLine(x tool, dumbInit []string, script string) string {
	return strings.Join(x.argv(jobs(x, dumbInit), "sh", "-c", script), " ")
}

// shellRuns starts an interactive shell and types a command that says when it is running.
func shellRuns(t *testing.T, x tool, command string) (*subject, screen) {
	t.Helper()
	return thisShellRuns(t, x, []string{"sh", "-i"}, command)
}

func thisShellRuns(t *testing.T, x tool, shell []string, command string) (*subject, screen) {
	t.Helper()
	v := openScreen(t)
	s := start(t, x, run{argv: shell, tty: v.tty})
	go s.read(v.master)
	v.types(t, "echo re''ady\n")
	s.says("ready$")
	v.types(t, command+"\n")
	s.says("running$")
	return s, v
}

// isFree waits until the shell says that its job has stopped, and has its prompt again.
func (v screen) isFree(t *testing.T, s *subject) {
	t.Helper()
	s.says("Stopped")
	v.types(t, "echo fr''ee\n")
	s.says("free$")
}

// shellsJob has an interactive shell run the init.
func shellsJob(dumbInit ...string) func(*testing.T, tool) string {
	return func(t *testing.T, x tool) string {
		return asJob(t, x, jobLine(x, dumbInit, `'echo r""unning; exec sleep 1000'`))
	}
}

// scriptsJob has it run a script that runs the init.
func scriptsJob(t *testing.T, x tool) string {
	path := filepath.Join(t.TempDir(), "script")
	script := jobLine(x, nil, `'echo r""unning; exec sleep 1000'`) + "\nexit $?\n"
	if err := os.WriteFile(path, []byte(script), 0o644); err != nil {
		t.Fatal(err)
	}
	return asJob(t, x, "sh '"+path+"'")
}

// quickJob sends a shell's job SIGTSTP and SIGCONT in one go: the init may have taken the one when the other comes, and must
// not stop after it.
func quickJob(dumbInit []string) func(*testing.T, tool) string {
	return func(t *testing.T, x tool) string {
		s, _ := shellRuns(t, x, jobLine(x, dumbInit, `'trap "echo he\"\"re" USR1; echo r""unning; while :; do sleep 0.01; done'`))
		init := s.child()
		for range 20 {
			s.forget()
			for _, n := range []syscall.Signal{syscall.SIGTSTP, syscall.SIGCONT, syscall.SIGUSR1} {
				if err := syscall.Kill(init, n); err != nil {
					t.Fatal(err)
				}
			}
			s.says("here$")
		}
		return "goes on"
	}
}

// familyJob is a shell's job whose child waits for another process: Ctrl-Z stops both.
func familyJob(t *testing.T, x tool) string {
	s, v := shellRuns(t, x, jobLine(x, nil, `'echo r""unning; sleep 1000; exit 7'`))
	for range 2 {
		s.until(func() bool { below := children(s.child()); return len(below) == 1 && sleeps(below[0]) })
		v.types(t, "\x1a")
		v.isFree(t, s)
		s.forget()
		v.types(t, "fg\n")
		if !s.until(func() bool { return runs(s.pid) }) {
			return "something stays stopped"
		}
	}
	return "the shell gets its prompt, and has both go on"
}

// sleeps says whether sleep runs right below a process. A shell that waits for it is past its vfork(2) then, which no signal ends.
func sleeps(above int) bool {
	below := children(above)
	return len(below) == 1 && comm(below[0]) == "sleep"
}

// familyStops is the same below PID 1.
func familyStops(t *testing.T, x tool) string {
	s, v := onScreen(t, x, nil, nil, "sh", "-c", "echo up; sleep 1000; exit 7")
	s.says("^up$")
	child := s.child()
	s.until(func() bool { return sleeps(child) })
	v.types(t, "\x1a")
	if !s.until(func() bool {
		return strings.HasPrefix(field(child, "State"), "T") && strings.HasPrefix(field(children(child)[0], "State"), "T")
	}) {
		return "does not stop"
	}
	s.signal(syscall.SIGCONT)
	if !s.until(func() bool { return runs(s.pid) }) {
		return "something stays stopped"
	}
	return "both go on"
}

// readsLater is a job in the background that is brought to the foreground while it runs: bash sends no SIGCONT then.
func readsLater(t *testing.T, x tool) string {
	flag := filepath.Join(t.TempDir(), "go")
	s, v := thisShellRuns(t, x, []string{"bash", "--norc", "--noprofile", "--noediting", "-i"},
		jobLine(x, nil, `'echo r""unning; until [ -e "`+flag+`" ]; do sleep 0.01; done; read x; echo "r""ead $x"'`)+" &")
	v.types(t, "fg\n")
	s.until(func() bool { return v.has(s) != s.pid })
	if err := os.WriteFile(flag, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	v.types(t, "typ''ed\n")
	s.says("read typ''ed$")
	return "it reads"
}

// readsTerminal is a child that opens the terminal for itself.
func readsTerminal(t *testing.T, x tool) string {
	s, v := shellRuns(t, x, jobLine(x, nil, `'echo r""unning; read x </dev/tty; echo "r""ead $x"'`)+" </dev/null")
	v.types(t, "typ''ed\n")
	s.says("read typ''ed$")
	return "it reads"
}

// toldToStop sends it SIGTSTP, as kill and the suspend of other shells do: it is the init that gets it, not the child.
func toldToStop(t *testing.T, x tool) string {
	s, v := shellRuns(t, x, jobLine(x, nil, `'echo r""unning; exec sleep 1000'`))
	init := s.child()
	for range 3 {
		s.forget()
		s.until(func() bool { return sleeps(init) })
		if err := syscall.Kill(init, syscall.SIGTSTP); err != nil {
			t.Fatal(err)
		}
		v.isFree(t, s)
		v.types(t, "fg\n")
		s.until(func() bool { return runs(s.pid) })
	}
	v.types(t, "\x03")
	v.types(t, "\necho co''de $?\n")
	s.says("code 130$")
	return "the shell gets its prompt, and has it go on"
}

// caughtStop sends SIGTSTP to an init whose child does something else with it than to stop.
func caughtStop(t *testing.T, x tool) string {
	s, _ := shellRuns(t, x, jobLine(x, nil, `'trap "echo he\"\"re" TSTP; echo r""unning; while :; do sleep 0.01; done'`))
	init := s.child()
	for range 3 {
		s.forget()
		if err := syscall.Kill(init, syscall.SIGTSTP); err != nil {
			t.Fatal(err)
		}
		s.says("here$")
	}
	if !runs(s.pid) {
		return "gets all, stops"
	}
	return "gets all, goes on"
}

// asJob types a command into a shell, stops it, has it go on and ends it.
func asJob(t *testing.T, x tool, command string) string {
	s, v := shellRuns(t, x, command)
	v.types(t, "\x1a")
	s.says("Stopped")
	for range 2 {
		v.types(t, "echo fr''ee\n")
		s.says("free$")
		s.forget()
		v.types(t, "fg\n")
		s.until(func() bool { return runs(s.pid) })
		v.types(t, "\x1a")
		s.says("Stopped")
	}
	s.forget()
	v.types(t, "fg\n")
	s.until(func() bool { return runs(s.pid) })
	v.types(t, "\x03")
	v.types(t, "\necho co''de $?\n")
	s.says("code 130$")
	v.types(t, "exit 5\n")
	if got := s.ends(); got != "exit 5" {
		return got
	}
	return "the shell gets its prompt, and has it go on"
}

// runs says whether everything below a process runs or sleeps: nothing is stopped.
func runs(pid int) bool {
	for _, c := range children(pid) {
		if strings.HasPrefix(field(c, "State"), "T") || !runs(c) {
			return false
		}
	}
	return true
}
