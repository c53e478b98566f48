package port

import (
	"errors"
	"maps"
	"testing"

	"golang.org/x/sys/unix"
)

// few leaves one port of each kind: to wait for sockets to be taken out of service takes its time.
func few(all map[string]string) map[string]string {
	maps.DeleteFunc(all, func(name, _ string) bool { return name != "tcp4" && name != "tcp dual" && name != "udp4" })
	return all
}

func inodeOf(t *testing.T, fd int) uint64 {
	t.Helper()
	var stat unix.Stat_t
	must(t, unix.Fstat(fd, &stat))
	return stat.Ino
}

// TestRetireOne: a worker with a socket of its own ends, under traffic. What waits on that is relayed to the others, and no
// client is sent there any more; nor is the next generation disturbed.
func TestRetireOne(t *testing.T) {
	for name, listen := range few(specs(t, "tcp", "udp")) {
		t.Run(name, func(t *testing.T) {
			p, _ := newPort(t, listen)
			must(t, p.Open(1))
			workers, inodes := []*server{serve(t, p, 1)}, p.Inodes(1)
			for range 2 {
				fd, err := p.OpenMore(1)
				must(t, err)
				workers, inodes = append(workers, serveFD(t, p, 1, fd)), append(inodes, inodeOf(t, fd))
			}
			tr := startTraffic(t, p, 1)
			tr.some(t, 20)
			for _, one := range []int{1, 0} { // the one in the middle, then the first
				workers[one].stop()
				eventually(t, "somebody who waits in vain", func() bool { return waitingOn(p, inodes[one]) })
				must(t, p.RetireOne(1, inodes[one]))
				tr.some(t, 200)
			}
			if err := p.RetireOne(1, inodes[0]); !errors.Is(err, errNoSocket) {
				t.Errorf("once more: %v", err)
			}
			if err := p.RetireOne(1, inodes[2]); !errors.Is(err, errLast) {
				t.Errorf("the last one: %v", err)
			}
			eventually(t, "the sockets gone", func() bool {
				p.mu.Lock()
				defer p.mu.Unlock()
				return len(p.members)-p.countRetired() == 1 && p.countRetired() <= 2 // stand-ins, until another joins
			})
			if p.Relayed() == 0 {
				t.Error("nothing was relayed: that shows nothing")
			}
			must(t, p.Open(2))
			serve(t, p, 2)
			must(t, p.ProveAccept(testContext(t), 2))
			must(t, p.Turn(2))
			tr.turned.Store(2)
			tr.some(t, 20)
			tr.end(t, p)
			verify(t, p, 1, 2)
		})
	}
}

func waitingOn(p *Port, inode uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sockets() {
		if s.inode() == inode {
			return waiting(s.fd)
		}
	}
	return false
}

// TestRetireOneOften: workers come and go under traffic, and leave nothing in the group.
func TestRetireOneOften(t *testing.T) {
	for name, listen := range few(specs(t, "tcp", "udp")) {
		t.Run(name, func(t *testing.T) {
			p, _ := newPort(t, listen)
			must(t, p.Open(1))
			workers, inodes := []*server{serve(t, p, 1)}, p.Inodes(1)
			start := func() {
				fd, err := p.OpenMore(1)
				must(t, err)
				workers, inodes = append(workers, serveFD(t, p, 1, fd)), append(inodes, inodeOf(t, fd))
			}
			start()
			tr := startTraffic(t, p, 1)
			for range 20 {
				workers[0].stop()
				must(t, p.RetireOne(1, inodes[0]))
				workers, inodes = workers[1:], inodes[1:]
				start()
				tr.some(t, 20)
			}
			eventually(t, "all sockets gone", func() bool {
				p.mu.Lock()
				defer p.mu.Unlock()
				return len(p.members) == 2 || len(p.members) == 3 && p.countRetired() == 1
			})
			tr.end(t, p)
			verify(t, p, 1)
		})
	}
}

// TestRetireOneOfTwoGenerations: a socket that the generation before has, too, is only taken from the one that has lost it.
func TestRetireOneOfTwoGenerations(t *testing.T) {
	p, _ := newPort(t, specs(t, "tcp")["tcp4"])
	must(t, p.Open(1))
	serve(t, p, 1)
	fd, err := p.OpenMore(1)
	must(t, err)
	inode := inodeOf(t, fd)
	must(t, p.Adopt(1, 2))
	must(t, p.RetireOne(2, inode))
	network, addr := clientAddr(p)
	for range 50 {
		if who, err := ask(network, addr); err != nil || who != 1 {
			t.Fatalf("answered by %d, %v", who, err)
		}
	}
	if got := p.Inodes(1); len(got) != 2 || len(p.Inodes(2)) != 1 {
		t.Errorf("the generations have %v and %v", got, p.Inodes(2))
	}
	_, err = p.Retire(1)
	must(t, err)
	if who, err := ask(network, addr); err != nil || who != 1 { // which the server of that number answers still
		t.Errorf("answered by %d, %v", who, err)
	}
}
