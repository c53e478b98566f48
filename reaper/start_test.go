package reaper_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"holdfast/reaper"
)

// started starts c and waits until its program runs or never will; then err says why.
func started(t *testing.T, r *reaper.Reaper, c reaper.Command) (pid int, err error) {
	t.Helper()
	read, write := pipe(t)
	c.Report = int(write.Fd())
	if pid, err = r.Start(c); err != nil {
		t.Fatal(err)
	}
	write.Close()
	report, err := io.ReadAll(read)
	if err != nil {
		t.Fatal(err)
	}
	return pid, c.Outcome(report)
}

// runs starts c, waits for its end and returns its exit code, its output and why it did not run.
func runs(t *testing.T, r *reaper.Reaper, c reaper.Command) (code int, out string, failure error) {
	t.Helper()
	read, write := pipe(t)
	c.Files, c.Terminal = []int{0, int(write.Fd()), int(write.Fd())}, -1
	pid, failure := started(t, r, c)
	write.Close()
	b, err := io.ReadAll(read)
	if err != nil {
		t.Fatal(err)
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &status, 0, nil); err != nil {
		t.Fatal(err)
	}
	return reaper.Exit{PID: pid, Status: status}.Code(), string(b), failure
}

// TestStart: whatever this process ignores and its threads block, the program begins with no signal blocked or ignored; its
// pid is in the variable that was asked for, and it has no descriptor that it was not given.
func TestStart(t *testing.T) {
	if !alone(t, nil) {
		return
	}
	signal.Ignore(syscall.SIGUSR2)
	var ignore [4]uint64
	ignore[0] = 1 // SIG_IGN
	for s := uintptr(32); s <= 34; s++ {
		if _, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, s, uintptr(unsafe.Pointer(&ignore)), 0, 8, 0, 0); errno != 0 {
			t.Fatal(errno)
		}
	}
	runtime.LockOSThread()
	mask := unix.Sigset_t{}
	mask.Val[0] = 1<<(unix.SIGUSR1-1) | 1<<(unix.SIGTERM-1)
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &mask, nil); err != nil {
		t.Fatal(err)
	}
	_, out, _ := runs(t, new(reaper.Reaper), reaper.Command{
		Argv: []string{"sh", "-c", "echo $$ $OWN; ls /proc/$$/fd; exec cat /proc/self/status"},
		Env:  []string{"A=1", "PATH=/nonexistent:/usr/bin:/bin"}, PIDVariable: "OWN",
	})
	if err := unix.PthreadSigmask(unix.SIG_UNBLOCK, &mask, nil); err != nil {
		t.Fatal(err)
	}
	runtime.UnlockOSThread()
	var first, own int
	if _, err := fmt.Sscan(out, &first, &own); err != nil || first != own || first == 0 {
		t.Errorf("output %q, %v, want its pid twice", out, err)
	}
	if _, fds, _ := strings.Cut(out, "\n"); !strings.HasPrefix(fds, "0\n1\n2\nName:") {
		t.Errorf("output %q, want the descriptors 0, 1 and 2", out)
	}
	seen := 0
	for line := range strings.Lines(out) {
		switch name, mask, _ := strings.Cut(strings.TrimSpace(line), ":\t"); name {
		case "SigBlk", "SigIgn", "SigCgt":
			if seen++; strings.Trim(mask, "0") != "" {
				t.Error(line)
			}
		}
	}
	if seen != 3 {
		t.Errorf("its status has %d lines of signals", seen)
	}
}

// TestStartVariable: none is added that was not asked for.
func TestStartVariable(t *testing.T) {
	code, out, failure := runs(t, new(reaper.Reaper), reaper.Command{Argv: []string{"/usr/bin/env"}, Env: []string{"A=1", "B="}})
	if code != 0 || failure != nil || out != "A=1\nB=\n" {
		t.Errorf("code %d, %v, output %q", code, failure, out)
	}
}

// TestStartRefused: what is no command is told at once, and there is no child.
func TestStartRefused(t *testing.T) {
	if !alone(t, nil) {
		return
	}
	for _, c := range []reaper.Command{
		{}, {Argv: []string{"a\x00b"}}, {Argv: []string{"true", "\x00"}}, {Argv: []string{"true"}, Env: []string{"A=\x00"}},
	} {
		c.Report, c.Terminal = -1, -1
		if pid, err := new(reaper.Reaper).Start(c); !errors.Is(err, unix.EINVAL) || pid != 0 {
			t.Errorf("%q: %d, %v", c.Argv, pid, err)
		}
	}
	noChild(t)
}

// TestStartFiles: a descriptor that is not open is said by its number, as holdfast's own error.
func TestStartFiles(t *testing.T) {
	read, write := pipe(t)
	c := reaper.Command{Argv: []string{"true"}, Files: []int{0, 1, 2, 1 << 20}, Report: int(write.Fd()), Terminal: -1}
	pid, err := new(reaper.Reaper).Start(c)
	if err != nil {
		t.Fatal(err)
	}
	write.Close()
	report, _ := io.ReadAll(read)
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &status, 0, nil); err != nil || status.ExitStatus() != reaper.CodeError {
		t.Errorf("%v, exit code %d", err, status.ExitStatus())
	}
	if err := c.Outcome(report); !errors.Is(err, unix.EBADF) || !strings.Contains(fmt.Sprint(err), "start true: give it descriptor 3") {
		t.Errorf("outcome %v", err)
	}
}

// TestStartLimit: a child has the limit of descriptors back that Go has raised, or the one that somebody has set since.
func TestStartLimit(t *testing.T) {
	if !alone(t, nil) {
		return
	}
	var now unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &now); err != nil {
		t.Fatal(err)
	}
	r := new(reaper.Reaper)
	r.GiveBack(unix.Rlimit{Cur: 77, Max: now.Max})
	for name, c := range map[string]struct{ soft, want uint64 }{
		"as Go leaves it":              {now.Max - 1, 77},
		"somebody else has lowered it": {now.Max - 2, now.Max - 2},
	} {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: c.soft, Max: now.Max}); err != nil {
			t.Fatal(err)
		}
		_, out, _ := runs(t, r, reaper.Command{Argv: []string{"sh", "-c", "ulimit -n"}})
		if got := strings.TrimSpace(out); got != strconv.FormatUint(c.want, 10) {
			t.Errorf("%s: %s, want %d", name, got, c.want)
		}
	}
}

// TestStartSession: the child leads a session of its own, and a signal to its group reaches it.
func TestStartSession(t *testing.T) {
	if !alone(t, nil) {
		return
	}
	r, _ := newReaper(t)
	pid, err := started(t, r, reaper.Command{Argv: []string{"sleep", "100"}, Files: []int{0, 1, 2}, Terminal: 0, Session: true})
	if err != nil {
		t.Fatal(err)
	}
	if session, err := unix.Getsid(pid); err != nil || session != pid {
		t.Errorf("its session is %d, %v, want %d", session, err, pid)
	}
	if err := r.Signal(pid, syscall.SIGKILL, true); err != nil {
		t.Error(err)
	}
}

// TestStartGroup: a signal to the group right after Start finds it, whatever the child has come to.
func TestStartGroup(t *testing.T) {
	if !alone(t, nil) {
		return
	}
	r, _ := newReaper(t)
	for range 100 {
		pid, err := r.Start(reaper.Command{Argv: []string{"sleep", "100"}, Report: -1, Terminal: -1})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Signal(pid, syscall.SIGKILL, true); err != nil {
			t.Fatal(err)
		}
		var status syscall.WaitStatus
		if _, err := syscall.Wait4(pid, &status, 0, nil); err != nil || status.Signal() != syscall.SIGKILL {
			t.Fatalf("%v, %#x", err, status)
		}
	}
}

// TestStartSearch: what execvp(3) does, and what is said when it cannot be done.
func TestStartSearch(t *testing.T) {
	root := t.TempDir()
	executable := func(path, content string, mode os.FileMode) {
		t.Helper()
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	executable("denied/prog", "#!/bin/sh\necho wrong\n", 0o644)
	executable("good/prog", "#!/bin/sh\necho good $0 $*\n", 0o755)
	executable("other/prog", "#!/bin/sh\necho other\n", 0o755)
	executable("bare/prog", "echo bare $*\n", 0o755)
	executable("script/prog", "#!/no/such/interpreter -x\n", 0o755)
	executable("file", "", 0o644)
	if err := os.MkdirAll(filepath.Join(root, "directory", "prog"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("loop", filepath.Join(root, "loop")); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		dir     string // where it is started
		command []string
		path    string // PATH, R standing for the root; "unset": none
		code    int
		out     string // how its output begins
		failure string // what the failure says
	}{
		"first wins":                      {"", []string{"prog", "x"}, "R/good:R/other", 0, "good R/good/prog x", ""},
		"the name is kept":                {"", []string{"readlink", "/proc/self/exe"}, "/usr/bin:/bin", 0, "/", ""},
		"absent, then found":              {"", []string{"prog"}, "R/none:R/good", 0, "good", ""},
		"denied, then found":              {"", []string{"prog"}, "R/denied:R/good", 0, "good", ""},
		"a directory, then found":         {"", []string{"prog"}, "R/directory:R/good", 0, "good", ""},
		"below a file, then found":        {"", []string{"prog"}, "R/file:R/good", 0, "good", ""},
		"no interpreter, then found":      {"", []string{"prog"}, "R/script:R/good", 0, "good", ""},
		"denied, then absent":             {"", []string{"prog"}, "R/denied:R/none", 126, "", "permission denied"},
		"denied":                          {"", []string{"R/denied/prog"}, "R/good", 126, "", "execute R/denied/prog: permission denied"},
		"empty element":                   {"good", []string{"prog"}, ":R/other", 0, "good ./prog", ""},
		"empty element last":              {"good", []string{"prog"}, "R/none:", 0, "good", ""},
		"empty PATH":                      {"good", []string{"prog"}, "", 0, "good", ""},
		"no PATH":                         {"", []string{"true"}, "unset", 0, "", ""},
		"a slash is not searched for":     {"", []string{"./prog"}, "R/good", 127, "", "execute ./prog: no such file"},
		"a slash, here":                   {"good", []string{"./prog"}, "R/none", 0, "good", ""},
		"no first line":                   {"", []string{"prog", "a b", "c"}, "R/bare", 0, "bare a b c", ""},
		"no first line, by path":          {"", []string{"R/bare/prog", "x"}, "", 0, "bare x", ""},
		"a directory":                     {"", []string{"R/directory"}, "", 126, "", "it is a directory"},
		"the root":                        {"", []string{"/"}, "", 126, "", "it is a directory"},
		"not found":                       {"", []string{"prog"}, "R/none:R/file", 127, "", "execute prog: not found in PATH=R/none:R/file"},
		"not there":                       {"", []string{"R/none/prog"}, "R/good", 127, "", "execute R/none/prog: no such file"},
		"below a file":                    {"", []string{"R/file/prog"}, "", 127, "", "no such file"},
		"no interpreter":                  {"", []string{"R/script/prog"}, "", 127, "", "execute R/script/prog: its interpreter (the #! line, or the dynamic loader) is missing"},
		"no interpreter, found by search": {"", []string{"prog"}, "R/none:R/script", 127, "", "execute R/script/prog: its interpreter"},
		"no name":                         {"", []string{""}, "R/good", 127, "", "not found"},
		"a loop of links":                 {"", []string{"R/loop"}, "", 126, "", "too many levels"},
		"denied, then another denied":     {"", []string{"prog"}, "R/denied:R/directory", 126, "", "execute R/denied/prog: permission denied"},
		"too long":                        {"", []string{"true", strings.Repeat("x", 1<<18)}, "/bin", 126, "", "execute /bin/true: argument list too long"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(filepath.Join(root, c.dir))
			full := func(s string) string { return strings.ReplaceAll(s, "R/", root+"/") }
			env := []string{"PATH=" + full(c.path)}
			if c.path == "unset" {
				env = []string{"A=1"}
			}
			command := slices.Clone(c.command)
			for i := range command {
				command[i] = full(command[i])
			}
			code, out, outcome := runs(t, new(reaper.Reaper), reaper.Command{Argv: command, Env: env})
			failure := ""
			if outcome != nil {
				failure = outcome.Error()
			}
			if code != c.code || !strings.HasPrefix(out, full(c.out)) {
				t.Errorf("code %d, output %q, want %d, %q (it said %q)", code, out, c.code, full(c.out), failure)
			}
			if !strings.Contains(failure, full(c.failure)) || (failure == "") != (c.failure == "") || strings.Contains(failure, "\n") {
				t.Errorf("it said %q, want %q", failure, full(c.failure))
			}
		})
	}
}

// TestBecome: the same in the place of the process itself.
func TestBecome(t *testing.T) {
	code, out, failure := runs(t, new(reaper.Reaper), reaper.Command{
		Argv: []string{os.Args[0], "role", "become", "sh", "-c", "echo $$ $OWN; exit 7"}, Env: []string{"PATH=/usr/bin:/bin"}, PIDVariable: "FIRST",
	})
	var shell, own int
	if _, err := fmt.Sscan(out, &shell, &own); err != nil || shell != own || code != 7 || failure != nil {
		t.Errorf("code %d, %v, output %q, %v", code, failure, out, err)
	}
}
