package chaos

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/e2e/load"
)

// The exceptions: requests that nobody could have saved, each known by the instant at which it was lost.
const (
	// A process that had accepted the request was killed by the test. What was still queued has no such excuse: it cannot
	// be reset, since the holder has the socket too.
	excuseKilled = "accepted by a process that was killed"
	// A generation that did not end within the drain timeout was killed by holdfast with what it had accepted.
	excuseDrained = "accepted by a generation that was killed at its drain timeout"
	// The runtime of a server written in Go ends it where it gets no thread.
	excuseStarved = "accepted by a server that ended because it got no thread while pids were exhausted"
)

// slack is how far the clocks of a kill and of a client's notice may be apart.
const slack = 250 * time.Millisecond

// account knows what was done, and judges what was lost.
type account struct {
	mu    sync.Mutex
	kills []time.Time
}

func (a *account) killed() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.kills = append(a.kills, time.Now())
}

var drained = regexp.MustCompile(`time=(\S+) level=WARN msg="killing what is left of a generation"`)

var exited = regexp.MustCompile(`time=(\S+) level=\w+ msg="main process exited" generation=\d+ pid=\d+ exit="([^"]*)"`)

// starved are the instants at which a server ended that Go's runtime had ended for want of a thread: it says so just before.
func starved(log string) (all []time.Time) {
	said := false
	for line := range strings.Lines(log) {
		if strings.Contains(line, "fatal error: newosproc") {
			said = true
		}
		if m := exited.FindStringSubmatch(line); m != nil && m[2] == "exit code 2" {
			if at, err := time.Parse(time.RFC3339Nano, m[1]); err == nil && said {
				all = append(all, at)
			}
			said = false
		}
	}
	return all
}

// instants are those at which a line was logged.
func instants(line *regexp.Regexp, log string) (all []time.Time) {
	for _, m := range line.FindAllStringSubmatch(log, -1) {
		if at, err := time.Parse(time.RFC3339Nano, m[1]); err == nil {
			all = append(all, at)
		}
	}
	return all
}

// judge sorts failures into exceptions, by name, and losses.
func (a *account) judge(failures []load.Request, log string) (excused map[string]uint64, lost []load.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	byHoldfast, starving := instants(drained, log), starved(log)
	during := func(r load.Request) func(time.Time) bool {
		return func(at time.Time) bool { return !at.Before(r.Connect.Add(-slack)) && !at.After(r.Answered.Add(slack)) }
	}
	excused = map[string]uint64{}
	for _, r := range failures {
		cut := r.Outcome == load.Reset || r.Outcome == load.EOF || r.Outcome == load.Short
		switch {
		case cut && slices.ContainsFunc(a.kills, during(r)):
			excused[excuseKilled]++
		case cut && slices.ContainsFunc(byHoldfast, during(r)):
			excused[excuseDrained]++
		case cut && slices.ContainsFunc(starving, during(r)):
			excused[excuseStarved]++
		default:
			lost = append(lost, r)
		}
	}
	return excused, lost
}

// counts is what a run comes to; docs/reliability.md shows it.
type counts struct {
	Seed       uint64            `json:"seed,omitempty"`
	Handoffs   map[string]uint64 `json:"handoffs"` // by result
	Started    uint64            `json:"generations_started"`
	Gone       uint64            `json:"generations_gone"`
	Disturbed  map[string]uint64 `json:"disturbances,omitempty"`
	Impossible map[string]string `json:"impossible,omitempty"` // here, and why

	Offered  uint64            `json:"connections_offered"`
	Requests uint64            `json:"requests"`
	Answered uint64            `json:"answered"`
	Refused  uint64            `json:"refused"`
	Reset    uint64            `json:"reset"`
	TimedOut uint64            `json:"timed_out"`
	Other    uint64            `json:"failed_otherwise"`
	Retried  uint64            `json:"retried"`
	Excused  map[string]uint64 `json:"exceptions,omitempty"`
	Lost     uint64            `json:"lost"`
	Slowest  time.Duration     `json:"slowest_ns"`

	Before resources       `json:"-"`
	After  resources       `json:"-"`
	Lanes  []laneResources `json:"lanes"`
	Took   time.Duration   `json:"took_ns"`
}

// laneResources are those of one server's holdfast, at the start and at the end.
type laneResources struct {
	Server string    `json:"server"`
	Before resources `json:"before"`
	After  resources `json:"after"`
}

func (c counts) text() string {
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// resources is what holdfast has of the machine.
type resources struct {
	Descriptors int    `json:"descriptors"`
	Threads     int    `json:"threads"`
	Goroutines  int    `json:"goroutines"`
	Zombies     int    `json:"zombies"`
	Members     int    `json:"sockets_on_the_port"` // in the kernel, of the held port
	KiB         uint64 `json:"resident_kib"`
}

// within says whether no more is held than before. A held port may keep one stand-in, a socket with the epoll set that
// watches it, until the next generation has joined (Port.sweep in handoff/port/group.go): that may be there now and not
// before, but never a second one.
func (r resources) within(before resources) bool {
	return r.Descriptors <= before.Descriptors+2 && r.Goroutines <= before.Goroutines+2 && r.Members <= 2
}

func (r resources) String() string {
	return fmt.Sprintf("%d descriptors, %d threads, %d goroutines, %d zombies, %d listening sockets on the port, %d KiB resident",
		r.Descriptors, r.Threads, r.Goroutines, r.Zombies, r.Members, r.KiB)
}

func (c *counts) load(r load.Result) {
	c.Offered, c.Requests, c.Answered = r.Connections, r.Requests, r.ByOutcome[load.OK]
	c.Refused, c.Reset, c.TimedOut = r.ByOutcome[load.Refused], r.ByOutcome[load.Reset], r.ByOutcome[load.Timeout]
	c.Other = r.Lost() - c.Refused - c.Reset - c.TimedOut
	c.Retried, c.Slowest = r.Retried, r.Max
}

// add sums up the runs of several servers.
func (c *counts) add(o counts) {
	sum := func(to *map[string]uint64, from map[string]uint64) {
		if *to == nil && from != nil {
			*to = map[string]uint64{}
		}
		for k, n := range from {
			(*to)[k] += n
		}
	}
	sum(&c.Handoffs, o.Handoffs)
	sum(&c.Disturbed, o.Disturbed)
	sum(&c.Excused, o.Excused)
	if len(o.Impossible) > 0 {
		if c.Impossible == nil {
			c.Impossible = map[string]string{}
		}
		maps.Copy(c.Impossible, o.Impossible)
	}
	c.Started, c.Gone = c.Started+o.Started, c.Gone+o.Gone
	c.Offered, c.Requests, c.Answered = c.Offered+o.Offered, c.Requests+o.Requests, c.Answered+o.Answered
	c.Refused, c.Reset, c.TimedOut, c.Other = c.Refused+o.Refused, c.Reset+o.Reset, c.TimedOut+o.TimedOut, c.Other+o.Other
	c.Retried, c.Lost = c.Retried+o.Retried, c.Lost+o.Lost
	c.Slowest, c.Took = max(c.Slowest, o.Slowest), max(c.Took, o.Took)
}
