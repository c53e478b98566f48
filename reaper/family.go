package reaper

import "bytes"

// Family is a started process and all its descendants, also those that have left its process group and session and have
// lost their parent since.
//
// The kernel forgets whose an orphan was. Families keep what is known: a process belongs to the family of its parent, of
// its process group, of the leader of its session, of the mark in its environment; and once seen it is remembered. What
// is left, an orphan that has wiped its environment, belongs to the only family that it can belong to, if there is one.
type Family struct {
	Main int    // pid of the process that was started, and its process group
	Mark string // "NAME=value" that stands in its environment and in no other family's

	born uint64         // start of Main
	seen map[int]uint64 // member → its Start; never changed, since clones share it
}

// NewFamily makes the family of a process that Start has just returned.
func NewFamily(main int, mark string) *Family {
	f := &Family{Main: main, Mark: mark}
	if p, err := ReadProcess(main); err == nil {
		f.born = p.Start
		f.seen = map[int]uint64{main: p.Start}
	}
	return f
}

// Clone returns a family with the same members, which knows nothing of what the other one learns: a Census with it may run
// at the same time as one with the other. It costs the same however many members there are.
func (f *Family) Clone() *Family {
	clone := *f
	return &clone
}

// Learn has f remember the members that a clone of it remembers, and no others.
func (f *Family) Learn(clone *Family) { f.seen = clone.seen }

// Census says who of the processes that descend from this one belongs to which family, and has each family remember its
// own. Zombies are left out: they need nothing but to be reaped. The result holds an entry, maybe empty, for each family.
// The error is ErrNoProc, or a shortage that may pass.
//
// It reads all of /proc, some 25 µs for each process of the PID namespace, and may run on any goroutine, beside Reap and beside
// another Census, as long as nobody else has the families meanwhile: give it clones.
func (r *Reaper) Census(families []*Family) (map[*Family][]Process, error) {
	if err := ownProc(r.pid); err != nil {
		return nil, err
	}
	ps, err := Processes()
	if err != nil {
		return nil, err
	}
	c := census{self: r.pid, families: families, environ: r.environs.read, read: ReadProcess, by: make(map[int]Process, len(ps)), of: make(map[int]*Family, len(ps))}
	for _, p := range ps {
		c.by[p.PID] = p
	}
	return c.members(ps), nil
}

// census is one count under way.
type census struct {
	self     int
	families []*Family
	environ  func(pid int) ([]byte, error)
	read     func(pid int) (Process, error)
	by       map[int]Process
	lazy     bool            // by holds what was asked for until now, and not all that there is
	of       map[int]*Family // decided, nil = nobody's
}

// at returns the process of that number, if there is one.
func (c *census) at(pid int) (Process, bool) {
	p, ok := c.by[pid]
	if ok || !c.lazy {
		return p, ok
	}
	p, err := c.read(pid)
	if err == nil {
		c.by[pid] = p
	}
	return p, err == nil
}

func (c *census) members(ps []Process) map[*Family][]Process {
	members := make(map[*Family][]Process, len(c.families))
	for _, f := range c.families {
		members[f] = nil
	}
	for _, p := range ps {
		if f := c.family(p, 0); f != nil && p.State != 'Z' && p.State != 'X' {
			members[f] = append(members[f], p)
		}
	}
	c.remember()
	return members
}

// maxDepth bounds the walk up a tree that changes while it is read.
const maxDepth = 512

// family finds p's family, by what is certain first.
func (c *census) family(p Process, depth int) *Family {
	if f, ok := c.of[p.PID]; ok {
		return f
	}
	if p.PID == c.self || depth > maxDepth {
		return nil
	}
	f := c.known(p)
	if _, ok := c.at(p.Parent); f == nil && !ok && p.Parent != 0 {
		if f = c.bereaved(p); f == nil {
			p = c.again(p)
		}
	}
	if parent, ok := c.at(p.Parent); f == nil && ok && p.Parent != c.self {
		f = c.family(parent, depth+1)
	}
	if f == nil && p.Parent == c.self {
		f = c.orphan(p)
	}
	c.of[p.PID] = f
	return f
}

// bereaved finds the family of a process whose parent has ended, and was reaped, since the process was read: that of the
// parent, if it is remembered.
func (c *census) bereaved(p Process) *Family {
	for _, f := range c.families {
		if start, ok := f.seen[p.Parent]; ok && start <= p.Start {
			return f
		}
	}
	return nil
}

// again reads a process once more, which has got another parent meanwhile.
func (c *census) again(p Process) Process {
	now, err := c.read(p.PID)
	if err != nil || now.Start != p.Start {
		return p // it has ended, too
	}
	c.by[p.PID] = now
	return now
}

// known finds a family by memory, process group or session.
func (c *census) known(p Process) *Family {
	for _, f := range c.families {
		start, ok := f.seen[p.PID]
		group := p.Group == f.Main && c.still(f.Main, f.born)
		leader, session := f.seen[p.Session]
		session = session && c.still(p.Session, leader)
		if ok && start == p.Start || (group || session) && p.Start >= f.born {
			return f
		}
	}
	return nil
}

// still says whether the number pid is that of the process that began at start, or of what that has left behind: as long
// as anybody is in a group or a session, the kernel gives its number to no other process.
func (c *census) still(pid int, start uint64) bool {
	p, ok := c.at(pid)
	return !ok || start == 0 || p.Start == start
}

// orphan finds the family of a child that this process adopted. Not every orphan has one: what `kubectl exec` started
// and left behind comes here too, and is nobody's. It shows an environment of its own, without a mark.
func (c *census) orphan(p Process) *Family {
	env, err := c.environ(p.PID)
	intact := err == nil && startsLikeEnvironment(env)
	var could []*Family
	for _, f := range c.families {
		if intact && bytes.Contains(append([]byte{0}, env...), []byte("\x00"+f.Mark+"\x00")) {
			return f
		}
		if f.born <= p.Start {
			could = append(could, f)
		}
	}
	if !intact && len(could) == 1 {
		return could[0]
	}
	return nil
}

// startsLikeEnvironment says whether b begins with NAME=, as it does unless the process has wiped it or has put a title
// there, as nginx, PostgreSQL and all that use setproctitle do.
func startsLikeEnvironment(b []byte) bool {
	name, _, ok := bytes.Cut(b, []byte("="))
	return ok && len(name) > 0 && !bytes.ContainsAny(name, "\x00 \t/:")
}

// remember keeps what was found and forgets who is gone.
func (c *census) remember() {
	for _, f := range c.families {
		seen := make(map[int]uint64, len(f.seen))
		for pid, start := range f.seen {
			if p, ok := c.by[pid]; ok && p.Start == start {
				seen[pid] = start
			}
		}
		f.seen = seen
	}
	for pid, f := range c.of {
		if f != nil {
			f.seen[pid] = c.by[pid].Start // a map of this census' own still
		}
	}
}

// Holds says whether pid is a member of f now. Besides f, every other family that exists has to be given. It looks at that
// process and its ancestors only, and has nobody remember anything.
func (r *Reaper) Holds(f *Family, families []*Family, pid int) bool {
	if ownProc(r.pid) != nil {
		return pid == f.Main
	}
	c := census{self: r.pid, families: families, environ: r.environs.read, read: ReadProcess, by: map[int]Process{}, lazy: true, of: map[int]*Family{}}
	p, ok := c.at(pid)
	return ok && p.State != 'Z' && p.State != 'X' && c.family(p, 0) == f
}
