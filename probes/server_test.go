package probes

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"holdfast/handoff/status"
)

// served runs a server with the limits until the test ends, and fails the test if it leaves anything behind.
func served(t *testing.T, h http.Handler, lim limits) net.Addr {
	t.Helper()
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- serve(ctx, l, h, slog.New(slog.DiscardHandler), lim) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("serve: %v", err)
		}
		waitForNoGoroutine(t, "probes.serve", "net/http.(*conn).serve")
	})
	return l.Addr()
}

// patient has no time limit that a test could meet by chance.
func patient() limits {
	lim := defaultLimits()
	lim.header, lim.read, lim.write, lim.idle = time.Minute, time.Minute, time.Minute, time.Minute
	return lim
}

// waitForNoGoroutine waits until no goroutine runs any of the functions: they end shortly after what they served.
func waitForNoGoroutine(t *testing.T, functions ...string) {
	t.Helper()
	buf := make([]byte, 1<<20)
	for end := time.Now().Add(time.Minute); ; runtime.Gosched() {
		stacks := string(buf[:runtime.Stack(buf, true)])
		if !containsAny(stacks, functions) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("goroutines are left:\n%s", stacks)
		}
	}
}

func containsAny(s string, parts []string) bool {
	for _, part := range parts {
		if strings.Contains(s, part+"(") {
			return true
		}
	}
	return false
}

func dial(t *testing.T, addr net.Addr) net.Conn {
	t.Helper()
	c, err := net.Dial(addr.Network(), addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(time.Minute))
	return c
}

// wantClosed waits for the server to close the connection.
func wantClosed(t *testing.T, c net.Conn) {
	t.Helper()
	_, err := io.Copy(io.Discard, c)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the connection was not closed: %v", err)
	}
}

func wantOK(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := io.WriteString(c, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 15)
	if _, err := io.ReadFull(c, answer); err != nil || string(answer) != "HTTP/1.1 200 OK" {
		t.Errorf("got %q, %v", answer, err)
	}
}

func TestServe(t *testing.T) {
	addr := served(t, Handler(steady(), "v"), defaultLimits())
	wantOK(t, dial(t, addr))
}

func TestSlowHeaderIsCutOff(t *testing.T) {
	lim := patient()
	lim.header = 20 * time.Millisecond
	c := dial(t, served(t, Handler(steady(), "v"), lim))
	if _, err := io.WriteString(c, "GET /livez HTTP/1.1\r\nHo"); err != nil {
		t.Fatal(err)
	}
	wantClosed(t, c)
}

func TestIdleConnectionIsClosed(t *testing.T) {
	lim := patient()
	lim.idle = 20 * time.Millisecond
	c := dial(t, served(t, Handler(steady(), "v"), lim))
	wantOK(t, c)
	wantClosed(t, c)
}

func TestHeaderSizeIsLimited(t *testing.T) {
	c := dial(t, served(t, Handler(steady(), "v"), defaultLimits()))
	go io.WriteString(c, "GET /livez HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("x", 64<<10)+"\r\n\r\n")
	answer := make([]byte, 12)
	if _, err := io.ReadFull(c, answer); err != nil || string(answer) != "HTTP/1.1 431" {
		t.Errorf("got %q, %v", answer, err)
	}
}

// Connections are accepted in the order in which they were made, so the third one finds both slots taken.
func TestConnectionLimit(t *testing.T) {
	lim := patient()
	lim.conns = 2
	addr := served(t, Handler(steady(), "v"), lim)
	first, second := dial(t, addr), dial(t, addr)
	wantClosed(t, dial(t, addr))
	wantOK(t, first)
	wantOK(t, second)
}

func TestClosedConnectionGivesItsSlotBack(t *testing.T) {
	inner, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	l := &limitListener{Listener: inner, slots: make(chan struct{}, 1)}
	for range 3 {
		dial(t, inner.Addr())
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		c.Close() // net/http closes some twice; that must free one slot only
	}
	if len(l.slots) != 0 {
		t.Errorf("%d slots are taken", len(l.slots))
	}
}

// A request that is under way when the server is told to end gets its answer.
func TestEndLetsARequestFinish(t *testing.T) {
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		cancel()
		// The listener refuses once the server is on its way out.
		for {
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				break
			}
			c.Close()
		}
		w.WriteHeader(200)
	})
	ended := make(chan error)
	go func() { ended <- Serve(ctx, l, h, slog.New(slog.DiscardHandler)) }()
	wantOK(t, dial(t, l.Addr()))
	if err := <-ended; err != nil {
		t.Error(err)
	}
	waitForNoGoroutine(t, "probes.serve", "net/http.(*conn).serve")
}

// A client that never lets go does not hold up the end.
func TestEndDoesNotWaitForever(t *testing.T) {
	lim := defaultLimits()
	lim.shutdown = time.Millisecond
	entered := make(chan struct{})
	h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
	})
	c := dial(t, served(t, h, lim))
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-entered
}

func TestServeReportsABrokenListener(t *testing.T) {
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := Serve(t.Context(), l, Handler(steady(), "v"), slog.New(slog.DiscardHandler)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

func TestPanicIsLogged(t *testing.T) {
	var log lockedBuffer
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	h := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("oops") })
	go func() { ended <- Serve(ctx, l, h, slog.New(slog.NewTextHandler(&log, nil))) }()
	c := dial(t, l.Addr())
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	wantClosed(t, c)
	cancel()
	<-ended
	if s := log.load(); !strings.Contains(s, "level=WARN") || !strings.Contains(s, "oops") {
		t.Errorf("the log has %q", s)
	}
}

// lockedBuffer keeps what was written last.
type lockedBuffer struct{ last atomic.Pointer[[]byte] }

func (b *lockedBuffer) Write(p []byte) (int, error) {
	c := bytes.Clone(p)
	b.last.Store(&c)
	return len(p), nil
}

func (b *lockedBuffer) load() string {
	if p := b.last.Load(); p != nil {
		return string(*p)
	}
	return ""
}

func TestListenInUse(t *testing.T) {
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = Listen(l.Addr().String())
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "--probe-addr") {
		t.Errorf("got %v", err)
	}
	if _, err = Listen("nonsense"); err == nil || !strings.Contains(err.Error(), `"nonsense"`) {
		t.Errorf("got %v", err)
	}
}

// It lets the race detector see readers while the snapshot is replaced, as the loop does it.
func TestSnapshotIsReplacedWhileRead(t *testing.T) {
	var src swapping
	src.p.Store(&[]still{steady()}[0])
	h := Handler(&src, "v")
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 200 {
			next := []still{steady(), busy()}[i%2]
			src.p.Store(&next)
		}
	}()
	for range 50 {
		for _, path := range []string{"/readyz", "/statusz", "/statusz?format=text", "/metrics"} {
			h.ServeHTTP(discard{}, must(http.NewRequest("GET", path, nil)))
		}
	}
	<-done
}

type swapping struct{ p atomic.Pointer[still] }

func (s *swapping) Snapshot() *status.Snapshot { return s.p.Load().s }
func (s *swapping) Queues() []status.Queue     { return s.p.Load().queues }

type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) WriteHeader(int)             {}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
