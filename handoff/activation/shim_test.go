package activation_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/handoff/activation"
)

// shimCommand is this binary as the shim: descriptors 3 on are files, and behind them comes the one that it reports on.
func shimCommand(t *testing.T, command, env []string, files ...*os.File) (cmd *exec.Cmd, report *os.File, started func()) {
	t.Helper()
	report, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { report.Close() })
	cmd = &exec.Cmd{
		Path: os.Args[0], Args: activation.ShimArgv(activation.ShimOptions{Report: 3 + len(files), Takeover: -1}, command), Env: env, ExtraFiles: append(files, write),
	}
	return cmd, report, func() { write.Close() }
}

// shim runs a command by way of the shim.
func shim(t *testing.T, command, env []string) (code int, failure, out string) {
	return shimIn(t, "", command, env)
}

func shimIn(t *testing.T, dir string, command, env []string) (code int, failure, out string) {
	t.Helper()
	cmd, report, started := shimCommand(t, command, env)
	var output bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	started()
	said, err := io.ReadAll(report)
	if err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	return cmd.ProcessState.ExitCode(), string(said), output.String()
}

// TestShim looks at a program that the shim has become: its pid is in LISTEN_PID, the sockets are there, the report
// descriptor is not, nor anything else, and no signal is blocked or ignored.
func TestShim(t *testing.T) {
	// What the tests' own parents have left open is not the shim's doing.
	if err := unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	sockets := make([]*os.File, 2)
	for i := range sockets {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if sockets[i], err = l.(*net.TCPListener).File(); err != nil {
			t.Fatal(err)
		}
		defer sockets[i].Close()
	}
	command := []string{"sleep", "1000"}
	cmd, report, started := shimCommand(t, command, []string{"LISTEN_FDS=2", "PATH=/nonexistent:/usr/bin:/bin"}, sockets...)
	// The child gets this thread's mask.
	runtime.LockOSThread()
	mask := unix.Sigset_t{}
	mask.Val[0] = 1<<(unix.SIGUSR1-1) | 1<<(unix.SIGTERM-1)
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &mask, nil); err != nil {
		t.Fatal(err)
	}
	err := cmd.Start()
	if err := unix.PthreadSigmask(unix.SIG_UNBLOCK, &mask, nil); err != nil {
		t.Fatal(err)
	}
	runtime.UnlockOSThread()
	if err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	started()
	if said, err := io.ReadAll(report); err != nil || len(said) > 0 { // the end comes when the program runs
		t.Fatalf("the shim said %q, %v", said, err)
	}
	pid := cmd.Process.Pid
	if got := split(t, pid, "cmdline"); !slices.Equal(got, command) {
		t.Errorf("command line %q, want %q", got, command)
	}
	if got := split(t, pid, "environ"); !slices.Contains(got, fmt.Sprintf("LISTEN_PID=%d", pid)) || len(got) != 3 {
		t.Errorf("environment %q, want LISTEN_PID=%d", got, pid)
	}
	want := map[int]string{}
	for i, s := range sockets {
		want[3+i], _ = os.Readlink(fmt.Sprintf("/proc/self/fd/%d", s.Fd()))
	}
	var got map[int]string
	wait(t, fmt.Sprintf("its descriptors to be 0, 1, 2 and %v", want), func() bool { // the dynamic loader opens and closes some
		got = descriptors(t, pid)
		return len(got) == 5 && got[3] == want[3] && got[4] == want[4]
	}, func() string { return fmt.Sprint(got) })
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for lines := bufio.NewScanner(bytes.NewReader(status)); lines.Scan(); {
		switch name, mask, _ := strings.Cut(lines.Text(), ":"); name {
		case "SigBlk", "SigIgn", "SigCgt":
			seen++
			if strings.Trim(mask, "0\t ") != "" {
				t.Errorf("%s: %s", name, mask)
			}
		}
	}
	if seen != 3 {
		t.Errorf("status has %d lines of signals", seen)
	}
}

func wait(t *testing.T, what string, ok func() bool, seen func() string) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s; it was %s", what, seen())
		}
	}
}

func split(t *testing.T, pid int, file string) []string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
}

func descriptors(t *testing.T, pid int) map[int]string {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	open := map[int]string{}
	for _, e := range entries {
		fd, _ := strconv.Atoi(e.Name())
		open[fd], _ = os.Readlink(dir + "/" + e.Name())
	}
	return open
}

// TestShimWithoutSockets: LISTEN_PID comes only with LISTEN_FDS.
func TestShimWithoutSockets(t *testing.T) {
	code, failure, out := shim(t, []string{"/usr/bin/env"}, []string{"A=1", "NOT_LISTEN_FDS=1"})
	if code != 0 || failure != "" || out != "A=1\nNOT_LISTEN_FDS=1\n" {
		t.Errorf("code %d, %q, output %q", code, failure, out)
	}
}

func TestShimExitCode(t *testing.T) {
	if code, failure, _ := shim(t, []string{"/bin/sh", "-c", "exit 42"}, nil); code != 42 || failure != "" {
		t.Errorf("code %d, %q", code, failure)
	}
}

// TestShimSearch: what execvp(3) does, and what is said when it cannot be done.
func TestShimSearch(t *testing.T) {
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
	} {
		t.Run(name, func(t *testing.T) {
			full := func(s string) string { return strings.ReplaceAll(s, "R/", root+"/") }
			env := []string{"PATH=" + full(c.path)}
			if c.path == "unset" {
				env = []string{"A=1"}
			}
			command := slices.Clone(c.command)
			for i := range command {
				command[i] = full(command[i])
			}
			code, failure, out := shimIn(t, filepath.Join(root, c.dir), command, env)
			if code != c.code || !strings.HasPrefix(out, full(c.out)) {
				t.Errorf("code %d, output %q, want %d, %q (it said %q)", code, out, c.code, full(c.out), failure)
			}
			if !strings.Contains(failure, full(c.failure)) || (failure == "") != (c.failure == "") || strings.Contains(failure, "\n") {
				t.Errorf("it said %q, want %q", failure, full(c.failure))
			}
		})
	}
}

// TestShimArgv: one that was called by hand does nothing and does not panic.
func TestShimArgv(t *testing.T) {
	for _, argv := range [][]string{{activation.ShimName}, {activation.ShimName, "3"}, {activation.ShimName, "x", "true"}} {
		cmd := &exec.Cmd{Path: os.Args[0], Args: argv}
		if err := cmd.Run(); cmd.ProcessState.ExitCode() != activation.CodeNotExecutable {
			t.Errorf("%q: %v, want code 126", argv, err)
		}
	}
	if got := activation.ShimArgv(activation.ShimOptions{Report: 5, Takeover: -1}, []string{"a", "b"}); !slices.Equal(got, []string{activation.ShimName, "5 -1 0", "a", "b"}) {
		t.Errorf("ShimArgv = %q", got)
	}
}

func TestExecCode(t *testing.T) {
	for err, want := range map[error]int{
		unix.ENOENT: 127, unix.ENOTDIR: 127, fmt.Errorf("x: %w", unix.ENOENT): 127,
		unix.EACCES: 126, unix.ENOEXEC: 126, unix.E2BIG: 126, unix.ENOMEM: 126,
	} {
		if got := activation.ExecCode(err); got != want {
			t.Errorf("ExecCode(%v) = %d, want %d", err, got, want)
		}
	}
}
