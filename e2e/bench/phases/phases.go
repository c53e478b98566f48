// Package phases measures what a handoff is made of, how much of it is holdfast's own, what is left of it in memory, and how
// that grows with the ports, connections, processes and watched files.
package phases

import (
	"errors"
	"fmt"
	"time"

	"holdfast/e2e/bench/proc"
	"holdfast/e2e/bench/stats"
)

// The settle time is short here: it is a wait that the user chooses, and left out of all figures. Where things grow it is
// longer, as it would be: holdfast uses it for its own work.
const (
	shortSettle = 10 * time.Millisecond
	settle      = 200 * time.Millisecond
)

// Options bound the measurements.
type Options struct {
	Holdfast, Witness, Server string
	Handoffs                  int           // of the plain server
	Budget                    time.Duration // for those; then it has as many as it has
	Each                      int           // handoffs at each size of what grows
	Ports, Connections        []int         // the sizes
	Processes, Files          []int
	Over                      func() bool // says that the time is over: what is not measured by then is not
	Note                      func(format string, args ...any)
}

// Result is all that came of it. All times are in milliseconds.
type Result struct {
	Handoffs int           `json:"handoffs"`
	Phases   []Phase       `json:"phases"`
	Own      stats.Summary `json:"own_ms"`
	Before   proc.Memory   `json:"memory_before"`
	After    proc.Memory   `json:"memory_after"`
	Growths  []Growth      `json:"growths"`
}

// Phase is one stretch of the handoffs.
type Phase struct {
	Name string        `json:"name"`
	Ours bool          `json:"ours"` // holdfast's, not the server's
	Took stats.Summary `json:"took_ms"`
}

// Growth is one size of one thing that grows.
type Growth struct {
	What string        `json:"what"`
	N    int           `json:"n"`
	Own  stats.Summary `json:"own_ms"`
	// Bare is what the server itself takes for the same without holdfast, where that grows, too; in ms.
	Bare float64 `json:"bare_ms,omitempty"`
}

// Measure measures all.
func Measure(o Options) (Result, error) {
	r, err := plain(o)
	if err != nil {
		return r, err
	}
	for _, grow := range []func(Options) ([]Growth, error){ports, connections, processes, files} {
		if o.Over() {
			return r, errors.New("the time was over before all was measured")
		}
		g, trouble := grow(o)
		r.Growths = append(r.Growths, g...)
		err = errors.Join(err, trouble) // the others are measured all the same
	}
	return r, err
}

// plain hands one small server over again and again.
func plain(o Options) (r Result, err error) {
	address, err := free(1)
	if err != nil {
		return r, err
	}
	p, err := start(o, shortSettle, nil, address...)
	if err != nil {
		return r, err
	}
	defer p.end()
	time.Sleep(time.Second)
	r.Before = p.memory()
	var all []Times
	for began := time.Now(); len(all) < o.Handoffs && time.Since(began) < o.Budget; {
		t, _, err := p.handOver(3*time.Millisecond, p.hangUp)
		if err != nil {
			return r, fmt.Errorf("handoff %d: %w", len(all)+1, err)
		}
		all = append(all, t)
	}
	time.Sleep(3 * time.Second) // at rest again
	r.After = p.memory()
	r.Handoffs = len(all)
	of := func(name string, ours bool, f func(Times) float64) {
		r.Phases = append(r.Phases, Phase{name, ours, summary(all, f)})
	}
	of("trigger → program executed", true, func(t Times) float64 { return t.Exec })
	of("its own start, until it opens its port", false, func(t Times) float64 { return t.Start })
	of("→ proven ready", true, func(t Times) float64 { return t.Proven })
	of("→ cutover", true, func(t Times) float64 { return t.Cutover })
	of("→ stop signal, beyond the settle time", true, func(t Times) float64 { return t.Settle })
	of("the old one's drain, until it is gone", false, func(t Times) float64 { return t.Drain })
	r.Own = summary(all, Times.Own)
	for _, phase := range r.Phases {
		o.Note("  %s: %.2f ms (%.2f to %.2f)", phase.Name, phase.Took.Median, phase.Took.P25, phase.Took.P75)
	}
	o.Note("%d handoffs: %.1f ms of each are holdfast's own (median)", len(all), r.Own.Median)
	return r, nil
}

func summary(all []Times, f func(Times) float64) stats.Summary {
	v := make([]float64, len(all))
	for i, t := range all {
		v[i] = f(t)
	}
	return stats.Summarize(v)
}
