package handoff

import (
	"net"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	clocktesting "k8s.io/utils/clock/testing"
)

// looks has the loop look, as often as it wants to, after something for which nobody comes has arrived, and runs what is
// posted until done.
func (b *binder) looks(done func() bool) {
	b.t.Helper()
	run(b.t, b.l, "the arrival")
	fake := b.l.o.Clock.(*clocktesting.FakeClock)
	over := make(chan struct{})
	defer close(over)
	go func() { // a step waits until the loop takes what it sets off
		for {
			select {
			case <-over:
				return
			case <-time.After(time.Millisecond):
				if fake.HasWaiters() {
					fake.Step(idleLook)
				}
			}
		}
	}()
	for !done() {
		run(b.t, b.l, "what the look has found")
	}
}

// bound is what a program has bound, and listens on.
func (b *binder) bound(address string, at uint64, o socketOptions) verdict {
	b.t.Helper()
	v, q := b.l.bind(b.g, b.request(address, at, o), question{})
	if q.open {
		v, q = b.l.bind(b.g, b.request(address, at, o), q)
	}
	if q.open || v.fd < 0 {
		b.t.Fatalf("%+v, %+v", v, q)
	}
	v.answered()
	var stat unix.Stat_t
	if err := unix.Fstat(v.fd, &stat); err != nil {
		b.t.Fatal(err)
	}
	b.l.listen(b.g, stat.Ino)
	return v
}

// TestIdle: a port whose listener the live generation has closed is let go within a look after somebody has come.
func TestIdle(t *testing.T) {
	for _, network := range []string{"tcp", "udp"} {
		t.Run(network, func(t *testing.T) {
			b := newBinder(t)
			b.l.machine.Gens[0].Proven = false // as long as it has not been, a UDP port is a server's
			b.g.mainGone = false
			address := freeAddress(t)
			spec := address
			if network == "udp" {
				spec = "udp://" + address
			}
			b.bound(spec, 1, socketOptions{})
			b.l.machine.Gens[0].Proven = true
			if len(b.l.ports) != 1 {
				t.Fatalf("%d ports are held", len(b.l.ports))
			}
			conn, err := net.Dial(network, address)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := conn.Write([]byte("hello")); err != nil {
				t.Fatal(err)
			}
			b.looks(func() bool { return len(b.l.ports) == 0 })
		})
	}
}

// TestIdleWorkers: of several sockets those that nobody has any more are retired, and the port stays held by the others; not
// by one that has been bound anew meanwhile.
func TestIdleWorkers(t *testing.T) {
	b := newBinder(t)
	b.g.mainGone = false
	address := freeAddress(t)
	for at := range uint64(3) {
		b.bound(address, at+1, socketOptions{reusePort: true})
	}
	p := b.l.ports[0]
	inodes := p.Inodes(1)
	if len(inodes) != 3 {
		t.Fatalf("%d sockets", len(inodes))
	}
	changes := b.g.ledger.changes
	b.l.bindAgain(b.g, p, b.request(address, 4, socketOptions{reusePort: true}), inodes[1:2])
	b.l.dropLeft(b.g, p, b.g.ledger.stillLeft(slices.Clone(inodes[:2]), changes))
	if got := p.Inodes(1); !slices.Equal(got, inodes[1:]) {
		t.Errorf("the sockets are %v, want %v", got, inodes[1:])
	}
	conn, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	// Given to the generation, and not bound yet: all wait for their workers, until one of them has got one.
	b.l.machine.Gens[0].Proven = false
	b.g.ledger.remove(inodes[1])
	b.g.ledger.remove(inodes[2])
	b.l.dropLeft(b.g, p, slices.Clone(inodes[1:]))
	if got := p.Inodes(1); len(got) != 2 {
		t.Errorf("the sockets are %v", got)
	}
	b.g.record.Started = b.l.now()
	b.l.dropLeft(b.g, p, slices.Clone(inodes[2:]))
	if got := p.Inodes(1); len(got) != 2 {
		t.Errorf("the sockets are %v, before all workers can have started", got)
	}
	b.g.record.Started = b.l.now().Add(-startingWorkers)
	b.l.dropLeft(b.g, p, slices.Clone(inodes[2:]))
	if got := p.Inodes(1); !slices.Equal(got, inodes[1:2]) {
		t.Errorf("the sockets are %v, want %v", got, inodes[1:2])
	}
}
