package handoff

import (
	"fmt"
	"strings"

	"holdfast/handoff/machine"
	"holdfast/handoff/status"
)

// LastWords is why holdfast ended with another exit code than 0 although nobody had asked for an end, in a line for who
// looks after the container; "" = it did not. It is to be called after Run.
func (l *Loop) LastWords() string { return l.lastWords }

// whyItEnded is called with the Exit action: it carries a reason where the end was not asked for.
func (l *Loop) whyItEnded(a machine.Action) string {
	code := l.exitCode(a.Code)
	if code == 0 || a.Reason == "" || l.machine.Interrupted {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "holdfast: exit code %d: generation %d, which was live", code, l.machine.Live)
	g, ok := l.generations[l.machine.Live]
	if ok && g.record.ProvenAt.IsZero() {
		b.WriteString(" and had never been ready")
	}
	fmt.Fprintf(&b, ", ended: %s", a.Reason)
	if ok && g.record.ConfigHash != "" {
		fmt.Fprintf(&b, "; configuration %s", g.record.ConfigHash)
	}
	if n := len(l.records.recent); n > 0 && l.records.recent[n-1].Result == status.FailedHandoff {
		fmt.Fprintf(&b, "; the last handoff had failed: %s", l.records.recent[n-1].Reason)
	}
	return b.String()
}
