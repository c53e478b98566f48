package bad

import (
	"math"
	"testing"
	"time"

	"holdfast/e2e/bench/traffic"
	"holdfast/e2e/load"
)

func TestJudge(t *testing.T) {
	from := time.Unix(1_800_000_000, 0)
	at := func(ms int) time.Time { return from.Add(time.Duration(ms) * time.Millisecond) }
	var records []traffic.Record
	for ms := -500; ms < 2000; ms += 10 {
		r := traffic.Record{Due: at(ms), Answered: at(ms + 1), Outcome: load.OK}
		switch {
		case ms >= 300 && ms < 500:
			r.Outcome = load.Refused
		case ms >= 700 && ms < 800:
			r.Answered = at(ms + 1500) // a wait is an outage, too
		case ms == 900:
			r.Outcome = load.Reset // one lost request is none
		case ms >= 1900:
			r.Outcome = load.Timeout
		}
		records = append(records, r)
	}
	got := judge(records, from, at(2000))
	if got.Requests != 200 || got.Lost != 31 || got.Late != 10 || math.Abs(got.Outage-.4) > 1e-9 || !got.Lasting {
		t.Errorf("%+v, want 31 lost and 10 late of 200, 0.4 s out, and out at the end", got)
	}
	if got := judge(records, from, at(1900)); got.Lasting || math.Abs(got.Outage-.3) > 1e-9 {
		t.Errorf("%+v, want 0.3 s out, and well at the end", got)
	}
}
