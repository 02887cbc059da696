package report

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// filled is a figure with samples.
func filled(unit Unit, driver, yardstick []float64, targets ...Limit) Figure {
	return Figure{Section: "config", Name: "wall time", Unit: unit, Yardstick: "ssh", Targets: targets,
		Samples: map[Column][]float64{Driver: driver, Yardstick: yardstick}}
}

func TestMet(t *testing.T) {
	three, two := []float64{3, 3, 90}, []float64{2}
	for name, c := range map[string]struct {
		figure     Figure
		met, known bool
	}{
		"no target":             {filled(Milliseconds, three, two), true, false},
		"nothing measured":      {filled(Milliseconds, nil, two, AtMost(5)), false, false},
		"no yardstick":          {filled(Milliseconds, three, nil, RatioAtMost(5)), false, false},
		"at most, exactly":      {filled(Milliseconds, three, nil, AtMost(3)), true, true},
		"more than at most":     {filled(Milliseconds, three, nil, AtMost(2.9)), false, true},
		"below, exactly":        {filled(Milliseconds, three, nil, Below(3)), false, true},
		"ratio":                 {filled(Milliseconds, three, two, RatioAtMost(1.5)), true, true},
		"ratio too high":        {filled(Milliseconds, three, two, RatioAtMost(1.4)), false, true},
		"ratio high enough":     {filled(Rate, three, two, RatioAtLeast(1.5)), true, true},
		"ratio too low":         {filled(Rate, three, two, RatioAtLeast(1.6)), false, true},
		"only one of two":       {filled(Milliseconds, three, two, AtMost(10), RatioAtMost(1.1)), false, true},
		"a ratio of nothing":    {filled(Milliseconds, three, []float64{0}, RatioAtMost(5)), false, false},
		"negative is at most 0": {filled(Milliseconds, []float64{-4}, nil, AtMost(0)), true, true},
	} {
		if met, known := c.figure.Met(); known != c.known || known && met != c.met {
			t.Errorf("%s: got %v, %v", name, met, known)
		}
	}
}

func sample() *Report {
	r := &Report{Began: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Took: 61 * time.Second, Runs: 3, Guests: "root",
		Machine: Machine{OS: "linux", Arch: "arm64", CPUs: 2, Go: "go1.26", SSH: "OpenSSH_9.2"}}
	r.Figure(filled(Milliseconds, []float64{3.456, 4, 123.4}, []float64{2}, AtMost(10), RatioAtMost(1.5)))
	r.Figure(Figure{Section: "config", Name: "size", Unit: Megabytes, Note: "stripped", Samples: map[Column][]float64{Driver: {9}, Peer: {12.25}}})
	r.Figure(Figure{Section: "keeper", Name: "not measured"})
	r.Figure(Figure{Section: "jobs", Name: "logins", Targets: []Limit{AtMost(1)}, Samples: map[Column][]float64{Driver: {1, 1}}})
	return r
}

func TestTable(t *testing.T) {
	want := `Measured 2026-03-01 on linux/arm64, 2 CPUs, load 0.00 before and 0.00 after, go1.26, OpenSSH_9.2; root. 3 runs in 1m1s.

| config | driver | yardstick | ratio | target | met |
|--|--|--|--|--|--|
| wall time | 4 ms (3.46..123) | ssh: 2 ms | 2× | ≤ 10 ms, ≤ 1.5× | **no** |
| size (stripped) | 9 MB |  |  |  |  |

| jobs | driver | yardstick | ratio | target | met |
|--|--|--|--|--|--|
| logins | 1 |  |  | ≤ 1 | yes |
`
	if got := sample().Table(); got != want {
		t.Errorf("got\n%s", got)
	}
	r := sample()
	r.Peer = "other"
	got := r.Table()
	for _, line := range []string{"| config | driver | other | yardstick |", "|--|--|--|--|--|--|--|", "| size (stripped) | 9 MB | 12.2 MB |  |"} {
		if !strings.Contains(got, line) {
			t.Errorf("%q is missing in\n%s", line, got)
		}
	}
}

func TestJSON(t *testing.T) {
	raw, err := sample().JSON()
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Figures []struct {
			Samples map[string][]float64
			Summary map[string]struct{ Median float64 }
			Ratio   *float64
			Met     *bool
		}
	}
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Figures) != 4 {
		t.Fatalf("%d figures:\n%s", len(got.Figures), raw)
	}
	f := got.Figures[0]
	if len(f.Samples["driver"]) != 3 || f.Summary["driver"].Median != 4 || f.Ratio == nil || *f.Ratio != 2 || f.Met == nil || *f.Met {
		t.Errorf("got %+v", f)
	}
	if f := got.Figures[1]; f.Ratio != nil || f.Met != nil {
		t.Errorf("a figure without yardstick and target: %+v", f)
	}
}
