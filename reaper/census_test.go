package reaper

import (
	"errors"
	"maps"
	"os"
	"slices"
	"testing"
)

// The pids here are larger than any that Linux gives out, so that no environment is found for them.
const (
	us    = 10_000_001
	mainA = 10_000_100
	mainB = 10_000_200
)

// TestCensusDecides tries what the kernel does rarely: numbers given out again, trees that change while they are read.
func TestCensusDecides(t *testing.T) {
	born := map[int]uint64{mainA: 50, mainB: 80}
	for name, c := range map[string]struct {
		seen map[int]uint64 // by A, besides its main process
		ps   []Process
		now  Process // what a process is by the time that it is read again
		a, b []int
	}{
		"by parent":                          {ps: []Process{{PID: us + 1, Parent: mainA, Group: us + 1, Session: us + 1, Start: 60}}, a: []int{us + 1}},
		"by group":                           {ps: []Process{{PID: us + 1, Parent: us, Group: mainA, Session: 1, Start: 60}}, a: []int{us + 1}},
		"older than the family":              {ps: []Process{{PID: us + 1, Parent: us, Group: mainA, Session: 1, Start: 40}}},
		"by memory":                          {seen: map[int]uint64{us + 1: 60}, ps: []Process{{PID: us + 1, Parent: us, Group: us + 1, Session: us + 1, Start: 60}}, a: []int{us + 1}},
		"number remembered, given anew":      {seen: map[int]uint64{us + 1: 60}, ps: []Process{{PID: us + 1, Parent: us, Group: us + 1, Session: us + 1, Start: 90}}},
		"by session, its leader there":       {seen: map[int]uint64{us + 1: 60}, ps: []Process{{PID: us + 1, Parent: us, Session: us + 1, Start: 60}, {PID: us + 2, Parent: us, Group: us + 2, Session: us + 1, Start: 70}}, a: []int{us + 1, us + 2}},
		"by session, its leader gone":        {seen: map[int]uint64{us + 1: 60}, ps: []Process{{PID: us + 2, Parent: us, Group: us + 2, Session: us + 1, Start: 70}}, a: []int{us + 2}},
		"session's number given anew":        {seen: map[int]uint64{us + 1: 60}, ps: []Process{{PID: us + 1, Parent: 1, Session: us + 1, Start: 90}, {PID: us + 2, Parent: us + 1, Group: us + 2, Session: us + 1, Start: 91}}},
		"grandchild of the other family":     {ps: []Process{{PID: us + 1, Parent: mainB, Start: 90}, {PID: us + 2, Parent: us + 1, Start: 91}}, b: []int{us + 1, us + 2}},
		"zombies are none":                   {ps: []Process{{PID: us + 1, Parent: mainA, State: 'Z', Start: 60}, {PID: us + 2, Parent: mainA, State: 'X', Start: 60}}},
		"child of a zombie's":                {ps: []Process{{PID: us + 1, Parent: mainA, State: 'Z', Start: 60}, {PID: us + 2, Parent: us + 1, Start: 61}}, a: []int{us + 2}},
		"orphan that only A can have":        {ps: []Process{{PID: us + 1, Parent: us, Start: 60}}, a: []int{us + 1}},
		"orphan that both can have":          {ps: []Process{{PID: us + 1, Parent: us, Start: 90}}},
		"another's":                          {ps: []Process{{PID: us + 1, Parent: 1, Group: us + 1, Session: us + 1, Start: 90}}},
		"a circle":                           {ps: []Process{{PID: us + 1, Parent: us + 2, Start: 90}, {PID: us + 2, Parent: us + 1, Start: 90}}},
		"a parent that has gone meanwhile":   {ps: []Process{{PID: us + 1, Parent: us + 9, Start: 90}}},
		"a parent that was reaped meanwhile": {ps: []Process{{PID: us + 1, Parent: us + 9, Start: 60}}, now: Process{PID: us + 1, Parent: us, Start: 60}, a: []int{us + 1}},
		"one that A remembers":               {seen: map[int]uint64{us + 9: 55}, ps: []Process{{PID: us + 1, Parent: us + 9, Start: 90}}, a: []int{us + 1}},
		"one whose number was given anew":    {seen: map[int]uint64{us + 9: 95}, ps: []Process{{PID: us + 1, Parent: us + 9, Start: 90}}},
		"another by that time":               {ps: []Process{{PID: us + 1, Parent: us + 9, Start: 60}}, now: Process{PID: us + 1, Parent: us, Start: 61}},
		"adopted by one of B's":              {ps: []Process{{PID: us + 1, Parent: us + 9, Start: 90}}, now: Process{PID: us + 1, Parent: mainB, Start: 90}, b: []int{us + 1}},
		"a process in the group of us":       {ps: []Process{{PID: us, Parent: 1, Group: us, Session: us, Start: 1}}},
		"group's number given to a process":  {ps: []Process{{PID: mainA, Parent: 1, Group: mainA, Session: mainA, Start: 90}, {PID: us + 1, Parent: mainA, Group: mainA, Session: mainA, Start: 91}}},
	} {
		t.Run(name, func(t *testing.T) {
			a := &Family{Main: mainA, Mark: "M=1", born: born[mainA], seen: map[int]uint64{mainA: born[mainA]}}
			b := &Family{Main: mainB, Mark: "M=2", born: born[mainB], seen: map[int]uint64{mainB: born[mainB]}}
			maps.Copy(a.seen, c.seen)
			ps := c.ps
			for _, f := range []*Family{a, b} { // the main processes are there, but do not count
				if !slices.ContainsFunc(ps, func(p Process) bool { return p.PID == f.Main }) {
					ps = append(ps, Process{PID: f.Main, Parent: us, Group: f.Main, Session: 1, State: 'Z', Start: f.born})
				}
			}
			got := decide([]*Family{a, b}, ps, c.now)
			if !slices.Equal(got[a], c.a) || !slices.Equal(got[b], c.b) {
				t.Errorf("A has %v, B has %v, want %v and %v", got[a], got[b], c.a, c.b)
			}
			for pid, start := range a.seen { // what is gone is forgotten
				if !slices.ContainsFunc(ps, func(p Process) bool { return p.PID == pid && p.Start == start }) {
					t.Errorf("A remembers %d of %d, which is not there", pid, start)
				}
			}
		})
	}
}

// decide is Census with the processes given.
func decide(families []*Family, ps []Process, now Process) map[*Family][]int {
	again := func(pid int) (Process, error) {
		if now.PID != pid {
			return Process{}, os.ErrNotExist
		}
		return now, nil
	}
	c := census{self: us, families: families, environ: new(environs).read, read: again, by: map[int]Process{}, of: map[int]*Family{}}
	for _, p := range ps {
		c.by[p.PID] = p
	}
	members := c.members(ps)
	pids := map[*Family][]int{}
	for f, ps := range members {
		for _, p := range ps {
			pids[f] = append(pids[f], p.PID)
		}
	}
	return pids
}

// TestClone: what a clone learns the family knows when it is told.
func TestClone(t *testing.T) {
	f := &Family{Main: mainA, Mark: "M=1", born: 50, seen: map[int]uint64{mainA: 50}}
	clone := f.Clone()
	decide([]*Family{clone}, []Process{{PID: mainA, Parent: us, Start: 50}, {PID: us + 1, Parent: mainA, Start: 60}}, Process{})
	if len(f.seen) != 1 || len(clone.seen) != 2 {
		t.Errorf("the family knows %v, its clone %v", f.seen, clone.seen)
	}
	if f.Learn(clone); len(f.seen) != 2 {
		t.Errorf("the family knows %v", f.seen)
	}
}

func TestStartsLikeEnvironment(t *testing.T) {
	for text, want := range map[string]bool{
		"PATH=/bin\x00HOME=/": true, "a=": true, "_=x": true,
		"": false, "=x": false, "nginx: worker process": false, "postgres: writer process a=b": false,
		"\x00\x00\x00": false, "/usr/bin/x=1": false, "\x00A=b": false,
	} {
		if got := startsLikeEnvironment([]byte(text)); got != want {
			t.Errorf("startsLikeEnvironment(%q) = %v", text, got)
		}
	}
}

// TestOwnProc: a /proc of another PID namespace would have the numbers mean others.
func TestOwnProc(t *testing.T) {
	if err := ownProc(os.Getpid()); err != nil {
		t.Error(err)
	}
	if err := ownProc(os.Getpid() + 1); !errors.Is(err, ErrNoProc) {
		t.Errorf("under another number: %v, want ErrNoProc", err)
	}
}
