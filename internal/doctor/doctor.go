// Package doctor finds out what on a Mac would keep this driver from running jobs, before a job does, and says for everything it finds what is
// wrong and what mends it. All checks are rows of one table (table.go).
//
// Checks only look. What they find is mended only on request, and only where that can't hurt a job, lose a file or need another user's rights.
// They see the machine through Host, so that another machine, made of files, can be examined in its place.
package doctor

import (
	"context"
	"slices"

	"gitlab-runner-tart-driver/internal/job"
)

// Status is how a check went.
type Status string

// The statuses. A check has the worst one of its findings.
const (
	Pass Status = "pass"
	// Skip: it can't be checked here, or there is nothing to check.
	Skip Status = "skip"
	// Warn: jobs can run, but not as they should, or not for long, or it can't be told for sure.
	Warn Status = "warn"
	// Fail: jobs will fail.
	Fail Status = "fail"
)

// severity orders statuses.
func severity(s Status) int { return slices.Index([]Status{Pass, Skip, Warn, Fail}, s) }

// Finding is one thing that a check has to say.
type Finding struct {
	Status Status `json:"status"`
	// Reason says what is the case.
	Reason string `json:"reason"`
	// Fix says what to do about it: a command, or a line of config.toml. It is empty where there is nothing to do.
	Fix string `json:"fix,omitempty"`
}

func pass(format string, args ...any) Finding {
	return Finding{Status: Pass, Reason: job.Line(format, args...)}
}

func skip(format string, args ...any) Finding {
	return Finding{Status: Skip, Reason: job.Line(format, args...)}
}

func warn(fix, format string, args ...any) Finding {
	return Finding{Status: Warn, Reason: job.Line(format, args...), Fix: fix}
}

func fail(fix, format string, args ...any) Finding {
	return Finding{Status: Fail, Reason: job.Line(format, args...), Fix: fix}
}

// Check is a row of the table.
type Check struct {
	// ID is the check's name in the report; it doesn't change between versions.
	ID string
	// Title says what is looked at.
	Title string
	// Why says what goes wrong with jobs where it is amiss.
	Why string
	// Mends says what is done on request; empty where nothing is.
	Mends string
	// Needs are programs and files that only a Mac has. Elsewhere the check is skipped, unless one of them is there.
	Needs []string

	look func(context.Context, *survey) []Finding
	mend func(context.Context, *survey) (done string, err error)
}

// Result is what came of a check.
type Result struct {
	ID       string    `json:"id"`
	Title    string    `json:"title"`
	Status   Status    `json:"status"`
	Findings []Finding `json:"findings"`
	// Mended says what was done about it; the findings are those afterwards.
	Mended string `json:"mended,omitempty"`
}

// Report is what came of all checks.
type Report struct {
	// Status is the worst of all.
	Status Status         `json:"status"`
	Counts map[Status]int `json:"counts"`
	Checks []Result       `json:"checks"`
}

// Options of Examine.
type Options struct {
	Host Host
	// ConfigPath is GitLab Runner's config.toml; empty for its usual place.
	ConfigPath string
	// Executable is this program.
	Executable string
	// Parse takes the arguments of a stage apart, as the stage would.
	Parse ArgParser
	// Mend lets safe repairs be made.
	Mend bool
}

// Examine makes all checks, one after the other. each is called with every result, as soon as it is there; it may be nil.
func Examine(ctx context.Context, opt Options, each func(Result)) (Report, error) {
	report := Report{Status: Pass, Counts: map[Status]int{}}
	s := newSurvey(ctx, opt)
	for _, check := range Table() {
		result := check.run(ctx, s)
		if ctx.Err() != nil {
			return report, context.Cause(ctx)
		}
		if opt.Mend && check.mend != nil && severity(result.Status) >= severity(Warn) {
			done, err := check.mend(ctx, s)
			s = newSurvey(ctx, opt) // look again with fresh eyes
			result = check.run(ctx, s)
			result.Mended = done
			if err != nil {
				result.add(fail("", "not mended: %v", err))
			}
		}
		report.Checks = append(report.Checks, result)
		report.Counts[result.Status]++
		if severity(result.Status) > severity(report.Status) {
			report.Status = result.Status
		}
		if each != nil {
			each(result)
		}
	}
	if report.Status == Skip {
		report.Status = Pass
	}
	return report, nil
}

// run makes the check, or says why not.
func (c Check) run(ctx context.Context, s *survey) Result {
	result := Result{ID: c.ID, Title: c.Title, Status: Pass, Findings: []Finding{}}
	findings := []Finding{skip("only a Mac has this")}
	if c.applies(s) {
		findings = c.look(ctx, s)
	}
	for _, f := range findings {
		result.add(f)
	}
	return result
}

func (r *Result) add(f Finding) {
	r.Findings = append(r.Findings, f)
	if len(r.Findings) == 1 || severity(f.Status) > severity(r.Status) {
		r.Status = f.Status
	}
}

func (c Check) applies(s *survey) bool {
	return len(c.Needs) == 0 || s.host.OS() == "darwin" || slices.ContainsFunc(c.Needs, func(need string) bool {
		if need[0] == '/' {
			_, err := s.host.Stat(need)
			return err == nil
		}
		_, ok := s.host.Find(need)
		return ok
	})
}
