package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"reflect"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/handoff/status"
)

var (
	noEnd    = context.Background()
	noProbes = http.NotFoundHandler()
)

func answerPID(context.Context, bool) (Result, error) {
	return Result{Completed: true, Generation: os.Getpid()}, nil
}

// own is a space that no holdfast outside the test is in.
func own(t *testing.T) space { return space(fmt.Sprintf("@holdfast/%s-%d/", t.Name(), os.Getpid())) }

// served runs a server in the space until the test ends.
func served(t *testing.T, s space, h Handler, lim limits) {
	t.Helper()
	l, err := s.listen(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- serve(ctx, l, h, lim) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("serve: %v", err)
		}
		waitForNoGoroutine(t, "net/http.(*conn).serve(")
	})
}

func waitForNoGoroutine(t *testing.T, function string) {
	t.Helper()
	buf := make([]byte, 1<<20)
	for end := time.Now().Add(time.Minute); ; runtime.Gosched() {
		stacks := string(buf[:runtime.Stack(buf, true)])
		if !strings.Contains(stacks, function) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("goroutines are left:\n%s", stacks)
		}
	}
}

func client(t *testing.T, h Handler, lim limits) *Client {
	t.Helper()
	return clientIn(t, own(t), h, lim)
}

func clientIn(t *testing.T, s space, h Handler, lim limits) *Client {
	t.Helper()
	served(t, s, h, lim)
	c, err := s.dial(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestStatus(t *testing.T) {
	want := status.Document{
		Snapshot: &status.Snapshot{
			Version: "v1", PID: 1, Live: 2, Started: time.Date(2026, 11, 22, 18, 2, 11, 42, time.UTC), Command: []string{"nginx"},
			Generations: []status.Generation{{Number: 2, State: status.Live, LiveAt: time.Date(2026, 11, 22, 18, 3, 0, 0, time.UTC)}},
			Last:        &status.Handoff{Trigger: "signal", Seconds: map[status.Phase]float64{status.PhaseCutover: .0003}},
			Counters: status.Counters{
				Handoffs:     map[status.HandoffKey]uint64{{Trigger: "signal", Result: status.Completed}: 3},
				PhaseSeconds: map[status.Phase]status.Histogram{status.PhaseDrain: status.Histogram{}.Observe(2)},
			},
		},
		Queues: []status.Queue{{Port: "0.0.0.0:80", Generation: 2, Length: 1, Max: 128}},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /statusz", func(w http.ResponseWriter, _ *http.Request) { json.NewEncoder(w).Encode(want) })
	got, err := client(t, Handler{Probes: mux}, defaultLimits()).Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got.Snapshot, want.Snapshot)
	}
}

func TestStatusOfGarbage(t *testing.T) {
	garbage := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"live":"x"}`) })
	if _, err := client(t, Handler{Probes: garbage}, defaultLimits()).Status(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "read status: ") {
		t.Errorf("got %v", err)
	}
}

func TestReload(t *testing.T) {
	for _, wait := range []bool{true, false} {
		want := Result{Completed: wait, Generation: 4, Reason: "because", Seconds: 1.5}
		t.Run(fmt.Sprint(wait), func(t *testing.T) {
			h := Handler{Probes: noProbes, Reload: func(_ context.Context, w bool) (Result, error) {
				if w != wait {
					t.Errorf("wait came as %v", w)
				}
				return want, nil
			}}
			got, err := client(t, h, defaultLimits()).Reload(t.Context(), wait)
			if err != nil || got != want {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

func TestReloadError(t *testing.T) {
	h := Handler{Probes: noProbes, Reload: func(context.Context, bool) (Result, error) {
		return Result{}, errors.New("holdfast is terminating")
	}}
	_, err := client(t, h, defaultLimits()).Reload(t.Context(), false)
	if want := "ask for a handoff: 503 Service Unavailable: holdfast is terminating"; err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

// A waiting reload outlasts every time limit of the server. A busy machine may need longer than a short limit for the
// request itself; then it is tried with a longer one.
func TestReloadWaits(t *testing.T) {
	for short := 5 * time.Millisecond; ; short *= 4 {
		lim := limits{read: short, write: short, idle: time.Minute, shutdown: time.Minute}
		h := Handler{Probes: noProbes, Reload: func(ctx context.Context, _ bool) (Result, error) {
			select {
			case <-time.After(3 * short):
				return Result{Completed: true}, nil
			case <-ctx.Done():
				return Result{}, ctx.Err()
			}
		}}
		got, err := clientIn(t, own(t)+space(short.String()), h, lim).Reload(t.Context(), true)
		switch {
		case err == nil && got.Completed:
			return
		case short > 5*time.Second:
			t.Fatalf("got %+v, %v", got, err)
		}
	}
}

func TestClientThatLeavesEndsTheWait(t *testing.T) {
	entered, left := make(chan struct{}), make(chan struct{})
	h := Handler{Probes: noProbes, Reload: func(ctx context.Context, _ bool) (Result, error) {
		close(entered)
		<-ctx.Done()
		close(left)
		return Result{}, ctx.Err()
	}}
	ctx, cancel := context.WithCancel(t.Context())
	c := client(t, h, defaultLimits())
	go func() {
		<-entered
		cancel()
	}()
	if _, err := c.Reload(ctx, true); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	<-left
}

func TestServerThatEndsCutsTheWait(t *testing.T) {
	s := own(t)
	l, err := s.listen(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	h := Handler{Probes: noProbes, Reload: func(ctx context.Context, _ bool) (Result, error) {
		cancel()
		<-ctx.Done()
		return Result{}, ctx.Err()
	}}
	lim := defaultLimits()
	lim.shutdown = time.Millisecond
	ended := make(chan error)
	go func() { ended <- serve(ctx, l, h, lim) }()
	c, err := s.dial(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Reload(t.Context(), true); err == nil || !strings.Contains(err.Error(), "closed the connection") {
		t.Errorf("got %v", err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestProbe(t *testing.T) {
	codes := map[string]int{"/readyz": 200, "/readyz/live": 503, "/readyz/x": 404}
	probes := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(codes[r.URL.Path])
		io.WriteString(w, r.URL.RawQuery+"\n")
	})
	c := client(t, Handler{Probes: probes}, defaultLimits())
	if ok, body, err := c.Probe(t.Context(), "/readyz?verbose"); !ok || body != "verbose\n" || err != nil {
		t.Errorf("got %v, %q, %v", ok, body, err)
	}
	if ok, _, err := c.Probe(t.Context(), "/readyz/live"); ok || err != nil {
		t.Errorf("got %v, %v", ok, err)
	}
	if _, _, err := c.Probe(t.Context(), "/readyz/x?why"); err == nil || err.Error() != "probe /readyz/x?why: 404 Not Found: why" {
		t.Errorf("got %v", err)
	}
}

func TestReloadIsPosted(t *testing.T) {
	c := client(t, Handler{Probes: noProbes, Reload: answerPID}, defaultLimits())
	if _, _, err := c.ask(t.Context(), "GET", "/reload", 200); err == nil || !strings.Contains(err.Error(), "405") {
		t.Errorf("got %v", err)
	}
}

func TestSlowHeaderIsCutOff(t *testing.T) {
	s, lim := own(t), defaultLimits()
	lim.read = 20 * time.Millisecond
	served(t, s, Handler{Probes: noProbes}, lim)
	c, err := s.connect(t.Context(), os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET / HTTP/1.1\r\nHo")
	if _, err := io.ReadAll(c); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Error(err)
	}
}

// Connections come out in the order in which they were made, so the last one finds no slot.
func TestConnectionLimit(t *testing.T) {
	s := own(t)
	l, err := s.listen(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var let []net.Conn
	for range maxConns {
		let = append(let, accepted(t, s, l))
	}
	excess, err := s.connect(t.Context(), os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	go l.Accept()
	if n, err := excess.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("got %d, %v", n, err)
	}
	for _, c := range let {
		c.Close()
		c.Close() // frees one slot only
	}
	if len(l.slots) != 0 {
		t.Errorf("%d slots are taken", len(l.slots))
	}
}

func accepted(t *testing.T, s space, l net.Listener) net.Conn {
	t.Helper()
	c, err := s.connect(t.Context(), os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	a, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestListenAndDial(t *testing.T) {
	l, err := Listen(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := Dial(os.Getpid())
	if err != nil || c.PID() != os.Getpid() {
		t.Fatalf("got %v, %v", c, err)
	}
	if _, err := Listen(os.Getpid()); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("listening twice: %v", err)
	}
}

func TestServeReportsABrokenListener(t *testing.T) {
	l, err := own(t).listen(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := Serve(t.Context(), l, Handler{Probes: noProbes}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
}
