// Package stats says of measurements what is typical of them and how far they spread, without assuming how they are spread.
package stats

import (
	"math"
	"math/rand/v2"
	"slices"
)

// Summary is what is kept of some measurements.
type Summary struct {
	N      int     `json:"n"`
	Min    float64 `json:"min"`
	P25    float64 `json:"p25"`
	Median float64 `json:"median"`
	P75    float64 `json:"p75"`
	Max    float64 `json:"max"`
}

// Summarize returns the Summary of v; of none, the zero one.
func Summarize(v []float64) Summary {
	if len(v) == 0 {
		return Summary{}
	}
	s := slices.Sorted(slices.Values(v))
	return Summary{N: len(s), Min: s[0], P25: quantile(s, .25), Median: quantile(s, .5), P75: quantile(s, .75), Max: s[len(s)-1]}
}

// quantile interpolates between the two nearest of sorted.
func quantile(sorted []float64, q float64) float64 {
	at := q * float64(len(sorted)-1)
	low := int(at)
	if low+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[low] + (at-float64(low))*(sorted[low+1]-sorted[low])
}

// Ratio is how many times b is a, from pairs that were measured one right after the other: the geometric mean, in which r
// and 1/r weigh the same, and its 95 % interval.
type Ratio struct {
	Pairs int     `json:"pairs"`
	Mean  float64 `json:"mean"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
}

// Ratios returns how many times a[i] b[i] is, over all i. Both have the same length.
func Ratios(a, b []float64) Ratio {
	var logs []float64
	for i := range a {
		if a[i] > 0 && b[i] > 0 {
			logs = append(logs, math.Log(b[i]/a[i]))
		}
	}
	if len(logs) == 0 {
		return Ratio{}
	}
	low, high := interval(logs)
	return Ratio{Pairs: len(logs), Mean: math.Exp(mean(logs)), Low: math.Exp(low), High: math.Exp(high)}
}

func mean(v []float64) float64 {
	sum := 0.0
	for _, x := range v {
		sum += x
	}
	return sum / float64(len(v))
}

// interval is the 95 % interval of v's mean: percentiles of a bootstrap. The same values give the same interval.
func interval(v []float64) (low, high float64) {
	const resamples = 10000
	random := rand.New(rand.NewPCG(1, 2))
	means := make([]float64, resamples)
	again := make([]float64, len(v))
	for i := range means {
		for j := range again {
			again[j] = v[random.IntN(len(v))]
		}
		means[i] = mean(again)
	}
	slices.Sort(means)
	return means[resamples*25/1000], means[resamples*975/1000]
}
