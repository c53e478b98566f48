package stats

import (
	"math"
	"testing"
)

func TestSummarize(t *testing.T) {
	if s := Summarize(nil); s != (Summary{}) {
		t.Errorf("of none: %+v", s)
	}
	want := Summary{N: 5, Min: 1, P25: 2, Median: 3, P75: 4, Max: 9}
	if s := Summarize([]float64{9, 3, 1, 4, 2}); s != want {
		t.Errorf("%+v, want %+v", s, want)
	}
	if s := Summarize([]float64{1, 2}); s.Median != 1.5 {
		t.Errorf("the median of 1 and 2: %v", s.Median)
	}
}

func TestRatios(t *testing.T) {
	r := Ratios([]float64{100, 100, 100}, []float64{200, 50, 100})
	if math.Abs(r.Mean-1) > 1e-9 || r.Pairs != 3 || r.Low > .99 || r.High < 1.01 {
		t.Errorf("twice, half and once: %+v, want a mean of 1 and an interval around it", r)
	}
	if r := Ratios([]float64{10, 20, 30}, []float64{11, 22, 33}); math.Abs(r.Mean-1.1) > 1e-9 || r.High-r.Low > 1e-9 {
		t.Errorf("always 1.1: %+v", r)
	}
	if r := Ratios([]float64{0}, []float64{1}); r != (Ratio{}) {
		t.Errorf("nothing to compare with: %+v", r)
	}
}
