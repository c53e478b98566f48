package probes

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"holdfast/handoff/status"
)

// WriteText writes what /statusz says as a person wants to read it: first whether traffic comes and what serves it,
// then what is going on, then the tables. Ages are counted up to now.
func WriteText(w io.Writer, d status.Document, now time.Time) error {
	p := &page{view: newView(d, now)}
	p.head()
	p.readiness()
	p.summary()
	p.generations()
	p.ports()
	p.recent()
	p.counters()
	if _, err := w.Write(trimmed(p.b.Bytes())); err != nil {
		return fmt.Errorf("write status: %w", err)
	}
	return nil
}

// page is one status text in the making.
type page struct {
	view
	b bytes.Buffer
}

// view is what is told of, and when.
type view struct {
	s           *status.Snapshot
	queues      []status.Queue
	connections map[int]int // of the generations that drain, where they are known
	now         time.Time
}

func newView(d status.Document, now time.Time) view {
	v := view{s: d.Snapshot, queues: d.Queues, connections: map[int]int{}, now: now}
	for _, c := range d.Connections {
		v.connections[c.Generation] = c.Established
	}
	return v
}

func (p *page) printf(format string, args ...any) { fmt.Fprintf(&p.b, format, args...) }

func (v view) ago(t time.Time) string { return age(v.now.Sub(t)) }

// table writes a blank line, then rows aligned in columns.
func (p *page) table(rows [][]string) {
	p.b.WriteByte('\n')
	t := tabwriter.NewWriter(&p.b, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	t.Flush()
}

// trimmed takes away the blanks that an empty last column leaves behind.
func trimmed(b []byte) []byte {
	lines := bytes.Split(b, []byte("\n"))
	for i, line := range lines {
		lines[i] = bytes.TrimRight(line, " ")
	}
	return bytes.Join(lines, []byte("\n"))
}

func (p *page) head() {
	p.printf("holdfast %s, pid %d, up %s, at %s\n", p.s.Version, p.s.PID, p.ago(p.s.Started), instant(p.now))
	p.printf("command: %s\n", commandLine(p.s.Command))
}

func (p *page) readiness() {
	checks := readyChecks(p.s)
	answer := "yes"
	for _, c := range checks {
		if c.why != "" {
			answer = "NO"
		}
	}
	p.printf("\nready: %s\n", answer)
	for _, c := range checks {
		why := c.why
		if why == "" {
			why = "ok"
		}
		p.printf("  %-8s  %s\n", c.name, why)
	}
}

func (p *page) summary() {
	p.printf("\nlive: %s\n", p.live())
	if h := p.s.Handoff; h != nil {
		p.printf("now:  %s\n", p.inFlight(h))
	}
	if h := p.s.Last; h != nil {
		p.printf("last: %s\n", p.ended(h))
		if phases := phaseTimes(h); phases != "" {
			p.printf("      %s\n", phases)
		}
	}
	if p.s.Terminating {
		p.printf("holdfast is terminating\n")
	}
	if a := p.s.WatchAction; a != nil {
		p.watchAction(a)
	}
	switch {
	case p.s.ConfigRejected != "":
		p.printf("config %s on disk was REJECTED: the next start of the container will fail with it\n",
			short(p.s.ConfigRejected))
	case len(p.s.Watch) > 0 && p.s.ConfigLatest != p.s.ConfigHash:
		p.printf("config on disk: %s, which the live generation did not start from\n", orDash(short(p.s.ConfigLatest)))
	}
	for _, warning := range p.s.Warnings {
		p.printf("warning: %s\n", oneLine(warning))
	}
}

func (v view) live() string {
	for _, g := range v.s.Generations {
		if g.Number != v.s.Live || g.Number == 0 {
			continue
		}
		line := fmt.Sprintf("generation %d since %s (%s), %s", g.Number, instant(v.since(g)), v.ago(v.since(g)), startedBy(g))
		if hash := short(g.ConfigHash); hash != "" {
			line += ", config " + hash
		}
		return line
	}
	return "none"
}

func startedBy(g status.Generation) string {
	if g.Trigger == "start" {
		return "started with holdfast"
	}
	return "started by " + g.Trigger
}

// inFlight counts the phase under way from the end of those before it, since each begins where another ends.
func (v view) inFlight(h *status.Handoff) string {
	began := h.Triggered
	for _, s := range h.Seconds {
		began = began.Add(seconds(s))
	}
	line := fmt.Sprintf("%s, in phase %s for %s, triggered %s ago", handoff(h), orDash(string(h.Phase)), v.ago(began), v.ago(h.Triggered))
	if v.s.Pending {
		line += "; one more trigger waits"
	}
	return line
}

func (v view) ended(h *status.Handoff) string {
	line := fmt.Sprintf("%s %s %s ago after %s", handoff(h), result(h), v.ago(h.Ended), took(h.Ended.Sub(h.Triggered)))
	if h.Reason != "" {
		line += ": " + oneLine(h.Reason)
	}
	return line
}

func (p *page) watchAction(a *status.WatchAction) {
	p.printf("on a change: %s\n", commandLine(strings.Fields(a.Do)))
	if t := a.Now; t != nil {
		p.printf("      now for %s: generation %d is told of config %s\n", p.ago(t.Began), t.Generation, orDash(short(t.ConfigHash)))
	}
	if t := a.Last; t != nil {
		p.printf("      generation %d told of config %s: %s %s ago after %s", t.Generation, orDash(short(t.ConfigHash)),
			shout(t.Result), p.ago(t.Ended), took(t.Ended.Sub(t.Began)))
		if t.Reason != "" {
			p.printf(": %s", oneLine(t.Reason))
		}
		p.printf("\n")
	}
}

func handoff(h *status.Handoff) string {
	if h.To == 0 {
		return fmt.Sprintf("handoff from %s by %s", number(h.From), h.Trigger)
	}
	return fmt.Sprintf("handoff %s by %s", fromTo(h), h.Trigger)
}

func fromTo(h *status.Handoff) string { return number(h.From) + " -> " + number(h.To) }

func result(h *status.Handoff) string {
	r := shout(h.Result)
	if h.TurnedBack {
		r += " (turned back)"
	}
	return r
}

// shout writes large what an eye that skims the page must not miss.
func shout(result string) string {
	if result == status.FailedHandoff {
		return "FAILED"
	}
	return result
}

func phaseTimes(h *status.Handoff) string {
	var all []string
	for _, phase := range status.Phases() {
		if s, ok := h.Seconds[phase]; ok {
			all = append(all, fmt.Sprintf("%s %s", phase, took(seconds(s))))
		}
	}
	return strings.Join(all, ", ")
}
