// Package trial plays GitLab Runner's part for one job, without GitLab: it runs a Custom-executor driver through the stages of the job
// with the order, environment, scripts, signals and exit-code rules of GitLab Runner, so that a user can try an image and tests can
// drive whole jobs.
//
// It knows the driver only as a program to start. It must not import anything of the driver, or a trial would prove nothing: the only
// ties between the two are arguments, environment, files, output and exit codes.
//
// Source: https://docs.gitlab.com/runner/executors/custom/
package trial

import (
	"context"
	"sync"
	"time"

	"gitlab-runner-tart-driver/internal/trial/civar"
	"gitlab-runner-tart-driver/internal/trial/joblog"
)

// Trial is one job that is being run. Its methods may be called from any goroutine, also from the functions in Hooks.
type Trial struct {
	opts   Options
	job    *Job
	id     int64
	token  string
	log    *joblog.Log
	predef civar.List // what GitLab would send, resolved
	image  Image      // with its variables expanded
	masked []string

	base context.Context // ends with an abort
	stop context.CancelCauseFunc
	ctx  context.Context // ends also with a soft cancel before the script and with the job's timeout

	mu     sync.Mutex
	cancel context.CancelCauseFunc // what a soft cancel ends; nil when it has been used up
	expire context.CancelCauseFunc // ends ctx; nil when the job is over
	result Result
	closed bool // the result is final
	left   []*process

	errMu sync.Mutex // for opts.Stderr

	started time.Time
	done    chan struct{}
}

// Start begins a job and returns at once. When ctx ends, the job is aborted as by Abort; cleanup still runs.
//
// An error means that nothing has been started because the options or the job make no sense.
func Start(ctx context.Context, job *Job, opts Options) (*Trial, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	t := &Trial{opts: opts, job: job, id: opts.JobID, token: opts.Token, started: time.Now(), done: make(chan struct{})}
	if err := t.identify(); err != nil {
		return nil, err
	}
	if err := t.checkJob(); err != nil {
		return nil, err
	}
	if t.predef, err = t.serverVariables(); err != nil {
		return nil, err
	}
	t.maskSecrets()
	t.log = joblog.New(joblog.Options{Out: opts.Stdout, Masked: t.masked, Raw: opts.RawLog, Keep: opts.Capture, OnError: func(error) { t.Abort() }})
	t.result.JobID = t.id
	t.base, t.stop = context.WithCancelCause(ctx)
	t.ctx, t.expire = context.WithCancelCause(t.base)
	t.cancel = t.expire
	go t.run()
	return t, nil
}

// Run is Start followed by Wait.
func Run(ctx context.Context, job *Job, opts Options) (*Result, error) {
	t, err := Start(ctx, job, opts)
	if err != nil {
		return nil, err
	}
	return t.Wait(), nil
}

// Wait returns when cleanup has ended. The result does not change any more.
func (t *Trial) Wait() *Result {
	<-t.done
	return &t.result
}

// Done is closed when cleanup has ended.
func (t *Trial) Done() <-chan struct{} { return t.done }

// JobID is the number of the job.
func (t *Trial) JobID() int64 { return t.id }

// Cancel does what "Cancel" in GitLab does: while the user's script runs, only that is ended (SIGTERM to the process group of the
// stage), and after_script and the stages behind it still follow; before it, the whole job is aborted; behind it, nothing happens.
// Only the first call of the job does something. It tells whether this one did.
func (t *Trial) Cancel() bool {
	t.mu.Lock()
	cancel := t.cancel
	t.cancel = nil
	t.mu.Unlock()
	if cancel == nil {
		return false
	}
	cancel(errCanceled)
	return true
}

// Abort does what a forced cancel in GitLab does: the running stage is ended, and only cleanup follows.
func (t *Trial) Abort() {
	t.mu.Lock()
	t.cancel = nil
	t.mu.Unlock()
	t.stop(errCanceled)
}

// Expire makes the job's timeout run out now.
func (t *Trial) Expire() {
	t.mu.Lock()
	expire := t.expire
	t.mu.Unlock()
	if expire != nil {
		expire(errTimeout)
	}
}

// setCancel says what a soft cancel ends from now on. After a soft or hard cancel it is too late for that.
func (t *Trial) setCancel(cancel context.CancelCauseFunc) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cancel = cancel
}

// keepLeft remembers a process that could not be killed, to close its pipes when the job is over.
func (t *Trial) keepLeft(p *process) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.left = append(t.left, p)
}

// record adds what a stage did to the result.
func (t *Trial) record(s StageResult) {
	t.mu.Lock()
	closed := t.closed
	if !closed {
		t.result.Stages = append(t.result.Stages, s)
	}
	t.mu.Unlock()
	if closed {
		return // a stage that an abort did not wait for
	}
	if t.opts.Hooks.Ended != nil {
		t.opts.Hooks.Ended(t, s)
	}
}
