package load

import (
	"net"
	"strings"
	"testing"
	"time"
)

// newUDPPeer answers the nth datagram, counted from 1, with answer's datagrams.
func newUDPPeer(t *testing.T, answer func(n int, request string) []string) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		buf := make([]byte, 2048)
		for n := 1; ; n++ {
			size, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			for _, a := range answer(n, strings.TrimSuffix(string(buf[:size]), "\n")) {
				_, _ = conn.WriteTo([]byte(a), from)
			}
		}
	}()
	return conn.LocalAddr().String()
}

func runUDP(t *testing.T, o UDPOptions, until func(Result) bool) Result {
	t.Helper()
	l := NewUDP(o)
	l.Start(t.Context())
	waitFor(t, l.Snapshot, until)
	r := l.Stop()
	t.Log(r)
	return r
}

func TestUDP(t *testing.T) {
	for _, same := range []bool{false, true} {
		addr := newUDPPeer(t, func(_ int, q string) []string { return []string{q + " generation=2\n"} })
		r := runUDP(t, UDPOptions{Address: addr, SameSocket: same}, func(r Result) bool { return r.Requests >= 100 })
		if r.Lost() != 0 || r.ByGeneration[2] != r.Requests || same != (r.Connections == 4) {
			t.Errorf("same socket %t: %v", same, r)
		}
	}
}

func TestUDPLost(t *testing.T) {
	var held []string
	addr := newUDPPeer(t, func(n int, q string) []string {
		switch n % 4 {
		case 1:
			held = append(held, q+" generation=1\n")
			return nil // lost; it comes too late, with the next
		case 2:
			late := held
			held = nil
			return append(late, q+" generation=1\n")
		case 3:
			return []string{q + "\n"} // no generation
		}
		return []string{q + "0 generation=9\n", q + " generation=1\n"} // another's id first
	})
	r := runUDP(t, UDPOptions{Address: addr, Workers: 1, SameSocket: true, Timeout: 500 * time.Millisecond},
		func(r Result) bool { return r.Requests >= 40 })
	if n := r.ByOutcome[Timeout]; n < 8 || n > 12 || r.ByOutcome[Bad] < 8 || r.Late < 16 || r.ByGeneration[9] != 0 {
		t.Errorf("late %d: %v", r.Late, r)
	}
}

func TestUDPRefused(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	r := runUDP(t, UDPOptions{Address: conn.LocalAddr().String()}, func(r Result) bool { return r.Requests >= 5 })
	if r.ByOutcome[Refused] < 5 {
		t.Error(r)
	}
}
