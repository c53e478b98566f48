package handoffs

import (
	"testing"
	"time"

	"holdfast/e2e/bench/peers"
	"holdfast/e2e/bench/traffic"
	"holdfast/e2e/load"
)

func at(ms int) time.Time {
	return time.Unix(1_800_000_000, 0).Add(time.Duration(ms) * time.Millisecond)
}

func request(due, answered int, outcome load.Outcome) traffic.Record {
	return traffic.Record{Due: at(due), Answered: at(answered), Outcome: outcome}
}

// TestFinish: what overlaps a window is inside, counted from when it was due; what is lost is in no distribution.
func TestFinish(t *testing.T) {
	c := collector{
		windows: []window{{from: at(1000), to: at(1100), finished: true}, {from: at(3000), to: at(3500)}},
		records: []traffic.Record{
			request(10, 20, load.OK),
			request(950, 1001, load.OK), // reaches into the first
			request(1050, 1060, load.OK),
			request(2000, 2002, load.OK),
			request(1050, 1051, load.Refused),
			request(1050, 1052, load.Reset),
			request(3100, 3200, load.Timeout),
		},
	}
	cell := c.finish()
	if cell.Requests != 7 || cell.Refused != 1 || cell.Reset != 1 || cell.Failed != 1 || cell.Lost() != 3 {
		t.Errorf("counted %+v", cell)
	}
	if cell.Inside.Requests != 2 || cell.Outside.Requests != 2 {
		t.Errorf("%d inside, %d outside, want 2 and 2", cell.Inside.Requests, cell.Outside.Requests)
	}
	if got := cell.Inside.Max; got < 50.9 || got > 51.1 {
		t.Errorf("the longest inside took %v ms, want 51", got)
	}
	if cell.Handoffs != 2 || cell.Unfinished != 1 || cell.Took.N != 1 || cell.Took.Median != 100 {
		t.Errorf("handoffs %+v", cell)
	}
	lost := 0
	for _, b := range cell.Series {
		lost += b.Lost
	}
	if lost != 3 {
		t.Errorf("the series has %d lost", lost)
	}
}

func TestGroups(t *testing.T) {
	for _, g := range groups(peers.All()) {
		bare := 0
		for _, p := range g {
			if p.Server != g[0].Server {
				t.Errorf("%s is among those of %s", p.Name, g[0].Server)
			}
			if !p.Holdfast {
				bare++
			}
		}
		if !g[0].Holdfast || bare == 0 {
			t.Errorf("%s: want holdfast first, and somebody beside it", g[0].Server)
		}
	}
}
