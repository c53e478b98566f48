package inits

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"holdfast/e2e/freeport"
)

const atRestSection = "At rest"

func restCases() []testCase {
	const section = atRestSection
	const whyPoll = "tini looks once a second"
	return []testCase{
		{section: section, name: "voluntary context switches in 60 s (/proc/PID/status)", want: "0", why: whyPoll, long: true, alone: true,
			run: atRest(60*time.Second, 0, status)},
		{section: section, name: "the same of all threads", want: "at most 2", long: true, alone: true,
			why: "Go's own monitor thread looks once a minute whether there is garbage to collect; " + whyPoll, run: atRest(60*time.Second, 2, voluntary)},
		{section: section, name: "the same of all threads, in 3 s", want: "0", why: whyPoll, alone: true, run: inShort(atRest(3*time.Second, 0, voluntary))},
		{section: section, name: "threads", want: "at most 7", why: "the others are C programs of one thread; Go needs more", run: threadCount},
	}
}

// inShort leaves the others out with -short: it is holdfast that is tested then.
func inShort(run func(*testing.T, tool) string) func(*testing.T, tool) string {
	return func(t *testing.T, x tool) string {
		if testing.Short() && !x.own {
			t.Skip("not holdfast")
		}
		return run(t, x)
	}
}

// voluntary sums up the voluntary context switches of all threads.
func voluntary(pid int) (n int) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	for _, task := range tasks {
		tid, _ := strconv.Atoi(filepath.Base(task))
		k, _ := strconv.Atoi(fieldOf(fmt.Sprintf("/proc/%d/task/%d/status", pid, tid), "voluntary_ctxt_switches"))
		n += k
	}
	return n
}

// status is what /proc/PID/status says: the first thread's.
func status(pid int) int {
	n, _ := strconv.Atoi(field(pid, "voluntary_ctxt_switches"))
	return n
}

// resting starts an init with a child that does nothing; holdfast with its probe server, that nobody asks.
func resting(t *testing.T, x tool) *subject {
	t.Helper()
	argv := x.argv(nil, "sh", "-c", "echo up; exec sleep 1000")
	if x.name == "holdfast" {
		argv = slices.Insert(argv, 2, "--ready=delay:0s")
		argv[1] = fmt.Sprintf("--probe-addr=127.0.0.1:%d", freeport.Choose(t))
	}
	s := start(t, x, run{argv: argv})
	s.says("^up$")
	return s
}

// atRest counts from when nothing has happened for a second, after the start and its proof are over.
func atRest(d time.Duration, most int, count func(pid int) int) func(*testing.T, tool) string {
	return func(t *testing.T, x tool) string {
		s := resting(t, x)
		last, since := voluntary(s.pid), time.Now()
		quiet := func() bool {
			if n := voluntary(s.pid); n != last {
				last, since = n, time.Now()
			}
			return time.Since(since) > 2500*time.Millisecond
		}
		if !s.until(quiet) {
			t.Logf("%s: never at rest", x.name)
		}
		from := count(s.pid)
		time.Sleep(d) // it is the time that is measured
		n := count(s.pid) - from
		if most > 0 && n <= most {
			return fmt.Sprintf("at most %d", most)
		}
		return strconv.Itoa(n)
	}
}

// threadCount takes the least of three starts: on a machine that is busy with other things Go may need a thread more, since
// those that it has are kept from running.
func threadCount(t *testing.T, x tool) string {
	least := 0
	for range 3 {
		s := resting(t, x)
		if x.name == "holdfast" {
			s.says("proven")
		}
		tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", s.pid))
		t.Logf("%s: %d threads", x.name, len(tasks))
		if least == 0 || len(tasks) < least {
			least = len(tasks)
		}
	}
	if x.own && least <= 7 {
		return "at most 7"
	}
	return strconv.Itoa(least)
}
