package port

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Whatever the order in which generations open, turn, stop and retire, every connection reaches whom it should: the
// list of members keeps in step with the kernel's.
func TestRandomLives(t *testing.T) {
	for name, listen := range specs(t, "tcp", "udp", "unix") {
		t.Run(name, func(t *testing.T) {
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			l := &lives{t: t, random: rand.New(rand.NewPCG(seed, 0)), servers: map[int]*server{}, relayed: map[int]bool{}}
			l.port, _ = newPort(t, listen)
			for range 60 {
				l.step()
			}
			l.port.mu.Lock()
			defer l.port.mu.Unlock()
			t.Logf("%d generations, %d members left, %d of them retired", l.last, len(l.port.members), l.port.countRetired())
		})
	}
}

type lives struct {
	t       *testing.T
	port    *Port
	random  *rand.Rand
	last    int
	servers map[int]*server
	relayed map[int]bool // these answer as the live one, through the relay
}

func (l *lives) step() {
	open := slices.Sorted(maps.Keys(l.servers))
	switch op := l.random.IntN(10); {
	case len(open) == 0 || op < 3 && len(open) < 6:
		l.last++
		must(l.t, l.port.Open(l.last))
		l.servers[l.last] = serve(l.t, l.port, l.last)
	case op < 5:
		gen := open[l.random.IntN(len(open))]
		if l.relayed[gen] {
			return // its server has stopped
		}
		must(l.t, l.port.Turn(gen))
	default:
		l.leave(op, open[l.random.IntN(len(open))])
	}
	l.verify()
}

// leave has a generation that is not live go one way or another.
func (l *lives) leave(op, gen int) {
	if gen == l.port.Live() {
		return
	}
	l.servers[gen].stop()
	switch {
	case op == 5 && l.port.spec.Network == "tcp":
		l.shutDown(gen)
	case op == 6:
		must(l.t, l.port.Relay(gen))
		l.relayed[gen] = true
	default:
		_, err := l.port.Retire(gen)
		must(l.t, err)
		delete(l.servers, gen)
		delete(l.relayed, gen)
	}
}

// shutDown does what some servers do to their listener when they stop.
func (l *lives) shutDown(gen int) {
	fd, _ := l.port.FD(gen)
	must(l.t, unix.Shutdown(fd, unix.SHUT_RDWR))
	eventually(l.t, "notice of a listener that was shut down", func() bool {
		l.port.mu.Lock()
		defer l.port.mu.Unlock()
		return l.port.first(gen).left
	})
	if err := l.port.Turn(gen); err == nil {
		l.t.Error("the switch turned to a listener that was shut down")
	}
	_, err := l.port.Retire(gen)
	must(l.t, err)
	delete(l.servers, gen)
	delete(l.relayed, gen)
}

func (l *lives) verify() {
	l.t.Helper()
	var serving []int
	for gen := range l.servers {
		if !l.relayed[gen] {
			serving = append(serving, gen)
			continue
		}
		conn, err := l.port.Dial(testContext(l.t), gen)
		must(l.t, err)
		if got, err := answerer(conn); err != nil || got != l.port.Live() {
			l.t.Errorf("relayed from %d: answered by %d, %v; live is %d", gen, got, err, l.port.Live())
		}
		conn.Close()
	}
	verify(l.t, l.port, serving...)
}

// A retired member's place is taken by nobody who matters: neither the live one, at which the program points, nor a
// generation that drains.
func TestRetireKeepsTheLiveOnesPlace(t *testing.T) {
	for name, listen := range specs(t, "tcp") {
		t.Run(name, func(t *testing.T) {
			p, _ := newPort(t, listen)
			for gen := 1; gen <= 3; gen++ {
				must(t, p.Open(gen))
				serve(t, p, gen)
				must(t, p.Turn(gen))
			}
			expect := func(when string, members, standIns, live int) {
				t.Helper()
				p.mu.Lock()
				defer p.mu.Unlock()
				if len(p.members) != members || p.countRetired() != standIns || p.members[live] != p.gens[p.live][0] {
					t.Errorf("%s: %d members, %d of them retired; want %d and %d, and the live one at %d", when, len(p.members), p.countRetired(), members, standIns, live)
				}
			}
			expect("before", 3, 0, 2)
			_, err := p.Retire(1)
			must(t, err)
			verify(t, p, 2, 3)
			expect("the first retired", 3, 1, 2)
			_, err = p.Retire(2)
			must(t, err)
			verify(t, p, 3)
			expect("the second retired", 3, 2, 2)
			must(t, p.Open(4))
			serve(t, p, 4)
			verify(t, p, 3, 4)
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.countRetired() > 1 {
				t.Errorf("the next one has joined: %d members, %d of them retired", len(p.members), p.countRetired())
			}
			// Four generations' and at most one stand-in for each that retired. There was a loop here, which ended only when
			// there were no descriptors left.
			if p.lastID > 4+2 {
				t.Errorf("%d sockets were made for four generations", p.lastID)
			}
		})
	}
}

// Listeners that are shut down just before another joins or leaves: the watch has not told of them yet.
func TestOrderWithoutNotice(t *testing.T) {
	for name, listen := range specs(t, "tcp") {
		t.Run(name, func(t *testing.T) {
			p, _ := newPort(t, listen)
			servers := map[int]*server{}
			for gen := 1; gen <= 6; gen++ {
				must(t, p.Open(gen))
				servers[gen] = serve(t, p, gen)
			}
			must(t, p.Turn(5))
			verify(t, p, 1, 2, 3, 4, 5, 6)
			shutDown := func(gen int) {
				servers[gen].stop()
				must(t, unix.Shutdown(p.gens[gen][0].fd, unix.SHUT_RDWR))
			}
			p.mu.Lock() // which keeps the watch from following
			shutDown(1)
			s, err := p.memberLocked()
			must(t, err)
			p.gens[7] = []*socket{s}
			must(t, p.steer())
			p.mu.Unlock()
			serve(t, p, 7)
			verify(t, p, 2, 3, 4, 5, 6, 7)

			p.mu.Lock()
			shutDown(2)
			servers[3].stop()
			p.expel(p.gens[3][0])
			p.mu.Unlock()
			verify(t, p, 4, 5, 6, 7)
		})
	}
}

// A generation with a socket for each of its workers gets its connections on all of them, and no other does.
func TestWorkers(t *testing.T) {
	for name, listen := range specs(t, "tcp", "udp") {
		t.Run(name, func(t *testing.T) {
			p, _ := newPort(t, listen)
			must(t, p.Open(1))
			serve(t, p, 1)
			must(t, p.Open(2))
			serve(t, p, 2)
			for worker := 20; worker < 23; worker++ {
				fd, err := p.OpenMore(2)
				must(t, err)
				serveFD(t, p, worker, fd)
			}
			verify(t, p, 1, 2)
			must(t, p.Turn(2))
			network, addr := clientAddr(p)
			got := map[int]int{}
			for range 400 {
				who, err := ask(network, addr)
				must(t, err)
				got[who]++
			}
			for _, who := range []int{2, 20, 21, 22} {
				if got[who] < 40 {
					t.Errorf("too uneven: %v", got)
					break
				}
			}
			if got[1] != 0 {
				t.Errorf("the old generation got %d", got[1])
			}
			t.Logf("%v", got)
			_, err := p.Retire(1)
			must(t, err)
			if who, err := ask(network, addr); err != nil || who == 1 {
				t.Errorf("answered by %d, %v", who, err)
			}
		})
	}
}

// A socket of somebody else's is never taken for free, whatever options it has.
func TestAddressInUse(t *testing.T) {
	for _, network := range []string{"tcp", "udp"} {
		for name, options := range map[string][]int{
			"plain": nil, "reuseaddr": {unix.SO_REUSEADDR}, "reuseport": {unix.SO_REUSEADDR, unix.SO_REUSEPORT},
		} {
			t.Run(network+" "+name, func(t *testing.T) {
				p, _ := newPort(t, fmt.Sprintf("%s://127.0.0.1:%d", network, freePort(t)))
				stranger, err := bound(p.spec, p.spec.Addr, options...)
				must(t, err)
				defer unix.Close(stranger)
				if network == "tcp" {
					must(t, unix.Listen(stranger, 1))
				}
				if err := p.Open(1); !isErrno(err, unix.EADDRINUSE) {
					t.Errorf("error %v, want EADDRINUSE", err)
				}
				if p.Live() != 0 || len(p.Queues()) != 0 {
					t.Error("something was opened")
				}
			})
		}
	}
}

func isErrno(err, want error) bool {
	return errors.Is(err, want)
}
