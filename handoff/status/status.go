// Package status is what holdfast says about itself: one immutable Snapshot, made by the loop that owns the state and
// read by everybody else (the probe endpoints, the metrics, `holdfast status`, the control socket).
//
// It holds plain data and nothing that waits, so that a reader can never hold up a handoff. It imports nothing of
// holdfast; both handoff and probes import it.
package status

import (
	"fmt"
	"strings"
	"time"
)

// State is where a generation stands in its life: starting → proving → live → draining → gone, or
// starting|proving → failed → gone.
type State string

// The states of a generation.
const (
	Starting State = "starting"
	Proving  State = "proving"
	Live     State = "live"
	Draining State = "draining"
	Failed   State = "failed"
	Gone     State = "gone"
)

// States lists every State that a generation which still has processes or sockets can be in, in the order of its life.
func States() []State { return []State{Starting, Proving, Live, Draining, Failed} }

// Phase is a stretch of a handoff that is timed on its own.
type Phase string

// The phases of a handoff, in their order.
const (
	PhaseCheck   Phase = "check"   // trigger → the check command has exited 0 (absent without --check)
	PhaseStart   Phase = "start"   // → the new generation's program has been executed
	PhaseProve   Phase = "prove"   // → it is proven ready
	PhaseCutover Phase = "cutover" // → the switch has turned on every held port
	PhaseSoak    Phase = "soak"    // → the soak has ended (absent without --soak)
	PhaseSettle  Phase = "settle"  // → the old generation's accept queues are empty and the settle time has passed
	PhaseDrain   Phase = "drain"   // stop signal → the old generation is gone
)

// Phases lists every Phase in order.
func Phases() []Phase {
	return []Phase{PhaseCheck, PhaseStart, PhaseProve, PhaseCutover, PhaseSoak, PhaseSettle, PhaseDrain}
}

// Snapshot is the whole truth at one instant. It is never changed once published; every time is wall clock, UTC.
type Snapshot struct {
	Version string    `json:"version"`
	PID     int       `json:"pid"`     // holdfast's own, in its PID namespace
	Started time.Time `json:"started"` // when holdfast started
	At      time.Time `json:"at"`      // when this snapshot was made
	Command []string  `json:"command"` // the child's command line, as Public has it

	// Live is the number of the generation that the switch points at; 0 = none.
	Live        int          `json:"live"`
	Generations []Generation `json:"generations"` // those not gone, oldest first, then at most a few that are gone (newest last)
	Ports       []Port       `json:"ports"`

	Ready       Readiness `json:"ready"`
	Terminating bool      `json:"terminating"`

	// Handoff is the one in flight (nil = none). Last is the one that ended last (nil = none yet).
	Handoff *Handoff  `json:"handoff,omitempty"`
	Last    *Handoff  `json:"last,omitempty"`
	Recent  []Handoff `json:"recent"`  // the last ended ones, oldest first, bounded
	Pending bool      `json:"pending"` // a trigger waits for the handoff in flight to end

	Watch      []string `json:"watch,omitempty"`       // the watched paths
	ConfigHash string   `json:"config_hash,omitempty"` // of the watched content that the live generation started from, or was told of last
	// ConfigLatest is the hash of the watched content as it is now. ConfigRejected is the same where that content has been
	// tried and has failed, and the live generation runs from another: the next start of the container will fail.
	ConfigLatest   string `json:"config_latest,omitempty"`
	ConfigRejected string `json:"config_rejected,omitempty"`
	// WatchAction is what is done about changed content in place of a handoff; nil = that is a handoff.
	WatchAction *WatchAction `json:"watch_action,omitempty"`

	Warnings []string `json:"warnings,omitempty"` // lasting conditions that an operator should know, e.g. the shared fallback

	Counters Counters `json:"counters"`
}

// Readiness holds the three readyz checks; an empty string means the check holds, else it says why it does not.
type Readiness struct {
	Live     string `json:"live"`     // a live generation exists and has been proven
	Handoff  string `json:"handoff"`  // no handoff is between its trigger and its outcome
	Shutdown string `json:"shutdown"` // holdfast is not terminating
}

// Generation is one run of the child command and all its descendants.
type Generation struct {
	Number     int       `json:"generation"`
	State      State     `json:"state"`
	Proven     bool      `json:"proven"`
	PID        int       `json:"pid,omitempty"` // of its main process; 0 when that has ended
	Trigger    string    `json:"trigger"`       // why it was started: start, signal, watch, command, restart
	ConfigHash string    `json:"config_hash,omitempty"`
	Detail     string    `json:"detail,omitempty"` // what it waits for, why it failed, or its own STATUS= text
	Started    time.Time `json:"started,omitzero"`
	Executed   time.Time `json:"executed,omitzero"`
	ProvenAt   time.Time `json:"proven_at,omitzero"`
	LiveAt     time.Time `json:"live_at,omitzero"`
	StoppedAt  time.Time `json:"stopped_at,omitzero"` // when it got its stop signal
	GoneAt     time.Time `json:"gone_at,omitzero"`
	Exit       string    `json:"exit,omitempty"`      // "exit 0", "killed by SIGKILL"
	Processes  int       `json:"processes,omitempty"` // how many it still has; counted only while it drains
}

// Port is one held port.
type Port struct {
	Name    string    `json:"name,omitempty"`
	Port    string    `json:"port"`             // its address in canonical form; the metrics' label
	Switch  string    `json:"switch"`           // reuseport, rename or shared
	Live    int       `json:"live"`             // the generation that new connections reach; 0 = none
	Cutover time.Time `json:"cutover,omitzero"` // when the switch last turned
	// Generations are those that have a socket on it, oldest first.
	Generations []int `json:"generations"`
	// Overlaps are the other held ports that take some of the same connections, such as :80 beside 127.0.0.1:80. For the
	// kernel they are groups of their own: no switch turns between them, so that the cutover is the old socket's retirement.
	Overlaps []string `json:"overlaps,omitempty"`
}

// Queue is a reading of one accept queue.
type Queue struct {
	Port       string `json:"port"`
	Generation int    `json:"generation"`
	Length     int    `json:"length"` // connections waiting to be accepted (datagram sockets: bytes waiting)
	Max        int    `json:"max"`    // how many it can hold; 0 = not known
}

// Connections says how many established connections to held TCP ports a draining generation still has.
type Connections struct {
	Generation  int `json:"generation"`
	Established int `json:"established"`
}

// Document is the JSON of /statusz, and what the control socket's client reads back: the snapshot's fields and the
// queues and connections side by side. Those are read when they are asked for, so they are no part of the snapshot.
type Document struct {
	*Snapshot
	Queues      []Queue       `json:"queues"`
	Connections []Connections `json:"connections,omitempty"` // of the generations that drain
}

// Handoff is one handoff, in flight or ended.
type Handoff struct {
	Trigger string `json:"trigger"` // signal, watch, command, restart
	From    int    `json:"from"`    // the live generation it set out from; 0 = none
	To      int    `json:"to"`      // the new generation; 0 = none was started (the check failed)
	// Phase is the one under way; empty when it has ended.
	Phase Phase `json:"phase,omitempty"`
	// Result is empty in flight; "completed", "failed" or "abandoned" (holdfast is terminating).
	Result     string    `json:"result,omitempty"`
	Reason     string    `json:"reason,omitempty"`      // why it failed, one line
	ConfigHash string    `json:"config_hash,omitempty"` // of the watched content that it has tried
	Triggered  time.Time `json:"triggered"`
	Ended      time.Time `json:"ended,omitzero"`
	CutoverAt  time.Time `json:"cutover_at,omitzero"`
	TurnedBack bool      `json:"turned_back,omitempty"` // the soak failed and the switch turned back
	// Seconds holds each ended phase's length in seconds.
	Seconds map[Phase]float64 `json:"seconds,omitempty"`
}

// WatchAction is what is done about changed content where that is no handoff: the live generation is told of it.
type WatchAction struct {
	Do   string   `json:"do"` // as --watch-action has it: signal:HUP, exec:COMMAND
	Now  *Telling `json:"now,omitempty"`
	Last *Telling `json:"last,omitempty"` // the one that ended last; nil = none yet
}

// Telling is one watch action, in flight or ended.
type Telling struct {
	Generation int       `json:"generation"` // who is told
	ConfigHash string    `json:"config_hash,omitempty"`
	Result     string    `json:"result,omitempty"` // as a handoff's; empty in flight
	Reason     string    `json:"reason,omitempty"` // why it failed, one line
	Began      time.Time `json:"began"`
	Ended      time.Time `json:"ended,omitzero"`
}

// The results of a handoff, and of a watch action.
const (
	Completed     = "completed"
	FailedHandoff = "failed"
	Abandoned     = "abandoned"
)

// HandoffKey labels the handoff counter.
type HandoffKey struct{ Trigger, Result string }

// MarshalText makes a HandoffKey usable as a JSON object's key: "trigger/result".
func (k HandoffKey) MarshalText() ([]byte, error) { return []byte(k.Trigger + "/" + k.Result), nil }

// UnmarshalText reads what MarshalText wrote.
func (k *HandoffKey) UnmarshalText(text []byte) error {
	trigger, result, ok := strings.Cut(string(text), "/")
	if !ok {
		return fmt.Errorf("read handoff key %q: want trigger/result", text)
	}
	k.Trigger, k.Result = trigger, result
	return nil
}

// Histogram is a cumulative histogram in seconds. Buckets[i] counts observations ≤ Bounds()[i].
type Histogram struct {
	Count   uint64   `json:"count"`
	Sum     float64  `json:"sum"`
	Buckets []uint64 `json:"buckets"`
}

// Bounds returns the upper bounds, in seconds, of every Histogram's buckets.
func Bounds() []float64 {
	return []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}
}

// Observe returns h with one more observation of s seconds; h itself, which a published snapshot may hold, stays as it is.
func (h Histogram) Observe(s float64) Histogram {
	b := make([]uint64, len(Bounds()))
	copy(b, h.Buckets)
	for i, bound := range Bounds() {
		if s <= bound {
			b[i]++
		}
	}
	return Histogram{Count: h.Count + 1, Sum: h.Sum + s, Buckets: b}
}

// Counters only grow. The maps are never changed once published.
type Counters struct {
	Handoffs         map[HandoffKey]uint64 `json:"handoffs"`
	PhaseSeconds     map[Phase]Histogram   `json:"phase_seconds"`
	Reaped           uint64                `json:"processes_reaped"`
	SignalsForwarded map[string]uint64     `json:"signals_forwarded"` // by name, e.g. SIGTERM
	WatchActions     map[string]uint64     `json:"watch_actions"`     // by result
	Relayed          uint64                `json:"stragglers_relayed"`
	Restarts         uint64                `json:"restarts"`
}
