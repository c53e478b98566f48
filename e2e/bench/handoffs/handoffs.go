// Package handoffs measures what requests go through while a server is replaced under load, by holdfast and by what people
// use today: who loses how many, and how long the others wait.
package handoffs

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"holdfast/e2e/bench/peers"
	"holdfast/e2e/bench/proc"
	"holdfast/e2e/bench/stats"
	"holdfast/e2e/bench/traffic"
	"holdfast/e2e/load"
)

// Options bound the measurement.
type Options struct {
	Tools    peers.Tools
	Peers    []peers.Peer
	Loads    []float64                        // shares of the bare server's capacity
	Want     int                              // handoffs in each cell
	Budget   func(p peers.Peer) time.Duration // for a peer at one load; then it has as many as it has
	Capacity time.Duration                    // how long to measure what the bare server can do
	Note     func(format string, args ...any) // says what goes on
	Ceiling  float64                          // requests a second at most, whatever the server could do
	Until    time.Time                        // from then on every peer has one more turn at each load, and no other
}

// Cell is one peer at one load.
type Cell struct {
	Peer     string  `json:"peer"`
	Server   string  `json:"server"`
	Holdfast bool    `json:"holdfast,omitempty"`
	Floor    bool    `json:"floor,omitempty"`
	Load     float64 `json:"load"` // share of the capacity
	Rate     float64 `json:"rate"` // requests a second

	Handoffs   int `json:"handoffs"`
	Unfinished int `json:"unfinished,omitempty"` // those that did not end within a bound

	Requests int `json:"requests"`
	Refused  int `json:"refused"`
	Reset    int `json:"reset"`
	Failed   int `json:"failed"`
	Repeated int `json:"repeated"` // a kept connection ended before an answer began: answered when repeated

	Inside  Latency       `json:"inside"`  // of the requests that overlap a handoff
	Outside Latency       `json:"outside"` // of the others
	Took    stats.Summary `json:"took_ms"` // from the trigger until the last process that had answered before is gone

	Series []Bin `json:"series,omitempty"`
}

// Lost is how many requests got no right answer.
func (c Cell) Lost() int { return c.Refused + c.Reset + c.Failed }

// Latency is a distribution in milliseconds, of answered requests.
type Latency struct {
	Requests int64   `json:"requests"`
	P50      float64 `json:"p50_ms"`
	P99      float64 `json:"p99_ms"`
	P999     float64 `json:"p999_ms"`
	Max      float64 `json:"max_ms"`
}

// A Bin is what the requests that were due in a stretch of time around a trigger, of all handoffs, went through.
type Bin struct {
	At   float64 `json:"at_ms"`            // its begin, from the trigger
	P99  float64 `json:"p99_ms,omitempty"` // not the longest: that grows with the number of handoffs, which is not the same for all
	Lost int     `json:"lost,omitempty"`
}

// The series' reach around a trigger, and the width of its bins.
const (
	before   = 300 * time.Millisecond
	after    = 1500 * time.Millisecond
	binWidth = 20 * time.Millisecond
)

const (
	calm    = 100 * time.Millisecond // before and after each handoff
	warm    = 300 * time.Millisecond // of a load that begins, which is not counted
	burst   = 5                      // handoffs in a turn
	longest = 15 * time.Second       // for one handoff
	timeout = 5 * time.Second        // for one request
)

// Measure measures all. The peers of one server are started together and loaded in turns.
func Measure(o Options) ([]Cell, error) {
	var cells []Cell
	var trouble error
	for _, group := range groups(o.Peers) {
		c, err := o.group(group)
		cells = append(cells, c...)
		trouble = errors.Join(trouble, err) // the others are measured all the same
	}
	return cells, trouble
}

func groups(all []peers.Peer) (groups [][]peers.Peer) {
	for _, p := range all {
		i := slices.IndexFunc(groups, func(g []peers.Peer) bool { return g[0].Server == p.Server })
		if i < 0 {
			groups = append(groups, nil)
			i = len(groups) - 1
		}
		groups[i] = append(groups[i], p)
	}
	return groups
}

func (o Options) group(group []peers.Peer) (cells []Cell, err error) {
	var running []*peers.Running
	defer func() {
		for _, r := range running {
			err = errors.Join(err, r.Stop())
		}
	}()
	for _, p := range group {
		r, err := p.Start(o.Tools)
		if err != nil {
			return nil, err
		}
		running = append(running, r)
	}
	capacity, err := o.capacity(running)
	if err != nil {
		return nil, err
	}
	o.Note("%s: the bare server answers %.0f requests a second", group[0].Server, capacity)
	for _, share := range o.Loads {
		rate := share * capacity
		level := make([]*collector, len(running))
		for i, r := range running {
			level[i] = &collector{Running: r, cell: Cell{Peer: r.Name, Server: r.Server, Holdfast: r.Holdfast, Floor: r.Floor, Load: share, Rate: rate}, budget: o.Budget(r.Peer)}
		}
		if err := o.turns(level); err != nil {
			return cells, err
		}
		for _, c := range level {
			cell := c.finish()
			o.Note("%s, %s, %.0f %%: %d handoffs of %.0f ms, %d of %d lost, p99.9 %.1f ms inside, %.1f ms outside", cell.Server, cell.Peer, 100*share,
				cell.Handoffs, cell.Took.Median, cell.Lost(), cell.Requests, cell.Inside.P999, cell.Outside.P999)
			cells = append(cells, cell)
		}
	}
	return cells, nil
}

// capacity is that of the first server that runs bare.
func (o Options) capacity(running []*peers.Running) (float64, error) {
	for _, r := range running {
		if !r.Holdfast {
			rate, err := traffic.Capacity(r.Addr(), o.Capacity)
			return min(rate, o.Ceiling), err
		}
	}
	return 0, fmt.Errorf("%s: no peer runs the bare server", running[0].Server)
}

// turns loads one after the other, again and again, until each has what it is to have.
func (o Options) turns(level []*collector) error {
	for busy := true; busy; {
		busy = false
		for _, c := range level {
			if len(c.windows) >= o.Want || c.spent >= c.budget || c.spent > 0 && time.Now().After(o.Until) {
				continue
			}
			busy = true
			if err := c.turn(min(burst, o.Want-len(c.windows))); err != nil {
				return fmt.Errorf("%s, %s: %w", c.Server, c.Name, err)
			}
		}
	}
	return nil
}

// collector is one peer at one load while it is measured.
type collector struct {
	*peers.Running
	cell    Cell
	budget  time.Duration
	spent   time.Duration
	records []traffic.Record
	windows []window
}

type window struct {
	from, to time.Time
	finished bool
}

// turn has n handoffs under load.
func (c *collector) turn(n int) error {
	began := time.Now()
	t := traffic.Start(c.Addr(), c.cell.Rate, timeout)
	time.Sleep(warm)
	from := time.Now()
	var err error
	for i := 0; i < n && err == nil && (i == 0 || c.spent+time.Since(began) < c.budget); i++ {
		time.Sleep(calm)
		var w window
		if w, err = c.handoff(t); err == nil {
			c.windows = append(c.windows, w)
		}
		time.Sleep(calm)
	}
	all := t.Stop()
	c.records = append(c.records, slices.DeleteFunc(all, func(r traffic.Record) bool { return r.Due.Before(from) })...)
	c.spent += time.Since(began)
	return err
}

// handoff performs one and returns when it was. It is over when another process answers and all that have answered before
// are gone.
func (c *collector) handoff(t *traffic.Traffic) (w window, err error) {
	w.from = time.Now()
	old := t.Answerers(w.from.Add(-2 * calm))
	if err := c.Reload(); err != nil {
		return w, fmt.Errorf("ask for a handoff: %w", err)
	}
	for end := w.from.Add(longest); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if c.Floor || replaced(old, t.Answerers(w.from)) {
			w.finished = true
			break
		}
	}
	w.to = time.Now()
	return w, nil
}

func replaced(old, answering []int) bool {
	if slices.ContainsFunc(old, proc.Alive) {
		return false
	}
	return slices.ContainsFunc(answering, func(pid int) bool { return !slices.Contains(old, pid) })
}

func (c *collector) finish() Cell {
	cell := &c.cell
	inside, outside := histogram(), histogram()
	for _, r := range c.records {
		cell.Requests++
		if r.Repeated {
			cell.Repeated++
		}
		switch r.Outcome {
		case load.OK:
		case load.Refused:
			cell.Refused++
		case load.Reset:
			cell.Reset++
		default:
			cell.Failed++
		}
		if r.Lost() {
			continue
		}
		to := outside
		if slices.ContainsFunc(c.windows, func(w window) bool { return r.Due.Before(w.to) && r.Answered.After(w.from) }) {
			to = inside
		}
		_ = to.RecordValue(min(max(r.Latency().Nanoseconds(), 1), to.HighestTrackableValue()))
	}
	cell.Inside, cell.Outside = latency(inside), latency(outside)
	var took []float64
	for _, w := range c.windows {
		if w.finished {
			took = append(took, milliseconds(w.to.Sub(w.from)))
		} else {
			cell.Unfinished++
		}
	}
	cell.Handoffs, cell.Took = len(c.windows), stats.Summarize(took)
	cell.Series = series(c.records, c.windows)
	return *cell
}

// histogram holds nanoseconds up to a minute, to three digits.
func histogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, time.Minute.Nanoseconds(), 3)
}

func latency(h *hdrhistogram.Histogram) Latency {
	at := func(q float64) float64 { return milliseconds(time.Duration(h.ValueAtQuantile(q))) }
	return Latency{Requests: h.TotalCount(), P50: at(50), P99: at(99), P999: at(99.9), Max: milliseconds(time.Duration(h.Max()))}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// series lays the requests around all triggers on top of each other.
func series(records []traffic.Record, windows []window) []Bin {
	bins := make([]Bin, (before+after)/binWidth)
	took := make([][]time.Duration, len(bins))
	for _, r := range records {
		at, ok := around(r.Due, windows)
		if at += before; !ok || at < 0 || at >= before+after {
			continue
		}
		if i := at / binWidth; r.Lost() {
			bins[i].Lost++
		} else {
			took[i] = append(took[i], r.Latency())
		}
	}
	for i := range bins {
		bins[i].At = milliseconds(time.Duration(i)*binWidth - before)
		if n := len(took[i]); n > 0 {
			slices.Sort(took[i])
			bins[i].P99 = milliseconds(took[i][(n*99+99)/100-1])
		}
	}
	return bins
}

// around says how long after the trigger of its handoff an instant is: of the one that comes within the calm before it, or
// else of the one before. Each request is shown once.
func around(due time.Time, windows []window) (at time.Duration, ok bool) {
	for _, w := range windows {
		if from := due.Sub(w.from); from >= -calm && (!ok || from < at) {
			at, ok = from, true
		}
	}
	return at, ok
}
