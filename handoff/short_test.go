package handoff

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/handoff/machine"
	"holdfast/handoff/port"
)

// TestShort: while there is no descriptor to look with, nobody is said not to have a socket, or connections, and no port is let go.
func TestShort(t *testing.T) {
	if !alone(t) {
		return
	}
	l, fake, log := newLoop(t, Options{Restart: machine.Always})
	g := &generation{number: 1, ledger: newLedger()}
	sleeper(t, l, g, "sleep")
	live(l, g, true)
	l.generations[1] = g
	spec, err := port.ParseSpec(freeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	p := port.New(spec, l.log)
	if err := p.Open(1); err != nil {
		t.Fatal(err)
	}
	l.hold(p)
	client, err := net.Dial("tcp", spec.Addr.String()) // nobody accepts it: so it is looked whether there is anybody
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()

	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	short := limit
	short.Cur = 3
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &short); err != nil {
		t.Fatal(err)
	}
	inodes := inodeSet(p.Inodes(1))
	has := hasOpen(g.pid, inodes)
	_, counted := countOpen(g.pid, inodes)
	_, members := l.censusNow().of(g)
	l.lookIdle(p)
	run(t, l, "a census that sees nothing")
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if !has || counted == nil || members == nil || !p.Held() {
		t.Errorf("has it: %v; counted: %v; members: %v; held: %v", has, counted, members, p.Held())
	}
	go fake.Step(idleLook) // it looks again by itself, and then sees that nobody has it
	run(t, l, "another look")
	run(t, l, "the census")
	run(t, l, "its outcome")
	if !p.Held() {
		t.Errorf("one look was enough: it may be about to end; log: %s", log)
	}
	go fake.Step(idleLook)
	run(t, l, "a second look")
	run(t, l, "the census")
	run(t, l, "its outcome")
	if p.Held() {
		t.Errorf("it is still held; log: %s", log)
	}
}
