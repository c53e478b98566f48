package handoff

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestTail(t *testing.T) {
	for name, c := range map[string]struct{ output, want string }{
		"nothing":         {"", ""},
		"only ends":       {"\n\r\n", ""},
		"a line":          {"one\n", ": one"},
		"no end":          {"one\ntwo", ": one | two"},
		"the last five":   {"1\n2\n3\n4\n5\n6\n7\n", ": 3 | 4 | 5 | 6 | 7"},
		"CRLF":            {"a\r\nb\r\n", ": a | b"},
		"for a terminal":  {"\x1b[2J\x1b]0;mine\a\u009bH\tx\n", ": ?[2J?]0;mine??H\tx"},
		"not UTF-8":       {"a\xff\xfeb\n", ": a?b"},
		"long":            {strings.Repeat("x", 5000) + "\nlast\n", ": " + strings.Repeat("x", 1024-6) + " | last"},
		"cut in a letter": {"€" + strings.Repeat("y", 1022), ": ?" + strings.Repeat("y", 1022)},
	} {
		x := &tail{done: make(chan struct{})}
		x.copy(io.MultiReader(iotest(c.output)...))
		<-x.done
		if got := x.String(); got != c.want {
			t.Errorf("%s: %.80q, want %.80q", name, got, c.want)
		}
	}
}

// iotest gives s in pieces.
func iotest(s string) (pieces []io.Reader) {
	for piece := range slices.Chunk([]byte(s), 700) {
		pieces = append(pieces, strings.NewReader(string(piece)))
	}
	return pieces
}

// TestTaskOutcome has real commands run, and says what came of them.
func TestTaskOutcome(t *testing.T) {
	if !alone(t) {
		return
	}
	for name, c := range map[string]struct {
		command []string
		want    string // "" = it is good
	}{
		"good":      {[]string{"true"}, ""},
		"code":      {[]string{"sh", "-c", "echo one; echo two >&2; exit 3"}, "exit code 3: one | two"},
		"silent":    {[]string{"false"}, "exit code 1"},
		"signal":    {[]string{"sh", "-c", "kill -USR1 $$"}, "killed by SIGUSR1"},
		"not there": {[]string{"/nonexistent/check"}, "execute /nonexistent/check: no such file or directory"},
		"no input":  {[]string{"sh", "-c", "read x || exit 9"}, "exit code 9"},
	} {
		t.Run(name, func(t *testing.T) {
			l, _, _ := newLoop(t, Options{Takeover: TakeoverOff})
			ended := false
			var outcome error
			task, err := l.run(c.command, os.Environ(), false, func(err error) { ended, outcome = true, err })
			if err != nil {
				t.Fatal(err)
			}
			l.taskExited(task, reaped(t, l, task.launch.pid))
			run(t, l, "its end")
			if got := fmt.Sprint(outcome); !ended || got != c.want && (c.want != "" || outcome != nil) {
				t.Errorf("outcome %q, want %q", got, c.want)
			}
			if len(l.tasks) != 0 {
				t.Error("it is not forgotten")
			}
		})
	}
}

// TestTaskDaemon: a daemon that holds the output of a command that has ended does not hold up the loop.
func TestTaskDaemon(t *testing.T) {
	if !alone(t) {
		return
	}
	l, _, _ := newLoop(t, Options{Takeover: TakeoverOff})
	ended := false
	task, err := l.run([]string{"sh", "-c", "sleep 100 & echo $!"}, os.Environ(), false, func(err error) {
		if ended = true; err != nil {
			t.Errorf("outcome %v", err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	e := reaped(t, l, task.launch.pid)
	l.taskExited(task, e)
	if ended {
		t.Error("the loop has waited for its output")
	}
	run(t, l, "its end")
	if !ended {
		t.Error("it has not ended")
	}
	var daemon int
	if _, err := fmt.Sscanf(task.output.String(), ": %d", &daemon); err != nil {
		t.Fatalf("output %q", task.output)
	}
	syscall.Kill(daemon, syscall.SIGKILL)
}

// TestExecEnvironment: a command that asks about a generation does not get its descriptors, and must not take others for
// them.
func TestExecEnvironment(t *testing.T) {
	l, _, _ := newLoop(t, Options{})
	g := &generation{number: 7, pid: 42, env: []string{
		"A=1", "HOLDFAST_GENERATION=7", "LISTEN_FDS=1", "LISTEN_FDNAMES=x", "NGINX=3;", "EINHORN_FD_0=3", "SERVER_STARTER_PORT=80=3", "NOTIFY_SOCKET=@x",
	}}
	want := []string{"A=1", "HOLDFAST_GENERATION=7", "HOLDFAST_GENERATION_PID=42"}
	if got := l.execEnvironment(g); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
