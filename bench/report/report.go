// Package report holds the figures of one run of the benchmark and writes them: as JSON with all samples, and as a table for people. What a
// figure means, and whether a target is met, is decided here; how it is measured is not.
package report

import (
	"encoding/json"
	"math"
	"time"

	"gitlab-runner-tart-driver/bench/stats"
)

// Column is whose samples they are.
type Column string

// The columns.
const (
	// Driver is this project's driver.
	Driver Column = "driver"
	// Peer is the other driver that was measured beside it.
	Peer Column = "peer"
	// Yardstick is what does the same without a driver, such as ssh.
	Yardstick Column = "yardstick"
)

// Unit is what samples are counted in.
type Unit string

// The units.
const (
	Milliseconds Unit = "ms"
	Megabytes    Unit = "MB"   // 10⁶ bytes
	Rate         Unit = "MB/s" // 10⁶ bytes
	Percent      Unit = "%"
	Count        Unit = ""
)

// Limit is a target: a bound for the median, or for its ratio to that of the yardstick.
type Limit struct {
	// Ratio says that the bound is for the ratio.
	Ratio bool `json:"ratio,omitempty"`
	// AtLeast says that more is better.
	AtLeast bool `json:"at_least,omitempty"`
	// Below leaves the bound itself out.
	Below bool    `json:"below,omitempty"`
	Bound float64 `json:"bound"`
}

// AtMost is the target that the median is no more than bound, in the figure's unit.
func AtMost(bound float64) Limit { return Limit{Bound: bound} }

// Below is the target that the median is less than bound.
func Below(bound float64) Limit { return Limit{Bound: bound, Below: true} }

// RatioAtMost is the target that the median is no more than bound times that of the yardstick.
func RatioAtMost(bound float64) Limit { return Limit{Ratio: true, Bound: bound} }

// RatioAtLeast is the target that the median is no less than bound times that of the yardstick.
func RatioAtLeast(bound float64) Limit { return Limit{Ratio: true, AtLeast: true, Bound: bound} }

// Figure is one row.
type Figure struct {
	// Section is the part of the benchmark that measured it, by which -only asks for it.
	Section string `json:"section"`
	// Name says what it is.
	Name string `json:"name"`
	Unit Unit   `json:"unit"`
	// Samples are all that was measured.
	Samples map[Column][]float64 `json:"samples"`
	// Yardstick says what the yardstick is, if there is one.
	Yardstick string `json:"yardstick,omitempty"`
	// Targets are what the driver's samples are to meet.
	Targets []Limit `json:"targets,omitempty"`
	// Note is a remark for the table.
	Note string `json:"note,omitempty"`
}

// Add adds a sample.
func (f *Figure) Add(to Column, sample float64) {
	if f.Samples == nil {
		f.Samples = map[Column][]float64{}
	}
	f.Samples[to] = append(f.Samples[to], sample)
}

// AddTime adds a duration as a sample in milliseconds.
func (f *Figure) AddTime(to Column, d time.Duration) { f.Add(to, stats.Milliseconds(d)) }

// ratio is that of the driver's median to the yardstick's, NaN where there is none.
func (f *Figure) ratio() float64 { return stats.Ratio(f.Samples[Driver], f.Samples[Yardstick]) }

// Met tells whether the driver's samples meet all targets; known is false where there is none, or nothing was measured.
func (f *Figure) Met() (met, known bool) {
	met = true
	for _, l := range f.Targets {
		value := stats.Median(f.Samples[Driver])
		if l.Ratio {
			value = f.ratio()
		}
		if math.IsNaN(value) {
			return false, false
		}
		switch {
		case l.AtLeast:
			met = met && value >= l.Bound
		case l.Below:
			met = met && value < l.Bound
		default:
			met = met && value <= l.Bound
		}
	}
	return met, len(f.Targets) > 0
}

// Machine is where it was measured.
type Machine struct {
	OS     string `json:"os"`
	Arch   string `json:"arch"`
	CPUs   int    `json:"cpus"`
	Model  string `json:"cpu_model,omitempty"`
	Kernel string `json:"kernel,omitempty"`
	Go     string `json:"go"`
	SSH    string `json:"ssh,omitempty"`
	// LoadBefore and LoadAfter are the load averages of the last minute.
	LoadBefore float64 `json:"load_before"`
	LoadAfter  float64 `json:"load_after"`
}

// Report is one run of the benchmark.
type Report struct {
	Began   time.Time     `json:"began"`
	Took    time.Duration `json:"took_ns"`
	Machine Machine       `json:"machine"`
	// Guests says what plays the virtual machines.
	Guests string `json:"guests"`
	// Peer is the other driver's name, "" for none.
	Peer string `json:"peer,omitempty"`
	// Runs is the number of runs that was asked for.
	Runs    int       `json:"runs"`
	Figures []*Figure `json:"figures"`
}

// Figure adds a row and returns it, to be filled.
func (r *Report) Figure(f Figure) *Figure {
	r.Figures = append(r.Figures, &f)
	return &f
}

// JSON is the whole report, with all samples and, for each figure, what the table says of it.
func (r *Report) JSON() ([]byte, error) {
	type column struct {
		N      int     `json:"n"`
		Median float64 `json:"median"`
		Min    float64 `json:"min"`
		Max    float64 `json:"max"`
		MAD    float64 `json:"mad"`
	}
	type figure struct {
		*Figure
		Summary map[Column]column `json:"summary"`
		Ratio   *float64          `json:"ratio,omitempty"`
		Met     *bool             `json:"met,omitempty"`
	}
	all := struct {
		*Report
		Figures []figure `json:"figures"`
	}{Report: r}
	for _, f := range r.Figures {
		out := figure{Figure: f, Summary: map[Column]column{}}
		for name, samples := range f.Samples {
			s := stats.Summarize(samples)
			if s.N == 0 {
				continue // JSON has no NaN
			}
			out.Summary[name] = column{s.N, s.Median, s.Min, s.Max, s.MAD}
		}
		if ratio := f.ratio(); !math.IsNaN(ratio) {
			out.Ratio = &ratio
		}
		if met, known := f.Met(); known {
			out.Met = &met
		}
		all.Figures = append(all.Figures, out)
	}
	return json.MarshalIndent(all, "", "  ")
}
