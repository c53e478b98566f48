package reaper

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Process is one line of /proc (proc(5), /proc/PID/stat).
type Process struct {
	PID, Parent, Group, Session int
	State                       byte   // R, S, D, Z, T …
	Start                       uint64 // clock ticks since boot; with PID it names a process for good
	Name                        string // at most 15 bytes
}

// A walk through /proc pauses after so many processes that it has listed, and read. It is one short system call after the other,
// and Go's scheduler, which has one processor here, asks the kernel what has arrived, a signal say, only when there is nothing
// else to run, or else after 10 ms: runtime.Gosched is not enough.
const (
	listed  = 1024
	inOneGo = 64 // some 1.6 ms
	pause   = 50 * time.Microsecond
)

// Processes lists every process that /proc shows. Those that vanish meanwhile are left out.
func Processes() ([]Process, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	defer dir.Close()
	var names []string
	for more, err := dir.Readdirnames(listed); err != io.EOF; more, err = dir.Readdirnames(listed) {
		if err != nil {
			return nil, fmt.Errorf("list processes: %w", err)
		}
		if names = append(names, more...); len(more) == listed {
			time.Sleep(pause)
		}
	}
	ps, read := make([]Process, 0, len(names)), 0
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if read++; read%inOneGo == 0 {
			time.Sleep(pause)
		}
		p, err := ReadProcess(pid)
		switch {
		case err == nil:
			ps = append(ps, p)
		case Short(err):
			return nil, fmt.Errorf("list processes: %w", err) // this process is short of something; that one may well be there
		}
	}
	return ps, nil
}

// Short says that an error is a shortage of this process's or the machine's own, which may pass, and says nothing of what was
// to be looked at.
func Short(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM)
}

// ErrNoProc is why there is no Census: /proc is not mounted, or it is another PID namespace's, where all numbers mean others.
var ErrNoProc = errors.New("no /proc of this PID namespace")

// CheckProc returns ErrNoProc where there can be no Census.
func (r *Reaper) CheckProc() error { return ownProc(r.pid) }

// ownProc returns ErrNoProc unless /proc shows the process pid, which is this one, under this number.
func ownProc(pid int) error {
	self, err := os.Readlink("/proc/self")
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && self != strconv.Itoa(pid):
		return ErrNoProc
	case err != nil:
		return fmt.Errorf("read /proc/self: %w", err)
	}
	return nil
}

// ReadProcess reads one process' line.
func ReadProcess(pid int) (Process, error) {
	var line [statLength]byte
	stat, err := readAtOnce("/proc/"+strconv.Itoa(pid)+"/stat", line[:])
	if err != nil {
		return Process{}, fmt.Errorf("read process %d: %w", pid, err)
	}
	p, err := parseStat(stat)
	if err != nil {
		return Process{}, fmt.Errorf("read process %d: %w", pid, err)
	}
	return p, nil
}

// statLength is more than the line can have: fifty numbers and a name of 64 bytes at most.
const statLength = 2048

// readAtOnce reads a file of /proc that one read(2) returns whole, into b. Thousands of them are read one after the other,
// and package os makes four times as many system calls of it.
func readAtOnce(path string, b []byte) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	for {
		n, err := unix.Read(fd, b)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, &os.PathError{Op: "read", Path: path, Err: err}
		}
		return b[:n], nil
	}
}

// Obeys says whether a signal below 32 does to a process what it does by default, at the latest when it is not blocked any more:
// shells block all for a moment, again and again. It does not of a process that is not there, or that /proc does not show.
func Obeys(pid int, s syscall.Signal) bool {
	ignored, caught, err := handled(pid)
	return err == nil && !has(ignored|caught, s)
}

// Catches says whether a process has a handler for a signal below 32; an error, that /proc does not tell.
func Catches(pid int, s syscall.Signal) (bool, error) {
	_, caught, err := handled(pid)
	return has(caught, s), err
}

// has says whether a signal is in a set.
func has(set uint64, s syscall.Signal) bool { return set&(1<<(s-1)) != 0 }

// handled reads which signals below 32 a process ignores, and which it catches.
func handled(pid int) (ignored, caught uint64, err error) {
	var line [statLength]byte
	stat, err := readAtOnce("/proc/"+strconv.Itoa(pid)+"/stat", line[:])
	if err != nil {
		return 0, 0, fmt.Errorf("read process %d: %w", pid, err)
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	const first, second = 30, 31 // fields 33 and 34 of the line, 0-based behind the name
	if len(fields) <= second {
		return 0, 0, fmt.Errorf("parse stat %.40q", stat)
	}
	if ignored, err = strconv.ParseUint(string(fields[first]), 10, 64); err == nil {
		caught, err = strconv.ParseUint(string(fields[second]), 10, 64)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("parse stat %.40q: %w", stat, err)
	}
	return ignored, caught, nil
}

// parseStat reads "PID (NAME) STATE PPID PGRP SESSION … STARTTIME …". The name may hold spaces and parentheses.
func parseStat(stat []byte) (Process, error) {
	open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if open < 1 || end < open {
		return Process{}, fmt.Errorf("parse stat %.40q", stat)
	}
	fields := bytes.Fields(stat[end+1:])
	const start = 19 // field 22 of the line, 0-based behind the name
	if len(fields) <= start || len(fields[0]) != 1 || fields[0][0] < 'A' || fields[0][0] > 'z' {
		return Process{}, fmt.Errorf("parse stat %.40q", stat)
	}
	p := Process{Name: string(stat[open+1 : end]), State: fields[0][0]}
	var err error
	for _, f := range []struct {
		to   *int
		text []byte
	}{{&p.PID, bytes.TrimSpace(stat[:open])}, {&p.Parent, fields[1]}, {&p.Group, fields[2]}, {&p.Session, fields[3]}} {
		if *f.to, err = strconv.Atoi(string(f.text)); err != nil {
			return Process{}, fmt.Errorf("parse stat %.40q: %w", stat, err)
		}
	}
	if p.Start, err = strconv.ParseUint(string(fields[start]), 10, 64); err != nil {
		return Process{}, fmt.Errorf("parse stat %.40q: %w", stat, err)
	}
	return p, nil
}
