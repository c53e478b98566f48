package measure

import (
	"testing"
	"time"

	"holdfast/e2e/load"
)

func at0(ms int) time.Time {
	return time.Unix(1_800_000_000, 0).Add(time.Duration(ms) * time.Millisecond)
}

// request was due at due and answered at answered, in milliseconds.
func request(kind load.Kind, due, answered int, outcome load.Outcome) load.Request {
	return load.Request{Kind: kind, Intended: at0(due), Connect: at0(due), Answered: at0(answered), Outcome: outcome}
}

func TestAdd(t *testing.T) {
	windows := []Window{{at0(100), at0(200)}, {at0(300), at0(400)}}
	repeatedByReset := request(load.KeepAlive, 350, 351, load.OK)
	repeatedByReset.Retried, repeatedByReset.Cause = true, "read tcp: connection reset by peer"
	repeatedByEnd := request(load.KeepAlive, 500, 501, load.OK)
	repeatedByEnd.Retried, repeatedByEnd.Cause = true, "EOF"
	loading := request(load.NewConnection, 150, 151, load.Bad)
	loading.Error = "bad answer: -LOADING"
	f := add([]load.Request{
		loading,
		request(load.NewConnection, 10, 20, load.OK),  // before
		request(load.NewConnection, 90, 110, load.OK), // reaches into the first
		request(load.NewConnection, 150, 160, load.OK),
		request(load.NewConnection, 90, 410, load.OK),  // over both
		request(load.NewConnection, 210, 290, load.OK), // between
		request(load.NewConnection, 150, 151, load.Refused),
		request(load.NewConnection, 150, 151, load.Reset),
		request(load.NewConnection, 150, 151, load.Timeout),
		request(load.KeepAlive, 150, 151, load.Short),
		repeatedByReset, repeatedByEnd,
	}, windows, "-LOADING")
	if n := f.New; n.Requests != 9 || n.Refused != 1 || n.Reset != 1 || n.Failed != 2 || n.Lost() != 4 || n.Excused != 1 {
		t.Errorf("new: %+v", n)
	}
	if k := f.Kept; k.Requests != 3 || k.Lost() != 1 || k.Repeated["RST"] != 1 || k.Repeated["FIN"] != 1 {
		t.Errorf("kept: %+v", k)
	}
	if f.During.Requests != 4 || f.During.Max != 320*time.Millisecond || f.Outside.Requests != 3 || f.Outside.Max != 80*time.Millisecond {
		t.Errorf("during %+v, outside %+v", f.During, f.Outside)
	}
	if len(f.Failures) != 5 {
		t.Errorf("failures: %+v", f.Failures)
	}
}

func TestLatency(t *testing.T) {
	if l := latency(nil); l != (Latency{}) {
		t.Errorf("of none: %+v", l)
	}
	var all []time.Duration
	for ms := 200; ms > 0; ms-- {
		all = append(all, time.Duration(ms)*time.Millisecond)
	}
	want := Latency{Requests: 200, P50: 101 * time.Millisecond, P99: 199 * time.Millisecond, Max: 200 * time.Millisecond}
	if l := latency(all); l != want {
		t.Errorf("%+v, want %+v", l, want)
	}
}

func TestOutages(t *testing.T) {
	windows := []Window{{at0(100), at0(200)}, {at0(300), at0(400)}, {at0(500), at0(600)}}
	got := outages([]load.Request{
		request(load.NewConnection, 120, 121, load.Refused),
		request(load.NewConnection, 150, 151, load.Reset),
		request(load.NewConnection, 130, 135, load.OK),    // answered in the midst of it, by chance
		request(load.KeepAlive, 152, 153, load.OK),        // says nothing of new ones
		request(load.NewConnection, 160, 170, load.OK),    // the end
		request(load.NewConnection, 350, 355, load.OK),    // the second has none
		request(load.NewConnection, 520, 521, load.Reset), // the third does not end
	}, windows)
	want := []time.Duration{50 * time.Millisecond, 0, 80 * time.Millisecond}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("window %d: %v, want %v", i, got[i], want[i])
		}
	}
}
