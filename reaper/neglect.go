package reaper

import (
	"bytes"
	"fmt"
	"os"
	"strings"
)

// Neglect is a process that is alive and does not wait for its children: their zombies are its to reap, and no init can.
type Neglect struct {
	PID     int    `json:"pid"`
	Command string `json:"command"` // its command line, shortened; its name where it shows none
	Zombies int    `json:"zombies"`

	start uint64         // of the process
	dead  map[int]uint64 // zombie → its start
}

// Look lists the processes that have a zombie now, all but the process self. One that is about to wait is among them: see
// Lasting. Where self is not PID 1 the PID namespace may be shared, and only what descends from self is looked at. It reads
// /proc and may take a while.
func Look(self int) ([]Neglect, error) {
	ps, err := Processes()
	if err != nil {
		return nil, err
	}
	by := make(map[int]Process, len(ps))
	for _, p := range ps {
		by[p.PID] = p
	}
	found := map[int]*Neglect{}
	var order []int
	for _, p := range ps {
		parent, ok := by[p.Parent]
		if p.State != 'Z' || !ok || p.Parent == self || parent.State == 'Z' || self != 1 && !descends(by, parent, self) || threadsLive(p.PID) {
			continue
		}
		n, known := found[p.Parent]
		if !known {
			n = &Neglect{PID: p.Parent, Command: commandLine(parent), start: parent.Start, dead: map[int]uint64{}}
			found[p.Parent] = n
			order = append(order, p.Parent)
		}
		n.dead[p.PID] = p.Start
		n.Zombies++
	}
	list := make([]Neglect, 0, len(order))
	for _, pid := range order {
		list = append(list, *found[pid])
	}
	return list, nil
}

// descends says whether p is below the process self.
func descends(by map[int]Process, p Process, self int) bool {
	for range maxDepth {
		if p.Parent == self {
			return true
		}
		parent, ok := by[p.Parent]
		if !ok {
			return false
		}
		p = parent
	}
	return false
}

// Lasting returns what of an earlier Look is still so: the zombies that were there before and are now.
func Lasting(before, now []Neglect) []Neglect {
	var list []Neglect
	for _, n := range now {
		for _, b := range before {
			if b.PID != n.PID || b.start != n.start {
				continue
			}
			still := 0
			for pid, start := range n.dead {
				if was, ok := b.dead[pid]; ok && was == start {
					still++
				}
			}
			if still > 0 {
				n.Zombies = still
				list = append(list, n)
			}
		}
	}
	return list
}

// threadsLive says whether it is only the first thread of a process that has ended.
func threadsLive(pid int) bool {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	return err == nil && len(tasks) > 1
}

const commandLength = 120

func commandLine(p Process) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.PID))
	text := strings.ToValidUTF8(string(bytes.ReplaceAll(bytes.TrimRight(b, "\x00"), []byte{0}, []byte{' '})), "?")
	if err != nil || text == "" {
		return p.Name
	}
	if len(text) > commandLength {
		text = strings.ToValidUTF8(text[:commandLength], "") + "…"
	}
	return text
}
