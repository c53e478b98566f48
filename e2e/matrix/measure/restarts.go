package measure

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/e2e/freeport"
	"holdfast/e2e/harness"
	"holdfast/e2e/load"
	"holdfast/e2e/matrix/table"
)

// patience is how long a stopped server has before it is killed: as docker stop has it.
const patience = 10 * time.Second

// longest bounds the restarts of a row: some servers take seconds to stop.
const longest = 25 * time.Second

// Restarts restarts the row up to n times in the usual way under the same load, without holdfast: its stop signal, waiting for
// its end, starting it.
func Restarts(t testing.TB, row table.Row, place table.Place, n int) Figures {
	t.Helper()
	p := launch(t, row, place, 1)
	t.Cleanup(func() { p.kill() })
	rec := &recorder{}
	loads := start(t, row, place, rec)
	serving(t, rec, time.Time{})
	rec.forget()

	var windows []Window
	for i, end := 0, time.Now().Add(longest); i < n && time.Now().Before(end); i++ {
		flow(t, row, rec)
		w := Window{From: time.Now()}
		p.stop(t, row)
		p = launch(t, row, place, i+2)
		w.To = serving(t, rec, time.Now())
		windows = append(windows, w)
	}
	flow(t, row, rec)
	f := finish(row, loads, rec, windows)
	f.Took = outages(rec.requests(), windows)
	f.Failures = nil // they are no news
	return f
}

// forget drops what came before the server was there.
func (rec *recorder) forget() {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.all = nil
}

// serving waits until a new connection that was begun after since has been answered, and returns when it was.
func serving(t testing.TB, rec *recorder, since time.Time) time.Time {
	t.Helper()
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		for _, r := range slices.Backward(rec.requests()) {
			if r.Outcome == load.OK && r.Kind == load.NewConnection && r.Connect.After(since) {
				return r.Answered
			}
			if r.Answered.Before(since) {
				break
			}
		}
	}
	t.Fatalf("the server does not answer within %v", within)
	return time.Time{}
}

// process is a server that runs plainly, in a session of its own.
type process struct {
	cmd  *exec.Cmd
	out  *os.File
	done chan struct{}
}

func launch(t testing.TB, row table.Row, place table.Place, generation int) *process {
	t.Helper()
	argv, err := row.Argv(place)
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(filepath.Join(place.Dir, "output"))
	if err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: exec.Command(argv[0], argv[1:]...), out: out, done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), fmt.Sprintf("HOLDFAST_GENERATION=%d", generation))
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %q: %v", argv, err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	return p
}

// stop ends the server as an operator would, and what it leaves behind as the end of a container would.
func (p *process) stop(t testing.TB, row table.Row) {
	t.Helper()
	if err := p.cmd.Process.Signal(unix.SignalNum("SIG" + row.Stop)); err != nil {
		t.Fatalf("stop %q: %v", p.cmd.Args, err)
	}
	select {
	case <-p.done:
	case <-time.After(patience):
	}
	p.kill()
}

func (p *process) kill() {
	_ = unix.Kill(-p.cmd.Process.Pid, unix.SIGKILL) // its process group, which only holds what it started
	<-p.done
	_ = p.out.Close()
}

// Try builds and prepares the row in directories of its own, and measures n handoffs and, if wanted, n restarts.
func Try(t testing.TB, row table.Row, n int, restarts bool) (handoffs, usual Figures) {
	t.Helper()
	built := directory(t)
	place := at(t, built)
	must(t, row.Make(place))
	must(t, row.Prepare(place))
	handoffs = Handoffs(t, row, place, n)
	if restarts {
		place = at(t, built) // what the first left behind, such as data, is not the second's
		must(t, row.PrepareUsual(place))
		usual = Restarts(t, row, place, n)
	}
	return handoffs, usual
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// at is a free port and an empty directory.
func at(t testing.TB, built string) table.Place {
	t.Helper()
	root := strings.TrimSuffix(harness.Servers(t), "/e2e/servers")
	return table.Place{Port: fmt.Sprint(freeport.Choose(t)), Dir: directory(t), Build: built, Root: root}
}

// directory is one that every user may write to.
func directory(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "holdfast-matrix-")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o777))
	return dir
}
