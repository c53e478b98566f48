package probes

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/handoff/status"
)

func (p *page) generations() {
	rows := [][]string{{"GENERATION", "STATE", "FOR", "PID", "STARTED BY", "CONFIG", "DETAIL"}}
	for _, g := range p.s.Generations {
		rows = append(rows, []string{
			strconv.Itoa(g.Number), string(g.State), p.ago(p.since(g)), number(g.PID), g.Trigger, orDash(short(g.ConfigHash)), p.openAnd(p.detail(g), g),
		})
	}
	p.table(rows)
}

// since is when the generation came into the state that it is in; an instant that was not noted falls back to the one
// before it.
func (v view) since(g status.Generation) time.Time {
	life := []time.Time{g.Started}
	switch g.State {
	case status.Proving:
		life = append(life, g.Executed)
	case status.Live:
		life = append(life, g.Executed, g.LiveAt)
	case status.Draining:
		life = append(life, g.Executed, g.LiveAt, g.StoppedAt, v.replaced(g.Number))
	case status.Failed, status.Gone:
		life = append(life, g.Executed, g.LiveAt, g.StoppedAt, g.GoneAt)
	}
	return lastNoted(life)
}

// replaced is the cutover that made the generation an old one, which comes before its stop signal; zero when there was
// none, or none that is still remembered.
func (v view) replaced(generation int) time.Time {
	var at time.Time
	for _, h := range append(slices.Clone(v.s.Recent), v.lastAndCurrent()...) {
		if h.From == generation && !h.TurnedBack && !h.CutoverAt.IsZero() {
			at = h.CutoverAt
		}
	}
	return at
}

func (v view) lastAndCurrent() []status.Handoff {
	var all []status.Handoff
	for _, h := range []*status.Handoff{v.s.Last, v.s.Handoff} {
		if h != nil {
			all = append(all, *h)
		}
	}
	return all
}

func lastNoted(life []time.Time) time.Time {
	last := life[0]
	for _, t := range life {
		if !t.IsZero() {
			last = t
		}
	}
	return last
}

func (v view) detail(g status.Generation) string {
	var all []string
	if g.State == status.Live && !g.Proven {
		all = append(all, "not proven yet")
	}
	if g.State == status.Draining && !g.StoppedAt.IsZero() {
		all = append(all, "stop sent "+v.ago(g.StoppedAt)+" ago")
	}
	if g.Processes > 0 {
		all = append(all, counted(g.Processes, "process left", "processes left"))
	}
	for _, said := range []string{g.Exit, g.Detail} {
		if said = oneLine(said); said != "" && !slices.Contains(all, said) {
			all = append(all, said)
		}
	}
	return strings.Join(all, "; ")
}

// openAnd puts the number of connections before what else is said of a generation.
func (v view) openAnd(detail string, g status.Generation) string {
	n, known := v.connections[g.Number]
	switch {
	case !known:
		return detail
	case detail == "":
		return counted(n, "connection", "connections")
	}
	return counted(n, "connection", "connections") + "; " + detail
}

func (p *page) ports() {
	if len(p.s.Ports) == 0 {
		p.printf("\nno port is held\n")
		return
	}
	rows := [][]string{{"PORT", "NAME", "SWITCH", "LIVE", "HELD BY", "TURNED", "QUEUE"}}
	for _, port := range p.s.Ports {
		turned := "-"
		if !port.Cutover.IsZero() {
			turned = p.ago(port.Cutover) + " ago"
		}
		rows = append(rows, []string{
			oneLine(port.Port), orDash(oneLine(port.Name)), port.Switch, number(port.Live), orDash(numbers(port.Generations)), turned, orDash(p.queue(port)),
		})
	}
	p.table(rows)
}

func numbers(all []int) string {
	var words []string
	for _, n := range all {
		words = append(words, strconv.Itoa(n))
	}
	return strings.Join(words, " ")
}

// queue is waiting/room of the live generation, then of each other one that has clients waiting, since those hang on a
// generation that gets no new ones.
func (v view) queue(port status.Port) string {
	var live, others []string
	for _, q := range v.queues {
		switch {
		case q.Port != port.Port:
		case q.Generation == port.Live:
			live = append(live, filled(q))
		case q.Length > 0:
			others = append(others, fmt.Sprintf("generation %d: %s", q.Generation, filled(q)))
		}
	}
	return strings.Join(append(live, others...), ", ")
}

func filled(q status.Queue) string {
	if q.Max == 0 {
		return strconv.Itoa(q.Length)
	}
	return fmt.Sprintf("%d/%d", q.Length, q.Max)
}

// recent leaves out a lone handoff, which the summary has told of already.
func (p *page) recent() {
	if len(p.s.Recent) < 2 {
		return
	}
	rows := [][]string{{"HANDOFF", "TRIGGER", "RESULT", "ENDED", "TOOK", "REASON"}}
	for _, h := range p.s.Recent {
		rows = append(rows, []string{
			fromTo(&h), h.Trigger, result(&h), p.ago(h.Ended) + " ago", took(h.Ended.Sub(h.Triggered)), oneLine(h.Reason),
		})
	}
	p.table(rows)
}

func (p *page) counters() {
	c := p.s.Counters
	p.printf("\nsince the start: %s, %s, %s relayed, %s reaped%s\n",
		counted(handoffs(c), "handoff", "handoffs"),
		counted(c.Restarts, "restart", "restarts"),
		counted(c.Relayed, "straggler", "stragglers"),
		counted(c.Reaped, "process", "processes"),
		signals(c))
}

func handoffs(c status.Counters) uint64 {
	var n uint64
	for _, v := range c.Handoffs {
		n += v
	}
	return n
}

func signals(c status.Counters) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(c.SignalsForwarded)) {
		if n := c.SignalsForwarded[name]; n > 0 {
			all = append(all, fmt.Sprintf("%s %d", name, n))
		}
	}
	if len(all) == 0 {
		return ""
	}
	return ", forwarded " + strings.Join(all, " ")
}
