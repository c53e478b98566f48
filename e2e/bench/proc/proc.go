// Package proc reads what /proc says that a process costs.
package proc

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Now is CLOCK_MONOTONIC, which all processes share.
func Now() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic(err) // the kernel has it
	}
	return time.Duration(t.Nano())
}

// Memory is what a process has in memory, in KiB.
type Memory struct {
	Resident  int `json:"resident_kib"`
	Anonymous int `json:"anonymous_kib"` // its own: not pages of files
}

// MemoryOf reads it from /proc/PID/status.
func MemoryOf(pid int) Memory {
	return Memory{Resident: kib(Field(pid, "VmRSS")), Anonymous: kib(Field(pid, "RssAnon"))}
}

func kib(text string) int {
	n, _ := strconv.Atoi(strings.TrimSuffix(text, " kB"))
	return n
}

// Field is a line of /proc/PID/status; "" if there is none.
func Field(pid int, name string) string { return field(fmt.Sprintf("/proc/%d/status", pid), name) }

func field(path, name string) string {
	text, _ := os.ReadFile(path)
	for line := range strings.Lines(string(text)) {
		if key, value, _ := strings.Cut(line, ":"); key == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func tasks(pid int) []string {
	all, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	return all
}

// Threads counts a process's threads.
func Threads(pid int) int { return len(tasks(pid)) }

// Switches counts how often a process's threads have been given a processor.
func Switches(pid int) (n int) {
	for _, task := range tasks(pid) {
		for _, name := range []string{"voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"} {
			k, _ := strconv.Atoi(field(task+"/status", name))
			n += k
		}
	}
	return n
}

// Children lists a process's children, zombies included.
func Children(pid int) (all []int) {
	for _, task := range tasks(pid) {
		text, _ := os.ReadFile(task + "/children")
		for _, f := range strings.Fields(string(text)) {
			if n, err := strconv.Atoi(f); err == nil {
				all = append(all, n)
			}
		}
	}
	return all
}

// Below lists all descendants of a process, itself first.
func Below(pid int) []int {
	all := []int{pid}
	for i := 0; i < len(all); i++ {
		all = append(all, Children(all[i])...)
	}
	return all
}

// Alive says whether a process is there and no zombie.
func Alive(pid int) bool {
	state := Field(pid, "State")
	return state != "" && !strings.HasPrefix(state, "Z") && !strings.HasPrefix(state, "X")
}

// CPU is the processor time that the live threads of processes have had, to the nanosecond (/proc/PID/task/TID/schedstat).
func CPU(pids ...int) (sum time.Duration) {
	for _, pid := range pids {
		for _, task := range tasks(pid) {
			text, _ := os.ReadFile(task + "/schedstat")
			first, _, _ := strings.Cut(string(text), " ")
			ns, _ := strconv.ParseInt(first, 10, 64)
			sum += time.Duration(ns)
		}
	}
	return sum
}

// Kill ends a process and all below it.
func Kill(pid int) {
	_ = unix.Kill(pid, unix.SIGSTOP) // it can start nothing while they are listed
	for _, p := range Below(pid) {
		_ = unix.Kill(p, unix.SIGKILL)
	}
}
