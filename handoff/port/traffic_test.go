package port

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

// Traffic is new connections all the time, from four clients at once, none of which may fail or be answered by a
// generation older than the one that Turn had returned for when it was opened.
type traffic struct {
	turned, asked atomic.Int64
	stop          chan struct{}
	clients       sync.WaitGroup
}

func startTraffic(t *testing.T, p *Port, live int) *traffic {
	tr := &traffic{stop: make(chan struct{})}
	tr.turned.Store(int64(live))
	network, addr := clientAddr(p)
	for range 4 {
		tr.clients.Go(func() {
			for tr.once(t, network, addr) {
			}
		})
	}
	return tr
}

func (tr *traffic) once(t *testing.T, network, addr string) bool {
	select {
	case <-tr.stop:
		return false
	default:
	}
	atLeast := tr.turned.Load()
	got, err := ask(network, addr)
	tr.asked.Add(1)
	if err != nil || int64(got) < atLeast {
		t.Errorf("answered by %d, %v; the switch had turned to %d", got, err, atLeast)
		return false
	}
	return true
}

// some waits until n more connections have been answered.
func (tr *traffic) some(t *testing.T, n int64) {
	seen := tr.asked.Load()
	eventually(t, "some traffic", func() bool { return tr.asked.Load() > seen+n || t.Failed() })
}

func (tr *traffic) end(t *testing.T, p *Port) {
	close(tr.stop)
	tr.clients.Wait()
	t.Logf("%d connections, %d relayed", tr.asked.Load(), p.Relayed())
}

func TestNoConnectionIsLost(t *testing.T) {
	for name, listen := range specs(t, "tcp", "unix") {
		t.Run(name, func(t *testing.T) { handoffs(t, listen, 50, 0) })
	}
}

// Three old generations drain beside the live one, and accept no more, when the oldest of them is retired.
func TestNoConnectionIsLostAmongDrainingOnes(t *testing.T) {
	for name, listen := range specs(t, "tcp", "unix") {
		t.Run(name, func(t *testing.T) { handoffs(t, listen, 50, 3) })
	}
}

// handoffs makes so many under traffic; each old generation stops at once and is retired when so many others have.
func handoffs(t *testing.T, listen string, rounds, drain int) {
	p, _ := newPort(t, listen)
	must(t, p.Open(1))
	old := serve(t, p, 1)
	tr := startTraffic(t, p, 1)
	for gen := 2; gen < rounds+2 && !t.Failed(); gen++ {
		must(t, p.Open(gen))
		next := serve(t, p, gen)
		must(t, p.ProveAccept(testContext(t), gen))
		must(t, p.Turn(gen))
		tr.turned.Store(int64(gen))
		tr.some(t, 20)
		eventually(t, "empty queue", func() bool { return !p.Pending(gen - 1) })
		old.stop()
		if gone := gen - 1 - drain; gone > 0 {
			must(t, p.Relay(gone))
			_, err := p.Retire(gone)
			must(t, err)
		}
		old = next
	}
	tr.end(t, p)
}

// The switch turns back and forth under traffic.
func TestTurningBackAndForth(t *testing.T) {
	for name, listen := range specs(t, "tcp", "unix") {
		t.Run(name, func(t *testing.T) {
			p, _ := newPort(t, listen)
			for gen := 1; gen <= 3; gen++ {
				must(t, p.Open(gen))
				serve(t, p, gen)
			}
			tr := startTraffic(t, p, 1)
			for i := range 200 {
				must(t, p.Turn(1+i%3))
				tr.some(t, 1)
			}
			tr.end(t, p)
		})
	}
}

// The holder that accepts from a blocking listener may lose the race for a connection and get stuck in accept(2). It must
// relay what it gets there later on, and let go when the generation is retired.
func TestRelayStuckInAccept(t *testing.T) {
	for name, listen := range specs(t, "tcp", "unix") {
		t.Run(name, func(t *testing.T) {
			if name == "tcp nonblocking" {
				t.Skip("it does not get stuck")
			}
			p, _ := newPort(t, listen)
			for gen := 1; gen <= 2; gen++ {
				must(t, p.Open(gen))
			}
			serve(t, p, 2)
			must(t, p.Turn(2))
			s := p.first(1)
			const rivals = 8
			for range rivals {
				s.helpers.Go(func() {
					if conn, err := accept(s.fd); err == nil { // as if the queue had just been seen not empty
						p.straggle(s, conn)
					}
				})
			}
			for n := range rivals / 2 {
				conn, err := p.Dial(testContext(t), 1)
				must(t, err)
				if got, err := answerer(conn); err != nil || got != 2 {
					t.Errorf("connection %d: answered by %d, %v", n, got, err)
				}
				conn.Close()
			}
			if n, err := p.Retire(1); n != rivals/2 || err != nil {
				t.Errorf("%d relayed, %v", n, err)
			}
			s.helpers.Wait()
		})
	}
}

// Beside a blocking server that still accepts, each connection goes to one of the two.
func TestRelayBesideAServer(t *testing.T) {
	p, _ := newPort(t, fmt.Sprintf("127.0.0.1:%d", freePort(t)))
	must(t, p.Open(1))
	rival := serve(t, p, 1)
	must(t, p.Open(2))
	serve(t, p, 2)
	must(t, p.Turn(2))
	must(t, p.Relay(1))
	answered := map[int]int{}
	for range 300 {
		conn, err := p.Dial(testContext(t), 1)
		must(t, err)
		got, err := answerer(conn)
		must(t, err)
		conn.Close()
		answered[got]++
	}
	_, err := p.Retire(1)
	must(t, err)
	rival.stop()
	t.Logf("answered by %v", answered)
	if uint64(answered[2]) != p.Relayed() {
		t.Errorf("%d relayed, answered by %v", p.Relayed(), answered)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.members) != 2 || p.countRetired() != 1 {
		t.Errorf("%d members, %d of them retired; want the live one and a stand-in", len(p.members), p.countRetired())
	}
}
