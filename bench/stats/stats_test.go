package stats

import (
	"math"
	"testing"
	"time"
)

func TestSummarize(t *testing.T) {
	for name, c := range map[string]struct {
		samples []float64
		want    Summary
	}{
		"one":                   {[]float64{4}, Summary{N: 1, Median: 4, Min: 4, Max: 4}},
		"odd, unsorted":         {[]float64{9, 1, 4}, Summary{N: 3, Median: 4, Min: 1, Max: 9, MAD: 3}},
		"even":                  {[]float64{1, 2, 3, 10}, Summary{N: 4, Median: 2.5, Min: 1, Max: 10, MAD: 1}},
		"an outlier is nothing": {[]float64{5, 5, 5, 5, 500}, Summary{N: 5, Median: 5, Min: 5, Max: 500}},
		"negative":              {[]float64{-3, -1, -2}, Summary{N: 3, Median: -2, Min: -3, Max: -1, MAD: 1}},
	} {
		before := append([]float64(nil), c.samples...)
		if got := Summarize(c.samples); got != c.want {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
		for i := range before {
			if before[i] != c.samples[i] {
				t.Errorf("%s: the samples were changed to %v", name, c.samples)
			}
		}
	}
}

func TestSummarizeNothing(t *testing.T) {
	s := Summarize(nil)
	if s.N != 0 || !math.IsNaN(s.Median) || !math.IsNaN(s.Min) || !math.IsNaN(s.Max) || !math.IsNaN(s.MAD) {
		t.Errorf("got %+v", s)
	}
}

func TestRatio(t *testing.T) {
	if got := Ratio([]float64{3, 1, 2}, []float64{4, 4}); got != 0.5 {
		t.Errorf("got %v, want 0.5", got)
	}
	for name, r := range map[string]float64{"no samples": Ratio(nil, []float64{1}), "nothing to compare with": Ratio([]float64{1}, nil), "zero": Ratio([]float64{1}, []float64{0})} {
		if !math.IsNaN(r) {
			t.Errorf("%s: got %v, want NaN", name, r)
		}
	}
}

func TestMilliseconds(t *testing.T) {
	if got := Milliseconds(1500 * time.Microsecond); got != 1.5 {
		t.Errorf("got %v", got)
	}
}
