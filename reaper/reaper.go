// Package reaper is the part of holdfast that any init is: it starts processes, waits for every child there is, adopted
// orphans included, catches signals and knows which process descends from which. It knows nothing of ports.
//
// Its invariant: no zombie outlives one SIGCHLD, and every exit is reported once. That holds because one goroutine calls
// Start, Signal and Reap: a pid that Start has returned cannot have been reaped before, and a pid that is signalled
// cannot be another's by then. Nothing beside Reap may wait for children: not os/exec, not os.Process.
package reaper

import (
	"fmt"
	"iter"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Reaper starts and reaps. All its methods belong to one goroutine.
type Reaper struct {
	pid      int
	reaped   uint64
	environs environs
	limit    *unix.Rlimit // of descriptors, as this process was given it; nil = it is its own
}

// New makes the calling process a reaper: PID 1 is one by birth, any other becomes a child subreaper (prctl(2)
// PR_SET_CHILD_SUBREAPER, Linux 3.4), so that orphaned descendants come to it in either case.
func New() (*Reaper, error) {
	r := &Reaper{pid: os.Getpid()}
	if r.pid == 1 {
		return r, nil
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("become a child subreaper: %w", err)
	}
	return r, nil
}

// GiveBack has every child begin with limit as its limit of descriptors (RLIMIT_NOFILE): the one that this process was given,
// before Go's runtime raised it.
func (r *Reaper) GiveBack(limit unix.Rlimit) { r.limit = &limit }

// PID returns the pid of this process, as it sees itself.
func (r *Reaper) PID() int { return r.pid }

// Init says whether this process is PID 1 of its namespace.
func (r *Reaper) Init() bool { return r.pid == 1 }

// Reaped returns how many children have been reaped so far.
func (r *Reaper) Reaped() uint64 { return r.reaped }

// Exit is the end of one child.
type Exit struct {
	PID    int
	Status syscall.WaitStatus
}

// Code returns what a shell would: the exit code, or 128 + N for signal N.
func (e Exit) Code() int {
	if e.Status.Signaled() {
		return 128 + int(e.Status.Signal())
	}
	return e.Status.ExitStatus()
}

// String says it in words: "exit code 1", "killed by SIGKILL".
func (e Exit) String() string {
	if !e.Status.Signaled() {
		return fmt.Sprintf("exit code %d", e.Status.ExitStatus())
	}
	core := ""
	if e.Status.CoreDump() {
		core = ", core dumped"
	}
	return "killed by " + SignalName(e.Status.Signal()) + core
}

// Reap collects every child that has exited, without waiting, in the order the kernel gives. It is to be called after
// each SIGCHLD: the kernel merges those, so one may stand for many.
//
// Each child is looked at first and collected only when it has been dealt with: until then it is a zombie, and its pid and
// that of its process group are still its own. What is started meanwhile cannot get them, and a signal goes nowhere else.
func (r *Reaper) Reap() iter.Seq[Exit] {
	return func(yield func(Exit) bool) {
		for {
			e, ok := peek()
			if !ok {
				return
			}
			r.reaped++
			more := yield(e)
			collect(e.PID)
			if !more {
				return
			}
		}
	}
}

// Signal sends sig to the child pid, or, if group is set, to its process group. Whom Start has started leads one; a process
// that was adopted may be in another's.
func (r *Reaper) Signal(pid int, sig syscall.Signal, group bool) error {
	to := pid
	if group {
		to = -pid
	}
	err := syscall.Kill(to, sig)
	if group && err == unix.ESRCH && isChild(pid) {
		to = pid
		if led, ok := Group(pid); ok {
			to = -led
		}
		err = syscall.Kill(to, sig)
	}
	if err != nil {
		return fmt.Errorf("send %s to %d: %w", SignalName(sig), to, err)
	}
	return nil
}

// isChild says whether pid is that of a child, which may be a zombie. Any other's could be another process' by now.
func isChild(pid int) bool {
	return unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil) == nil
}

// Group returns the process group of pid, which another process may lead. It is none to be sent a signal, or handed the terminal,
// if it is this process' own, or none of this PID namespace: kill(-1) would be for everybody.
func Group(pid int) (group int, ok bool) {
	group, err := unix.Getpgid(pid)
	return group, err == nil && group > 1 && group != unix.Getpgrp()
}

// SignalMember sends sig to a process that a Census has found, unless that has ended since: its number may be another's. Of a
// child this is certain, since nobody else reaps it; of any other process as far as can be: it may end just now.
func (r *Reaper) SignalMember(p Process, sig syscall.Signal) error {
	if p.Start != 0 {
		if now, err := ReadProcess(p.PID); err == nil && now.Start != p.Start {
			return fmt.Errorf("send %s to %d: %w", SignalName(sig), p.PID, unix.ESRCH)
		}
	}
	return r.Signal(p.PID, sig, false)
}
