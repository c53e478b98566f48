package report

import (
	"fmt"
	"slices"
	"strings"

	"holdfast/e2e/bench/handoffs"
	"holdfast/e2e/bench/inits"
	"holdfast/e2e/bench/peers"
	"holdfast/e2e/bench/phases"
)

// A goal is one line of the table: what is wanted, what was measured, and whether that is met.
type goal struct {
	wanted, measured string
	met              bool
	missing          bool   // it was not measured
	why              string // the reason, told where it is not met
}

func (g goal) verdict() string {
	switch {
	case g.missing:
		return "not measured"
	case g.met:
		return "yes"
	}
	return "**no**"
}

// goals compares the figures with what was wanted of them.
func goals(r Results) []goal {
	return slices.Concat([]goal{lost(r), tail(r)}, data(r), initGoals(r), memory(r), share(r))
}

func lost(r Results) goal {
	g := goal{wanted: "0 requests lost in every handoff, at every load, of every server", met: true, missing: true}
	requests, lost, n := 0, 0, 0
	for _, c := range r.Handoffs {
		if c.Holdfast {
			g.missing = false
			requests, lost, n = requests+c.Requests, lost+c.Lost(), n+c.Handoffs
		}
	}
	g.met = lost == 0
	g.measured = fmt.Sprintf("%d of %s lost in %d handoffs", lost, thousands(requests), n)
	return g
}

// tail compares the slowest thousandth in handoffs with that outside, of the server that starts in a few milliseconds.
func tail(r Results) goal {
	g := goal{wanted: "p99.9 in handoffs ≤ 1.10 × outside, of a server that starts in less than 50 ms", met: true, missing: true}
	var parts, floor []string
	for _, c := range r.Handoffs {
		if c.Server != peers.GoServer || !c.Holdfast && !c.Floor || c.Outside.P999 == 0 {
			continue
		}
		ratio := c.Inside.P999 / c.Outside.P999
		text := fmt.Sprintf("%.2f × at %.0f %%", ratio, 100*c.Load)
		if c.Floor {
			floor = append(floor, text)
			continue
		}
		g.missing = false
		g.met = g.met && ratio <= 1.10
		parts = append(parts, text)
	}
	g.measured = strings.Join(parts, ", ")
	if len(floor) > 0 {
		g.measured += "; a second server that is only started and stopped beside the first, without any handoff: " + strings.Join(floor, ", ")
	}
	g.why = "Two servers at once share the processors with the load: the start of the second one alone, without holdfast and with nothing handed over, " +
		"has the cost that the goals' table names beside. What is beyond it is holdfast's."
	return g
}

func data(r Results) []goal {
	rate := goal{wanted: "throughput ≥ 0.995 × the bare server's", met: true, missing: len(r.Data) == 0}
	cpu := goal{wanted: "CPU per request ≤ 1.005 × the bare server's", met: true, missing: len(r.Data) == 0}
	cpu.why = "With a seccomp filter the kernel leaves its fast path at each system call, even if it finds the call in its table of those that are always allowed: " +
		"measured apart, getppid(2) took 166 ns without the takeover and 206 with it. nginx makes six calls for a request on a new connection, which is 0.24 of its 24 µs; " +
		"the switch's program, which runs once for each new connection, is the rest. A server that is given its sockets (--listen, --takeover off) has no filter."
	var rates, cpus []string
	for _, d := range r.Data {
		name := d.Server + ", new connections"
		if d.Kept {
			name = d.Server + ", kept ones"
		}
		rates = append(rates, fmt.Sprintf("%s %.3f (%.3f to %.3f)", name, d.Rate.Mean, d.Rate.Low, d.Rate.High))
		cpus = append(cpus, fmt.Sprintf("%s %.3f (%.3f to %.3f)", name, d.CPU.Mean, d.CPU.Low, d.CPU.High))
		// The bound lies within what the measurement can tell, or is kept.
		rate.met = rate.met && d.Rate.High >= .995
		cpu.met = cpu.met && d.CPU.Low <= 1.005
	}
	rate.measured, cpu.measured = strings.Join(rates, "; "), strings.Join(cpus, "; ")
	if rate.met {
		rate.measured += "; the 95 % intervals reach the bound or lie beyond it"
	}
	return []goal{rate, cpu}
}

// named finds an init's figures.
func named(all []inits.Result, name string) inits.Result {
	for _, r := range all {
		if r.Name == name {
			return r
		}
	}
	return inits.Result{}
}

func initGoals(r Results) []goal {
	ours, tini := named(r.Inits, "holdfast"), named(r.Inits, "tini")
	against := func(wanted string, bound, figure, other float64, unit func(float64) string, why string) goal {
		ratio := inits.Ratio(figure, other)
		return goal{
			wanted: wanted, met: ratio <= bound, missing: ratio == 0, why: why,
			measured: fmt.Sprintf("%.2f × (%s, tini %s)", ratio, unit(figure), unit(other)),
		}
	}
	return []goal{
		against("start of the child ≤ 3 × tini's time", 3, ours.Start.Median, tini.Start.Median, micros,
			"An empty Go program alone takes about as long to start as tini with all that it does. holdfast's packages take as long once more, most of it in page faults of a binary of 9 MB that tini, with its 27 kB, does not have; "+
				"and the probe server, the control socket and the filter are there before the child begins."),
		against("a signal on its way ≤ 2 × tini's time", 2, ours.Signal.Median, tini.Signal.Median, micros,
			"A signal goes from the handler through a pipe to the goroutine that reads it and from there to the loop that decides: two changes of thread more than in tini, which waits in sigtimedwait(2)."),
		against(fmt.Sprintf("%s orphans reaped in ≤ 1.2 × tini's time", thousands(ours.Orphans)), 1.2, ours.Reaped.Median, tini.Reaped.Median, micros,
			"Each SIGCHLD goes through a pipe, and the loop looks whose each orphan was. It is measured once each, for five seconds; apart from this run, four interleaved ones of 30,000 orphans took 0.95 to 1.14 × tini's time."),
	}
}

func memory(r Results) []goal {
	ours := named(r.Inits, "holdfast")
	missing := ours.Memory.Resident == 0
	p := r.Phases
	return []goal{
		{
			wanted: "at rest: anonymous memory ≤ 3 MiB, resident ≤ 10 MiB", missing: missing, met: ours.Memory.Anonymous <= 3<<10 && ours.Memory.Resident <= 10<<10,
			measured: fmt.Sprintf("%s, %s", mebibytes(ours.Memory.Anonymous), mebibytes(ours.Memory.Resident)),
		},
		{
			wanted: "binary ≤ 10 MiB, stripped", missing: ours.Binary == 0, met: ours.Binary <= 10<<20,
			measured: fmt.Sprintf("%.2f MiB", float64(ours.Binary)/(1<<20)),
		},
		{
			wanted: "the same after 1,000 handoffs", missing: p.Handoffs == 0, met: p.After.Anonymous <= 3<<10 && p.After.Resident <= 10<<10,
			why: "Its own memory stays below the 3 MiB. The rest are pages of the binary, which the kernel maps sixteen at a time around each one that is touched, and of which every holdfast on a node shares one copy.",
			measured: fmt.Sprintf("after %d: %s anonymous, %s resident (before them: %s, %s)", p.Handoffs, mebibytes(p.After.Anonymous), mebibytes(p.After.Resident),
				mebibytes(p.Before.Anonymous), mebibytes(p.Before.Resident)),
		},
	}
}

func share(r Results) []goal {
	p := r.Phases
	all := []goal{{
		wanted: "holdfast's own share of a handoff ≤ 5 ms (median)", missing: p.Own.N == 0, met: p.Own.Median <= 5,
		measured: fmt.Sprintf("%.1f ms (quartiles %.1f and %.1f)", p.Own.Median, p.Own.P25, p.Own.P75),
	}}
	for _, what := range []string{"held ports", "open connections", "processes in the pod", "watched files"} {
		g := goal{wanted: "flat within 2 ×: " + what, missing: true, why: growthReason(what)}
		low, high := 0.0, 0.0
		var parts []string
		for _, one := range p.Growths {
			if one.What != what || one.Own.N == 0 {
				continue
			}
			g.missing = false
			if low == 0 || one.Own.Median < low {
				low = one.Own.Median
			}
			high = max(high, one.Own.Median)
			parts = append(parts, fmt.Sprintf("%s: %.1f ms", thousands(one.N), one.Own.Median))
		}
		g.met = high <= 2*low
		g.measured = fmt.Sprintf("%.1f × (%s)", inits.Ratio(high, low), strings.Join(parts, ", "))
		if !g.met {
			g.measured += each(p.Growths, what)
		}
		all = append(all, g)
	}
	return all
}

// each says what one more costs, between one size and the next: whether that itself grows shows whether it is more than what
// each needs for itself.
func each(all []phases.Growth, what string) string {
	var steps []string
	var before phases.Growth
	for _, one := range all {
		if one.What != what || one.Own.N == 0 {
			continue
		}
		if before.N > 0 && one.N > before.N {
			steps = append(steps, fmt.Sprintf("%.3f ms up to %s", (one.Own.Median-before.Own.Median)/float64(one.N-before.N), thousands(one.N)))
		}
		before = one
	}
	if len(steps) == 0 {
		return ""
	}
	return "; each one more: " + strings.Join(steps, ", ")
}

func growthReason(what string) string {
	switch what {
	case "held ports":
		return "Each port of the new generation is a socket of its own. The program's bind and its listen are two calls that wait for an answer, for which holdfast looks at who calls and at the socket; " +
			"one connection tests that the switch leads to the new socket and to no other, and another proves that the program accepts there. What is done for one port looks at no other, " +
			"so that the cost of one more is what to read here: beyond that there is nothing to leave out, and the bare server, which the table has beside, grows as well. The cutover itself is one setsockopt(2) a port."
	case "open connections":
		return "Nothing in a handoff looks at connections, but the status does: as long as a generation drains it says how many that one still has: the kernel is asked for those of the port, and whose they are stands in /proc/PID/fd. " +
			"This measurement asks for the status all the time."
	case "processes in the pod":
		return "Before the stop signal holdfast takes a census of /proc, three system calls for each process of the pod, so that it loses nobody who leaves the old generation's tree while that stops. " +
			"It does so beside the loop and in the settle time, and pauses now and then, so that no signal waits for it: what is counted here is how much longer it took than the settle time."
	case "watched files":
		return "A change is one of content, and so all content is read and hashed: once when the change is noticed, and once more when the generation starts, so that it is known by the content that it has started from. " +
			"The table has beside how long it takes only to read the files once."
	}
	return ""
}

// Shown are the rows of the picture: the Go server's, at the least load, where it is not the load itself that is seen.
func Shown(r Results) []handoffs.Cell {
	var cells []handoffs.Cell
	least := 0.0
	for _, c := range r.Handoffs {
		if c.Server == peers.GoServer && (least == 0 || c.Load < least) {
			least = c.Load
		}
	}
	for _, c := range r.Handoffs {
		if c.Server == peers.GoServer && c.Load == least && !c.Floor && len(c.Series) > 1 {
			cells = append(cells, c)
		}
	}
	return cells
}
