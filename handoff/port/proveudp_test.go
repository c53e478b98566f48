package port

import (
	"net"
	"testing"
)

// astray is a connection during whose first Write the order of the group changes.
type astray struct {
	*net.UDPConn
	p      *Port
	writes int
}

func (a *astray) Write(b []byte) (int, error) {
	if a.writes++; a.writes == 1 {
		a.p.mu.Lock()
		a.p.epoch++
		a.p.mu.Unlock()
	}
	return a.UDPConn.Write(b)
}

// TestDeliverAgain: a datagram that may have gone astray while the order of the group changed proves nothing: another is
// sent.
func TestDeliverAgain(t *testing.T) {
	p, _ := newPort(t, specs(t, "udp")["udp4"])
	to, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must(t, err)
	defer to.Close()
	conn, err := net.DialUDP("udp", nil, to.LocalAddr().(*net.UDPAddr))
	must(t, err)
	defer conn.Close()
	a := &astray{UDPConn: conn, p: p}
	for want := 2; want <= 3; want++ {
		if seen, err := p.deliver(a); err != nil || a.writes != want {
			t.Errorf("%d written, %q, %v; want %d", a.writes, seen, err, want)
		}
	}
}
