package ready_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"k8s.io/utils/clock"

	"holdfast/handoff/port"
	"holdfast/handoff/ready"
)

// changes tells of changes as the loop does.
type changes struct {
	mu   sync.Mutex
	next chan struct{}
}

func newChanges() *changes { return &changes{next: make(chan struct{})} }

func (c *changes) channel() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.next
}

func (c *changes) tell() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.next)
	c.next = make(chan struct{})
}

// TestOpenedOneByOne: a generation that has opened some of the ports that it must is waited for, and not by a look at all
// of them for each that it opens.
func TestOpenedOneByOne(t *testing.T) {
	noLeak(t)
	const n = 40
	var ports []*port.Port
	for range n {
		p := hold(t, fmt.Sprintf("127.0.0.1:%d", freePort(t)), 1)
		serve(t, p, 1, answer(200))
		ports = append(ports, p)
	}
	var looks, waits atomic.Int32
	has := func() (of []*port.Port) {
		looks.Add(1)
		for _, p := range ports {
			if _, has := p.FD(2); has {
				of = append(of, p)
			}
		}
		return of
	}
	c := newChanges()
	proof := prove(t, ready.Target{
		Generation: 2, Held: has, Required: ports, MayOpen: true, Clock: clock.RealClock{},
		Changed: func() <-chan struct{} { waits.Add(1); return c.channel() },
	}, "accept")
	for _, p := range ports {
		if err := p.Open(2); err != nil {
			t.Fatal(err)
		}
		serve(t, p, 2, answer(200))
		before := waits.Load()
		c.tell()
		eventually(t, "the change to be looked at", func() bool { return waits.Load() > before }, func() string { return "not yet" })
	}
	proof.holds()
	if got := looks.Load(); got > n/4 {
		t.Errorf("%d looks at all ports while %d were opened", got, n)
	}
}

// TestOpenedInAnothersPlace: a port may stand for the one that is awaited, whether the holder has told of it or that one is
// not held any more.
func TestOpenedInAnothersPlace(t *testing.T) {
	for _, goes := range []bool{false, true} {
		t.Run(fmt.Sprintf("goes %v", goes), func(t *testing.T) {
			noLeak(t)
			number := freePort(t)
			one := hold(t, fmt.Sprintf("127.0.0.1:%d", number), 1)
			other := hold(t, fmt.Sprintf("127.0.0.1:%d", freePort(t)), 2)
			serve(t, other, 2, answer(200))
			var held atomic.Pointer[[]*port.Port]
			held.Store(&[]*port.Port{other})
			c := newChanges()
			var waits atomic.Int32
			proof := prove(t, ready.Target{
				Generation: 2, Held: func() []*port.Port { return *held.Load() }, Required: []*port.Port{other, one}, MayOpen: true, Clock: clock.RealClock{},
				Changed: func() <-chan struct{} { waits.Add(1); return c.channel() },
			}, "accept")
			eventually(t, "the proof to wait", func() bool { return waits.Load() > 0 }, func() string { return "not yet" })
			if goes {
				if _, err := one.Retire(1); err != nil {
					t.Fatal(err)
				}
			}
			all := hold(t, fmt.Sprintf("0.0.0.0:%d", number), 0)
			all.AllowOverlap()
			if err := all.Open(2); err != nil {
				t.Fatal(err)
			}
			serve(t, all, 2, answer(200))
			one.SetOverlaps([]port.Spec{all.Spec()})
			all.SetOverlaps([]port.Spec{one.Spec()})
			held.Store(&[]*port.Port{other, all})
			c.tell()
			proof.holds()
		})
	}
}
