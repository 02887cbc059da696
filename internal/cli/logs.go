package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gitlab-runner-tart-driver/internal/history"
	"gitlab-runner-tart-driver/internal/host"
	"gitlab-runner-tart-driver/internal/job"
)

const logsLong = `Shows what there is of a job beside its log in GitLab: what the stages did and how long it took, what the VM's keeper did, and what its
tart run said, with times in UTC. JOB is GitLab's number of the job, VM the name of its VM; a job whose prepare was tried again has had several.

The logs of VMs that are gone are kept for --log-days within --log-budget, which prepare is given.

Exit codes
  0    all is well; with -f, the job is over or ^C was typed
  1    nothing is known of the job, or it can't be read
  64   the command line is not understood`

func newLogsCommand(env Env) *cobra.Command {
	var follow, asJSON bool
	cmd, flags := newHostVerb("logs JOB|VM", "Show what keeper, tart run and stages said of a job", logsLong, cobra.ExactArgs(1))
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what comes, until the job is over")
	cmd.Flags().BoolVar(&asJSON, "json", false, "write a JSON object for each line, with vm, source and line")
	cmd.ValidArgsFunction = completeLiveJobs(env, flags)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		_, state, err := flags.open(env)
		if err != nil {
			return err
		}
		subject := &subject{name: args[0], reader: state.History().Reader()}
		defer subject.reader.Close()
		if err := subject.find(state); err != nil {
			return err
		}
		out := logOutput{painter: newPainter(env), w: env.Stdout, asJSON: asJSON}
		return written(subject.show(cmd.Context(), state, out, follow))
	}
	return cmd
}

// loggedVM is a VM that has logs.
type loggedVM struct {
	vm, jobID, project, image string
	began                     time.Time
	dir                       string
	living                    bool
	ended                     time.Time
}

// subject is what logs are asked for: VMs, the earliest first, and what happened to their job.
type subject struct {
	name   string
	vms    []loggedVM
	events []history.Event
	reader *history.Reader
}

// find finds the VMs and events. A job is found even if it has not come as far as a VM.
func (s *subject) find(state *host.State) error {
	records, err := state.Records()
	if err != nil {
		return unreadable(err)
	}
	for _, r := range records {
		s.vms = append(s.vms, loggedVM{vm: r.VM, jobID: r.JobID, project: r.Project, image: r.Image, began: r.Created, dir: state.EntryDir(r.VM), living: true})
	}
	finished, err := state.History().Finished()
	if err != nil {
		return unreadable(err)
	}
	for _, f := range finished {
		s.vms = append(s.vms, loggedVM{vm: f.VM, jobID: f.JobID, project: f.Project, image: f.Image, began: f.Created, dir: f.Dir, ended: f.Ended})
	}
	s.vms = slices.DeleteFunc(s.vms, func(v loggedVM) bool { return v.vm != s.name && v.jobID != s.name })
	slices.SortStableFunc(s.vms, func(a, b loggedVM) int { return a.began.Compare(b.began) })
	if s.events, err = s.newEvents(); err != nil {
		return err
	}
	if len(s.vms) == 0 && len(s.events) == 0 {
		return job.Mistake(fmt.Errorf("nothing is known here of a job or VM %q", s.name),
			"`gitlab-runner-tart-driver ps` lists the jobs that run; logs of others are kept for a while, see --log-days")
	}
	return nil
}

// newEvents are the events of the subject that were not read yet.
func (s *subject) newEvents() ([]history.Event, error) {
	var events []history.Event
	err := s.reader.Next(func(e history.Event) error {
		if s.concerns(e) && (len(s.vms) == 0 || !e.Kind.OfKeeper()) { // or the keeper's log would have it a second time
			events = append(events, e)
		}
		return nil
	})
	return events, unreadable(err)
}

// concerns tells whether an event is about the subject. Where one VM was asked for, its job's other events count, too, within its time.
func (s *subject) concerns(e history.Event) bool {
	if e.JobID == s.name && e.JobID != "" || e.VM == s.name && e.VM != "" || slices.Contains(e.VMs, s.name) {
		return true
	}
	return slices.ContainsFunc(s.vms, func(v loggedVM) bool {
		if slices.Contains(e.VMs, v.vm) {
			return true
		}
		within := !e.Time.Before(v.began.Truncate(time.Millisecond)) && (v.living || !e.Time.After(v.ended.Add(time.Minute)))
		return e.VM == "" && e.JobID != "" && e.JobID == v.jobID && e.Project == v.project && within
	})
}

// logOutput writes lines with who said them.
type logOutput struct {
	painter
	w      io.Writer
	asJSON bool
}

// logLine is a line as logs --json shows it.
type logLine struct {
	VM      string         `json:"vm,omitempty"`
	JobID   string         `json:"job,omitempty"`
	Project string         `json:"project,omitempty"`
	Source  string         `json:"source"`
	Line    string         `json:"line"`
	Event   *history.Event `json:"event,omitempty"`
}

// sourceWidth is that of the longest source, tart-run.
const sourceWidth = 8

func (o logOutput) line(l logLine) error {
	if o.asJSON {
		return writeJSONLine(o.w, l)
	}
	_, err := fmt.Fprintf(o.w, "%s | %s\n", o.paint(cyan, fmt.Sprintf("%-*s", sourceWidth, l.Source)), l.Line)
	return err
}

func (o logOutput) event(e history.Event) error {
	text := o.describeEvent(e, false)
	if o.asJSON {
		text = painter{}.describeEvent(e, false)
		return o.line(logLine{VM: e.VM, JobID: e.JobID, Project: e.Project, Source: "stages", Line: text, Event: &e})
	}
	for _, step := range e.Steps {
		if err := o.line(logLine{Source: "stages", Line: fmt.Sprintf("%s   %-58s %s", e.Time.UTC().Format(logTime), job.Printable(step.Step), stepTook(step))}); err != nil {
			return err
		}
	}
	return o.line(logLine{Source: "stages", Line: e.Time.UTC().Format(logTime) + " " + text})
}

// logTime is the form of times in a keeper's log.
const logTime = "2006/01/02 15:04:05.000"

// show writes all there is, and with follow what comes until the living VM is gone.
func (s *subject) show(ctx context.Context, state *host.State, out logOutput, follow bool) error {
	for _, e := range s.events {
		if err := out.event(e); err != nil {
			return err
		}
	}
	var living *loggedVM
	for i, v := range s.vms {
		if follow && v.living {
			living = &s.vms[i]
			continue
		}
		if err := s.showVM(v, state, out); err != nil {
			return err
		}
	}
	if living == nil {
		return nil
	}
	return s.followVM(ctx, state, *living, out)
}

// heading names a VM before its logs.
func (s *subject) heading(v loggedVM, out logOutput) error {
	if out.asJSON {
		return nil
	}
	text := fmt.Sprintf("VM %s of %s", v.vm, host.Record{JobID: cmp.Or(v.jobID, "(unknown)"), Project: v.project}.Describe())
	if v.image != "" {
		text += ", image " + v.image
	}
	if !v.living {
		text += ", gone since " + v.ended.Local().Format("2006-01-02 15:04:05")
	}
	_, err := fmt.Fprintln(out.w, out.paint(bold, job.Printable(text)))
	return err
}

// logs are a VM's, which may have gone since it was found.
func (v loggedVM) logs(state *host.State) []history.Log {
	if logs := history.Logs(v.dir); len(logs) > 0 {
		return logs
	}
	return history.Logs(state.History().DirOf(v.vm))
}

// showVM writes a VM's logs as they are now.
func (s *subject) showVM(v loggedVM, state *host.State, out logOutput) error {
	if err := s.heading(v, out); err != nil {
		return err
	}
	for _, log := range v.logs(state) {
		t := &history.Tail{Path: log.Path}
		err := t.Lines(s.writer(v, log.Source, out))
		if rest := t.Unfinished(); err == nil && len(rest) > 0 {
			err = s.writer(v, log.Source, out)(rest)
		}
		t.Close()
		if err != nil {
			return unreadable(err)
		}
	}
	return nil
}

func (s *subject) writer(v loggedVM, source string, out logOutput) func([]byte) error {
	return func(line []byte) error {
		text := job.Printable(strings.TrimRight(string(line), "\r"))
		return out.line(logLine{VM: v.vm, JobID: v.jobID, Project: v.project, Source: source, Line: text})
	}
}
