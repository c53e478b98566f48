package probes

import (
	"bytes"
	"os"
	"runtime"
	"strconv"
	"strings"

	system "golang.org/x/sys/unix"
)

// process tells what this process costs, under the names that all Prometheus libraries have for it.
func process(e *exposition) {
	e.add("go_goroutines", "Number of goroutines that currently exist.").gauge(float64(runtime.NumGoroutine()))
	// proc(5), /proc/PID/stat: utime and stime are the fields 14 and 15, starttime, vsize and rss 22 to 24; the name before
	// them may hold anything.
	const utime, stime, starttime, vsize, rss, behindName, ticks = 14, 15, 22, 23, 24, 3, 100
	stat, err := os.ReadFile("/proc/self/stat")
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if err != nil || len(fields) <= rss-behindName {
		return // without /proc there is nothing to tell
	}
	at := func(field int) float64 {
		v, _ := strconv.ParseFloat(string(fields[field-behindName]), 64)
		return v
	}
	e.add("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.").seconds((at(utime) + at(stime)) / ticks)
	e.add("process_virtual_memory_bytes", "Virtual memory size in bytes.").gauge(at(vsize))
	e.add("process_resident_memory_bytes", "Resident memory size in bytes.").gauge(at(rss) * float64(os.Getpagesize()))
	if boot, ok := bootTime(); ok {
		e.add("process_start_time_seconds", "Start time of the process since unix epoch in seconds.").gauge(boot + at(starttime)/ticks)
	}
	var limit system.Rlimit
	if system.Getrlimit(system.RLIMIT_NOFILE, &limit) == nil {
		e.add("process_max_fds", "Maximum number of open file descriptors.").gauge(float64(limit.Cur))
	}
	if open, err := os.ReadDir("/proc/self/fd"); err == nil {
		e.add("process_open_fds", "Number of open file descriptors.").gauge(float64(len(open) - 1)) // less the one that reads this
	}
}

// bootTime is when the machine started, as Unix time (proc(5), /proc/stat, btime).
func bootTime() (float64, bool) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(text)) {
		if at, ok := strings.CutPrefix(line, "btime "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(at), 64)
			return v, err == nil
		}
	}
	return 0, false
}
