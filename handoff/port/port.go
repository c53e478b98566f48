package port

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// The kinds of switch.
const (
	Reuseport = "reuseport" // a BPF program chooses the member of a SO_REUSEPORT group
	Rename    = "rename"    // the path of a unix socket is renamed over
	Shared    = "shared"    // none: all generations share one socket, since this kernel can't steer
)

// A Port is one held port. All methods may be called at the same time; those that take a context wait, and so, shortly,
// may Open, Adopt, Retire and Close, which exclude each other. No other waits.
type Port struct {
	spec  Spec
	key   string // spec.String()
	log   *slog.Logger
	slots chan struct{} // one for each connection of Dial that is open

	kernel *Kernel // what it knows together with others

	ctx     context.Context // ends with Close: everything in the background stops
	stop    context.CancelFunc
	tasks   sync.WaitGroup // what runs in the background
	relays  sync.WaitGroup // of that, the stragglers that are relayed
	relayed atomic.Uint64

	// Tests put other kernels in attach's place, and shorten the other.
	attach      func(fd int, prog []unix.SockFilter) error
	testTimeout time.Duration

	slow sync.Mutex // held through Open, Adopt, Retire and Close; taken before mu

	mu       sync.Mutex // guards all below
	addr     netip.AddrPort
	overlap  bool
	others   []Spec       // the other held ports that overlap this one
	heir     *inheritance // where it has been given up to; nil = nowhere
	shared   bool
	verified bool // steering was seen to work
	closed   bool

	gens    map[int][]*socket
	members []*socket // the reuseport group in the kernel's order
	epoch   int       // counts how often a member left and another took its place
	live    int
	turned  time.Time
	probes  []*probe

	path     string // where clients find a unix socket; spec.Path until a program renames it
	lastID   int
	watch    *watch
	arrivals *arrivals
	owner    *Owner                   // of unix sockets; nil = this process
	flows    map[netip.AddrPort]*flow // clients whose datagrams are relayed
	buffer   []byte                   // for one datagram
}

// New makes a held port, as yet without a socket, that finds out everything for itself: the only one, or a test's. Others
// have a Kernel in common.
func New(spec Spec, log *slog.Logger) *Port {
	ctx, stop := context.WithCancel(context.Background())
	return &Port{
		spec: spec, key: spec.String(), log: log.With("port", spec.String()), addr: spec.Addr, kernel: &Kernel{},
		slots: make(chan struct{}, maxProbes),
		ctx:   ctx, stop: stop, attach: attach, testTimeout: testTimeout,
		path: spec.Path, gens: map[int][]*socket{}, flows: map[netip.AddrPort]*flow{},
	}
}

// Spec is what New was given.
func (p *Port) Spec() Spec { return p.spec }

// String is the canonical form of its address, as Spec's. It costs nothing: it was made with the port.
func (p *Port) String() string { return p.key }

// Kind is the kind of switch: Reuseport, Rename or Shared.
func (p *Port) Kind() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.kind()
}

func (p *Port) kind() string {
	switch {
	case p.shared:
		return Shared
	case p.spec.Network == "unix":
		return Rename
	default:
		return Reuseport
	}
}

// AllowOverlap lets the first Open go without the test for somebody else on the address. It is for a port whose address
// overlaps another held port's without being it (0.0.0.0:80 and [::]:80 dual stack), which the test would take for a
// stranger's.
func (p *Port) AllowOverlap() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.overlap = true
}

// Live is the generation that the switch points at; 0 = none.
func (p *Port) Live() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.live
}

// CutoverAt is when the switch last turned: from then on every new connection reaches the live generation. It is zero
// as long as it has not turned.
func (p *Port) CutoverAt() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.turned
}

// Relayed is how many stragglers (datagrams, for UDP) have been relayed so far.
func (p *Port) Relayed() uint64 { return p.relayed.Load() }

// FD is the descriptor of generation gen's socket (of its first, if it has several). The Port owns it: it stays valid
// until Retire, RetireOne or Close, and the caller must neither close it nor change its flags, only have it duplicated
// into a child. It is close-on-exec.
func (p *Port) FD(gen int) (int, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.first(gen)
	if s == nil {
		return -1, false
	}
	return s.fd, true
}

// first is generation gen's socket, nil if it has none.
func (p *Port) first(gen int) *socket {
	if all := p.gens[gen]; len(all) > 0 {
		return all[0]
	}
	return nil
}

// Turn is the cutover: from its return on every new connection reaches generation gen. It may go forward or back; to
// turn to the live generation does nothing. What is queued for the one that was live stays there.
func (p *Port) Turn(gen int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if gen == p.live && gen != 0 {
		return nil
	}
	to := p.gens[gen]
	if len(to) == 0 {
		return fmt.Errorf("turn %s to generation %d: %w", p.spec, gen, errNoSocket)
	}
	from, before := p.live, time.Now()
	p.live = gen
	if err := p.point(from, to[0]); err != nil {
		p.live = from
		return fmt.Errorf("turn %s to generation %d: %w", p.spec, gen, err)
	}
	p.turned, p.heir = time.Now(), nil
	for _, s := range slices.Concat(p.gens[from], to) {
		s.probed, s.led = nil, true // from now on users are among those who are queued there
	}
	p.unrelay(to)
	p.log.Debug("switch turned", "from", from, "to", gen, "took", p.turned.Sub(before))
	return nil
}

// point makes the switch reach p.live, whose first socket is s; it pointed at from.
func (p *Port) point(from int, s *socket) error {
	switch {
	case slices.Contains(p.gens[from], s):
		return nil // both have the same socket
	case s.left:
		return errShutDown
	case p.spec.Network == "unix":
		return s.file.publish()
	case len(p.members) < 2:
		return nil // it is the only one in the group
	default:
		return p.steer()
	}
}

// unrelay gives sockets back to the generation that has become live.
func (p *Port) unrelay(sockets []*socket) {
	for _, s := range sockets {
		s.relaying = false
	}
	p.rewatch()
}

// generations are the numbers of those that have a socket, in order.
func (p *Port) generations() []int {
	numbers := make([]int, 0, len(p.gens))
	for gen := range p.gens {
		numbers = append(numbers, gen)
	}
	slices.Sort(numbers)
	return numbers
}
