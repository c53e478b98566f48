package plots

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/e2e/bench/handoffs"
	"holdfast/e2e/bench/phases"
	"holdfast/e2e/bench/stats"
)

// TestPlots: what is drawn is whole, in both colours, and says who is who.
func TestPlots(t *testing.T) {
	dir := t.TempDir()
	cells := []handoffs.Cell{
		{Peer: "holdfast", Holdfast: true, Requests: 12345, Handoffs: 100, Series: []handoffs.Bin{{At: -20, P99: 1}, {At: 0, P99: 3}, {At: 20}}},
		{Peer: "another", Requests: 1000, Refused: 7, Series: []handoffs.Bin{{At: -20, P99: 1}, {At: 0, Lost: 7}, {At: 20, P99: 9000}}},
	}
	growths := []phases.Growth{{What: "held ports", N: 1, Own: stats.Summary{N: 1, Median: 3}}, {What: "held ports", N: 100, Own: stats.Summary{N: 1, Median: 30}}, {What: "none"}}
	if err := errors.Join(Latency(dir, cells), Growth(dir, growths)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"bench-latency-light": "0 of 12,345 requests lost in 100 handoffs", "bench-latency-dark": "another: 7 of 1,000 requests lost in 0 restarts", "bench-growth-light": "held ports", "bench-growth-dark": "held ports"} {
		text, err := os.ReadFile(filepath.Join(dir, name+".svg"))
		if err != nil {
			t.Fatal(err)
		}
		d := xml.NewDecoder(strings.NewReader(string(text)))
		for err == nil {
			_, err = d.Token()
		}
		if !errors.Is(err, io.EOF) || !strings.Contains(string(text), want) {
			t.Errorf("%s: %v, or no %q", name, err, want)
		}
	}
}
