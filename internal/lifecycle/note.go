package lifecycle

import (
	"cmp"
	"errors"
	"os"
	"time"

	"gitlab-runner-tart-driver/internal/history"
	"gitlab-runner-tart-driver/internal/host"
	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/proc"
)

// note writes down what happened to the stage's job.
func (s *Stage) note(e history.Event) {
	e.Time, e.JobID, e.Project, e.PID = time.Now(), s.Job.ID, s.Job.Project, os.Getpid()
	if self, err := proc.Of(e.PID); err == nil {
		e.Start = self.Start
	}
	s.State.History().Note(e)
}

// failed adds an error to an event.
func failed(e history.Event, err error) history.Event {
	if err == nil {
		return e
	}
	e.Error, e.Blame = job.Line("%v", err), "host"
	if f := (*job.Failure)(nil); errors.As(err, &f) && f.Job {
		e.Blame = "job"
	}
	return e
}

// noteBegan notes that prepare begins.
func (p *preparation) noteBegan() {
	p.note(history.Event{Kind: history.PrepareBegan, Image: cmp.Or(p.Job.Image, p.Settings.DefaultImage)})
}

// noteStep remembers a step that is done, for the end of prepare.
func (p *preparation) noteStep(what string, took time.Duration) {
	p.steps = append(p.steps, history.Step{Step: what, TookMS: took.Milliseconds()})
}

// noteWaiting notes a wait for a place.
func (p *preparation) noteWaiting(w host.Waiting, running []string) {
	p.note(history.Event{Kind: history.Waiting, Position: w.Position, Running: running})
}

// noteEnded notes how prepare ended, with all its steps.
func (p *preparation) noteEnded(err error) {
	p.note(failed(history.Event{
		Kind: history.PrepareEnded, VM: p.vm, Image: cmp.Or(p.Job.Image, p.Settings.DefaultImage), TookMS: time.Since(p.began).Milliseconds(), Steps: p.steps,
	}, err))
}

// historyLimits are the operator's. They may be in prepare's arguments alone.
func (p *preparation) historyLimits() history.Limits {
	return history.Limits{Days: p.Settings.LogDays, BudgetMB: p.Settings.LogBudgetMB}
}

// pruneHistory removes what is kept of earlier jobs beyond the operator's limits. That can take a while, so it is left to the keeper as long as there is
// one, and something may be kept at all.
func (p *preparation) pruneHistory() { p.State.History().Prune(p.historyLimits(), time.Now()) }

// noteScript notes that a script begins, and returns what notes its end.
func (s *Stage) noteScript(vm, name string) (ended func(code int, err error)) {
	began := time.Now()
	s.note(history.Event{Kind: history.ScriptBegan, VM: vm, Stage: name})
	return func(code int, err error) {
		e := failed(history.Event{Kind: history.ScriptEnded, VM: vm, Stage: name, TookMS: time.Since(began).Milliseconds()}, err)
		if err == nil {
			e.ExitCode = &code
		}
		s.note(e)
	}
}

// noteCleanup notes that cleanup begins, and returns what notes its end. Without a job there is nothing to tell.
func (s *Stage) noteCleanup() (ended func(error)) {
	if s.Job.Key == "" {
		return func(error) {}
	}
	began := time.Now()
	s.note(history.Event{Kind: history.CleanupBegan})
	return func(err error) {
		s.note(failed(history.Event{Kind: history.CleanupEnded, TookMS: time.Since(began).Milliseconds()}, err))
	}
}

// NoteSwept notes what a sweep has removed, if anything.
func NoteSwept(state *host.State, swept Swept) {
	err := errors.Join(swept.Errors...)
	if len(swept.VMs) == 0 && err == nil {
		return
	}
	state.History().Note(failed(history.Event{Time: time.Now(), Kind: history.Swept, VMs: swept.VMs, PID: os.Getpid()}, err))
}
