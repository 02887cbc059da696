package trial

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"gitlab-runner-tart-driver/internal/wait"
)

// run is the life of the job.
func (t *Trial) run() {
	defer close(t.done)
	defer t.stop(nil)
	t.log.Print("Running one job in the way of GitLab Runner " + runnerVersion)
	t.log.Print(fmt.Sprintf("  job %d %q, image %q", t.id, t.jobName(), t.image.Name))
	err := t.runJob()
	t.announce(err)
	t.log.Close()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.left {
		p.release()
	}
	t.cancel, t.expire, t.closed = nil, nil, true
	t.result.conclude(err)
	t.result.Duration = time.Since(t.started)
	if t.opts.Capture {
		t.result.Log = t.log.Bytes()
	}
}

// announce writes the last line of the log.
func (t *Trial) announce(err error) {
	var job *jobError
	switch {
	case err == nil:
		t.log.Info("Job succeeded")
	case errors.As(err, &job) && job.reason != RunnerSystemFailure:
		t.log.Error(fmt.Sprintf("Job failed: %v", err))
	default:
		t.log.Error(fmt.Sprintf("Job failed (system failure): %v", err))
	}
}

// runJob prepares, runs and cleans up. The job's timeout counts from here.
func (t *Trial) runJob() error {
	ctx, expire := t.ctx, t.expire
	defer expire(nil)
	timer := time.AfterFunc(t.timeout(), func() { expire(errTimeout) })
	defer timer.Stop()
	b := &build{t: t, status: "running"}
	var a *attempt
	err := t.log.Section("prepare_executor", func() (err error) {
		t.log.Title(`Preparing the "custom" executor`)
		a, err = t.prepare(ctx, b)
		return err
	})
	if err != nil {
		return err
	}
	defer a.cleanup()
	return t.runScripts(ctx, a)
}

// prepare tries to prepare until it works, it is clear that it never will, or the tries are used up.
//
// Source: https://docs.gitlab.com/runner/executors/custom/#stages and "PreparationRetries" of GitLab Runner
func (t *Trial) prepare(ctx context.Context, b *build) (*attempt, error) {
	var err error
	for number := 1; number <= prepareAttempts; number++ {
		t.mu.Lock()
		t.result.PrepareAttempts = number
		t.mu.Unlock()
		a := t.newAttempt(b, number)
		if err = a.prepare(ctx); err == nil {
			return a, nil
		}
		a.cleanup()
		var job *jobError
		if errors.As(err, &job) {
			return nil, err
		}
		if ctx.Err() != nil {
			break
		}
		t.log.Error(fmt.Sprintf("Preparation failed: %v", err))
		t.log.Info(fmt.Sprintf("Will be retried in %v ...", t.opts.RetryDelay))
		if wait.For(ctx, t.opts.RetryDelay) != nil {
			break
		}
	}
	if ctx.Err() != nil {
		_, err = state(cause(ctx), t.timeout())
	}
	return nil, err
}

// runScripts runs all scripts. When the job is aborted, it ends the running stage and waits for it, but not for ever.
func (t *Trial) runScripts(ctx context.Context, a *attempt) error {
	finished := make(chan error, 1)
	go func() { finished <- a.scripts(ctx) }()
	select {
	case err := <-finished:
		if ctx.Err() == nil {
			return err
		}
	case <-ctx.Done():
		select {
		case <-finished:
		case <-time.After(t.opts.FinishTimeout):
			t.log.Warning("Timed out waiting for the build to finish")
		}
	}
	_, err := state(cause(ctx), t.timeout())
	return err
}

// cause tells why a context has ended. A caller's context that ends is an abort.
func cause(ctx context.Context) error {
	c := context.Cause(ctx)
	if errors.Is(c, errTimeout) || errors.Is(c, errScriptTimeout) {
		return c
	}
	return errCanceled
}

// stderr is where GitLab Runner's own log goes.
func (t *Trial) stderr() io.Writer { return lockedWriter{mu: &t.errMu, w: t.opts.Stderr} }

// warn writes a line into GitLab Runner's own log.
func (t *Trial) warn(text string) { fmt.Fprintf(t.stderr(), "warning: %s\n", strings.TrimSpace(text)) }
