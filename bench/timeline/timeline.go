// Package timeline works out from recorded moments whose time a stage took: tart's, the booting guest's, or the driver's own. It only
// calculates.
package timeline

import (
	"slices"
	"time"

	"gitlab-runner-tart-driver/internal/tartsim/simconf"
)

// Span is the time from one moment to another.
type Span struct{ From, To time.Time }

// Covered is how much of within lies in at least one of the spans.
func Covered(within Span, spans []Span) time.Duration {
	var inside []Span
	for _, s := range spans {
		if s.From.Before(within.From) {
			s.From = within.From
		}
		if s.To.After(within.To) {
			s.To = within.To
		}
		if s.From.Before(s.To) {
			inside = append(inside, s)
		}
	}
	slices.SortFunc(inside, func(a, b Span) int { return a.From.Compare(b.From) })
	var sum time.Duration
	end := within.From
	for _, s := range inside {
		if s.From.Before(end) {
			s.From = end
		}
		if s.From.Before(s.To) {
			sum += s.To.Sub(s.From)
			end = s.To
		}
	}
	return sum
}

// Beyond is the part of a stage in which neither tart nor the guest was at work: the stage's time less that of every call of
// tart in it but `run` and `ip`, and less the guest's boot, from the start of `tart run` to ready. Looking for the address is part of
// waiting for the guest as long as that is not ready, and a delay after that, so `ip` does not count as tart's time.
//
// A call is recorded by tart itself, once it runs; startUp is what a process takes before that.
func Beyond(stage Span, calls []simconf.Call, ready time.Time, startUp time.Duration) time.Duration {
	var spans []Span
	for _, c := range calls {
		switch {
		case Command(c) == "run":
			spans = append(spans, Span{c.Start.Add(-startUp), ready})
		case Command(c) != "ip" && c.End != nil:
			spans = append(spans, Span{c.Start.Add(-startUp), *c.End})
		}
	}
	return stage.To.Sub(stage.From) - Covered(stage, spans)
}

// Command is the name of a call's command, such as "clone".
func Command(c simconf.Call) string {
	if len(c.Argv) < 2 {
		return ""
	}
	return c.Argv[1]
}

// Count counts calls by command.
func Count(calls []simconf.Call) map[string]int {
	counts := map[string]int{}
	for _, c := range calls {
		counts[Command(c)]++
	}
	return counts
}
