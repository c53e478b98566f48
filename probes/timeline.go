package probes

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/net/html"

	"holdfast/handoff/status"
)

// spans are how much time the timeline may show; people choose one by ?span=.
func spans() []time.Duration {
	return []time.Duration{20 * time.Second, time.Minute, 10 * time.Minute, time.Hour, 6 * time.Hour, 24 * time.Hour, 7 * 24 * time.Hour}
}

func spanName(d time.Duration) string {
	switch {
	case d >= 24*time.Hour:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	case d >= time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	}
	return fmt.Sprintf("%dm", d/time.Minute)
}

// spanOf is what was asked for; 0 = what shows the last handoff.
func spanOf(r *http.Request) time.Duration {
	for _, d := range spans() {
		if r.URL.Query().Get("span") == spanName(d) {
			return d
		}
	}
	return 0
}

// timeline draws the life of each generation as a bar, from left to right, up to now.
type timeline struct {
	view
	span, asked time.Duration
	from        time.Time
}

func newTimeline(v view, asked time.Duration) timeline {
	t := timeline{view: v, span: asked, asked: asked}
	if asked == 0 {
		t.span = v.lastSpan()
	}
	t.from = v.now.Add(-t.span)
	return t
}

// lastSpan is the shortest in which the last handoff, or the start, is not at the very edge.
func (v view) lastSpan() time.Duration {
	since := v.s.Started
	if v.s.Last != nil {
		since = v.s.Last.Triggered
	}
	if v.s.Handoff != nil {
		since = v.s.Handoff.Triggered
	}
	for _, d := range spans() {
		if v.now.Sub(since) < d*4/5 {
			return d
		}
	}
	return spans()[len(spans())-1]
}

const (
	rowHeight = 46
	barTop    = 20
	barHeight = 16
	axisTop   = 38 // room for two lines of the marks' names
)

// segment is a stretch of a generation's life in one state.
type segment struct {
	state      status.State
	begin, end time.Time
}

// segments cuts a generation's life by the instants that were noted.
func (v view) segments(g status.Generation) []segment {
	end := v.now
	if !g.GoneAt.IsZero() {
		end = g.GoneAt
	}
	left := g.StoppedAt // when it stopped being what it was
	if at := v.replaced(g.Number); !at.IsZero() && (left.IsZero() || at.Before(left)) {
		left = at
	}
	last, live := status.Draining, liveAt(g)
	if live.IsZero() {
		if last = status.Failed; left.IsZero() {
			left = g.GoneAt // it has ended by itself
		}
	}
	steps := []struct {
		state status.State
		at    time.Time
	}{{status.Starting, g.Started}, {status.Proving, g.Executed}, {status.Live, live}, {last, left}}
	var all []segment
	for _, step := range steps {
		if step.at.IsZero() {
			continue
		}
		if n := len(all); n > 0 && all[n-1].begin.Equal(step.at) {
			all = all[:n-1] // passed over
		} else if n > 0 {
			all[n-1].end = step.at
		}
		all = append(all, segment{step.state, step.at, end})
	}
	return all
}

// liveAt is when connections first reached the generation; zero when none has. The first one, and one that was started in
// the place of one that had exited, is live without a cutover.
func liveAt(g status.Generation) time.Time {
	switch {
	case !g.LiveAt.IsZero():
		return g.LiveAt
	case g.State == status.Live, g.State == status.Draining, g.Trigger == "start", g.Trigger == "restart":
		return lastNoted([]time.Time{g.Started, g.Executed})
	}
	return time.Time{}
}

// x is where an instant is, in percent of the width; what is before the span is at its left edge.
func (t timeline) x(at time.Time) float64 {
	return min(100, max(0, 100*float64(at.Sub(t.from))/float64(t.span)))
}

func percent(x float64) string { return strconv.FormatFloat(x, 'f', 2, 64) + "%" }

func (t timeline) draw() *html.Node {
	var shown []status.Generation
	for _, g := range t.s.Generations {
		if g.GoneAt.IsZero() || g.GoneAt.After(t.from) {
			shown = append(shown, g)
		}
	}
	sortByNumber(shown)
	height := axisTop + rowHeight*len(shown) + 26
	svg := el("svg", attr{"width", "100%"}, attr{"height", strconv.Itoa(height)}, attr{"role", "img"}, attr{"aria-label", t.inWords(shown)}, patterns())
	for _, n := range t.axis(height) {
		svg.AppendChild(n)
	}
	for i, g := range shown {
		svg.AppendChild(t.row(g, axisTop+i*rowHeight))
	}
	for _, n := range t.marks(height - 26) {
		svg.AppendChild(n)
	}
	return el("figure", class("timeline"), svg, el("figcaption", legend(), t.choices()))
}

// inWords is the drawing for who does not see it.
func (t timeline) inWords(shown []status.Generation) string {
	text := fmt.Sprintf("Timeline of the last %s.", spanName(t.span))
	for _, g := range shown {
		text += fmt.Sprintf(" Generation %d:", g.Number)
		for i, s := range t.segments(g) {
			if i > 0 {
				text += ","
			}
			text += fmt.Sprintf(" %s for %s", s.state, took(s.end.Sub(s.begin)))
		}
		text += "."
	}
	return text
}

// patterns tell the states apart without their colours.
func patterns() *html.Node {
	lines := func(name, path string) *html.Node {
		return el("pattern", id(name), attr{"width", "8"}, attr{"height", "8"}, attr{"patternUnits", "userSpaceOnUse"},
			el("rect", attr{"width", "8"}, attr{"height", "8"}, class("fill-"+name)), el("path", attr{"d", path}, class("hatch")))
	}
	return el("defs", lines("draining", "M-2 2l4-4M0 8l8-8M6 10l4-4"), lines("proving", "M2 0v8M6 0v8"), lines("starting", "M0 4h8"),
		lines("failed", "M0 0l8 8M8 0l-8 8"))
}

func (t timeline) axis(height int) []*html.Node {
	var all []*html.Node
	const steps = 4
	for i := range steps + 1 {
		x, anchor, label := percent(100*float64(i)/steps), "middle", "-"+age(t.span*time.Duration(steps-i)/steps)
		switch i {
		case 0:
			anchor = "start"
		case steps:
			anchor, label = "end", "now"
		}
		all = append(all,
			el("line", class("grid"), attr{"x1", x}, attr{"x2", x}, attr{"y1", strconv.Itoa(axisTop)}, attr{"y2", strconv.Itoa(height - 24)}),
			el("text", class("tick"), attr{"x", x}, attr{"y", strconv.Itoa(height - 8)}, attr{"text-anchor", anchor}, label))
	}
	return all
}

func (t timeline) row(g status.Generation, y int) *html.Node {
	row := el("g", el("text", class("name"), attr{"x", "0"}, attr{"y", strconv.Itoa(y + barTop - 6)}, t.rowName(g)))
	for _, s := range t.segments(g) {
		if s.end.Before(t.from) {
			continue
		}
		begin, end := t.x(s.begin), t.x(s.end)
		row.AppendChild(el("rect", class("bar "+string(s.state)), attr{"x", percent(begin)}, attr{"y", strconv.Itoa(y + barTop)},
			attr{"width", percent(max(end-begin, 0.25))}, attr{"height", strconv.Itoa(barHeight)},
			el("title", fmt.Sprintf("generation %d: %s for %s, from %s", g.Number, s.state, took(s.end.Sub(s.begin)), instant(s.begin)))))
	}
	return row
}

func (t timeline) rowName(g status.Generation) string {
	name := fmt.Sprintf("generation %d · %s", g.Number, g.State)
	if n, known := t.connections[g.Number]; known {
		name += ", " + counted(n, "connection", "connections")
	}
	if g.Started.Before(t.from) {
		name += fmt.Sprintf(" · began %s ago", t.ago(g.Started))
	}
	return name
}

// marks are the cutovers, and the handoffs that have failed.
func (t timeline) marks(bottom int) []*html.Node {
	handoffs := t.s.Recent
	if h := t.s.Handoff; h != nil {
		handoffs = append(handoffs[:len(handoffs):len(handoffs)], *h)
	}
	var all []*html.Node
	right := [2]float64{-100, -100} // where the names in each line end
	mark := func(kind, name, title string, at time.Time) {
		if at.Before(t.from) {
			return
		}
		const wide = 16 // a name, in percent of a narrow window
		x, anchor, begin := t.x(at), "middle", 0.0
		switch begin = x - wide/2; {
		case x < wide/2:
			anchor, begin = "start", x
		case x > 100-wide/2:
			anchor, begin = "end", x-wide
		}
		g := el("g", class("mark "+kind), el("title", title),
			el("line", attr{"x1", percent(x)}, attr{"x2", percent(x)}, attr{"y1", strconv.Itoa(axisTop - 6)}, attr{"y2", strconv.Itoa(bottom)}))
		for line := range right { // one without room keeps its title
			if begin >= right[line] {
				right[line] = begin + wide
				g.AppendChild(el("text", attr{"x", percent(x)}, attr{"y", strconv.Itoa(12 + 16*line)}, attr{"text-anchor", anchor}, name))
				break
			}
		}
		all = append(all, g)
	}
	for _, h := range handoffs {
		if !h.CutoverAt.IsZero() {
			mark("cutover", "▼ "+arrow(&h), fmt.Sprintf("cutover %s at %s", arrow(&h), instant(h.CutoverAt)), h.CutoverAt)
		}
		if h.Result == status.FailedHandoff {
			mark("bad", "✕ "+arrow(&h), fmt.Sprintf("handoff %s failed at %s: %s", arrow(&h), instant(h.Ended), oneLine(h.Reason)), h.Ended)
		}
	}
	return all
}

func arrow(h *status.Handoff) string { return number(h.From) + " → " + number(h.To) }

func legend() *html.Node {
	list := el("ul", class("legend"), attr{"aria-label", "Legend"})
	for _, state := range status.States() {
		list.AppendChild(el("li", el("svg", attr{"width", "18"}, attr{"height", "12"}, attr{"aria-hidden", "true"},
			el("rect", class("bar "+string(state)), attr{"width", "18"}, attr{"height", "12"})), " "+string(state)))
	}
	list.AppendChild(el("li", el("span", class("key-cutover"), "▼"), " cutover"))
	list.AppendChild(el("li", el("span", class("key-bad"), "✕"), " failed handoff"))
	return list
}

// choices are links, so that they work without scripts.
func (t timeline) choices() *html.Node {
	list := el("ul", class("spans"), attr{"aria-label", "Time shown"})
	add := func(name, query string, current bool) {
		a := el("a", attr{"href", query}, id("span-"+name), name)
		if current {
			a.Attr = append(a.Attr, html.Attribute{Key: "aria-current", Val: "true"})
		}
		list.AppendChild(el("li", a))
	}
	add("auto", "?span=auto", t.asked == 0)
	for _, d := range spans() {
		add(spanName(d), "?span="+spanName(d), t.asked == d)
	}
	return list
}
