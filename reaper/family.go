package reaper

import (
	"bytes"
	"maps"
)

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
	seen map[int]uint64 // member → its Start
}

// NewFamily makes the family of a process that Start has just returned.
func NewFamily(main int, mark string) *Family {
	f := &Family{Main: main, Mark: mark, seen: map[int]uint64{}}
	if p, err := ReadProcess(main); err == nil {
		f.born = p.Start
		f.seen[main] = p.Start
	}
	return f
}

// Clone returns a family with the same members, which knows nothing of what the other one learns: a Census with it may run
// at the same time as one with the other.
func (f *Family) Clone() *Family {
	clone := *f
	clone.seen = maps.Clone(f.seen)
	return &clone
}

// Census says who of the processes that descend from this one belongs to which family. Zombies are left out: they need
// nothing but to be reaped. The result holds an entry, maybe empty, for each family. The error is ErrNoProc, or a shortage
// that may pass.
func (r *Reaper) Census(families []*Family) (map[*Family][]Process, error) {
	if err := ownProc(r.pid); err != nil {
		return nil, err
	}
	ps, err := Processes()
	if err != nil {
		return nil, err
	}
	c := census{self: r.pid, families: families, environ: r.environs.read, by: make(map[int]Process, len(ps)), of: map[int]*Family{}}
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
	by       map[int]Process
	of       map[int]*Family // decided, nil = nobody's
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
	if f == nil && p.Parent != c.self {
		if parent, ok := c.by[p.Parent]; ok {
			f = c.family(parent, depth+1)
		}
	}
	if f == nil && p.Parent == c.self {
		f = c.orphan(p)
	}
	c.of[p.PID] = f
	return f
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
	p, ok := c.by[pid]
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
		for pid, start := range f.seen {
			if p, ok := c.by[pid]; !ok || p.Start != start {
				delete(f.seen, pid)
			}
		}
	}
	for pid, f := range c.of {
		if f != nil {
			f.seen[pid] = c.by[pid].Start
		}
	}
}

// Holds says whether pid is a member of f now. Besides f, every other family that exists has to be given.
func (r *Reaper) Holds(f *Family, families []*Family, pid int) bool {
	members, err := r.Census(families)
	if err != nil {
		return pid == f.Main
	}
	for _, p := range members[f] {
		if p.PID == pid {
			return true
		}
	}
	return false
}
