package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gitlab-runner-tart-driver/internal/history"
	"gitlab-runner-tart-driver/internal/host"
	"gitlab-runner-tart-driver/internal/job"
)

const eventsLong = `Shows what happened on this host: a line for every prepare, wait, script and cleanup, for what becomes of every VM and why, and for every sweep,
with how long it took and what went wrong. With --json a line is a JSON object, as it is kept.

Events are kept within --log-budget, which prepare is given.

Exit codes
  0    all is well; with -f, ended by ^C
  1    there is no state directory, or it can't be read
  64   the command line is not understood`

func newEventsCommand(env Env) *cobra.Command {
	var follow, asJSON bool
	var last int
	cmd, flags := newHostVerb("events", "Show what happened on this host", eventsLong, cobra.NoArgs)
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what happens, until ^C")
	cmd.Flags().BoolVar(&asJSON, "json", false, "write a JSON object for each event, on a line of its own")
	cmd.Flags().IntVarP(&last, "lines", "n", -1, "begin with the last `N` events (default: all, with -f ten)")
	cmd.Flags().Lookup("lines").DefValue = "0" // which help does not show
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if cmd.Flags().Changed("lines") && last < 0 {
			return &usageError{fmt.Errorf("--lines %d: a number of events is expected", last)}
		}
		_, state, err := flags.open(env)
		if err != nil {
			return err
		}
		if follow && last < 0 {
			last = 10
		}
		return written(showEvents(cmd.Context(), env, state, last, follow, asJSON))
	}
	return cmd
}

// showEvents shows the last events, all of them for a negative number, and with follow those that come.
func showEvents(ctx context.Context, env Env, state *host.State, last int, follow, asJSON bool) error {
	p := newPainter(env)
	show := func(e history.Event) error {
		if asJSON {
			return writeJSONLine(env.Stdout, e)
		}
		if routine(e) {
			return nil
		}
		_, err := fmt.Fprintf(env.Stdout, "%s  %s\n", p.paint(dim, e.Time.Local().Format("2006-01-02 15:04:05")), p.describeEvent(e, true))
		return err
	}
	if follow {
		return unreadable(state.History().Follow(ctx, last, show))
	}
	events, err := state.History().Events()
	if err != nil {
		return unreadable(err)
	}
	if !asJSON {
		events = slices.DeleteFunc(events, routine)
	}
	if last >= 0 {
		events = events[max(0, len(events)-last):]
	}
	for _, e := range events {
		if err := show(e); err != nil {
			return err
		}
	}
	return nil
}

// routine is what the end of prepare says, too.
func routine(e history.Event) bool { return e.Kind == history.VMReady || e.Kind == history.VMKept }

// unreadable blames whoever asks for what can't be read.
func unreadable(err error) error {
	if err == nil || written(err) == nil {
		return err
	}
	return job.Mistake(err, "be the user that GitLab Runner runs as")
}

// describeEvent tells of an event in a line, with the job where that is not clear.
func (p painter) describeEvent(e history.Event, withJob bool) string {
	text, colour := eventText(e), ""
	switch {
	case e.Error != "":
		colour = red
	case e.ExitCode != nil && *e.ExitCode != 0, e.Kind == history.Waiting, e.Kind == history.Swept, e.Kind == history.VMHeld:
		colour = yellow
	}
	text = p.paint(colour, job.Printable(text))
	if !withJob || e.JobID == "" {
		return text
	}
	return p.paint(cyan, job.Printable(host.Record{JobID: e.JobID, Project: e.Project}.Describe())) + ": " + text
}

// eventText is what happened.
func eventText(e history.Event) string {
	took := "after " + job.Took(time.Duration(e.TookMS)*time.Millisecond)
	script := cmp.Or(e.Stage, "a script")
	switch e.Kind {
	case history.PrepareBegan:
		return "prepare begins, with image " + cmp.Or(e.Image, "(none)")
	case history.Waiting:
		return fmt.Sprintf("waits for a place, number %d in line; running: %s", e.Position, strings.Join(e.Running, ", "))
	case history.PrepareEnded:
		if e.Error != "" {
			return fmt.Sprintf("prepare failed %s (%s): %s%s", took, blamed(e), e.Error, stepsText(e))
		}
		return fmt.Sprintf("VM %s is ready %s%s", e.VM, took, stepsText(e))
	case history.ScriptBegan:
		return script + " begins"
	case history.ScriptEnded:
		switch {
		case e.Error != "":
			return fmt.Sprintf("%s was cut off %s (%s): %s", script, took, blamed(e), e.Error)
		case e.ExitCode != nil && *e.ExitCode != 0:
			return fmt.Sprintf("%s ended %s with exit code %d", script, took, *e.ExitCode)
		}
		return fmt.Sprintf("%s ended %s", script, took)
	case history.CleanupBegan:
		return "cleanup begins"
	case history.CleanupEnded:
		if e.Error != "" {
			return fmt.Sprintf("cleanup failed %s: %s", took, e.Error)
		}
		return "cleanup ended " + took
	case history.VMReady, history.VMKept, history.VMHeld, history.VMDead, history.VMDestroying, history.VMHoldAsked:
		return vmText(e)
	case history.VMRemoved:
		return fmt.Sprintf("VM %s is removed%s", e.VM, lastWords(e))
	case history.Swept:
		return sweptText(e)
	default: // of a later version
		return strings.TrimSpace(fmt.Sprintf("%s %s %s", e.Kind, e.VM, e.Error))
	}
}

// vmText is what a VM's keeper says.
func vmText(e history.Event) string {
	switch e.Kind {
	case history.VMReady:
		return fmt.Sprintf("VM %s is up: %s", e.VM, e.Reason)
	case history.VMKept:
		return fmt.Sprintf("VM %s is the job's: %s", e.VM, e.Reason)
	case history.VMHeld:
		until := ""
		if e.Until != nil {
			until = " until " + e.Until.Local().Format(time.DateTime)
		}
		return fmt.Sprintf("VM %s is held%s: %s", e.VM, until, e.Reason)
	case history.VMDead:
		return fmt.Sprintf("VM %s has ended: %s", e.VM, cmp.Or(e.Error, e.Reason))
	case history.VMHoldAsked:
		return fmt.Sprintf("VM %s is to be held for %s when the job is over: somebody asks for it", e.VM, time.Duration(e.ForMS)*time.Millisecond)
	default:
		return fmt.Sprintf("VM %s is being destroyed: %s", e.VM, e.Reason)
	}
}

func blamed(e history.Event) string {
	if e.Blame == "job" {
		return "the job's or a setting's fault"
	}
	return "not the job's fault"
}

// worthTelling is how long a step takes that a summary names, at least and in milliseconds, and stepsToTell how many of these it names.
const (
	worthTelling = 100
	stepsToTell  = 3
)

// stepsText names the steps that took longest.
func stepsText(e history.Event) string {
	longest := slices.DeleteFunc(slices.Clone(e.Steps), func(s history.Step) bool { return s.TookMS < worthTelling })
	slices.SortStableFunc(longest, func(a, b history.Step) int { return cmp.Compare(b.TookMS, a.TookMS) })
	var steps []string
	for _, s := range longest[:min(len(longest), stepsToTell)] {
		steps = append(steps, s.Step+" "+stepTook(s))
	}
	if len(steps) == 0 {
		return ""
	}
	return "; longest: " + strings.Join(steps, ", ")
}

func stepTook(s history.Step) string { return job.Took(time.Duration(s.TookMS) * time.Millisecond) }

func lastWords(e history.Event) string {
	if e.LastWords == "" {
		return ""
	}
	return "; its keeper's last words: " + e.LastWords
}

func sweptText(e history.Event) string {
	var parts []string
	if len(e.VMs) > 0 {
		parts = append(parts, "a sweep removed "+strings.Join(e.VMs, ", "))
	}
	if e.Error != "" {
		parts = append(parts, "a sweep failed: "+e.Error)
	}
	return strings.Join(parts, "; ")
}
