package port

import (
	"bufio"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseSourcePorts(t *testing.T) {
	for _, c := range []struct {
		bounds, reserved string
		want             sourcePorts
	}{
		{"32768\t60999\n", "\n", sourcePorts{first: 32768, last: 60999}},
		{"40000 40000\n", "8080,30000-32767,40001\n", sourcePorts{first: 40000, last: 40000, reserved: [][2]int{{8080, 8080}, {30000, 32767}, {40001, 40001}}}},
		{"1 2000\n", "", sourcePorts{first: 1024, last: 2000}},
		{"1 1000\n", "", sourcePorts{}},
		{"60999 32768\n", "", sourcePorts{}},
		{"32768\n", "", sourcePorts{}},
		{"32768 70000\n", "", sourcePorts{}},
		{"32768 60999\n", "80,x\n", sourcePorts{}},
		{"32768 60999\n", "80-\n", sourcePorts{}},
	} {
		if got := parseSourcePorts(c.bounds, c.reserved); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q, %q: %+v; want %+v", c.bounds, c.reserved, got, c.want)
		}
	}
}

func TestGuesses(t *testing.T) {
	s := sourcePorts{first: 40000, last: 40007, reserved: [][2]int{{40002, 40003}, {40005, 40005}}}
	seen := map[uint16]bool{}
	for range 100 {
		n := 0
		for port := range s.guesses {
			seen[port] = true
			if n++; n > sourceGuesses {
				t.Fatal("there is no end of guesses")
			}
		}
	}
	if want := map[uint16]bool{40000: true, 40001: true, 40004: true, 40006: true, 40007: true}; !reflect.DeepEqual(seen, want) {
		t.Errorf("guessed %v; want %v", seen, want)
	}
	for port := range (sourcePorts{}).guesses {
		t.Errorf("guessed %d where nothing is known", port)
	}
}

// A probe gets a port where most are taken, and where all of those that are guessed are it is the kernel that finds one.
func TestBindProbeWhereMostIsTaken(t *testing.T) {
	source := netip.MustParseAddr("127.0.0.1")
	low := freePort(t) &^ 7
	block := sourcePorts{first: low, last: low + 7}
	var held []int
	take := func(port int) {
		if fd, err := bound(Spec{Network: "tcp"}, netip.AddrPortFrom(source, uint16(port))); err == nil {
			held = append(held, fd)
		}
	}
	t.Cleanup(func() {
		for _, fd := range held {
			unix.Close(fd)
		}
	})
	probe := func() int {
		t.Helper()
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		must(t, err)
		held = append(held, fd)
		from, err := bindProbe(fd, source, block)
		must(t, err)
		sa, err := unix.Getsockname(fd)
		must(t, err)
		if addrPort(sa) != from {
			t.Errorf("bound to %v, and said to be %v", addrPort(sa), from)
		}
		return int(from.Port())
	}
	for port := block.first; port < block.last; port++ {
		take(port)
	}
	if got := probe(); got < block.first || got > block.last {
		t.Logf("%d, which is none of %d to %d: the last was not free, either", got, block.first, block.last)
	}
	take(block.last)
	if got := probe(); got >= block.first && got <= block.last {
		t.Errorf("%d, which is taken", got)
	}
}

// What tests the switch leaves nothing in TIME_WAIT: a thousand ports would leave a client on this machine few to connect
// from, and the kernel searches for one for milliseconds then.
func TestSelfTestLeavesNothing(t *testing.T) {
	for name, listen := range specs(t, "tcp") {
		t.Run(name, func(t *testing.T) {
			p, _ := newPort(t, listen)
			before := timeWaits(t, p.spec.Addr.Port()) // another test may have had this number, a minute ago
			must(t, p.Open(1))
			must(t, p.Open(2))
			if left := timeWaits(t, p.spec.Addr.Port()); left > before {
				t.Errorf("%d connections are left in TIME_WAIT, of which there were %d before", left, before)
			}
		})
	}
}

// timeWaits counts the connections in TIME_WAIT that have been to a port.
func timeWaits(t *testing.T, port uint16) (n int) {
	t.Helper()
	for _, table := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		f, err := os.Open(table)
		if os.IsNotExist(err) {
			continue
		}
		must(t, err)
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			fields := strings.Fields(lines.Text())
			if len(fields) < 4 || fields[3] != "06" {
				continue
			}
			for _, end := range fields[1:3] {
				if strings.HasSuffix(end, fmt.Sprintf(":%04X", port)) {
					n++
				}
			}
		}
		must(t, lines.Err())
		f.Close()
	}
	return n
}

// That a kernel steers is found out once, not by each port anew; that a port's own socket is reached is.
func TestSteeringIsFoundOutOnce(t *testing.T) {
	var kernel Kernel
	steered := func(network string) (n int) {
		t.Helper()
		spec, err := ParseSpec(network + "127.0.0.1:" + strconv.Itoa(freePort(t)))
		must(t, err)
		p := kernel.New(spec, slog.New(slog.DiscardHandler))
		defer p.Close()
		p.attach = func(fd int, prog []unix.SockFilter) error {
			if len(prog) > 1 { // with a route for a probe
				n++
			}
			return attach(fd, prog)
		}
		must(t, p.Open(1))
		must(t, p.Open(2))
		return n
	}
	for _, network := range []string{"", "udp://"} {
		if first, second := steered(network), steered(network); first != firstProbes || second != 1 {
			t.Errorf("%q: %d probes for the first port, %d for the second; want %d and 1", network, first, second, firstProbes)
		}
	}
}
