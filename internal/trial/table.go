package trial

import (
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// WriteTable writes how long each stage took and how it ended.
func WriteTable(w io.Writer, r *Result) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "STAGE\tTIME\tRESULT")
	for _, s := range r.Stages {
		name := s.Name
		if r.PrepareAttempts > 1 {
			name = fmt.Sprintf("%s (attempt %d)", name, s.Attempt)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", name, seconds(s.Duration), s.outcome())
	}
	outcome := string(r.Status)
	if r.FailureReason != "" && r.FailureReason != JobCanceled {
		outcome += ": " + string(r.FailureReason)
	}
	fmt.Fprintf(table, "total\t%s\t%s\n", seconds(r.Duration), outcome)
	return table.Flush()
}

// outcome is the end of a stage in few words.
func (s *StageResult) outcome() string {
	var job *jobError
	switch {
	case s.Err == nil:
		return "ok"
	case errors.As(s.Err, &job):
		return fmt.Sprintf("failed: %v", s.Err)
	case s.PID == 0:
		return fmt.Sprintf("not started: %v", s.Err)
	default:
		return fmt.Sprintf("driver failed: %v", s.Err)
	}
}

// seconds writes a duration with three digits that count.
func seconds(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.2fs", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Seconds())
	default:
		return d.Round(time.Second).String()
	}
}
