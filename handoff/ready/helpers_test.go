package ready_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	clocktesting "k8s.io/utils/clock/testing"

	"holdfast/e2e/freeport"
	"holdfast/handoff/port"
	"holdfast/handoff/ready"
)

func modes(t *testing.T, texts ...string) []ready.Mode {
	t.Helper()
	list := make([]ready.Mode, len(texts))
	for i, text := range texts {
		var err error
		if list[i], err = ready.ParseMode(text); err != nil {
			t.Fatal(err)
		}
	}
	return list
}

// noLeak fails at the test's end if a goroutine that began in it goes on.
func noLeak(t *testing.T) {
	t.Helper()
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		eventually(t, "its goroutines to end", func() bool { return runtime.NumGoroutine() <= before }, func() string {
			b := make([]byte, 1<<20)
			return string(b[:runtime.Stack(b, true)])
		})
	})
}

// eventually waits until ok, looking every millisecond.
func eventually(t *testing.T, what string, ok func() bool, seen func() string) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s; it was\n%s", what, seen())
		}
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	return freeport.Choose(t)
}

// hold opens a port for generations 1 to n.
func hold(t *testing.T, address string, n int) *port.Port {
	t.Helper()
	spec, err := port.ParseSpec(address)
	if err != nil {
		t.Fatal(err)
	}
	p := port.New(spec, slog.New(slog.DiscardHandler))
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	for gen := 1; gen <= n; gen++ {
		if err := p.Open(gen); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func held(ports ...*port.Port) func() []*port.Port {
	return func() []*port.Port { return ports }
}

// serve has generation gen's socket answered by handler, as its server would.
func serve(t *testing.T, p *port.Port, gen int, handler http.HandlerFunc) {
	t.Helper()
	fd, ok := p.FD(gen)
	if !ok {
		t.Fatalf("generation %d has no socket", gen)
	}
	copied, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(copied), "listener")
	l, err := net.FileListener(file)
	file.Close()
	if err != nil {
		t.Fatal(err)
	}
	if unix, ok := l.(*net.UnixListener); ok {
		unix.SetUnlinkOnClose(false)
	}
	server := &http.Server{Handler: handler}
	var done sync.WaitGroup
	done.Go(func() { _ = server.Serve(l) })
	t.Cleanup(func() {
		server.Close()
		done.Wait()
	})
}

func answer(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// told collects what keeps a generation from being ready.
type told struct {
	mu   sync.Mutex
	said []string
	more chan struct{}
}

func newTold() *told { return &told{more: make(chan struct{}, 1000)} }

func (w *told) say(why string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said = append(w.said, why)
	w.more <- struct{}{}
}

// next waits until something more has been said, and returns it.
func (w *told) next(t *testing.T) string {
	t.Helper()
	select {
	case <-w.more:
	case <-time.After(patience):
		t.Fatal("nothing was said")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.said[len(w.said)-1]
}

// proof is a Prove under way.
type proof struct {
	t      *testing.T
	cancel context.CancelCauseFunc
	result chan error
}

func prove(t *testing.T, target ready.Target, texts ...string) *proof {
	t.Helper()
	list := modes(t, texts...)
	return begin(t, func(ctx context.Context) error { return ready.Prove(ctx, list, target) })
}

func begin(t *testing.T, f func(context.Context) error) *proof {
	t.Helper()
	ctx, cancel := context.WithCancelCause(context.Background())
	p := &proof{t: t, cancel: cancel, result: make(chan error, 1)}
	t.Cleanup(func() { cancel(nil) })
	go func() { p.result <- f(ctx) }()
	return p
}

func (p *proof) outcome() error {
	p.t.Helper()
	select {
	case err := <-p.result:
		return err
	case <-time.After(patience):
		p.t.Fatal("it does not end")
		return nil
	}
}

func (p *proof) holds() {
	p.t.Helper()
	if err := p.outcome(); err != nil {
		p.t.Errorf("not ready: %v", err)
	}
}

// waits fails if it has ended.
func (p *proof) waits() {
	p.t.Helper()
	select {
	case err := <-p.result:
		p.t.Fatalf("it has ended: %v", err)
	default:
	}
}

var errOver = errors.New("time is over")

// ends has the time run out, and compares what it says to that.
func (p *proof) ends(want ...string) {
	p.t.Helper()
	p.waits()
	p.cancel(errOver)
	err := p.outcome()
	for _, w := range want {
		if err == nil || !strings.Contains(err.Error(), w) {
			p.t.Errorf("it ends with %v, want %q", err, w)
		}
	}
}

// step waits until somebody waits for the clock, and turns it.
func step(t *testing.T, fake *clocktesting.FakeClock, d time.Duration) {
	t.Helper()
	eventually(t, "a timer", fake.HasWaiters, func() string { return "none" })
	fake.Step(d)
}
