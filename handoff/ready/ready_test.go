package ready_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"

	"holdfast/handoff/port"
	"holdfast/handoff/ready"
)

func TestHTTP(t *testing.T) {
	for name, c := range map[string]struct {
		address, mode string
		path, host    string
	}{
		"by number":  {"127.0.0.1:%d", "http:%d/ready?x=1", "/ready?x=1", "localhost:%d"},
		"the first":  {"127.0.0.1:%d", "http:/", "/", "localhost"},
		"dual stack": {":%d", "http:%d/", "/", "localhost:%d"},
		"unix":       {"unix://DIR/s", "http:/a", "/a", "localhost"},
	} {
		t.Run(name, func(t *testing.T) {
			noLeak(t)
			number := freePort(t)
			fill := func(s string) string {
				return strings.ReplaceAll(strings.ReplaceAll(s, "%d", fmt.Sprint(number)), "DIR", t.TempDir())
			}
			p := hold(t, fill(c.address), 2)
			var asked atomic.Int32
			serve(t, p, 1, func(http.ResponseWriter, *http.Request) { t.Error("the live generation was asked") })
			serve(t, p, 2, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.String() != c.path || r.Host != fill(c.host) || r.UserAgent() != "holdfast-probe" || r.Method != "GET" || !r.Close {
					t.Errorf("asked for %s %s on %s by %s, close %v", r.Method, r.URL, r.Host, r.UserAgent(), r.Close)
				}
				if asked.Add(1) <= 3 {
					http.Error(w, "loading", http.StatusInternalServerError)
				}
			})
			why := newTold()
			proof := prove(t, ready.Target{Generation: 2, Held: func() []*port.Port { return []*port.Port{p} }, Clock: clock.RealClock{}, Waiting: why.say}, fill(c.mode))
			if got := why.next(t); got != fill(c.mode)+": it answered 500 Internal Server Error" {
				t.Errorf("waiting because of %q", got)
			}
			proof.holds()
			if asked.Load() != 4 {
				t.Errorf("asked %d times", asked.Load())
			}
		})
	}
}

func TestHTTPAnswers(t *testing.T) {
	for code, good := range map[int]bool{200: true, 204: true, 299: true, 301: true, 302: true, 399: true, 400: false, 401: false, 404: false, 503: false} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			noLeak(t)
			p := hold(t, fmt.Sprintf("127.0.0.1:%d", freePort(t)), 1)
			serve(t, p, 1, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/" {
					t.Errorf("a redirect was followed to %s", r.URL)
				}
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(code)
			})
			why := newTold()
			proof := prove(t, ready.Target{Generation: 1, Held: func() []*port.Port { return []*port.Port{p} }, Clock: clock.RealClock{}, Waiting: why.say}, "http:/")
			if good {
				proof.holds()
				return
			}
			why.next(t)
			proof.ends("http:/: ", fmt.Sprintf("it answered %d", code))
		})
	}
}

// TestHTTPSlow: an answer may take its time; without end it may be, too.
func TestHTTPSlow(t *testing.T) {
	noLeak(t)
	p := hold(t, fmt.Sprintf("127.0.0.1:%d", freePort(t)), 1)
	asked, release := make(chan struct{}, 1), make(chan struct{})
	serve(t, p, 1, func(w http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		select {
		case <-release:
		case <-r.Context().Done():
			return
		}
		for { // until the other side has seen enough
			if _, err := w.Write(make([]byte, 4096)); err != nil {
				return
			}
		}
	})
	target := ready.Target{Generation: 1, Held: func() []*port.Port { return []*port.Port{p} }, Clock: clock.RealClock{}}
	proof := prove(t, target, "http:/")
	<-asked
	proof.ends("http:/: ", "time is over")
	proof = prove(t, target, "http:/")
	<-asked
	proof.waits()
	close(release)
	proof.holds()
}

// TestNotHeld: a port that is not held may be refused at first; then whoever listens is asked.
func TestNotHeld(t *testing.T) {
	noLeak(t)
	number := freePort(t)
	for _, mode := range []string{"tcp:%d", "http:%d/"} {
		mode = fmt.Sprintf(mode, number)
		why := newTold()
		proof := prove(t, ready.Target{Generation: 1, Clock: clock.RealClock{}, Waiting: why.say}, mode)
		if got := why.next(t); !strings.HasPrefix(got, mode+": ") || !strings.Contains(got, "connection refused") {
			t.Errorf("waiting because of %q", got)
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", number))
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: answer(200)}
		var done sync.WaitGroup
		done.Go(func() { _ = server.Serve(l) })
		proof.holds()
		server.Close()
		done.Wait()
	}
	// With nothing held there is no first port.
	why := newTold()
	proof := prove(t, ready.Target{Generation: 1, Clock: clock.RealClock{}, Waiting: why.say}, "http:/")
	why.next(t)
	proof.ends("http:/: it holds no port to ask on")
}

// TestNotOpened: a port that another generation holds, and this one has not opened yet, is not asked: the other one would
// answer.
func TestNotOpened(t *testing.T) {
	for _, mode := range []string{"tcp:%d", "http:%d/"} {
		t.Run(mode, func(t *testing.T) {
			noLeak(t)
			number := freePort(t)
			mode = fmt.Sprintf(mode, number)
			p := hold(t, fmt.Sprintf("127.0.0.1:%d", number), 2)
			serve(t, p, 1, answer(200))
			serve(t, p, 2, answer(200))
			var opened atomic.Bool
			held := func() []*port.Port {
				if opened.Load() {
					return []*port.Port{p}
				}
				return nil
			}
			why := newTold()
			proof := prove(t, ready.Target{
				Generation: 2, Held: held, AllHeld: func() []*port.Port { return []*port.Port{p} }, Clock: clock.RealClock{}, Waiting: why.say,
			}, mode)
			if got := why.next(t); got != fmt.Sprintf("%s: it does not listen on 127.0.0.1:%d yet", mode, number) {
				t.Errorf("waiting because of %q", got)
			}
			opened.Store(true)
			proof.holds()
		})
	}
}

// TestAccept: each of the held ports has to be accepted on, by the generation in question.
func TestAccept(t *testing.T) {
	for _, mode := range []string{"accept", "tcp:%d"} {
		t.Run(mode, func(t *testing.T) {
			noLeak(t)
			number := freePort(t)
			a := hold(t, fmt.Sprintf("127.0.0.1:%d", freePort(t)), 2)
			b := hold(t, fmt.Sprintf("127.0.0.1:%d", number), 2)
			if strings.Contains(mode, "%") {
				mode = fmt.Sprintf(mode, number)
			}
			serve(t, a, 1, answer(200))
			serve(t, b, 1, answer(200)) // the live one accepts, which proves nothing
			serve(t, a, 2, answer(200))
			target := ready.Target{Generation: 2, Held: func() []*port.Port { return []*port.Port{a, b} }, Clock: clock.RealClock{}}
			proof := prove(t, target, mode)
			eventually(t, "a probe to be queued", func() bool { return b.Pending(2) }, func() string { return "not queued" })
			proof.ends(b.Spec().String())
			serve(t, b, 2, answer(200))
			prove(t, target, mode).holds()
		})
	}
}

func TestWithoutPorts(t *testing.T) {
	for name, c := range map[string]struct {
		first, mayOpen bool
		unproven       bool // the live one, too
		timeout        time.Duration
		after          time.Duration
		outcome        error
		early          string // what it says when the time is over before that
	}{
		"a worker":                                {false, false, false, 0, time.Second, nil, "has not been alive for 1s"},
		"a worker that may open a port":           {false, true, false, 0, time.Second, nil, "it has opened no port"},
		"the first one":                           {true, false, false, 0, time.Second, ready.ErrNoPort, "has not been alive for 1s"},
		"the first one that may be slow":          {true, true, true, 0, 10 * time.Second, ready.ErrNoPort, "it has opened no port"},
		"after one that may be slow":              {false, true, true, time.Minute, 10 * time.Second, nil, "it has opened no port"},
		"after one that may be slow, little time": {false, true, true, 4 * time.Second, 2 * time.Second, nil, "it has opened no port"},
	} {
		t.Run(name, func(t *testing.T) {
			noLeak(t)
			fake := clocktesting.NewFakeClock(time.Now())
			target := ready.Target{Generation: 1, First: c.first, MayOpen: c.mayOpen, LiveUnproven: c.unproven, Timeout: c.timeout, Clock: fake}
			proof := prove(t, target, "accept")
			for at := time.Duration(0); at < c.after; at += 250 * time.Millisecond {
				proof.waits()
				step(t, fake, 250*time.Millisecond)
			}
			if err := proof.outcome(); err != c.outcome {
				t.Errorf("outcome %v, want %v", err, c.outcome)
			}
			proof = prove(t, target, "accept")
			step(t, fake, 0)
			proof.ends(c.early)
		})
	}
}

// TestRequired: the ports that the live generation had have to be opened, unless they may change.
func TestRequired(t *testing.T) {
	for _, mayChange := range []bool{false, true} {
		t.Run(fmt.Sprintf("may change %v", mayChange), func(t *testing.T) {
			noLeak(t)
			a := hold(t, fmt.Sprintf("127.0.0.1:%d", freePort(t)), 2)
			b := hold(t, fmt.Sprintf("127.0.0.1:%d", freePort(t)), 2)
			serve(t, a, 2, answer(200))
			var open atomic.Pointer[[]*port.Port]
			open.Store(&[]*port.Port{a})
			fake := clocktesting.NewFakeClock(time.Now())
			target := ready.Target{
				Generation: 2, Held: func() []*port.Port { return *open.Load() }, Required: []*port.Port{a, b},
				MayOpen: true, MayChange: mayChange, Clock: fake,
			}
			proof := prove(t, target, "accept")
			step(t, fake, time.Second)
			if mayChange {
				proof.holds()
				return
			}
			step(t, fake, time.Minute)
			proof.ends("it does not listen on " + b.Spec().String())
			proof = prove(t, target, "accept")
			step(t, fake, time.Second)
			proof.waits()
			serve(t, b, 2, answer(200))
			open.Store(&[]*port.Port{a, b})
			eventually(t, "it to hold", func() bool {
				fake.Step(time.Second)
				return len(proof.result) > 0
			}, func() string { return "open" })
			proof.holds()
		})
	}
}

// TestClosedMeanwhile: a port that the program closes while it is proven need not be proven.
func TestClosedMeanwhile(t *testing.T) {
	noLeak(t)
	stays, goes := hold(t, fmt.Sprintf("127.0.0.1:%d", freePort(t)), 1), hold(t, fmt.Sprintf("127.0.0.1:%d", freePort(t)), 1)
	var open atomic.Pointer[[]*port.Port]
	open.Store(&[]*port.Port{stays, goes})
	proof := prove(t, ready.Target{
		Generation: 1, Held: func() []*port.Port { return *open.Load() }, First: true, MayOpen: true, Clock: clock.RealClock{},
	}, "accept")
	serve(t, stays, 1, answer(200))
	eventually(t, "the probe", func() bool { return goes.Pending(1) }, func() string { return "not queued" })
	proof.waits()
	open.Store(&[]*port.Port{stays})
	if _, err := goes.Retire(1); err != nil {
		t.Fatal(err)
	}
	proof.holds()
}

// TestOpenedMeanwhile: a port that is opened while the others are proven has to be proven as well.
func TestOpenedMeanwhile(t *testing.T) {
	noLeak(t)
	a := hold(t, fmt.Sprintf("127.0.0.1:%d", freePort(t)), 1)
	b := hold(t, fmt.Sprintf("127.0.0.1:%d", freePort(t)), 1)
	var open atomic.Pointer[[]*port.Port]
	open.Store(&[]*port.Port{a})
	target := ready.Target{
		Generation: 1, Held: func() []*port.Port { return *open.Load() }, First: true, MayOpen: true, Clock: clock.RealClock{},
	}
	proof := prove(t, target, "accept")
	eventually(t, "the first probe", func() bool { return a.Pending(1) }, func() string { return "not queued" })
	open.Store(&[]*port.Port{a, b})
	serve(t, a, 1, answer(200))
	eventually(t, "the second probe", func() bool { return b.Pending(1) }, func() string { return "not queued" })
	proof.waits()
	serve(t, b, 1, answer(200))
	proof.holds()
}

func TestDelay(t *testing.T) {
	noLeak(t)
	fake := clocktesting.NewFakeClock(time.Now())
	proof := prove(t, ready.Target{Clock: fake}, "delay:10s")
	step(t, fake, 10*time.Second-1)
	proof.waits()
	step(t, fake, 1)
	proof.holds()
	proof = prove(t, ready.Target{Clock: fake}, "delay:10s")
	step(t, fake, time.Second)
	proof.ends("the delay of 10s is not over")
	if fake.HasWaiters() {
		t.Error("its timer goes on")
	}
}

func TestNotified(t *testing.T) {
	noLeak(t)
	for mode, wrong := range map[string]string{"notify": "no READY=1", "fd:7": "no newline on descriptor 7"} {
		done := make(chan struct{})
		never := make(chan struct{})
		target := ready.Target{Clock: clock.RealClock{}, Notified: done, Written: never}
		if mode == "fd:7" {
			target.Notified, target.Written = never, done
		}
		prove(t, target, mode).ends(wrong)
		proof := prove(t, target, mode)
		close(done)
		proof.holds()
	}
}

// TestExec: a command is tried until it exits 0. That it ends with the proof is for whoever runs it.
func TestExec(t *testing.T) {
	noLeak(t)
	tries, why := 0, newTold()
	target := ready.Target{Clock: clock.RealClock{}, Waiting: why.say, Exec: func(_ context.Context, command []string) error {
		if len(command) != 2 || command[0] != "check" || command[1] != "it" {
			t.Errorf("ran %q", command)
		}
		if tries++; tries < 3 {
			return errors.New("exit code 1: not yet")
		}
		return nil
	}}
	prove(t, target, "exec:check it").holds()
	if tries != 3 || why.next(t) != "exec:check it: exit code 1: not yet" {
		t.Errorf("%d tries, waiting because of %q", tries, why.said)
	}
	running := make(chan struct{})
	target.Exec = func(ctx context.Context, _ []string) error {
		close(running)
		<-ctx.Done()
		return context.Cause(ctx)
	}
	proof := prove(t, target, "exec:hang")
	<-running
	proof.ends("exec:hang: ", "time is over")
}

// TestSeveral: all must hold; when the time is over it is said which does not, and the others stop.
func TestSeveral(t *testing.T) {
	noLeak(t)
	p := hold(t, fmt.Sprintf("127.0.0.1:%d", freePort(t)), 1)
	serve(t, p, 1, answer(200))
	notified := make(chan struct{})
	fake := clocktesting.NewFakeClock(time.Now())
	asked := make(chan struct{}, 1)
	target := ready.Target{
		Generation: 1, Held: held(p), Notified: notified, Clock: fake,
		Exec: func(context.Context, []string) error {
			asked <- struct{}{}
			return nil
		},
	}
	proof := prove(t, target, "exec:true", "notify")
	<-asked
	proof.ends("no READY=1")
	proof = prove(t, target, "accept", "http:/", "exec:true", "notify", "delay:5s")
	<-asked
	step(t, fake, 5*time.Second)
	proof.waits()
	close(notified)
	proof.holds()
	// What time does not mend ends it at once.
	target.Held, target.First, target.Notified = nil, true, make(chan struct{})
	proof = prove(t, target, "accept", "notify")
	step(t, fake, time.Second)
	if err := proof.outcome(); !errors.Is(err, ready.ErrNoPort) {
		t.Errorf("outcome %v", err)
	}
	if err := ready.Prove(t.Context(), nil, target); err != nil {
		t.Errorf("nothing to prove: %v", err)
	}
}

// TestRecheck: one failure may be chance, two in a row are not. Modes that cannot be asked again are not.
func TestRecheck(t *testing.T) {
	noLeak(t)
	fake := clocktesting.NewFakeClock(time.Now())
	results := make(chan error)
	target := ready.Target{Clock: fake, RecheckTimeout: patience, Exec: func(ctx context.Context, _ []string) error {
		select {
		case err := <-results:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}}
	list := modes(t, "notify", "delay:1h", "exec:check")
	recheck := begin(t, func(ctx context.Context) error { return ready.Recheck(ctx, list, target) })
	bad := errors.New("exit code 1")
	give := func(err error) {
		t.Helper()
		select {
		case results <- err:
		case <-time.After(patience):
			t.Fatal("it does not ask")
		}
	}
	for _, round := range [][]error{{nil}, {bad, nil}, {nil}, {bad, nil}} {
		step(t, fake, time.Second)
		for _, err := range round {
			give(err)
		}
	}
	eventually(t, "the next round", fake.HasWaiters, func() string { return "none" })
	recheck.waits()
	fake.Step(time.Second)
	give(bad)
	give(bad)
	if err := recheck.outcome(); !errors.Is(err, bad) || err.Error() != "exec:check: exit code 1" {
		t.Errorf("it ends with %v", err)
	}
	recheck = begin(t, func(ctx context.Context) error { return ready.Recheck(ctx, list, target) })
	step(t, fake, time.Second)
	give(bad)
	recheck.cancel(errOver) // while it asks for the second time
	if err := recheck.outcome(); err != errOver {
		t.Errorf("it ends with %v", err)
	}
}

// TestRecheckTakesTooLong: no answer is none, also of a command, which has all the time there is when it proves.
func TestRecheckTakesTooLong(t *testing.T) {
	noLeak(t)
	target := ready.Target{Clock: clock.RealClock{}, RecheckTimeout: time.Millisecond, Exec: func(ctx context.Context, _ []string) error {
		<-ctx.Done()
		return context.Cause(ctx)
	}}
	err := ready.Recheck(t.Context(), modes(t, "exec:check"), target)
	if err == nil || err.Error() != "exec:check: no answer within 1ms" {
		t.Errorf("it ends with %v", err)
	}
}

// TestFirstStream: the first held port is the first that an answer can come on.
func TestFirstStream(t *testing.T) {
	noLeak(t)
	udp := hold(t, fmt.Sprintf("udp://127.0.0.1:%d", freePort(t)), 1)
	path := hold(t, "unix://"+filepath.Join(t.TempDir(), "s"), 1)
	serve(t, path, 1, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "here") })
	prove(t, ready.Target{Generation: 1, Held: func() []*port.Port { return []*port.Port{udp, path} }, Clock: clock.RealClock{}}, "http:/").holds()
}
