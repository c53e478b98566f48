package witness

import (
	"errors"
	"testing"
	"time"
)

func TestLog(t *testing.T) {
	var l Log
	for _, piece := range []string{"first 1", "00\nsig", "nal 200\nsome other line\nsignal 300\nsig"} {
		_, _ = l.Write([]byte(piece))
	}
	for i, want := range []time.Duration{200, 300} {
		if at, err := l.Wait("signal", i, time.Minute); err != nil || at != want {
			t.Errorf("signal %d at %v, %v", i, at, err)
		}
	}
	if at, err := l.Wait("first", 0, time.Minute); err != nil || at != 100 {
		t.Errorf("first at %v, %v", at, err)
	}
	if _, err := l.Wait("signal", 2, 0); !errors.Is(err, ErrSilent) {
		t.Errorf("a third signal: %v", err)
	}
}
