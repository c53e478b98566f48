package port

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A new generation listens on an address that overlaps the old one's without being it: two ports, two groups. IPv4 goes
// to the old one until that is retired, and then to the other.
func TestOverlap(t *testing.T) {
	if !hasIPv6() {
		t.Skip("no IPv6")
	}
	number := freePort(t)
	old, _ := newPort(t, fmt.Sprintf("0.0.0.0:%d", number))
	next, _ := newPort(t, fmt.Sprintf(":%d", number))
	must(t, old.Open(1))
	serve(t, old, 1).stop()
	if err := next.Open(2); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("opened over another port: %v", err)
	}
	next.AllowOverlap()
	must(t, next.Open(2))
	serve(t, next, 2)
	must(t, next.ProveAccept(testContext(t), 2))
	conn := connect(t, old)
	if !old.Pending(1) {
		t.Error("IPv4 did not reach the old one")
	}
	conn.Close()
	_, err := old.Retire(1)
	must(t, err)
	if got, err := ask("tcp4", fmt.Sprintf("127.0.0.1:%d", number)); err != nil || got != 2 {
		t.Errorf("answered by %d, %v", got, err)
	}
	source := []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	conn, err = next.dial(testContext(t), 2, source)
	must(t, err)
	conn.Close()
}

// A unix listener that was shut down is readable for ever: the relay must not spin on it.
func TestRelayOfAUnixListenerThatWasShutDown(t *testing.T) {
	p, _ := newPort(t, "unix://"+filepath.Join(t.TempDir(), "s"))
	must(t, p.Open(1))
	must(t, p.Open(2))
	serve(t, p, 2)
	conn := connect(t, p)
	must(t, p.Turn(2))
	fd, _ := p.FD(1)
	must(t, unix.Shutdown(fd, unix.SHUT_RDWR))
	must(t, p.Relay(1))
	if got, err := answerer(conn); err != nil || got != 2 {
		t.Errorf("answered by %d, %v", got, err)
	}
	eventually(t, "the relay to rest", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.watch == nil && p.first(1).left
	})
	if err := p.Turn(1); !errors.Is(err, errShutDown) {
		t.Errorf("turned to it: %v", err)
	}
	n, err := p.Retire(1)
	if n != 1 || err != nil {
		t.Errorf("%d relayed, %v", n, err)
	}
}

// Without hard links a unix port works, with one socket for all.
func TestFileSystemWithoutLinks(t *testing.T) {
	p, log := newPort(t, "unix://"+filepath.Join(t.TempDir(), "s"))
	s, err := p.unixSocket(1, Own{FD: -1})
	must(t, err)
	inTheWay := s.file.name + "~"
	must(t, os.Mkdir(inTheWay, 0o700)) // link(2) fails
	p.mu.Lock()
	err = p.publishFirst(s)
	p.gens[1], p.live = []*socket{s}, 1
	p.mu.Unlock()
	must(t, err)
	must(t, os.Remove(inTheWay))
	if p.Kind() != Shared || log.count("level=WARN") != 1 {
		t.Errorf("kind %s; log:\n%s", p.Kind(), log)
	}
	must(t, p.Open(2))
	must(t, p.Turn(2))
	serve(t, p, 2)
	must(t, p.ProveAccept(testContext(t), 2))
	verify(t, p, 2)
	_, err = p.Retire(1)
	must(t, err)
	verify(t, p, 2)
	must(t, p.Close())
	if got := names(t, filepath.Dir(p.spec.Path)); len(got) != 0 {
		t.Errorf("left are %q", got)
	}
}
