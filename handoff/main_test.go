package handoff

import (
	"bytes"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	clocktesting "k8s.io/utils/clock/testing"

	"holdfast/handoff/activation"
	"holdfast/reaper"
)

const patience = 90 * time.Second

// helperVariable marks a process that alone has started.
const helperVariable = "HANDOFF_TEST_HELPER"

// alone runs the calling test once more in a process of its own, where waiting for every child there is disturbs nobody,
// and returns false; in that process it returns true.
func alone(t *testing.T) bool {
	t.Helper()
	if os.Getenv(helperVariable) != "" {
		return true
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), helperVariable+"=1", "GORACE=atexit_sleep_ms=0") // the detector sleeps a second at each exit
	cmd.WaitDelay = time.Second                                                     // a child of its that it has left behind may have the output open
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("in a process of its own: %v\n%s", err, out)
	}
	return false
}

// logged is a log that can be looked at meanwhile.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// newLoop makes a loop whose goroutine is the test's own: what is posted runs in run. Its clock stands still.
func newLoop(t *testing.T, o Options) (*Loop, *clocktesting.FakeClock, *logged) {
	t.Helper()
	log := &logged{}
	fake := clocktesting.NewFakeClock(time.Now())
	if o.Command == nil {
		o.Command = []string{"server"}
	}
	o.Log = slog.New(slog.NewTextHandler(log, nil))
	o.Clock = fake
	r, err := reaper.New()
	if err != nil {
		t.Fatal(err)
	}
	l, err := New(o, r, reaper.Signals{Forward: make(chan os.Signal, 64), Child: make(chan os.Signal, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, g := range l.generations {
			g.close()
		}
		if !isClosed(l.done) { // by Run
			close(l.done)
		}
		l.closePorts()
		if t.Failed() {
			t.Logf("log:\n%s", log)
		}
	})
	return l, fake, log
}

// run runs the next thing that is posted.
func run(t *testing.T, l *Loop, what string) {
	t.Helper()
	select {
	case f := <-l.posts:
		f()
	case <-time.After(patience):
		t.Fatalf("waited in vain for %s", what)
	}
}

// sleeper starts a program that does nothing, under a name of its own, as a generation's main process.
func sleeper(t *testing.T, l *Loop, g *generation, name string) {
	t.Helper()
	path := "/bin/sleep"
	if name != "sleep" {
		path = t.TempDir() + "/" + name
		b, err := os.ReadFile("/bin/sleep")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	la, err := l.spawn(reaper.Command{Argv: []string{path, "100"}, Terminal: -1})
	if err != nil {
		t.Fatal(err)
	}
	pid := la.pid
	t.Cleanup(func() { unix.Kill(pid, unix.SIGKILL) })
	if <-la.told; la.failure != "" {
		t.Fatal(la.failure)
	}
	g.pid, g.family, g.executed = pid, reaper.NewFamily(pid, activation.Mark(g.number)), true
}
