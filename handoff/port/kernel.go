package port

import (
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
)

// A Kernel is what the ports of one holder find out about the kernel and the network that they have in common, so that a
// thousand of them do not each find it out. The zero value knows nothing yet. It may be used from anywhere.
type Kernel struct {
	mu     sync.Mutex
	steers map[steering]bool // where steering was seen to work

	once    sync.Once
	sources sourcePorts
}

// steering is what may have a kernel steer the one and not the other: TCP came one version after UDP, and there are kernels
// with less of IPv6.
type steering struct {
	network string
	v6      bool
}

// New makes a held port, as yet without a socket.
func (k *Kernel) New(spec Spec, log *slog.Logger) *Port {
	p := New(spec, log)
	p.kernel = k
	return p
}

func (k *Kernel) seenSteering(s steering) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.steers[s]
}

func (k *Kernel) sawSteering(s steering) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.steers == nil {
		k.steers = map[steering]bool{}
	}
	k.steers[s] = true
}

// sourcePorts are those that the kernel gives out by itself: from first to last, but for those that are reserved.
// Both zero: they are not known.
type sourcePorts struct {
	first, last int
	reserved    [][2]int
}

func (k *Kernel) sourcePorts() sourcePorts {
	k.once.Do(func() { k.sources = readSourcePorts() })
	return k.sources
}

// readSourcePorts reads them (ip(7), ip-sysctl.rst); they are the same for IPv4 and IPv6, TCP and UDP.
func readSourcePorts() sourcePorts {
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return sourcePorts{}
	}
	reserved, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_reserved_ports")
	if err != nil {
		return sourcePorts{} // a reserved one must not be taken
	}
	return parseSourcePorts(string(b), string(reserved))
}

// parseSourcePorts reads "FIRST LAST" and "PORT,FROM-TO,…"; what it does not understand leaves nothing known.
func parseSourcePorts(bounds, reserved string) sourcePorts {
	fields := strings.Fields(bounds)
	if len(fields) != 2 {
		return sourcePorts{}
	}
	first, err1 := strconv.ParseUint(fields[0], 10, 16)
	last, err2 := strconv.ParseUint(fields[1], 10, 16)
	if err1 != nil || err2 != nil || first == 0 || first > last || last < 1024 {
		return sourcePorts{}
	}
	s := sourcePorts{first: int(max(first, 1024)), last: int(last)} // those below would take a privilege
	for _, item := range strings.FieldsFunc(reserved, func(r rune) bool { return r == ',' || r == '\n' }) {
		from, to, isRange := strings.Cut(item, "-")
		if !isRange {
			to = from
		}
		low, err1 := strconv.ParseUint(from, 10, 16)
		high, err2 := strconv.ParseUint(to, 10, 16)
		if err1 != nil || err2 != nil {
			return sourcePorts{}
		}
		s.reserved = append(s.reserved, [2]int{int(low), int(high)})
	}
	return s
}

// sourceGuesses is how often a port is guessed: enough that with nine of ten taken only one search in a thousand fails.
const sourceGuesses = 64

// guesses yields ports at random that may be free, half of them of the parity that bind(2) prefers itself: connect(2) takes
// the other first (inet_csk_find_open_port and __inet_hash_connect, Linux 4.2).
func (s sourcePorts) guesses(yield func(port uint16) bool) {
	if s.first == 0 {
		return
	}
	for i := range sourceGuesses {
		port := s.first + rand.IntN(s.last-s.first+1)
		if i < sourceGuesses/2 && port%2 == s.first%2 {
			port++
		}
		if port <= s.last && !s.isReserved(port) && !yield(uint16(port)) {
			return
		}
	}
}

func (s sourcePorts) isReserved(port int) bool {
	for _, r := range s.reserved {
		if r[0] <= port && port <= r[1] {
			return true
		}
	}
	return false
}
