// Package load puts a bounded HTTP/1.1 load on one address and says exactly what became of every request: which
// generation answered it, or in which phase and how it failed.
//
// It speaks HTTP over plain connections and not through net/http, because that client hides what the tests are about:
// it repeats requests by itself and folds a refused, a reset and a silently closed connection into similar errors.
//
// Two kinds of workers run at once. A "new" worker opens a connection for each request; a "keep-alive" worker goes on
// with its connection for as long as the server lets it. A server may close an idle connection at any moment, so a
// request on a connection that was used before, and that ends before any byte of an answer, is repeated ONCE on a new
// connection, as every HTTP client does for idempotent requests (RFC 9110 §9.2.2, RFC 9112 §9.3.1). Such a request is
// counted in Result.Retried, so that nothing is hidden. Everything else that is not a whole answer is a failure.
package load

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Options says what load to make. Only Address is required.
type Options struct {
	Network string // "tcp" (the default), "unix", or "udp" with a Protocol that is for it
	Address string // host:port, or the socket's path
	// Protocol is what is spoken; HTTP by default, to which Path, Host and Generation belong.
	Protocol Protocol
	Path     string // "/" by default
	Host     string // the Host header; "localhost" by default

	NewWorkers       int // each opens a new connection for every request
	KeepAliveWorkers int // each keeps its connection; with neither kind given: 4 and 4

	// Think is how long a worker pauses between two requests (closed loop): 2ms by default, negative for no pause.
	Think time.Duration
	// Rate, when above 0, makes it an open loop of so many requests a second over all workers. Latencies then count
	// from when a request should have started, so that a stalled server can not hide the requests it held up.
	Rate float64

	// Timeout is how long one request may take, connecting included; 10s by default.
	Timeout time.Duration
	// Duration and MaxRequests end the load by themselves; 5 minutes and 5 million by default.
	Duration    time.Duration
	MaxRequests int64

	// Generation reads the number of the generation that answered; GenerationOf by default.
	Generation func(Answer) (int, error)

	// Observe, if not nil, is told of every request when it has ended, from all workers' goroutines at once.
	Observe func(Request)

	MaxFailures int // how many failures are kept in detail; 20 by default
	MaxRecords  int // how many new connections are kept for Verify; 500,000 by default
}

func (o Options) withDefaults() Options {
	setDefault(&o.Network, "tcp")
	setDefault(&o.Path, "/")
	setDefault(&o.Host, "localhost")
	setDefault(&o.Think, 2*time.Millisecond)
	setDefault(&o.Timeout, 10*time.Second)
	setDefault(&o.Duration, 5*time.Minute)
	setDefault(&o.MaxRequests, 5_000_000)
	setDefault(&o.MaxFailures, 20)
	setDefault(&o.MaxRecords, 500_000)
	if o.NewWorkers == 0 && o.KeepAliveWorkers == 0 {
		o.NewWorkers, o.KeepAliveWorkers = 4, 4
	}
	if o.Generation == nil {
		o.Generation = GenerationOf
	}
	if o.Protocol == nil {
		o.Protocol = http{path: o.Path, host: o.Host, generation: o.Generation}
	}
	return o
}

func setDefault[T comparable](v *T, to T) {
	var zero T
	if *v == zero {
		*v = to
	}
}

// Load is one load. Make it with New; it runs once.
type Load struct {
	opts    Options
	rec     *recorder
	tickets atomic.Int64 // requests begun
	stop    chan struct{}
	once    sync.Once
	workers sync.WaitGroup
}

// New prepares a load; nothing happens before Start.
func New(o Options) *Load {
	o = o.withDefaults()
	return &Load{opts: o, rec: newRecorder(o.MaxFailures, o.MaxRecords), stop: make(chan struct{})}
}

// Start starts the workers. They end when ctx does, when Stop is called, or when Duration or MaxRequests is reached;
// a request under way is always finished first, so that ending a load never looks like a loss.
func (l *Load) Start(ctx context.Context) {
	start := time.Now()
	l.rec.begin(start)
	ctx, cancel := context.WithDeadline(ctx, start.Add(l.opts.Duration))
	run := func(kind Kind) {
		l.workers.Go(func() {
			w := worker{load: l, kind: kind}
			defer w.close()
			for l.next(ctx, start, &w) {
				r := w.request()
				l.rec.add(r)
				if l.opts.Observe != nil {
					l.opts.Observe(r)
				}
			}
		})
	}
	for range l.opts.NewWorkers {
		run(NewConnection)
	}
	for range l.opts.KeepAliveWorkers {
		run(KeepAlive)
	}
	go func() {
		l.workers.Wait()
		cancel()
		l.rec.end(time.Now())
	}()
}

// next waits until w's next request is due. It is false when the load is over.
func (l *Load) next(ctx context.Context, start time.Time, w *worker) bool {
	ticket := l.tickets.Add(1) - 1
	if ticket >= l.opts.MaxRequests {
		return false
	}
	var wait time.Duration
	switch {
	case l.opts.Rate > 0:
		w.intended = start.Add(time.Duration(float64(ticket) / l.opts.Rate * float64(time.Second)))
		wait = time.Until(w.intended)
	case w.started:
		wait = l.opts.Think
	}
	w.started = true
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		case <-l.stop:
		}
	}
	select {
	case <-ctx.Done():
		return false
	case <-l.stop:
		return false
	default:
	}
	if l.opts.Rate <= 0 {
		w.intended = time.Now()
	}
	return true
}

// Snapshot says what happened so far; it may be called at any time.
func (l *Load) Snapshot() Result { return l.rec.result() }

// Stop ends the load, waits for the requests under way and returns the final result. It may be called more than once.
func (l *Load) Stop() Result {
	l.once.Do(func() { close(l.stop) })
	l.workers.Wait()
	return l.rec.result()
}

// Verify reports every new connection that was answered by a generation which could not have been the live one
// (see Verify of the recorded connections). Call it after Stop.
func (l *Load) Verify(cutovers []Cutover) []string { return l.rec.verify(cutovers) }
