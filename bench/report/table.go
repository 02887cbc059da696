package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"gitlab-runner-tart-driver/bench/stats"
)

// Table is the report in Markdown: the figures with their medians, and minimum and maximum in parentheses.
func (r *Report) Table() string {
	var b strings.Builder
	m := r.Machine
	fmt.Fprintf(&b, "Measured %s on %s/%s", r.Began.UTC().Format("2006-01-02"), m.OS, m.Arch)
	if m.Model != "" {
		fmt.Fprintf(&b, " (%s)", m.Model)
	}
	fmt.Fprintf(&b, ", %d CPUs, load %.2f before and %.2f after, %s, %s; %s. %d runs in %s.\n", m.CPUs, m.LoadBefore, m.LoadAfter, m.Go, m.SSH, r.Guests,
		r.Runs, r.Took.Round(time.Second))
	section := ""
	for _, f := range r.Figures {
		if len(f.Samples) == 0 {
			continue
		}
		if f.Section != section {
			section = f.Section
			fmt.Fprintf(&b, "\n| %s | driver |%s yardstick | ratio | target | met |\n", section, r.peerCell(" "+r.Peer+" |"))
			fmt.Fprintf(&b, "|--|--|%s--|--|--|--|\n", r.peerCell("--|"))
		}
		b.WriteString(r.row(f))
	}
	return b.String()
}

// peerCell is text where there is a column for the peer.
func (r *Report) peerCell(text string) string {
	if r.Peer == "" {
		return ""
	}
	return text
}

func (r *Report) row(f *Figure) string {
	name := f.Name
	if f.Note != "" {
		name += " (" + f.Note + ")"
	}
	yardstick := f.cell(Yardstick)
	if yardstick != "" {
		yardstick = f.Yardstick + ": " + yardstick
	}
	ratio := ""
	if v := f.ratio(); !math.IsNaN(v) {
		ratio = number(v) + "×"
	}
	return fmt.Sprintf("| %s | %s |%s %s | %s | %s | %s |\n", name, f.cell(Driver), r.peerCell(" "+f.cell(Peer)+" |"), yardstick, ratio, f.targets(), f.met())
}

// cell is a column's median, with the spread where there is one.
func (f *Figure) cell(c Column) string {
	s := stats.Summarize(f.Samples[c])
	if s.N == 0 {
		return ""
	}
	text := number(s.Median)
	if f.Unit != Count {
		text += " " + string(f.Unit)
	}
	if s.Min != s.Max {
		text += fmt.Sprintf(" (%s..%s)", number(s.Min), number(s.Max))
	}
	return text
}

func (f *Figure) targets() string {
	texts := make([]string, len(f.Targets))
	for i, l := range f.Targets {
		sign, unit := "≤ ", ""
		switch {
		case l.AtLeast:
			sign = "≥ "
		case l.Below:
			sign = "< "
		}
		switch {
		case l.Ratio:
			unit = "×"
		case f.Unit != Count:
			unit = " " + string(f.Unit)
		}
		texts[i] = sign + strconv.FormatFloat(l.Bound, 'f', -1, 64) + unit
	}
	return strings.Join(texts, ", ")
}

func (f *Figure) met() string {
	switch met, known := f.Met(); {
	case !known:
		return ""
	case met:
		return "yes"
	default:
		return "**no**"
	}
}

// number writes a number with three digits that count, or as it is where it is whole and has more.
func number(v float64) string {
	switch size := math.Abs(v); {
	case math.IsNaN(v):
		return "–"
	case v == math.Trunc(v), size >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case size >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case size >= 1:
		return strconv.FormatFloat(v, 'f', 2, 64)
	default:
		return strconv.FormatFloat(v, 'f', 3, 64)
	}
}
