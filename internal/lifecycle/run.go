package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"os"

	"gitlab-runner-tart-driver/internal/crash"
	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/keeper"
	"gitlab-runner-tart-driver/internal/proc"
	"gitlab-runner-tart-driver/internal/tart"
)

// Run runs a script of the job in its VM, for one of the job's stages. The script's output goes to stdout and stderr. It never destroys the VM.
func (s *Stage) Run(ctx context.Context, scriptPath, stage string, stdout, stderr *os.File) error {
	script, err := os.Open(scriptPath)
	if err != nil {
		return job.Infrastructure(fmt.Errorf("open the script: %w", err), "GitLab Runner hands over the script's path as the first of two arguments")
	}
	defer script.Close()
	rec, ok, err := s.findRecord()
	if err != nil {
		return err
	}
	if !ok {
		return job.Infrastructure(fmt.Errorf("job %s has no VM on this host", s.Job.ID),
			"prepare did not finish, or the VM was removed after the job's deadline or because its GitLab Runner was gone")
	}
	shell := "" // the one that prepare found, which the job's variable has been considered for
	if !s.Settings.IsDefault("shell") && !s.Settings.FromJob("shell") {
		shell = s.Settings.Shell
	}
	crash.Point("run: about to ask")
	ended := s.noteScript(rec.VM, stage)
	code, err := keeper.Exec(ctx, s.State, rec.VM, rec.JobKey, keeper.Script{File: script, Shell: shell, Stdout: stdout, Stderr: stderr,
		Stage: stage, TimedOut: s.Job.TimedOut(), HoldFor: s.tellHold, Ancestors: proc.Ancestors(os.Getpid())})
	crash.Point("run: answered")
	ended(code, err)
	switch {
	case ctx.Err() != nil:
		return job.Infrastructure(context.Cause(ctx), "")
	case errors.Is(err, keeper.ErrNoKeeper):
		return s.keeperGone(rec.VM, err)
	case err != nil:
		return err
	case code != 0:
		return &job.ScriptError{Code: code}
	}
	return nil
}

// keeperGone explains that a VM's keeper is gone, with the last words of the VM.
func (s *Stage) keeperGone(vm string, err error) error {
	if last := tart.LastWords(tart.Tail(s.State.RunLog(vm), 8<<10)); last != "" {
		err = fmt.Errorf("%w; the VM's last words: %s", err, last)
	}
	return job.Infrastructure(fmt.Errorf("VM %s: %w", vm, err), "the process that watched over the VM was killed; cleanup removes the VM")
}
