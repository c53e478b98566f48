package load

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// peer is a server in this process that answers each connection as a test says.
type peer struct {
	addr     string
	accepted atomic.Int64
	requests atomic.Int64
}

// asked is one request on a peer's connection: nth on its connection, both counted from 1.
type asked struct {
	conn      net.Conn
	connNo, n int64
}

// newPeer serves each request with answer until that returns false; then the connection is closed.
func newPeer(t *testing.T, network string, answer func(*peer, asked) bool) *peer {
	t.Helper()
	addr := "127.0.0.1:0"
	if network == "unix" {
		addr = filepath.Join(t.TempDir(), "s")
	}
	ln, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	p := &peer{addr: ln.Addr().String()}
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go p.serve(conn, p.accepted.Add(1), answer)
		}
	}()
	return p
}

func (p *peer) serve(conn net.Conn, connNo int64, answer func(*peer, asked) bool) {
	defer func() { _ = conn.Close() }()
	in := bufio.NewReader(conn)
	for n := int64(1); ; n++ {
		for { // a request's head; there are no bodies
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			if line == "\r\n" {
				break
			}
		}
		p.requests.Add(1)
		if !answer(p, asked{conn, connNo, n}) {
			return
		}
	}
}

func (a asked) say(s string) bool {
	_, err := a.conn.Write([]byte(s))
	return err == nil
}

func (a asked) ok(generation int) bool {
	body := fmt.Sprintf("generation=%d\n", generation)
	return a.say(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
}

func (a asked) reset() bool {
	_ = a.conn.(*net.TCPConn).SetLinger(0)
	return false
}

// run makes a load of n requests and returns what became of it.
func run(t *testing.T, o Options, n int64) Result {
	t.Helper()
	o.MaxRequests = n
	setDefault(&o.Think, -1)
	setDefault(&o.Timeout, time.Minute)
	l := New(o)
	l.Start(t.Context())
	l.workers.Wait()
	r := l.Stop()
	t.Log(r)
	if r.Requests != uint64(n) {
		t.Errorf("%d requests ended, want %d", r.Requests, n)
	}
	return r
}

// TestOutcomes puts a load of each kind on servers that misbehave in one way each, and demands that every request is
// counted as just that.
func TestOutcomes(t *testing.T) {
	stall := make(chan struct{})
	t.Cleanup(func() { close(stall) })
	for name, c := range map[string]struct {
		want   Outcome
		phase  Phase
		answer func(*peer, asked) bool
	}{
		"ok": {OK, PhaseDone, func(_ *peer, a asked) bool { return a.ok(3) }},
		"header": {OK, PhaseDone, func(_ *peer, a asked) bool {
			return a.say("HTTP/1.1 200 OK\r\nx-gENERATION: 3\r\nContent-Length: 0\r\n\r\n")
		}},
		"chunked": {OK, PhaseDone, func(_ *peer, a asked) bool {
			return a.say(chunked("3\r\ngen\r\n9;x=y\r\neration=3\r\n0\r\nT: v\r\n\r\n"))
		}},
		"interim":    {OK, PhaseDone, func(_ *peer, a asked) bool { return a.say("HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n") && a.ok(3) }},
		"till close": {OK, PhaseDone, func(_ *peer, a asked) bool { return a.say("HTTP/1.1 200 OK\r\n\r\ngeneration=3") && false }},
		"HTTP/1.0": {OK, PhaseDone, func(_ *peer, a asked) bool {
			return a.say("HTTP/1.0 200 OK\r\nContent-Length: 12\r\n\r\ngeneration=3") && false
		}},
		"no answer": {EOF, PhaseHead, func(*peer, asked) bool { return false }},
		"reset":     {Reset, PhaseHead, func(_ *peer, a asked) bool { return a.reset() }},
		"stall":     {Timeout, PhaseHead, func(*peer, asked) bool { <-stall; return false }},
		"stall in body": {Timeout, PhaseBody, func(_ *peer, a asked) bool {
			a.say("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nge")
			<-stall
			return false
		}},
		"half a head": {Short, PhaseHead, func(_ *peer, a asked) bool { return a.say("HTTP/1.1 200 OK\r\nConte") && false }},
		"half a body": {Short, PhaseBody, func(_ *peer, a asked) bool {
			return a.say("HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\ngeneration=3") && false
		}},
		"half the chunks": {Short, PhaseBody, func(_ *peer, a asked) bool { return a.say(chunked("c\r\ngeneration=3\r\n")) && false }},
		"error status":    {Bad, PhaseBody, func(_ *peer, a asked) bool { return a.say("HTTP/1.1 503 No\r\nContent-Length: 12\r\n\r\ngeneration=3") }},
		"no generation":   {Bad, PhaseBody, func(_ *peer, a asked) bool { return a.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") }},
		"not HTTP":        {Bad, PhaseHead, func(_ *peer, a asked) bool { return a.say("220 smtp.example ESMTP\r\n") }},
		"endless head":    {Bad, PhaseHead, func(_ *peer, a asked) bool { return a.say("HTTP/1.1 200 OK\r\nA: " + strings.Repeat("b", maxHead)) }},
		"a bad chunk":     {Bad, PhaseBody, func(_ *peer, a asked) bool { return a.say(chunked("zz\r\n")) }},
	} {
		for _, kind := range []Kind{NewConnection, KeepAlive} {
			t.Run(name+"/"+string(kind), func(t *testing.T) {
				t.Parallel()
				p := newPeer(t, "tcp", c.answer)
				o := Options{Address: p.addr, NewWorkers: 2}
				if kind == KeepAlive {
					o.NewWorkers, o.KeepAliveWorkers = 0, 2
				}
				if c.want == Timeout {
					o.Timeout = 2 * time.Second // in which what comes before the stall must have come
				}
				r := run(t, o, 6)
				if r.ByOutcome[c.want] != 6 || r.ByKind[kind] != 6 {
					t.Fatalf("outcomes %v of kinds %v, want 6 %s of kind %s", r.ByOutcome, r.ByKind, c.want, kind)
				}
				if c.want == OK {
					if r.Lost() != 0 || r.ByGeneration[3] != 6 || r.Max <= 0 || r.P50 <= 0 || r.P99 < r.P50 {
						t.Fatalf("lost %d, generations %v, p50 %v p99 %v max %v", r.Lost(), r.ByGeneration, r.P50, r.P99, r.Max)
					}
					return
				}
				if r.Lost() != 6 || len(r.ByGeneration) != 0 || len(r.Failures) != 6 {
					t.Fatalf("lost %d of 6, generations %v, %d failures kept", r.Lost(), r.ByGeneration, len(r.Failures))
				}
				f := r.Failures[0]
				if f.Phase != c.phase || f.Error == "" || f.Connect.IsZero() || f.Answered.Before(f.Connected) || f.Retried {
					t.Fatalf("failure %+v, want phase %s", f, c.phase)
				}
			})
		}
	}
}

func chunked(body string) string {
	return "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body
}

func TestRefused(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	_ = ln.Close()
	for network, addr := range map[string]string{"tcp": addr, "unix": filepath.Join(t.TempDir(), "none")} {
		r := run(t, Options{Network: network, Address: addr}, 4)
		if r.ByOutcome[Refused] != 4 || r.Failures[0].Phase != PhaseConnect {
			t.Errorf("%s: %v", network, r)
		}
	}
}

// TestUnixQueueFull: connecting to a unix socket whose queue is full must wait, as it does over TCP, and not fail.
func TestUnixQueueFull(t *testing.T) {
	p := newPeer(t, "unix", func(_ *peer, a asked) bool { time.Sleep(time.Millisecond); return a.ok(1) })
	r := run(t, Options{Network: "unix", Address: p.addr, NewWorkers: 20, KeepAliveWorkers: 2}, 400)
	if r.Lost() != 0 || r.ByGeneration[1] != 400 {
		t.Error(r)
	}
}

// TestKeepAlive checks what happens to the second request on a kept connection.
func TestKeepAlive(t *testing.T) {
	again := func(then func(a asked) bool) func(*peer, asked) bool {
		return func(_ *peer, a asked) bool {
			if a.n == 1 {
				return a.ok(1)
			}
			return then(a)
		}
	}
	for name, c := range map[string]struct {
		answer   func(*peer, asked) bool
		outcomes map[Outcome]uint64
		retried  uint64
		dials    uint64
	}{
		"kept": {again(func(a asked) bool { return a.ok(1) }), map[Outcome]uint64{OK: 9}, 0, 1},
		"told to close": {func(_ *peer, a asked) bool {
			a.say("HTTP/1.1 200 OK\r\nX-Generation: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
			return true // and stays open: it is the client that must not use it again
		}, map[Outcome]uint64{OK: 9}, 0, 9},
		// Requests 2, 3, … each end on the kept connection first; each of them is repeated on a new one.
		"closed unanswered": {again(func(asked) bool { return false }), map[Outcome]uint64{OK: 9}, 8, 9},
		"reset unanswered":  {again(func(a asked) bool { return a.reset() }), map[Outcome]uint64{OK: 9}, 8, 9},
		// An answer that has begun makes it a loss: 1 ok, 2 short, 3 ok, …
		"half an answer": {again(func(a asked) bool { a.say("HTTP/1.1 2"); return false }), map[Outcome]uint64{OK: 5, Short: 4}, 0, 5},
		"half and reset": {again(func(a asked) bool {
			a.say("HTTP/1.1 2")
			time.Sleep(300 * time.Millisecond) // else the reset overtakes the bytes, and nothing has begun
			return a.reset()
		}), map[Outcome]uint64{OK: 5, Reset: 4}, 0, 5},
		// Once, not twice: the first connection answers one request, the others none.
		"repeated once": {func(_ *peer, a asked) bool { return a.connNo == 1 && a.n == 1 && a.ok(1) },
			map[Outcome]uint64{OK: 1, EOF: 8}, 1, 9},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPeer(t, "tcp", c.answer)
			r := run(t, Options{Address: p.addr, KeepAliveWorkers: 1}, 9)
			for _, o := range Outcomes() {
				if r.ByOutcome[o] != c.outcomes[o] {
					t.Errorf("%d %s, want %d", r.ByOutcome[o], o, c.outcomes[o])
				}
			}
			if r.Retried != c.retried || r.Connections != c.dials || p.accepted.Load() != int64(c.dials) {
				t.Errorf("retried %d, connections %d (server: %d); want %d and %d", r.Retried, r.Connections, p.accepted.Load(), c.retried, c.dials)
			}
		})
	}
}

// TestReopened: a connection that was closed while idle is seen before anything is written to it.
func TestReopened(t *testing.T) {
	p := newPeer(t, "tcp", func(_ *peer, a asked) bool { a.ok(1); return false })
	r := run(t, Options{Address: p.addr, KeepAliveWorkers: 1, Think: 200 * time.Millisecond}, 5)
	if r.Lost() != 0 || r.Reopened+r.Retried != 4 || r.Reopened == 0 {
		t.Error(r)
	}
}

// TestStopFinishes: what is under way when a load is stopped or cancelled is finished, and no loss.
func TestStopFinishes(t *testing.T) {
	arrived := make(chan struct{}, 100)
	p := newPeer(t, "tcp", func(_ *peer, a asked) bool {
		arrived <- struct{}{}
		time.Sleep(100 * time.Millisecond)
		return a.ok(1)
	})
	ctx, cancel := context.WithCancel(t.Context())
	l := New(Options{Address: p.addr, NewWorkers: 3, KeepAliveWorkers: 3})
	l.Start(ctx)
	for range 6 {
		<-arrived
	}
	if r := l.Snapshot(); r.Lost() != 0 || r.Elapsed <= 0 {
		t.Errorf("under way: %v", r)
	}
	cancel()
	r := l.Stop()
	if r.Requests < 6 || r.Lost() != 0 || r.Requests != uint64(p.requests.Load()) {
		t.Errorf("%v; the server saw %d", r, p.requests.Load())
	}
	if again := l.Stop(); again.Requests != r.Requests {
		t.Errorf("stopped twice: %v", again)
	}
}

func TestBounds(t *testing.T) {
	p := newPeer(t, "tcp", func(_ *peer, a asked) bool { return a.ok(1) })
	l := New(Options{Address: p.addr, Duration: 150 * time.Millisecond})
	l.Start(t.Context())
	l.workers.Wait()
	if r := l.Stop(); r.Elapsed > time.Minute || r.Requests == 0 || r.Lost() != 0 {
		t.Error(r)
	}

	bad := newPeer(t, "tcp", func(*peer, asked) bool { return false })
	l = New(Options{Address: bad.addr, MaxRequests: 50, MaxFailures: 3, Think: -1})
	l.Start(t.Context())
	l.workers.Wait()
	if r := l.Stop(); r.Lost() != 50 || len(r.Failures) != 3 {
		t.Errorf("%d failures kept: %v", len(r.Failures), r)
	}
}

// TestOpenLoop: one stall of a server must show in the latencies of all requests that should have started in it.
func TestOpenLoop(t *testing.T) {
	p := newPeer(t, "tcp", func(p *peer, a asked) bool {
		if p.requests.Load() == 10 {
			time.Sleep(300 * time.Millisecond)
		}
		return a.ok(1)
	})
	r := run(t, Options{Address: p.addr, KeepAliveWorkers: 1, Rate: 200}, 100)
	if r.Elapsed < 450*time.Millisecond {
		t.Errorf("100 requests at 200/s in %v", r.Elapsed)
	}
	if r.P50 < 20*time.Millisecond || r.Max < 300*time.Millisecond {
		t.Errorf("the stall is hidden: %v", r)
	}
}
