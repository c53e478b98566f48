package probes

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"holdfast/handoff/status"
)

// check is one named condition; an empty why means that it holds.
type check struct{ name, why string }

// readyChecks are those of /readyz, in the order in which they are listed.
func readyChecks(s *status.Snapshot) []check {
	return []check{
		{"live", oneLine(s.Ready.Live)},
		{"handoff", oneLine(s.Ready.Handoff)},
		{"shutdown", oneLine(s.Ready.Shutdown)},
	}
}

// liveChecks are about holdfast alone. A child that died is holdfast's to handle, and restarting the container for it
// would take the held ports down with it.
func liveChecks(src Source) []check {
	checks := []check{{"ping", ""}}
	p, ok := src.(Pulse)
	if !ok {
		return checks
	}
	loop := check{name: "loop"}
	if waited := p.Pulse(); waited > LoopPatience {
		loop.why = fmt.Sprintf("no sign of life for %s", waited.Round(time.Second))
	}
	return append(checks, loop)
}

// endpoint is a list of checks under a path, which answers in kube-apiserver's form.
type endpoint struct {
	name   string
	checks func() []check
}

// all answers for every check that is not excluded.
func (e endpoint) all(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	body, ok := e.report(e.checks(), query["exclude"])
	if ok && !query.Has("verbose") {
		body = "ok"
	}
	text(w, statusCode(ok), body)
}

// one answers for the single check in the path; exclude has no meaning here and is ignored.
func (e endpoint) one(w http.ResponseWriter, r *http.Request) {
	checks := e.checks()
	name := r.PathValue("check")
	i := slices.IndexFunc(checks, func(c check) bool { return c.name == name })
	if i < 0 {
		text(w, http.StatusNotFound, fmt.Sprintf("no check %q here: %s has %s\n", name, e.name, names(checks)))
		return
	}
	body, ok := e.report(checks[i:i+1], nil)
	if ok && !r.URL.Query().Has("verbose") {
		body = "ok"
	}
	text(w, statusCode(ok), body)
}

// report lists the checks in full. An excluded check that fails does not count, but it is shown as failing: whoever
// reads the list wants to know how things are, not what the probe was told to overlook.
func (e endpoint) report(checks []check, exclude []string) (body string, ok bool) {
	var b strings.Builder
	ok = true
	for _, c := range checks {
		excluded := slices.Contains(exclude, c.name)
		b.WriteString(c.line(excluded))
		ok = ok && (excluded || c.why == "")
	}
	if unknown := missing(checks, exclude); len(unknown) > 0 {
		fmt.Fprintf(&b, "warn: some health checks cannot be excluded: no matches for %s\n", strings.Join(unknown, ","))
	}
	outcome := "passed"
	if !ok {
		outcome = "failed"
	}
	fmt.Fprintf(&b, "%s check %s\n", e.name, outcome)
	return b.String(), ok
}

func (c check) line(excluded bool) string {
	switch {
	case excluded && c.why == "":
		return fmt.Sprintf("[+]%s excluded: ok\n", c.name)
	case excluded:
		return fmt.Sprintf("[-]%s excluded: %s\n", c.name, c.why)
	case c.why == "":
		return fmt.Sprintf("[+]%s ok\n", c.name)
	default:
		return fmt.Sprintf("[-]%s failed: %s\n", c.name, c.why)
	}
}

// missing returns, quoted, the names to exclude that no check bears. They are reported and not refused, so that a probe
// written for another version of holdfast does not take its pod out of service.
func missing(checks []check, exclude []string) []string {
	var unknown []string
	for _, name := range exclude {
		quoted := fmt.Sprintf("%q", name)
		if !slices.ContainsFunc(checks, func(c check) bool { return c.name == name }) && !slices.Contains(unknown, quoted) {
			unknown = append(unknown, quoted)
		}
	}
	return unknown
}

func names(checks []check) string {
	var all []string
	for _, c := range checks {
		all = append(all, c.name)
	}
	return strings.Join(all, ", ")
}

// statusCode is 503 for a failure, where kube-apiserver says 500: the kubelet treats both alike, and load balancers take
// 503 for what it is.
func statusCode(ok bool) int {
	if ok {
		return http.StatusOK
	}
	return http.StatusServiceUnavailable
}
