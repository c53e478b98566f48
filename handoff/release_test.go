package handoff

import (
	"testing"

	clocktesting "k8s.io/utils/clock/testing"

	"holdfast/reaper"
)

// counted counts the censuses.
type counted struct {
	Processes
	n int
}

func (c *counted) Census(families []*reaper.Family) (map[*reaper.Family][]reaper.Process, error) {
	c.n++
	return c.Processes.Census(families)
}

// TestReleaseTogether: sockets that were bound one after the other, and that no process has, are found to be so by one look
// at all processes.
func TestReleaseTogether(t *testing.T) {
	b := newBinder(t)
	counted := &counted{Processes: b.l.reaper}
	b.l.reaper = counted
	fake := b.l.o.Clock.(*clocktesting.FakeClock)
	const n = 10
	for i := range n {
		v, q := b.l.bind(b.g, b.request(freeAddress(t), uint64(i+1), socketOptions{}), question{})
		if q.open || v.fd < 0 {
			t.Fatalf("%+v, %+v", v, q)
		}
		v.answered()
		fake.Step(releaseTogether / n) // before the first look is due
	}
	if len(b.l.opening) != n || counted.n != 0 {
		t.Fatalf("%d are bound, after %d looks; want %d, none", len(b.l.opening), counted.n, n)
	}
	go fake.Step(releaseWaits()[0])
	run(t, b.l, "the look")
	run(t, b.l, "the census")
	run(t, b.l, "what it has found")
	if len(b.l.opening) != 0 || counted.n != 1 || len(b.g.ledger.bound) != 0 {
		t.Errorf("%d are bound still, after %d looks", len(b.l.opening), counted.n)
	}
}

// TestReleaseLater: what is still in use, as far as anybody can see, is looked at again, ever more rarely.
func TestReleaseLater(t *testing.T) {
	b := newBinder(t)
	counted := &counted{Processes: b.l.reaper}
	b.l.reaper = counted
	fake := b.l.o.Clock.(*clocktesting.FakeClock)
	v, q := b.l.bind(b.g, b.request(freeAddress(t), 1, socketOptions{}), question{}) // its call is not answered
	if q.open || v.fd < 0 {
		t.Fatalf("%+v, %+v", v, q)
	}
	waits := releaseWaits()
	waits = append(waits, waits[len(waits)-1])
	for i, wait := range waits {
		fake.Step(wait - 1)
		if counted.n != i {
			t.Fatalf("%d looks before wait %d is over", counted.n, i+1)
		}
		go fake.Step(1)
		run(t, b.l, "a look")
		run(t, b.l, "the census")
		run(t, b.l, "what it has found")
	}
	if counted.n != len(waits) || len(b.l.opening) != 1 {
		t.Errorf("%d looks, %d bound", counted.n, len(b.l.opening))
	}
	v.answered()
	go fake.Step(waits[len(waits)-1])
	run(t, b.l, "the last look")
	run(t, b.l, "the census")
	run(t, b.l, "what it has found")
	if len(b.l.opening) != 0 {
		t.Error("it is bound still")
	}
}
