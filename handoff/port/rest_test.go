package port

import (
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A thousand ports at rest cost a descriptor each and no goroutine; a handoff of all of them leaves it so.
func TestAThousandPorts(t *testing.T) {
	const n = 1000
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Max < 6*n {
		t.Skip("too few descriptors allowed")
	}
	goroutines, files := runtime.NumGoroutine(), descriptors(t)
	ports := make([]*Port, n)
	began := time.Now()
	for i := range ports {
		spec := Spec{Network: "tcp", Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 77, byte(i >> 8), byte(i)}), 12000)}
		ports[i] = New(spec, slog.New(slog.DiscardHandler))
		defer ports[i].Close()
		must(t, ports[i].Open(1))
	}
	t.Logf("opened in %v", time.Since(began))
	if runtime.NumGoroutine() > goroutines || descriptors(t) > files+n {
		t.Errorf("at rest: %d goroutines more, %d descriptors more", runtime.NumGoroutine()-goroutines, descriptors(t)-files)
	}
	each := func(what string, do func(*Port) error) {
		began := time.Now()
		for _, p := range ports {
			must(t, do(p))
		}
		t.Logf("%s in %v", what, time.Since(began))
	}
	each("opened again", func(p *Port) error { return p.Open(2) })
	each("turned", func(p *Port) error { return p.Turn(2) })
	each("relay", func(p *Port) error { return p.Relay(1) })
	each("retired", func(p *Port) error { _, err := p.Retire(1); return err })
	// A stand-in keeps the retired socket's place until the next generation joins; a watch, which is one parked goroutine,
	// tells if the live one should leave the group meanwhile.
	eventually(t, "rest", func() bool { return runtime.NumGoroutine() <= goroutines+n && descriptors(t) <= files+3*n })
}

func BenchmarkTurn(b *testing.B) {
	p, _ := newPort(b, fmt.Sprintf("127.0.0.1:%d", freePort(b)))
	must(b, p.Open(1))
	must(b, p.Open(2))
	for i := 0; b.Loop(); i++ {
		must(b, p.Turn(1+i%2))
	}
}

func BenchmarkOpenAndRetire(b *testing.B) {
	p, _ := newPort(b, fmt.Sprintf("127.0.0.1:%d", freePort(b)))
	must(b, p.Open(1))
	for b.Loop() {
		must(b, p.Open(2))
		_, err := p.Retire(2)
		must(b, err)
	}
}
