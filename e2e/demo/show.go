package demo

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/e2e/load"
	"holdfast/handoff/status"
)

// width is the longest line that is shown.
const width = 100

// show writes one line for each event: the time since the start, the generation, what it is about and what happened. On
// a terminal the counters stand in one line below, which is written over and over; else each is a line like the others.
type show struct {
	mu      sync.Mutex
	out     io.Writer
	inPlace bool
	start   time.Time
	counter string // what stands in the last line of a terminal
}

func newShow(out io.Writer) *show {
	s := &show{out: out, start: time.Now()}
	if f, ok := out.(*os.File); ok {
		_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
		s.inPlace = err == nil
	}
	return s
}

// write writes a whole line above the counter.
func (s *show) write(line string) { s.writeIndented(line, 4) }

func (s *show) writeIndented(line string, indent int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wipe()
	_, _ = fmt.Fprintln(s.out, wrap(line, indent))
	if s.counter != "" {
		_, _ = fmt.Fprint(s.out, s.counter)
	}
}

func (s *show) wipe() {
	if s.counter != "" {
		_, _ = fmt.Fprint(s.out, "\r"+strings.Repeat(" ", len(s.counter))+"\r")
	}
}

// clear takes the counter away.
func (s *show) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wipe()
	s.counter = ""
}

// wrap breaks a line that is too long between words, or in one when there is no other way; what follows is indented.
func wrap(line string, indent int) string {
	var b strings.Builder
	r := []rune(line)
	for len(r) > width {
		at := width
		for i := width; i > width/2; i-- {
			if r[i] == ' ' {
				at = i
				break
			}
		}
		b.WriteString(string(r[:at]) + "\n")
		r = []rune(strings.Repeat(" ", indent) + strings.TrimLeft(string(r[at:]), " "))
	}
	return b.String() + string(r)
}

func (s *show) say(format string, a ...any) { s.write(fmt.Sprintf(format, a...)) }

func (s *show) title(what string) {
	s.write("")
	s.event(0, "step", what)
}

func (s *show) event(generation int, phase, what string) {
	g := ""
	if generation > 0 {
		g = "g" + strconv.Itoa(generation)
	}
	line := fmt.Sprintf("%7.3fs  %-4s %-9s %s", time.Since(s.start).Seconds(), g, phase, what)
	s.writeIndented(line, len(line)-len(what))
}

// command shows what is run, broken where it would be too long.
func (s *show) command(argv []string) {
	line := "holdfast"
	for i, a := range argv {
		flag := strings.HasPrefix(a, "--")
		if flag && a != "--" && i+1 < len(argv) && len(line)+len(a)+len(argv[i+1]) > width-4 || a == "--" {
			s.write(line + " \\")
			line = "   "
		}
		line += " " + a
	}
	s.write(line)
}

// news shows what differs between two statuses.
func (s *show) news(old, now *status.Snapshot) {
	was := map[int]status.Generation{}
	for _, g := range old.Generations {
		was[g.Number] = g
	}
	gens := slices.Clone(now.Generations)
	// Newest first: the new one is live, and so the old one drains.
	slices.SortFunc(gens, func(a, b status.Generation) int { return b.Number - a.Number })
	for _, g := range gens {
		if g.State == was[g.Number].State {
			continue
		}
		what := g.Detail
		switch g.State {
		case status.Starting:
			what = "started by " + g.Trigger
		case status.Proving:
			what = "started by " + g.Trigger + "; no user sees it before it is proven ready"
		case status.Live:
			what = "every new connection reaches it"
			if g.Number > 1 {
				what = "the switch has turned: " + what
			}
		case status.Draining:
			what = "takes no new connection; finishes what it has accepted"
		case status.Gone:
			what = g.Exit
		}
		s.event(g.Number, string(g.State), what)
	}
	if h := now.Last; h != nil && (old.Last == nil || !old.Last.Triggered.Equal(h.Triggered) || old.Last.To != h.To) {
		what := fmt.Sprintf("completed, %v after its trigger", h.Ended.Sub(h.Triggered).Round(time.Millisecond))
		if h.Result != status.Completed {
			what = fmt.Sprintf("%s: no user has seen it; generation %d goes on", h.Result, now.Live)
		}
		s.event(h.To, "handoff", what)
	}
	if old.Live != 0 && (blocked(old) == "") != (blocked(now) == "") {
		if why := blocked(now); why != "" {
			s.event(0, "/readyz", "503: "+why)
		} else {
			s.event(0, "/readyz", "200")
		}
	}
}

// blocked says why /readyz is closed.
func blocked(s *status.Snapshot) string {
	for _, why := range []string{s.Ready.Shutdown, s.Ready.Live, s.Ready.Handoff} {
		if why != "" {
			return why
		}
	}
	return ""
}

// count shows the load's counters twice a second until the function that it returns is called.
func (s *show) count(l *load.Load) (stop func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case <-tick.C:
				s.counters(l.Snapshot())
			}
		}
	}()
	return func() { close(end); <-ended; s.clear() }
}

func (s *show) counters(r load.Result) {
	var by []string
	gens := r.Generations()
	for _, g := range gens[max(len(gens)-3, 0):] {
		by = append(by, fmt.Sprintf("g%d %d", g, r.ByGeneration[g]))
	}
	text := fmt.Sprintf("%d requests (%s), %d failed, slowest %s", r.Requests, strings.Join(by, ", "), r.Lost(), brief(r.Max))
	if !s.inPlace {
		s.event(0, "load", text)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wipe()
	s.counter = fmt.Sprintf("%7.3fs       load      %s", time.Since(s.start).Seconds(), text)
	s.counter = s.counter[:min(len(s.counter), width-1)]
	_, _ = fmt.Fprint(s.out, s.counter)
}

func brief(d time.Duration) string {
	if d < 10*time.Millisecond {
		return d.Round(10 * time.Microsecond).String()
	}
	return d.Round(time.Millisecond).String()
}

// table shows the end: what each generation answered, and the totals.
func (s *show) table(r load.Result, last *status.Snapshot, v *versions, least, most, rolledBack uint64) {
	s.write("")
	s.say("%-12s %-9s %10s", "generation", "version", "answered")
	for g := 1; g <= lastOf(r, last); g++ {
		note := ""
		if r.ByGeneration[g] == 0 {
			note = "  no user has seen it"
		}
		s.say("%-12d %-9s %10d%s", g, v.of(g), r.ByGeneration[g], note)
	}
	s.write("")
	o := r.ByOutcome
	other := r.Lost() - o[load.Refused] - o[load.Reset] - o[load.Timeout]
	s.say("%-10s %9s %9s %9s %9s %9s %9s %9s", "requests", "answered", "refused", "reset", "timed out", "other", "retried", "slowest")
	s.say("%-10d %9d %9d %9d %9d %9d %9d %9s", r.Requests, o[load.OK], o[load.Refused], o[load.Reset], o[load.Timeout], other,
		r.Retried, brief(r.Max))
	if r.Retried > 0 {
		s.say("(retried: a kept connection had been closed before the request reached it; repeated once, as clients do)")
	}
	completed, failed := handoffs(last)
	want := strconv.FormatUint(least, 10)
	if most > least {
		want += " or " + strconv.FormatUint(most, 10)
	}
	s.write("")
	s.say("%-12s %10s %10s", "handoffs", "expected", "got")
	s.say("%-12s %10s %10d", "completed", want, completed)
	s.say("%-12s %10d %10d", "rolled back", rolledBack, failed)
}

// lastOf is the number of the last generation that there was.
func lastOf(r load.Result, last *status.Snapshot) int {
	n := last.Live
	for _, g := range last.Generations {
		n = max(n, g.Number)
	}
	for _, g := range r.Generations() {
		n = max(n, g)
	}
	return n
}
