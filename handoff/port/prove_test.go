package port

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptrace"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Nobody accepts: the error says so, in words and with the context's cause, and nothing is left behind.
func TestProveAcceptInVain(t *testing.T) {
	errWhy := errors.New("the time is up")
	for name, listen := range specs(t, "tcp", "udp", "unix") {
		t.Run(name, func(t *testing.T) {
			p, _ := newPort(t, listen)
			must(t, p.Open(1))
			serve(t, p, 1)
			must(t, p.Open(2))
			before := descriptors(t)
			ctx, cancel := context.WithCancelCause(t.Context())
			result := make(chan error)
			go func() { result <- p.ProveAccept(ctx, 2) }()
			eventually(t, "the probe to be queued", func() bool { return p.Pending(2) })
			verify(t, p, 1)
			cancel(errWhy)
			err := <-result
			if !errors.Is(err, errWhy) || !strings.HasPrefix(err.Error(), p.spec.String()+": queued, not ") {
				t.Errorf("error %v", err)
			}
			eventually(t, "as few descriptors as before", func() bool { return descriptors(t) <= before })
			if len(p.probes) != 0 || len(p.slots) != 0 {
				t.Errorf("%d probes and %d slots in use", len(p.probes), len(p.slots))
			}
			// What was left in the queue does no harm to the next proof.
			serve(t, p, 2)
			must(t, p.ProveAccept(testContext(t), 2))
		})
	}
}

func descriptors(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(entries)
}

// Refused, until the program listens again. The end says that it was refused, also when it comes during an attempt of which
// nothing is known yet.
func TestProveAcceptRefused(t *testing.T) {
	errWhy := errors.New("the time is up")
	p, _ := newPort(t, fmt.Sprintf("127.0.0.1:%d", freePort(t)))
	must(t, p.Open(1))
	fd, _ := p.FD(1)
	must(t, unix.Shutdown(fd, unix.SHUT_RDWR))
	ctx, cancel := context.WithCancelCause(t.Context())
	refused := false
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		ConnectStart: func(_, _ string) {
			if refused {
				cancel(errWhy)
			}
		},
		ConnectDone: func(_, _ string, err error) {
			if !refused {
				refused = errors.Is(err, unix.ECONNREFUSED)
				must(t, unix.Listen(fd, 0)) // a queue for one: what comes after it gets no answer
				connect(t, p)
			}
		},
	})
	err := p.ProveAccept(ctx, 1)
	if !refused || !errors.Is(err, errWhy) || !strings.Contains(err.Error(), ": connection refused: ") {
		t.Errorf("error %v", err)
	}
	must(t, unix.Shutdown(fd, unix.SHUT_RDWR))
	result := make(chan error)
	go func() { result <- p.ProveAccept(testContext(t), 1) }()
	must(t, unix.Listen(fd, 10)) // as haproxy does when it resumes
	serve(t, p, 1)
	must(t, <-result)
	if err := p.ProveAccept(t.Context(), 7); !errors.Is(err, errNoSocket) {
		t.Errorf("error %v for a generation without a socket", err)
	}
}

// What a generation that failed its proof leaves in its queue are probes, and they are not relayed: no user was sent there,
// and the live one has been asked nothing.
func TestProbesAreNoStragglers(t *testing.T) {
	for name, listen := range specs(t, "tcp", "udp") {
		t.Run(name, func(t *testing.T) {
			p, _ := newPort(t, listen)
			must(t, p.Open(1))
			must(t, p.Open(2))
			ctx, cancel := context.WithCancel(t.Context())
			result := make(chan error)
			go func() { result <- p.ProveAccept(ctx, 2) }()
			eventually(t, "the probe to be queued", func() bool { return p.Pending(2) })
			cancel()
			if err := <-result; err == nil {
				t.Error("proven")
			}
			if n, err := p.Retire(2); n != 0 || err != nil || p.Relayed() != 0 || p.Pending(1) {
				t.Errorf("%d stragglers, %v; something is queued for the live one: %t", n, err, p.Pending(1))
			}
			// Once it has been live, whatever is queued is a user's.
			must(t, p.Open(3))
			serve(t, p, 3).stop()
			must(t, p.Turn(3))
			conn := connect(t, p)
			_, err := conn.Write([]byte("hello"))
			must(t, err)
			must(t, p.Turn(1))
			serve(t, p, 1)
			if n, err := p.Retire(3); n != 1 || err != nil {
				t.Errorf("%d stragglers, %v; want the user", n, err)
			}
		})
	}
}

// A silent connection never reaches the queue of a listener with TCP_DEFER_ACCEPT.
func TestProveAcceptDeferred(t *testing.T) {
	p, _ := newPort(t, fmt.Sprintf("127.0.0.1:%d", freePort(t)))
	must(t, p.Open(1))
	fd, _ := p.FD(1)
	must(t, unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 30))
	silent := connect(t, p)
	defer silent.Close()
	if p.Pending(1) {
		t.Error("a silent connection got into the queue")
	}
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error)
	go func() { result <- p.ProveAccept(ctx, 1) }()
	eventually(t, "the probe to be queued", func() bool { return p.Pending(1) })
	cancel()
	if err := <-result; err == nil || !strings.Contains(err.Error(), ": queued, not accepted: ") {
		t.Errorf("error %v", err)
	}
	serve(t, p, 1)
	must(t, p.ProveAccept(testContext(t), 1))
}

// Nor does the connection that tests the switch, when the program has set the option before it listens.
func TestListenDeferred(t *testing.T) {
	p, log := newPort(t, fmt.Sprintf("127.0.0.1:%d", freePort(t)))
	must(t, p.Open(1))
	b, err := p.Bind(2, Own{FD: -1})
	must(t, err)
	must(t, unix.SetsockoptInt(b.FD(), unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 30))
	must(t, b.Listen())
	if log.count("the switch does not lead") != 0 {
		t.Error("the switch was taken for one that does not work")
	}
}

// The first generation is live before it is proven: users keep its queue from ever being seen empty. The end that the
// server sends on the probe is the proof then.
func TestProveAcceptBehindAFullQueue(t *testing.T) {
	p, _ := newPort(t, fmt.Sprintf("127.0.0.1:%d", freePort(t)))
	must(t, p.Open(1))
	fd, _ := p.FD(1)
	ctx := testContext(t)
	result := make(chan error)
	go func() { result <- p.ProveAccept(ctx, 1) }()
	eventually(t, "the probe to be queued", func() bool { return p.Pending(1) })
	connect(t, p) // stays in the queue
	conn, err := accept(fd)
	must(t, err)
	select {
	case err := <-result:
		t.Fatalf("proven by %v, with the probe accepted but a user in the queue", err)
	case <-time.After(30 * time.Millisecond): // nothing happens, which has no event
	}
	must(t, unix.Close(conn))
	must(t, <-result)
	if !p.Pending(1) {
		t.Error("the user has gone from the queue")
	}
}

// A server that resets the probe has accepted it.
func TestProveAcceptReset(t *testing.T) {
	p, _ := newPort(t, fmt.Sprintf("127.0.0.1:%d", freePort(t)))
	must(t, p.Open(1))
	fd, _ := p.FD(1)
	connect(t, p)
	connect(t, p) // one of them stays in the queue
	result := make(chan error)
	go func() { result <- p.ProveAccept(testContext(t), 1) }()
	eventually(t, "three in the queue", func() bool { return p.Queues()[0].Length == 3 })
	connect(t, p)
	for range 3 {
		conn, err := accept(fd)
		must(t, err)
		must(t, unix.SetsockoptLinger(conn, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}))
		must(t, unix.Close(conn))
	}
	must(t, <-result)
}

// Whichever loopback address the probe comes from, the program knows it: IPv4 over a dual-stack socket too.
func TestDialFromEachFamily(t *testing.T) {
	for _, network := range []string{"tcp", "udp"} {
		p, _ := newPort(t, fmt.Sprintf("%s://:%d", network, freePort(t)))
		for gen := 1; gen <= 3; gen++ {
			must(t, p.Open(gen))
			serve(t, p, gen)
		}
		sources := []string{"127.0.0.1"}
		if hasIPv6() {
			sources = append(sources, "::1")
		}
		if network == "tcp" {
			sources = append(sources, "127.0.0.2") // from where the kernel would not answer a datagram
		}
		for _, source := range sources {
			for gen := 1; gen <= 3; gen++ {
				conn, err := p.dial(testContext(t), gen, []netip.Addr{netip.MustParseAddr(source)})
				must(t, err)
				if got, err := answerer(conn); err != nil || got != gen {
					t.Errorf("%s from %s to %d: answered by %d, %v", network, source, gen, got, err)
				}
				conn.Close()
			}
		}
	}
}

// Many probes to several generations at once, more than there are slots for, while users go to the live one only.
func TestManyDialsAtOnce(t *testing.T) {
	for name, listen := range specs(t, "tcp", "udp", "unix") {
		t.Run(name, func(t *testing.T) {
			p, _ := newPort(t, listen)
			ctx := testContext(t)
			for gen := 1; gen <= 4; gen++ {
				must(t, p.Open(gen))
				serve(t, p, gen)
			}
			var all sync.WaitGroup
			for i := range 40 {
				gen := i%4 + 1
				all.Go(func() {
					for range 10 {
						conn, err := p.Dial(ctx, gen)
						if err != nil {
							t.Error(err)
							return
						}
						if got, err := answerer(conn); err != nil || got != gen {
							t.Errorf("steered to %d: answered by %d, %v", gen, got, err)
						}
						conn.Close()
					}
				})
			}
			for range 100 {
				network, addr := clientAddr(p)
				if got, err := ask(network, addr); err != nil || got != 1 {
					t.Errorf("answered by %d, %v; want 1", got, err)
				}
			}
			all.Wait()
		})
	}
}

// The slots are full: one more waits, as long as its context lasts.
func TestDialWaitsForASlot(t *testing.T) {
	p, _ := newPort(t, fmt.Sprintf(":%d", freePort(t)))
	must(t, p.Open(1))
	var open []net.Conn
	for range maxProbes {
		conn, err := p.Dial(testContext(t), 1)
		must(t, err)
		open = append(open, conn)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := p.Dial(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	result := make(chan error)
	go func() {
		conn, err := p.Dial(testContext(t), 1)
		if err == nil {
			err = conn.Close()
		}
		result <- err
	}()
	must(t, open[0].Close())
	must(t, <-result)
	for _, conn := range open[1:] {
		must(t, conn.Close())
	}
}

// Nothing the holder does may change O_NONBLOCK, which it shares with the child.
func TestNonblockStays(t *testing.T) {
	for name, listen := range specs(t, "tcp", "udp", "unix") {
		t.Run(name, func(t *testing.T) {
			p, _ := newPort(t, listen)
			must(t, p.Open(1))
			must(t, p.Open(2))
			serve(t, p, 2)
			must(t, p.ProveAccept(testContext(t), 2))
			conn := connect(t, p)
			must(t, p.Turn(2))
			must(t, p.Relay(1))
			if got, err := answerer(conn); err != nil || got != 2 {
				t.Errorf("answered by %d, %v", got, err)
			}
			for gen := 1; gen <= 2; gen++ {
				fd, _ := p.FD(gen)
				flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
				must(t, err)
				if (flags&unix.O_NONBLOCK != 0) != p.spec.Nonblock {
					t.Errorf("generation %d: flags %#x", gen, flags)
				}
				flags, err = unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
				must(t, err)
				if flags&unix.FD_CLOEXEC == 0 {
					t.Errorf("generation %d is not close-on-exec", gen)
				}
			}
		})
	}
}

// A large exchange through the relay, in both directions at once, with half-closed ends.
func TestRelayCopiesAll(t *testing.T) {
	for name, listen := range specs(t, "tcp", "unix") {
		t.Run(name, func(t *testing.T) {
			p, _ := newPort(t, listen)
			must(t, p.Open(1))
			must(t, p.Open(2))
			conn := connect(t, p)
			must(t, p.Turn(2))
			must(t, p.Relay(1))
			echo(t, p, 2)
			const size = 8 << 20
			go func() {
				if _, err := io.Copy(conn, io.LimitReader(pattern{}, size)); err != nil {
					t.Error(err)
				}
				_ = conn.(interface{ CloseWrite() error }).CloseWrite()
			}()
			n, err := io.Copy(io.Discard, conn)
			if n != size || err != nil {
				t.Errorf("%d bytes came back, %v; want %d", n, err, size)
			}
			if n, err := p.Retire(1); n != 1 || err != nil {
				t.Errorf("%d relayed, %v", n, err)
			}
		})
	}
}

type pattern struct{}

func (pattern) Read(b []byte) (int, error) { return len(b), nil }

// echo takes one connection from a generation's queue and sends back what it gets.
func echo(t *testing.T, p *Port, gen int) {
	fd, _ := p.FD(gen)
	eventually(t, "the relayed connection", func() bool { return p.Pending(gen) })
	raw, err := accept(fd)
	must(t, err)
	file := os.NewFile(uintptr(raw), "echo")
	conn, err := net.FileConn(file)
	must(t, err)
	must(t, file.Close())
	go func() {
		defer conn.Close()
		_, _ = io.Copy(conn, conn)
	}()
}

// All ports of 127.0.0.1 are taken: the probes come from another loopback address.
func TestDialWithoutAVacantPort(t *testing.T) {
	if os.Getenv(inside) == "" {
		t.Skip("needs a network of its own")
	}
	address := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	const low = 61001 // where no other test leaves anything
	must(t, os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", fmt.Appendf(nil, "%d %d", low, low+2), 0))
	defer os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte("32768 60999"), 0)
	for number := low; number <= low+2; number++ {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", number))
		must(t, err)
		defer l.Close()
	}
	p, _ := newPort(t, address) // which finds out what the kernel gives out, once
	must(t, p.Open(1))
	must(t, p.Open(2))
	serve(t, p, 2)
	conn, err := p.Dial(testContext(t), 2)
	must(t, err)
	defer conn.Close()
	if got, err := answerer(conn); err != nil || got != 2 || conn.LocalAddr().(*net.TCPAddr).IP.String() != "127.0.0.2" {
		t.Errorf("from %v answered by %d, %v", conn.LocalAddr(), got, err)
	}
}

// TestProveAcceptEach: of several sockets on one port each must be accepted on, since connections are spread over them.
func TestProveAcceptEach(t *testing.T) {
	errWhy := errors.New("the time is up")
	for name, listen := range specs(t, "tcp", "udp") {
		t.Run(name, func(t *testing.T) {
			p, _ := newPort(t, listen)
			must(t, p.Open(1))
			serve(t, p, 1)
			must(t, p.Open(2))
			serve(t, p, 2)
			second, err := p.OpenMore(2)
			must(t, err)
			third, err := p.OpenMore(2)
			must(t, err)
			serveFD(t, p, 2, third)
			ctx, cancel := context.WithCancelCause(t.Context())
			result := make(chan error)
			go func() { result <- p.ProveAccept(ctx, 2) }()
			eventually(t, "the probe of the second socket to be queued", func() bool { return waiting(second) })
			select {
			case err := <-result:
				t.Fatalf("proven, with a socket that nobody accepts on: %v", err)
			default:
			}
			cancel(errWhy)
			if err := <-result; !errors.Is(err, errWhy) || !strings.Contains(err.Error(), "1 of 3 sockets: ") {
				t.Errorf("error %v", err)
			}
			serveFD(t, p, 2, second)
			must(t, p.ProveAccept(testContext(t), 2))
		})
	}
}
