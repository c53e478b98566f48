package handoff

import (
	"net"
	"os"
	"reflect"
	"slices"
	"testing"

	"holdfast/handoff/machine"
	"holdfast/handoff/status"
)

// TestHeldOneByOne: each port that is opened is told of at once, as it would be if all were told anew; what was told before
// stays as it was.
func TestHeldOneByOne(t *testing.T) {
	b := newBinder(t)
	told := [][]status.Port{slices.Clone(b.l.Snapshot().Ports)}
	kept := []*status.Snapshot{b.l.Snapshot()}
	tell := func() {
		t.Helper()
		s := b.l.Snapshot()
		b.l.publish()
		if anew := b.l.Snapshot().Ports; !reflect.DeepEqual(s.Ports, anew) {
			t.Errorf("told: %+v; all told anew: %+v", s.Ports, anew)
		}
		told, kept = append(told, slices.Clone(s.Ports)), append(kept, s)
	}
	held := func(n int) {
		t.Helper()
		if s := kept[len(kept)-1]; len(s.Ports) != n || len(b.l.ports) != n || len(b.l.allPorts()) != n || len(b.l.portsOf(1)) != n {
			t.Errorf("%d ports are told of, %d held; want %d", len(s.Ports), len(b.l.ports), n)
		}
		for _, p := range b.l.ports {
			if !b.l.isHeld(p) || b.l.portFor(1, p.Spec()) != p {
				t.Errorf("%s is not known to be held", p)
			}
		}
	}
	for i := range 5 {
		b.bound(freeAddress(t), uint64(i+1), socketOptions{})
		tell()
		held(i + 1)
	}
	gone := b.l.ports[1]
	b.l.dropSocket(b.g, gone)
	tell()
	held(4)
	if b.l.isHeld(gone) {
		t.Errorf("%s is still known", gone)
	}
	b.bound(freeAddress(t), 6, socketOptions{})
	tell()
	held(5)
	for i, s := range kept {
		if !reflect.DeepEqual(slices.Clone(s.Ports), told[i]) {
			t.Errorf("snapshot %d was %+v, and is %+v", i, told[i], s.Ports)
		}
	}
}

// TestHeldOverlap: a port that overlaps one that is held changes what is told of that.
func TestHeldOverlap(t *testing.T) {
	b := newBinder(t)
	address := freeAddress(t)
	_, number, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	b.bound(address, 1, socketOptions{})
	before := b.l.ports[0]
	b.g = &generation{number: 2, pid: os.Getpid(), unbound: newUnbound(b.l.o.Clock), ledger: newLedger(), mainGone: true}
	b.l.generations[2] = b.g
	b.l.machine.Gens = append(b.l.machine.Gens, machine.Generation{Number: 2, State: status.Proving})
	b.bound("0.0.0.0:"+number, 2, socketOptions{})
	s := b.l.Snapshot()
	b.l.publish()
	if anew := b.l.Snapshot().Ports; !reflect.DeepEqual(s.Ports, anew) {
		t.Errorf("told: %+v; all told anew: %+v", s.Ports, anew)
	}
	if !before.Overlapped() || len(s.Ports) != 2 || len(s.Ports[0].Overlaps) != 1 {
		t.Errorf("told: %+v", s.Ports)
	}
	b.l.dropSocket(b.g, b.l.ports[1])
	if before.Overlapped() || len(b.l.near) != 1 {
		t.Errorf("after the other has gone it still overlaps; %d places", len(b.l.near))
	}
}
