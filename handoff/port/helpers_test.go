package port

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/e2e/freeport"
)

const patience = 90 * time.Second

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits until ok, looking every millisecond.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for: %s", what)
		}
	}
}

func freePort(t testing.TB) int {
	t.Helper()
	return freeport.Choose(t)
}

// logged collects what a Port logs.
type logged struct {
	mu sync.Mutex
	bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(b)
}

func (l *logged) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.String(), s)
}

func newPort(t testing.TB, listen string) (*Port, *logged) {
	t.Helper()
	spec, err := ParseSpec(listen)
	if err != nil {
		t.Fatal(err)
	}
	log := &logged{}
	p := New(spec, slog.New(slog.NewTextHandler(log, nil)))
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if t.Failed() {
			t.Logf("log of %s:\n%s", spec, log.String())
		}
	})
	return p, log
}

// specs are the kinds of port that most tests run over.
func specs(t testing.TB, networks ...string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, n := range networks {
		number := freePort(t)
		switch n {
		case "unix":
			all[n] = "unix://" + filepath.Join(t.TempDir(), "s")
		case "udp":
			all["udp4"] = fmt.Sprintf("udp://127.0.0.1:%d", number)
			all["udp dual"] = fmt.Sprintf("udp://:%d", freePort(t))
		case "tcp":
			all["tcp4"] = fmt.Sprintf("127.0.0.1:%d", number)
			all["tcp4 any"] = fmt.Sprintf("0.0.0.0:%d", freePort(t))
			all["tcp dual"] = fmt.Sprintf(":%d", freePort(t))
			all["tcp nonblocking"] = fmt.Sprintf("127.0.0.1:%d?nonblock=1", freePort(t))
		}
		if n == "tcp" && hasIPv6() {
			all["tcp6"] = fmt.Sprintf("[::1]:%d", freePort(t))
			all["tcp6 any"] = fmt.Sprintf("[::]:%d", freePort(t))
		}
		if n == "udp" && hasIPv6() {
			all["udp6"] = fmt.Sprintf("udp://[::1]:%d", freePort(t))
		}
	}
	return all
}

// hasIPv6 says whether there is a loopback address of that family.
func hasIPv6() bool {
	conn, err := net.ListenPacket("udp6", "[::1]:0")
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// clientAddr is where a user connects to.
func clientAddr(p *Port) (network, addr string) {
	if p.spec.Network == "unix" {
		return "unix", p.spec.Path
	}
	host := p.addr.Addr()
	if host.IsUnspecified() {
		if host = loopback(host); !hasIPv6() {
			host = loopback(netip.IPv4Unspecified())
		}
	}
	return p.spec.Network, netip.AddrPortFrom(host, p.addr.Port()).String()
}

func connect(t testing.TB, p *Port) net.Conn {
	t.Helper()
	network, addr := clientAddr(p)
	conn, err := net.DialTimeout(network, addr, patience)
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	must(t, conn.SetDeadline(time.Now().Add(patience)))
	return conn
}

// ask connects to network, addr and returns the number of the generation that answers.
func ask(network, addr string) (int, error) {
	conn, err := net.DialTimeout(network, addr, patience)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	return answerer(conn)
}

// answerer says hello on conn and reads who answers.
func answerer(conn net.Conn) (int, error) {
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return 0, err
	}
	if _, err := conn.Write([]byte("hello\n")); err != nil {
		return 0, err
	}
	buf := make([]byte, 16)
	n, err := conn.Read(buf)
	if err != nil {
		return 0, err
	}
	if stream, ok := conn.(interface{ CloseWrite() error }); ok && conn.LocalAddr().Network() != "udp" {
		if err := stream.CloseWrite(); err != nil {
			return 0, err
		}
		if rest, err := io.ReadAll(conn); err != nil || len(rest) != 0 {
			return 0, fmt.Errorf("%q after the answer, %w", rest, err)
		}
	}
	return strconv.Atoi(string(bytes.TrimSpace(buf[:n])))
}

// A server stands in for a generation's process: it has a duplicate of the socket and answers with its number.
type server struct {
	gen    int
	fd     int // its duplicate
	wake   int // an eventfd that ends it
	done   chan struct{}
	conns  sync.WaitGroup
	stream bool
}

// serve starts generation gen's server.
func serve(t testing.TB, p *Port, gen int) *server {
	t.Helper()
	fd, ok := p.FD(gen)
	if !ok {
		t.Fatalf("generation %d has no socket", gen)
	}
	return serveFD(t, p, gen, fd)
}

func serveFD(t testing.TB, p *Port, gen, fd int) *server {
	t.Helper()
	s := &server{gen: gen, done: make(chan struct{}), stream: p.spec.Network != "udp"}
	var err error
	s.fd, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	must(t, err)
	s.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	must(t, err)
	go s.run()
	t.Cleanup(s.stop)
	return s
}

func (s *server) run() {
	defer close(s.done)
	for {
		poll := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}, {Fd: int32(s.wake), Events: unix.POLLIN}}
		if _, err := unix.Poll(poll, -1); err == unix.EINTR {
			continue
		}
		if poll[1].Revents != 0 {
			return
		}
		if poll[0].Revents&unix.POLLIN == 0 || s.one() == unix.EINVAL {
			_, _ = unix.Poll(poll[1:], -1) // shut down: only the end is left to wait for
			return
		}
	}
}

// one takes what is there. The descriptor may be a blocking one: should somebody else have taken it, a real server would
// hang as well, but here nobody else does while it runs.
func (s *server) one() error {
	if !s.stream {
		buf := make([]byte, 100)
		n, from, err := unix.Recvfrom(s.fd, buf, unix.MSG_DONTWAIT)
		if err == nil && n > 0 {
			_ = unix.Sendto(s.fd, []byte(strconv.Itoa(s.gen)), 0, from)
		}
		return err
	}
	conn, _, err := unix.Accept4(s.fd, unix.SOCK_CLOEXEC)
	if err != nil {
		return err
	}
	s.conns.Go(func() {
		defer unix.Close(conn)
		buf := make([]byte, 100)
		if n, _ := unix.Read(conn, buf); n <= 0 {
			return
		}
		_, _ = unix.Write(conn, []byte(strconv.Itoa(s.gen)+"\n"))
		for {
			if n, err := unix.Read(conn, buf); n <= 0 && err != unix.EINTR {
				return
			}
		}
	})
	return nil
}

// stop ends the server as if its process were gone: what it has accepted it serves to the end.
func (s *server) stop() {
	select {
	case <-s.done:
		return
	default:
	}
	_, _ = unix.Write(s.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	<-s.done
	unix.Close(s.fd)
	unix.Close(s.wake)
}
