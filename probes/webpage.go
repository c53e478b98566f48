package probes

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/html"

	"holdfast/handoff/status"
)

//go:embed page.css
var pageStyle string

//go:embed page.js
var pageScript string

// contentSecurity lets the page load nothing from anywhere and run nothing but what is embedded here.
func contentSecurity() string {
	hash := func(text string) string {
		sum := sha256.Sum256([]byte(text))
		return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	return "default-src 'none'; style-src " + hash(pageStyle) + "; script-src " + hash(pageScript) +
		"; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

// WritePage writes the page for a browser: whole without scripts, and kept up to date where they run. Span is how much
// time the timeline shows; 0 = what the last handoff needs.
func WritePage(w io.Writer, d status.Document, now time.Time, span time.Duration) error {
	v := newView(d, now)
	query := "auto"
	if span != 0 {
		query = spanName(span)
	}
	page := el("html", attr{"lang", "en"},
		el("head",
			el("meta", attr{"charset", "utf-8"}),
			el("meta", attr{"name", "viewport"}, attr{"content", "width=device-width, initial-scale=1"}),
			el("meta", attr{"name", "color-scheme"}, attr{"content", "light dark"}),
			el("title", v.title()),
			el("link", attr{"rel", "icon"}, attr{"href", "data:,"}),
			el("style", pageStyle)),
		el("body", attr{"data-events", "statusz/events?format=html&span=" + query},
			v.main(span),
			el("footer", el("p",
				el("span", id("updates"), attr{"role", "status"}, "As of "+instant(now)+". "),
				el("noscript", el("a", attr{"href", ""}, "Load it anew"), ". "),
				"The same ", el("a", attr{"href", "statusz?format=json"}, "as JSON"), ", ",
				el("a", attr{"href", "statusz?format=text"}, "as text"), "; ",
				el("a", attr{"href", "metrics"}, "metrics"), ", ", el("a", attr{"href", "readyz?verbose"}, "readyz"), ".")),
			el("script", pageScript)))
	root := &html.Node{Type: html.DocumentNode}
	root.AppendChild(&html.Node{Type: html.DoctypeNode, Data: "html"})
	root.AppendChild(page)
	if err := html.Render(w, root); err != nil {
		return fmt.Errorf("write status: %w", err)
	}
	return nil
}

// writeMain writes the part of the page that changes. The title goes with it, as an attribute.
func writeMain(w io.Writer, v view, span time.Duration) error { return html.Render(w, v.main(span)) }

func (v view) ready() bool { return v.s.Ready == status.Readiness{} }

func (v view) title() string {
	state := "not ready"
	if v.ready() {
		state = "ready"
	}
	return fmt.Sprintf("%s, generation %s · holdfast", state, number(v.s.Live))
}

// main has sections with names, each of which the script replaces when it has changed.
func (v view) main(span time.Duration) *html.Node {
	return el("main", attr{"data-title", v.title()},
		v.headSection(),
		v.section("notes", "What needs attention", v.notes()...),
		v.section("handoff", "Handoff in flight", v.current()...),
		v.section("timeline", "Generations over time", newTimeline(v, span).draw()),
		v.section("generations", "Generations", v.generationTable()),
		v.section("ports", "Held ports", v.portTable()...),
		v.section("handoffs", "Last handoffs", v.handoffList()...),
		v.section("facts", "This holdfast", v.facts()))
}

// section is left empty, and hidden, where there is nothing to say; it stays, so that something can come.
func (v view) section(name, heading string, content ...*html.Node) *html.Node {
	if len(content) == 0 {
		return el("section", id(name), attr{"hidden", ""})
	}
	return el("section", id(name), attr{"aria-labelledby", name + "-heading"}, el("h2", id(name+"-heading"), heading), content)
}

// instantNode is a moment, whose age the script keeps up to date.
func (v view) age(t time.Time) *html.Node {
	return el("time", attr{"datetime", t.UTC().Format(time.RFC3339Nano)}, attr{"title", instant(t)}, v.ago(t))
}

func (v view) headSection() *html.Node {
	banner := el("p", id("ready"), class("banner good"), attr{"role", "status"}, el("span", class("sign"), attr{"aria-hidden", "true"}, "✓"), el("strong", "Ready"))
	if !v.ready() {
		var why []string
		for _, c := range readyChecks(v.s) {
			if c.why != "" {
				why = append(why, c.why)
			}
		}
		banner = el("p", id("ready"), class("banner bad"), attr{"role", "status"}, el("span", class("sign"), attr{"aria-hidden", "true"}, "!"),
			el("strong", "Not ready"), ": "+strings.Join(why, "; "))
	}
	return el("header", id("head"), el("h1", "holdfast ", el("small", v.s.Version)), banner, el("p", id("live"), v.liveNodes()))
}

func (v view) liveNodes() []*html.Node {
	i := slices.IndexFunc(v.s.Generations, func(g status.Generation) bool { return g.Number == v.s.Live && g.Number != 0 })
	if i < 0 {
		return []*html.Node{el("span", "No generation is live.")}
	}
	g := v.s.Generations[i]
	nodes := []*html.Node{
		el("strong", fmt.Sprintf("Generation %d", g.Number)), el("span", " has been live for "), v.age(v.since(g)), el("span", ", "+startedBy(g)),
	}
	if g.ConfigHash != "" {
		nodes = append(nodes, el("span", ", from configuration "), hashNode(g.ConfigHash))
	}
	return append(nodes, el("span", "."))
}

func hashNode(hash string) *html.Node {
	return el("code", attr{"title", oneLine(hash)}, short(hash))
}

// notes are what a reader has to do something about.
func (v view) notes() []*html.Node {
	var items []*html.Node
	if v.s.Terminating {
		items = append(items, el("li", "holdfast is terminating."))
	}
	if h := v.s.Last; h != nil && h.Result == status.FailedHandoff && v.s.Handoff == nil {
		items = append(items, el("li", fmt.Sprintf("The last handoff, %s, has failed%s: %s.", arrow(h), inPhase(h), strings.TrimSuffix(oneLine(h.Reason), ".")), " ", v.consequence(h)))
	}
	if v.s.ConfigRejected != "" {
		items = append(items, el("li", "The configuration on disk, ", hashNode(v.s.ConfigRejected), ", was rejected: the next start of the container will fail with it."))
	}
	if a := v.s.WatchAction; a != nil && a.Last != nil && a.Last.Result == status.FailedHandoff {
		items = append(items, el("li", fmt.Sprintf("Generation %d could not be told of the changed configuration (%s): %s", a.Last.Generation, oneLine(a.Do), oneLine(a.Last.Reason))))
	}
	for _, w := range v.s.Warnings {
		items = append(items, el("li", oneLine(w)))
	}
	if len(items) == 0 {
		return nil
	}
	return []*html.Node{el("ul", class("notes"), items)}
}

// inPhase is the phase that was under way when a handoff failed, as far as that is known.
func inPhase(h *status.Handoff) string {
	for _, phase := range slices.Backward(status.Phases()) {
		if _, ok := h.Seconds[phase]; ok {
			return " in phase " + string(phase)
		}
	}
	return ""
}

// consequence says what a failed handoff has meant for the users, and where to read on.
func (v view) consequence(h *status.Handoff) *html.Node {
	text := ""
	switch {
	case h.TurnedBack:
		text = fmt.Sprintf("Generation %d had served since the cutover; the switch has turned back to generation %d.", h.To, h.From)
	case h.To == 0 && h.From != 0:
		text = fmt.Sprintf("Nothing was started; generation %d serves on.", h.From)
	case h.From != 0 && h.From == v.s.Live:
		text = fmt.Sprintf("No connection has reached generation %d; generation %d serves on.", h.To, h.From)
	}
	if h.To != 0 {
		text += fmt.Sprintf(" What the program itself said is in the container's log, between %s and %s UTC.",
			h.Triggered.UTC().Format(time.TimeOnly), h.Ended.UTC().Format(time.TimeOnly))
	}
	return el("span", strings.TrimSpace(text))
}

// current is the handoff in flight, phase by phase.
func (v view) current() []*html.Node {
	h := v.s.Handoff
	if h == nil {
		return nil
	}
	var steps []*html.Node
	for _, phase := range status.Phases() {
		name := string(phase)
		switch s, ended := h.Seconds[phase]; {
		case phase == h.Phase:
			steps = append(steps, el("li", class("now"), attr{"aria-current", "step"}, el("strong", name), " now"))
		case ended:
			steps = append(steps, el("li", class("done"), name+" "+took(seconds(s))))
		}
	}
	return []*html.Node{
		el("p", fmt.Sprintf("%s, by %s, triggered ", arrow(h), h.Trigger), v.age(h.Triggered), " ago."),
		el("ol", class("phases"), steps), pendingNode(v.s.Pending),
	}
}

func pendingNode(pending bool) *html.Node {
	if !pending {
		return nil
	}
	return el("p", "One more trigger waits for this handoff to end.")
}

func (v view) generationTable() *html.Node {
	shown := slices.Clone(v.s.Generations)
	sortByNumber(shown)
	slices.Reverse(shown)
	var rows []*html.Node
	for _, g := range shown {
		connections := "-"
		if n, known := v.connections[g.Number]; known {
			connections = strconv.Itoa(n)
		}
		config := el("span", "-")
		if g.ConfigHash != "" {
			config = hashNode(g.ConfigHash)
		}
		rows = append(rows, tableRow(strconv.Itoa(g.Number), el("span", class("state "+string(g.State)), string(g.State)), v.age(v.since(g)),
			number(g.PID), g.Trigger, config, connections, v.detail(g)))
	}
	return table("Generations, newest first", []string{"Generation", "State", "For", "PID", "Started by", "Configuration", "Connections", "Detail"}, rows)
}

func sortByNumber(all []status.Generation) {
	slices.SortFunc(all, func(a, b status.Generation) int { return a.Number - b.Number })
}

func (v view) portTable() []*html.Node {
	if len(v.s.Ports) == 0 {
		return []*html.Node{el("p", "No port is held.")}
	}
	var rows []*html.Node
	for _, p := range v.s.Ports {
		turned := el("span", "-")
		if !p.Cutover.IsZero() {
			turned = el("span", v.age(p.Cutover), " ago")
		}
		rows = append(rows, tableRow(el("code", oneLine(p.Port)), orDash(oneLine(p.Name)), p.Switch, number(p.Live), orDash(numbers(p.Generations)), turned, v.queueNode(p)))
	}
	return []*html.Node{table("Held ports", []string{"Port", "Name", "Switch", "Live generation", "Held by", "Turned", "Waiting to be accepted"}, rows)}
}

// queueNode is the text of the queues, with a gauge for the live one's.
func (v view) queueNode(p status.Port) *html.Node {
	cell := el("span", orDash(v.queue(p)))
	length, room := 0, 0
	for _, q := range v.queues {
		if q.Port == p.Port && q.Generation == p.Live {
			length, room = length+q.Length, room+q.Max
		}
	}
	if room == 0 {
		return cell
	}
	return el("span", el("meter", attr{"max", strconv.Itoa(room)}, attr{"high", strconv.Itoa(room * 8 / 10)}, attr{"value", strconv.Itoa(length)},
		attr{"aria-label", fmt.Sprintf("%d of %d waiting", length, room)}), " ", cell)
}

func (v view) handoffList() []*html.Node {
	if len(v.s.Recent) == 0 {
		return []*html.Node{el("p", "None yet.")}
	}
	var rows []*html.Node
	for _, h := range slices.Backward(v.s.Recent) {
		kind := "result " + h.Result
		reason := oneLine(h.Reason)
		if phases := phaseTimes(&h); phases != "" && reason != "" {
			reason += " (" + phases + ")"
		} else if phases != "" {
			reason = phases
		}
		config := el("span", "-")
		if h.ConfigHash != "" {
			config = hashNode(h.ConfigHash)
		}
		text := h.Result
		if h.TurnedBack {
			text += ", turned back"
		}
		rows = append(rows, tableRow(arrow(&h), el("span", class(kind), text), h.Trigger, el("span", v.age(h.Ended), " ago"), took(h.Ended.Sub(h.Triggered)), config, reason))
	}
	return []*html.Node{table("Last handoffs, newest first", []string{"Handoff", "Result", "Trigger", "Ended", "Took", "Configuration", "Why, and how long each phase took"}, rows)}
}

// facts is what seldom changes.
func (v view) facts() *html.Node {
	list := el("dl")
	add := func(name string, value ...any) {
		list.AppendChild(el("div", el("dt", name), el("dd", value...)))
	}
	add("Command", el("code", commandLine(v.s.Command)))
	add("Up", v.age(v.s.Started))
	add("PID", strconv.Itoa(v.s.PID))
	if v.s.ConfigHash != "" {
		add("Configuration of the live generation", hashNode(v.s.ConfigHash))
	}
	if v.s.ConfigLatest != "" {
		add("Configuration on disk", hashNode(v.s.ConfigLatest))
	}
	for _, path := range v.s.Watch {
		add("Watched", el("code", oneLine(path)))
	}
	if a := v.s.WatchAction; a != nil {
		last := ""
		if t := a.Last; t != nil {
			last = fmt.Sprintf("; last: generation %d, %s at %s", t.Generation, t.Result, instant(t.Ended))
		}
		add("When that changes", el("code", oneLine(a.Do)), last)
	}
	c := v.s.Counters
	add("Since the start", fmt.Sprintf("%s, %s, %s relayed, %s reaped%s", counted(handoffs(c), "handoff", "handoffs"), counted(c.Restarts, "restart", "restarts"),
		counted(c.Relayed, "straggler", "stragglers"), counted(c.Reaped, "process", "processes"), signals(c)))
	return list
}
