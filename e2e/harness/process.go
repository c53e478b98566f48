package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Process is one process at or below holdfast, as seen from outside.
type Process struct {
	PID   int // outside
	NSPID int // in holdfast's PID namespace
	PPID  int // outside; 0 when the parent can not be seen
	Comm  string
	State string // "R", "S", "Z", …
	UID   int
}

// Processes lists holdfast and everything below it; as PID 1, every process of its PID namespace.
func (h *Holdfast) Processes() []Process {
	h.t.Helper()
	pids := append([]int{h.pid}, descendants(h.pid)...)
	if h.pid1 {
		pids = inNamespaceOf(h.pid)
	}
	var all []Process
	for _, pid := range pids {
		if p, ok := readProcess(pid); ok {
			all = append(all, p)
		}
	}
	return all
}

// Descendants is Processes without holdfast itself.
func (h *Holdfast) Descendants() []Process {
	h.t.Helper()
	return slices.DeleteFunc(h.Processes(), func(p Process) bool { return p.PID == h.pid })
}

// Zombies counts the processes that have ended and that nobody has waited for.
func (h *Holdfast) Zombies() int {
	h.t.Helper()
	n := 0
	for _, p := range h.Processes() {
		if p.State == "Z" {
			n++
		}
	}
	return n
}

// FDs counts holdfast's open descriptors.
func (h *Holdfast) FDs() int {
	h.t.Helper()
	return len(h.FDTargets())
}

// FDTargets lists what holdfast's open descriptors are, as /proc shows them, e.g. "socket:[123]".
func (h *Holdfast) FDTargets() []string {
	h.t.Helper()
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", h.pid))
	if err != nil || len(links) == 0 {
		h.t.Fatalf("read holdfast's descriptors: %d, %v", len(links), err)
	}
	var all []string
	for _, l := range links {
		if target, err := os.Readlink(l); err == nil { // else closed meanwhile
			all = append(all, target)
		}
	}
	return all
}

// Threads counts holdfast's threads.
func (h *Holdfast) Threads() int {
	h.t.Helper()
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", h.pid))
	if err != nil {
		h.t.Fatal(err)
	}
	return len(tasks)
}

// Eventually waits until ok holds, for what no event tells, such as a process's state.
func (h *Holdfast) Eventually(what string, within time.Duration, ok func() bool) {
	h.t.Helper()
	for end := time.Now().Add(within); !ok(); time.Sleep(poll) {
		if time.Now().After(end) {
			h.t.Fatalf("not within %v: %s", within, what)
		}
	}
}

// children lists the children of all of pid's threads.
func children(pid int) []int {
	var all []int
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, task := range tasks {
		b, _ := os.ReadFile(task)
		for _, f := range strings.Fields(string(b)) {
			if c, err := strconv.Atoi(f); err == nil {
				all = append(all, c)
			}
		}
	}
	return all
}

// descendants lists everything below pid, parents first.
func descendants(pid int) []int {
	var all []int
	for next := children(pid); len(next) > 0; {
		all = append(all, next...)
		var below []int
		for _, c := range next {
			below = append(below, children(c)...)
		}
		next = below
	}
	return all
}

// inNamespaceOf lists the processes of pid's PID namespace.
func inNamespaceOf(pid int) []int {
	ns := func(pid int) string {
		l, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
		return l
	}
	want := ns(pid)
	if want == "" {
		return nil // gone
	}
	var all []int
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		p, err := strconv.Atoi(filepath.Base(d))
		// A zombie has no namespace link any more, but a line in its status that says how deep it is.
		if err == nil && (ns(p) == want || ns(p) == "" && slices.Contains(children(pid), p)) {
			all = append(all, p)
		}
	}
	return all
}

func readProcess(pid int) (Process, bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return Process{}, false
	}
	p := Process{PID: pid}
	for l := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(l, ":")
		f := strings.Fields(value)
		if len(f) == 0 {
			continue
		}
		switch key {
		case "Name":
			p.Comm = strings.TrimSpace(value)
		case "State":
			p.State = f[0]
		case "PPid":
			p.PPID, _ = strconv.Atoi(f[0])
		case "Uid":
			p.UID, _ = strconv.Atoi(f[1]) // effective
		case "NSpid":
			p.NSPID, _ = strconv.Atoi(f[len(f)-1])
		}
	}
	return p, true
}
