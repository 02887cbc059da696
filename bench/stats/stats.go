// Package stats describes repeated measurements by numbers that a single slow run does not spoil. It measures nothing itself.
package stats

import (
	"math"
	"slices"
	"time"
)

// Summary describes the samples of one figure. All of it but N is in the samples' unit.
type Summary struct {
	// N is the number of samples; the rest is NaN where it is 0.
	N int
	// Median is the middle sample, or the mean of the two in the middle.
	Median float64
	// Min and Max are the smallest and the largest sample.
	Min, Max float64
	// MAD is the median of the samples' distances from the median: half of them are nearer than that.
	MAD float64
}

// Summarize describes samples, in any order; they are not changed.
func Summarize(samples []float64) Summary {
	if len(samples) == 0 {
		return Summary{Median: math.NaN(), Min: math.NaN(), Max: math.NaN(), MAD: math.NaN()}
	}
	s := Summary{N: len(samples), Median: Median(samples), Min: slices.Min(samples), Max: slices.Max(samples)}
	distances := make([]float64, len(samples))
	for i, v := range samples {
		distances[i] = math.Abs(v - s.Median)
	}
	s.MAD = Median(distances)
	return s
}

// Median is the middle of the samples, NaN where there are none.
func Median(samples []float64) float64 {
	if len(samples) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(samples))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// Ratio is the median of a through that of b; NaN where either has no samples or b's median is 0.
func Ratio(a, b []float64) float64 {
	below := Median(b)
	if below == 0 {
		return math.NaN()
	}
	return Median(a) / below
}

// Milliseconds is a duration as a sample.
func Milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
