package port

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestLifeOfAPort(t *testing.T) {
	for name, listen := range specs(t, "tcp", "udp", "unix") {
		t.Run(name, func(t *testing.T) {
			p, log := newPort(t, listen)
			ctx := testContext(t)
			must(t, p.Open(1))
			one := serve(t, p, 1)
			must(t, p.ProveAccept(ctx, 1))
			network, addr := clientAddr(p)
			want := func(gen int) {
				t.Helper()
				for range 20 {
					if got, err := ask(network, addr); err != nil || got != gen {
						t.Fatalf("answered by %d, %v; want %d", got, err, gen)
					}
				}
			}
			want(1)
			must(t, p.Open(2))
			want(1)
			serve(t, p, 2)
			must(t, p.ProveAccept(ctx, 2))
			want(1)
			conn, err := p.Dial(ctx, 2)
			must(t, err)
			if got, err := answerer(conn); err != nil || got != 2 {
				t.Errorf("steered connection answered by %d, %v; want 2", got, err)
			}
			want(1)
			must(t, conn.Close())
			must(t, p.Turn(2))
			want(2)
			must(t, p.Turn(1))
			want(1)
			must(t, p.Turn(2))
			want(2)
			if p.Pending(1) {
				t.Error("something is pending for the old generation")
			}
			one.stop()
			must(t, p.Relay(1))
			if n, err := p.Retire(1); n != 0 || err != nil {
				t.Errorf("retired with %d stragglers, %v", n, err)
			}
			want(2)
			if log.count("level=WARN") != 0 {
				t.Errorf("warnings:\n%s", log)
			}
		})
	}
}

// What is queued on a socket that nobody accepts from any more is answered all the same, before and after its retirement.
func TestStragglersAreRelayed(t *testing.T) {
	for name, listen := range specs(t, "tcp", "udp", "unix") {
		t.Run(name, func(t *testing.T) {
			p, _ := newPort(t, listen)
			must(t, p.Open(1))
			must(t, p.Open(2))
			serve(t, p, 2)
			const n = 20
			answers := make(chan string, n)
			for range n {
				conn := connect(t, p)
				_, err := conn.Write([]byte("hello"))
				must(t, err)
				go func() {
					buf := make([]byte, 10)
					n, err := conn.Read(buf)
					answers <- fmt.Sprintf("%s %v", buf[:n], err)
				}()
			}
			if !p.Pending(1) {
				t.Error("nothing is pending")
			}
			queued := n
			q := p.Queues()
			if len(q) == 2 && strings.Contains(name, "unix") && q[0].Max == 0 {
				queued = 1 // a kernel without unix_diag says only that somebody waits
			}
			if len(q) != 2 || q[0].Generation != 1 || q[0].Length < queued || queued == n && q[0].Max < n || q[1].Length != 0 {
				t.Errorf("queues %+v", q)
			}
			must(t, p.Turn(2))
			relayed, err := p.Retire(1)
			must(t, err)
			if relayed != n || p.Relayed() != n {
				t.Errorf("relayed %d, in all %d; want %d", relayed, p.Relayed(), n)
			}
			for range n {
				if got := <-answers; got != "2\n <nil>" && got != "2 <nil>" {
					t.Errorf("answer %q", got)
				}
			}
		})
	}
}

// A process that was left behind holds a duplicate of the retired listener: it is out of the group all the same.
func TestLeakedDuplicate(t *testing.T) {
	for name, listen := range specs(t, "tcp", "udp", "unix") {
		t.Run(name, func(t *testing.T) {
			p, _ := newPort(t, listen)
			for gen := 1; gen <= 3; gen++ {
				must(t, p.Open(gen))
				serve(t, p, gen)
			}
			fd, _ := p.FD(1)
			leaked, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
			must(t, err)
			defer unix.Close(leaked)
			must(t, p.Turn(2))
			_, err = p.Retire(1)
			must(t, err)
			verify(t, p, 2, 3)
			must(t, p.Open(4))
			serve(t, p, 4)
			verify(t, p, 2, 3, 4)
			must(t, p.Turn(4))
			verify(t, p, 2, 3, 4)
		})
	}
}

// verify asks each open generation through Dial, and the live one as any client would.
func verify(t testing.TB, p *Port, gens ...int) {
	t.Helper()
	for _, gen := range gens {
		conn, err := p.Dial(testContext(t), gen)
		must(t, err)
		got, err := answerer(conn)
		conn.Close()
		if err != nil || got != gen {
			t.Fatalf("steered to %d: answered by %d, %v", gen, got, err)
		}
	}
	network, addr := clientAddr(p)
	for range 4 {
		if got, err := ask(network, addr); err != nil || got != p.Live() {
			t.Fatalf("answered by %d, %v; live is %d", got, err, p.Live())
		}
	}
}

func TestCutoverAt(t *testing.T) {
	p, _ := newPort(t, fmt.Sprintf("127.0.0.1:%d", freePort(t)))
	must(t, p.Open(1))
	if !p.CutoverAt().IsZero() {
		t.Error("a switch that has not turned has a time")
	}
	must(t, p.Open(2))
	before := time.Now()
	must(t, p.Turn(2))
	at := p.CutoverAt()
	if at.Before(before) || at.After(time.Now()) {
		t.Errorf("turned at %v, called at %v", at, before)
	}
	must(t, p.Turn(2))
	if p.CutoverAt() != at {
		t.Error("a turn to the live generation was counted")
	}
}
