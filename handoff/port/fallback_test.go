package port

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// blindKernels are kernels without steering.
func blindKernels() map[string]func(int, []unix.SockFilter) error {
	calls := 0
	return map[string]func(int, []unix.SockFilter) error{
		"refuses the program": func(int, []unix.SockFilter) error { return unix.ENOPROTOOPT },
		"ignores the program": func(int, []unix.SockFilter) error { return nil },
		"refuses it later": func(fd int, prog []unix.SockFilter) error {
			if calls++; calls > 1 {
				return unix.EPERM
			}
			return attach(fd, prog)
		},
	}
}

func TestKernelWithoutSteering(t *testing.T) {
	for kernel := range blindKernels() {
		for name, listen := range specs(t, "tcp", "udp") {
			attach := blindKernels()[kernel]
			t.Run(name+" "+kernel, func(t *testing.T) {
				p, log := newPort(t, listen)
				p.attach, p.testTimeout = attach, 50*time.Millisecond
				withoutSteering(t, p, log)
			})
		}
	}
}

func withoutSteering(t *testing.T, p *Port, log *logged) {
	ctx := testContext(t)
	must(t, p.Open(1))
	one := serve(t, p, 1)
	must(t, p.ProveAccept(ctx, 1))
	must(t, p.Open(2))
	if p.Kind() != Shared || log.count("level=WARN") != 1 {
		t.Errorf("kind %s; log:\n%s", p.Kind(), log)
	}
	first, _ := p.FD(1)
	if second, ok := p.FD(2); !ok || second != first {
		t.Errorf("descriptors %d and %d; want the same", first, second)
	}
	one.stop()
	serve(t, p, 2)
	must(t, p.ProveAccept(ctx, 2))
	must(t, p.Turn(2))
	if p.Live() != 2 || p.CutoverAt().IsZero() {
		t.Errorf("live is %d, since %v", p.Live(), p.CutoverAt())
	}
	must(t, p.Relay(1))
	if n, err := p.Retire(1); n != 0 || err != nil {
		t.Errorf("%d relayed, %v", n, err)
	}
	conn, err := p.Dial(ctx, 2)
	must(t, err)
	defer conn.Close()
	if got, err := answerer(conn); err != nil || got != 2 {
		t.Errorf("answered by %d, %v", got, err)
	}
	must(t, p.Open(3))
	must(t, p.Turn(3))
	if _, err := p.Retire(2); err != nil || log.count("level=WARN") != 1 {
		t.Errorf("retire: %v; log:\n%s", err, log)
	}
	network, addr := clientAddr(p)
	if got, err := ask(network, addr); err != nil || got != 2 { // whoever accepts
		t.Errorf("answered by %d, %v", got, err)
	}
}

// A generation died: the next one gets its sockets, with what is queued on them.
func TestAdopt(t *testing.T) {
	for name, listen := range specs(t, "tcp", "udp", "unix") {
		t.Run(name, func(t *testing.T) {
			p, _ := newPort(t, listen)
			must(t, p.Open(1))
			conn := connect(t, p)
			_, err := conn.Write([]byte("hello"))
			must(t, err)
			must(t, p.Adopt(1, 2))
			if p.Live() != 2 {
				t.Errorf("live is %d", p.Live())
			}
			if n, err := p.Retire(1); n != 0 || err != nil {
				t.Errorf("%d relayed, %v", n, err)
			}
			serve(t, p, 2)
			buf := make([]byte, 1)
			if _, err := conn.Read(buf); err != nil || buf[0] != '2' {
				t.Errorf("answer %q, %v", buf, err)
			}
			must(t, p.Open(3))
			serve(t, p, 3)
			verify(t, p, 2, 3)
			must(t, p.Turn(3))
			verify(t, p, 2, 3)
			if err := p.Adopt(3, 2); err == nil {
				t.Error("a generation with a socket adopted another")
			}
			if err := p.Adopt(8, 9); err == nil {
				t.Error("sockets of a generation that has none were adopted")
			}
		})
	}
}

// A server shut its listener down when it stopped; the generation that gets it finds it listening again, and the others'
// places in the group are right.
func TestAdoptAfterShutdown(t *testing.T) {
	for _, others := range []int{0, 2} {
		t.Run(fmt.Sprintf("%d others", others), func(t *testing.T) {
			p, _ := newPort(t, fmt.Sprintf(":%d", freePort(t)))
			must(t, p.Open(1))
			var gens []int
			for i := range others {
				must(t, p.Open(10+i))
				serve(t, p, 10+i)
				gens = append(gens, 10+i)
			}
			fd, _ := p.FD(1)
			must(t, unix.Shutdown(fd, unix.SHUT_RDWR))
			must(t, p.Adopt(1, 2))
			serve(t, p, 2)
			_, err := p.Retire(1)
			must(t, err)
			verify(t, p, append(gens, 2)...)
		})
	}
}

func TestRefusals(t *testing.T) {
	for name, listen := range specs(t, "tcp", "udp", "unix") {
		t.Run(name, func(t *testing.T) {
			p, _ := newPort(t, listen)
			wantError := func(what string, err, want error) {
				t.Helper()
				if !isErrno(err, want) {
					t.Errorf("%s: %v, want %v", what, err, want)
				}
			}
			wantError("turn", p.Turn(1), errNoSocket)
			wantError("relay", p.Relay(1), errNoSocket)
			_, err := p.Retire(1)
			wantError("retire", err, errNoSocket)
			_, err = p.Dial(t.Context(), 1)
			wantError("dial", err, errNoSocket)
			_, err = p.OpenMore(1)
			wantError("open more", err, errNoSocket)
			must(t, p.Open(1))
			wantError("open again", p.Open(1), errHasSocket)
			wantError("relay the live one", p.Relay(1), errLive)
			must(t, p.Open(2))
			_, err = p.Retire(1)
			wantError("retire the live one", err, errLive)
			if _, ok := p.FD(3); ok {
				t.Error("a descriptor of a generation that has none")
			}
			if _, err := p.Retire(2); err != nil {
				t.Error(err)
			}
			if _, err := p.Retire(1); err != nil || p.Live() != 0 {
				t.Errorf("retire the last: %v; live is %d", err, p.Live())
			}
			must(t, p.Open(3)) // held anew
			serve(t, p, 3)
			verify(t, p, 3)
			must(t, p.Close())
			wantError("open after close", p.Open(4), errClosed)
			must(t, p.Close())
		})
	}
}
