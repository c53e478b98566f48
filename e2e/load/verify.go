package load

import (
	"fmt"
	"slices"
	"time"
)

// Cutover says when the switch turned to Generation: after Before and no later than After, by this machine's clock.
// A switch that turned back is one more Cutover, to the older generation.
type Cutover struct {
	Generation    int
	Before, After time.Time
}

// seen is a new connection that was answered, kept small because there are many.
type seen struct {
	connect, answered int64 // nanoseconds since 1970
	generation        int
}

// maxReported bounds what one Verify reports.
const maxReported = 20

// verify reports each new connection whose generation was impossible. A generation can answer a connection only when
// it was the live one at some instant between the connection's first packet and its answer: so one that connects after
// the cutover to g is answered by g or a later one, and one that was answered before it, by an earlier one.
//
// The generation before the first cutover need not be given when the cutovers ascend: any below the first's is taken
// for it. Connections that could not be kept are reported as well: what has not been verified has not been proven.
func (rec *recorder) verify(cutovers []Cutover) []string {
	rec.mu.Lock()
	all, unseen := rec.seen, rec.unseen // only ever appended to
	rec.mu.Unlock()

	cutovers = slices.Clone(cutovers)
	slices.SortStableFunc(cutovers, func(a, b Cutover) int { return a.Before.Compare(b.Before) })
	for i, c := range cutovers {
		if c.After.Before(c.Before) {
			return []string{fmt.Sprintf("cutover %d, to generation %d, ends before it begins", i, c.Generation)}
		}
	}
	if len(cutovers) == 0 {
		return nil
	}
	var wrong []string
	bad := 0
	report := func(s seen, why string) {
		if bad++; bad <= maxReported {
			wrong = append(wrong, fmt.Sprintf("generation %d answered a connection begun %s, answered %s: %s", s.generation,
				stamp(s.connect), stamp(s.answered), why))
		}
	}
	for _, s := range all {
		if why := impossible(s, cutovers); why != "" {
			report(s, why)
		}
	}
	if bad > maxReported {
		wrong = append(wrong, fmt.Sprintf("and %d more", bad-maxReported))
	}
	if unseen > 0 {
		wrong = append(wrong, fmt.Sprintf("%d connections were not kept and so not verified (Options.MaxRecords)", unseen))
	}
	return wrong
}

// impossible says why s cannot have been answered by its generation; "" when it can.
func impossible(s seen, cutovers []Cutover) string {
	first := cutovers[0]
	if s.generation < first.Generation && s.connect <= first.After.UnixNano() {
		return ""
	}
	why := "it was never the live one"
	if s.generation < first.Generation {
		why = fmt.Sprintf("the cutover to %d was over at %s", first.Generation, stamp(first.After.UnixNano()))
	}
	for i, c := range cutovers {
		if c.Generation != s.generation {
			continue
		}
		if s.answered < c.Before.UnixNano() {
			return fmt.Sprintf("the cutover to %d began at %s", c.Generation, stamp(c.Before.UnixNano()))
		}
		if i+1 == len(cutovers) || s.connect <= cutovers[i+1].After.UnixNano() {
			return ""
		}
		next := cutovers[i+1]
		why = fmt.Sprintf("the cutover to %d was over at %s", next.Generation, stamp(next.After.UnixNano()))
	}
	return why
}

func stamp(ns int64) string { return time.Unix(0, ns).UTC().Format("15:04:05.000000") }
