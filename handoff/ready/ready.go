// Package ready finds out whether a generation is ready: proven by what it does, not by how long it has lived, and
// through connections that only this generation can receive, so that the live one cannot answer in its place.
//
// It opens connections and listens to what the generation says; it starts nothing and stops nothing.
package ready

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"holdfast/handoff/port"
)

// Target is the generation in question.
type Target struct {
	Generation int
	// Held returns the ports that it has a socket on by now; nil = it has none and opens none.
	Held func() []*port.Port
	// Changed, if not nil, returns a channel that is closed when Held may next return something else.
	Changed func() <-chan struct{}
	// AllHeld returns every held port, whoever has a socket on it: as long as this generation has none on one of them,
	// another one would answer there. nil = there are no others than Held's.
	AllHeld func() []*port.Port
	// Required are those that it must have one on, since the live generation had when it was proven.
	Required []*port.Port
	// MayChange says that it need not open all of them.
	MayChange bool
	// MayOpen says that it may open ports after its start.
	MayOpen bool
	// First says that it is live from its start, with nothing before it: without a port, accept can then not tell it from
	// a program that is still loading, and never holds.
	First bool
	// LiveUnproven says that the live generation has not been proven, either: that it holds no port may mean that it is
	// slow to start, and then so will this one be. Without it, a generation that opens none is soon taken for a worker.
	LiveUnproven bool
	// Timeout is when the proof is ended; 0 = not known.
	Timeout time.Duration
	// Exec runs a command and returns nil if it exits 0. It must end the command when ctx ends.
	Exec func(ctx context.Context, command []string) error
	// Notified is closed when the generation has sent READY=1, Written when it has written its newline.
	Notified, Written <-chan struct{}
	// Waiting, if not nil, is told what has last kept the generation from being ready. It may be called from several
	// goroutines.
	Waiting func(why string)
	Clock   clock.Clock

	RecheckTimeout time.Duration // how long an answer to Recheck may take
}

// ErrNoPort is the outcome for a generation that is live from its start and holds no port.
var ErrNoPort = errors.New("it holds no port, and nothing says how else it proves itself: see --ready")

const (
	alone     = time.Second            // a worker without ports is taken for ready after this time alive
	slowStart = 10 * time.Second       // a first generation that has opened no port by then may have none to open
	pauseMin  = 20 * time.Millisecond  // between two attempts at first ...
	pauseMax  = 500 * time.Millisecond // ... and at most
	attemptIn = 5 * time.Second        // one attempt may take this long
	againIn   = time.Second            // between two rechecks
)

// Prove returns nil once every mode holds at the same time or has held, and an error that says which does not when ctx
// ends.
func Prove(ctx context.Context, modes []Mode, t Target) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make(chan error, len(modes))
	for _, m := range modes {
		go func() { errs <- prove(ctx, m, t) }()
	}
	var first error
	for range modes {
		if err := <-errs; err != nil && first == nil {
			first = err
			cancel()
		}
	}
	return first
}

// Recheck returns when a mode that held before holds no more, with the reason, or with ctx's error when that ends. One
// failure may be chance: it takes two in a row, the second at once. No answer within t.RecheckTimeout is one.
func Recheck(ctx context.Context, modes []Mode, t Target) error {
	for {
		if err := sleep(ctx, t.Clock, againIn); err != nil {
			return err
		}
		for _, m := range modes {
			if !m.Again() || recheck(ctx, m, t) == nil {
				continue
			}
			if err := recheck(ctx, m, t); err != nil && ctx.Err() == nil {
				return fmt.Errorf("%s: %w", m, err)
			}
		}
	}
}

func recheck(ctx context.Context, m Mode, t Target) error {
	ctx, cancel := context.WithTimeoutCause(ctx, t.RecheckTimeout, fmt.Errorf("no answer within %v", t.RecheckTimeout))
	defer cancel()
	return attempt(ctx, m, t)
}

func prove(ctx context.Context, m Mode, t Target) error {
	switch m.Kind {
	case Notify:
		return wait(ctx, t.Notified, "no READY=1 on its notify socket")
	case FD:
		return wait(ctx, t.Written, fmt.Sprintf("no newline on descriptor %d", m.FD))
	case Delay:
		if sleep(ctx, t.Clock, m.Delay) != nil {
			return fmt.Errorf("the delay of %v is not over", m.Delay)
		}
		return nil
	case Accept:
		return accept(ctx, t)
	}
	return retry(ctx, m, t)
}

func wait(ctx context.Context, done <-chan struct{}, why string) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return errors.New(why)
	}
}

func sleep(ctx context.Context, c clock.Clock, d time.Duration) error { return await(ctx, c, d, nil) }

// await sleeps for d, or until event.
func await(ctx context.Context, c clock.Clock, d time.Duration, event <-chan struct{}) error {
	timer := c.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C():
		return nil
	case <-event:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// accept proves every port that the generation has opened, and that it has opened those that it must.
func accept(ctx context.Context, t Target) error {
	held, err := opened(ctx, t)
	if err != nil || len(held) == 0 {
		return err
	}
	for {
		err := acceptAll(ctx, t, held)
		again := t.held()
		switch {
		case err != nil && (ctx.Err() != nil || !letGo(held, again)):
			return err
		case err == nil && len(again) == len(held):
			return nil
		}
		// It has opened another meanwhile, or closed one: a resolver has UDP ports for a question each.
		if held, err = opened(ctx, t); err != nil || len(held) == 0 {
			return err
		}
	}
}

// letGo says whether one that was held is not any more: there is nothing to prove there.
func letGo(before, now []*port.Port) bool {
	return slices.ContainsFunc(before, func(p *port.Port) bool { return !slices.Contains(now, p) })
}

// acceptAll proves ports all at once: a server may well accept on the second one before the first.
func acceptAll(ctx context.Context, t Target, held []*port.Port) error {
	errs := make([]error, len(held))
	var all sync.WaitGroup
	for i, p := range held {
		all.Go(func() { errs[i] = p.ProveAccept(ctx, t.Generation) })
	}
	all.Wait()
	return errors.Join(errs...)
}

func (t Target) held() []*port.Port {
	if t.Held == nil {
		return nil
	}
	return t.Held()
}

// retry attempts until one holds.
func retry(ctx context.Context, m Mode, t Target) error {
	pause := pauseMin
	for {
		err := attempt(ctx, m, t)
		if err == nil {
			return nil
		}
		if t.Waiting != nil {
			t.Waiting(fmt.Sprintf("%s: %v", m, err))
		}
		if sleep(ctx, t.Clock, pause) != nil {
			return fmt.Errorf("%s: %w", m, err)
		}
		pause = min(2*pause, pauseMax)
	}
}

// attempt asks once.
func attempt(ctx context.Context, m Mode, t Target) error {
	if m.Kind == Exec { // it may take as long as the generation has
		return t.Exec(ctx, m.Command)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, attemptIn, fmt.Errorf("no answer within %v", attemptIn))
	defer cancel()
	switch m.Kind {
	case HTTP:
		return get(ctx, m, t)
	case TCP:
		if p := find(t.held(), m.Port); p != nil {
			return p.ProveAccept(ctx, t.Generation)
		}
		conn, err := dial(ctx, m.Port, t)
		if err == nil {
			conn.Close()
		}
		return err
	}
	return accept(ctx, t)
}

// get asks for the path. Any answer of 2xx or 3xx will do, as for the kubelet; redirects are not followed.
func get(ctx context.Context, m Mode, t Target) error {
	client := http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: true, // the next attempt must be steered anew
			DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, m.Port, t) },
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	host := "localhost"
	if m.Port != 0 {
		host = net.JoinHostPort(host, strconv.Itoa(m.Port))
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+m.Path, nil)
	if err != nil {
		return err
	}
	request.Header.Set("User-Agent", "holdfast-probe")
	response, err := client.Do(request)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err // the rest is an address that nobody has typed
		}
		return cause(ctx, err)
	}
	defer response.Body.Close()
	io.CopyN(io.Discard, response.Body, 64<<10) // a server that is cut off in the middle may log it as an error
	if response.StatusCode < 200 || response.StatusCode >= 400 {
		return fmt.Errorf("it answered %d %s", response.StatusCode, http.StatusText(response.StatusCode)) // in our words, not in its
	}
	return nil
}

// dial connects to the generation alone if the port is held. A port that is held, but not by this generation yet, is not
// asked: the live one would answer. A port that is not held has only one server, whose ever.
func dial(ctx context.Context, number int, t Target) (net.Conn, error) {
	if p := find(t.held(), number); p != nil {
		return p.Dial(ctx, t.Generation)
	}
	if number == 0 {
		return nil, errors.New("it holds no port to ask on")
	}
	if t.AllHeld != nil {
		if p := find(t.AllHeld(), number); p != nil {
			return nil, fmt.Errorf("it does not listen on %s yet", p.Spec())
		}
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", net.JoinHostPort("localhost", strconv.Itoa(number)))
}

// find returns the held stream port of that number; 0 stands for the first.
func find(held []*port.Port, number int) *port.Port {
	for _, p := range held {
		spec := p.Spec()
		if spec.Network != "udp" && (number == 0 || spec.Network == "tcp" && int(spec.Addr.Port()) == number) {
			return p
		}
	}
	return nil
}

// cause replaces an error that only says that the context ended by the reason for which it did.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
