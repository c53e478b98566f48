// Package e2e tries holdfast from outside, as a black box: the real binary, mostly as a real PID 1, with real servers and
// real load. Each test waits on events, and ends only what it started.
package e2e

import (
	"os"
	"testing"
	"time"

	"holdfast/e2e/harness"
	"holdfast/e2e/load"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// within bounds every wait for something that takes milliseconds on a quiet machine; one that is busy with something else
// may take very much longer.
const within = 90 * time.Second

// needPID1 skips where no PID namespace can be made; in CI it fails, since a suite that skips itself shows nothing.
func needPID1(t *testing.T) {
	t.Helper()
	err := harness.CanPID1()
	switch {
	case err == nil:
	case os.Getenv("CI") != "":
		t.Fatalf("no PID namespace can be made here: %v", err)
	default:
		t.Skipf("no PID namespace can be made here: %v", err)
	}
}

// startLoad puts new and kept connections on address until the test ends.
func startLoad(t *testing.T, address string) *load.Load {
	t.Helper()
	l := load.New(load.Options{Address: address, NewWorkers: 3, KeepAliveWorkers: 3, Timeout: within})
	l.Start(t.Context())
	return l
}

// nothingLost stops l and fails the test for every request that was not answered as it should have been.
func nothingLost(t *testing.T, l *load.Load, cutovers []load.Cutover) load.Result {
	t.Helper()
	r := l.Stop()
	t.Logf("%v", r)
	if r.Lost() != 0 {
		t.Errorf("%d requests were lost", r.Lost())
		for _, f := range r.Failures {
			t.Errorf("  %+v", f)
		}
	}
	if r.Requests < 100 {
		t.Errorf("only %d requests: that shows nothing", r.Requests)
	}
	for _, v := range l.Verify(cutovers) {
		t.Error(v)
	}
	return r
}

// flow waits until l has had n more answers.
func flow(t *testing.T, l *load.Load, n uint64) {
	t.Helper()
	from := l.Snapshot().Requests
	for end := time.Now().Add(within); l.Snapshot().Requests < from+n; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the load does not flow: %v", l.Snapshot())
		}
	}
}
