package trial

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gitlab-runner-tart-driver/internal/trial/script"
	"gitlab-runner-tart-driver/internal/wait"
)

// scripts runs the stages of a prepared job in GitLab Runner's order.
//
// Source: https://docs.gitlab.com/runner/executors/custom/#run
func (a *attempt) scripts(ctx context.Context) error {
	if err := a.stage(ctx, script.Prepare); err != nil {
		return fmt.Errorf("prepare environment: %w. Check https://docs.gitlab.com/runner/shells/#shell-profile-loading for more information", err)
	}
	err := a.repeat(ctx, script.GetSources, "GET_SOURCES_ATTEMPTS")
	if err == nil {
		err = a.repeat(ctx, script.RestoreCache, "RESTORE_CACHE_ATTEMPTS")
	}
	if err == nil {
		err = a.repeat(ctx, script.DownloadArtifacts, "ARTIFACT_DOWNLOAD_ATTEMPTS")
	}
	if err == nil {
		err = a.userScripts(ctx)
	}
	archive, upload := script.ArchiveCache, script.UploadOnSuccess
	if err != nil {
		archive, upload = script.ArchiveCacheFail, script.UploadOnFailure
	}
	archiveErr := a.stage(ctx, archive)
	uploadErr := a.stage(ctx, upload)
	if err == nil {
		err = archiveErr
	}
	if err == nil {
		err = uploadErr
	}
	if cleanupErr := a.stage(ctx, script.CleanupFiles); cleanupErr != nil {
		a.t.warn(fmt.Sprintf("error while executing file based variables removal script: %v", cleanupErr))
	}
	return err
}

// stage runs one script, unless the job is over or the stage has nothing to do.
func (a *attempt) stage(ctx context.Context, name string) error {
	if ctx.Err() != nil {
		return cause(ctx)
	}
	defer a.warnTimeout(ctx, name)
	text, ok, err := a.b.scripts().Generate(name)
	if err != nil || !ok {
		return err
	}
	return a.t.log.Section(name, func() error {
		a.t.log.Title(title(name))
		return a.runScript(ctx, driverName(name), text)
	})
}

// driverName is the name under which the driver gets to know a stage.
func driverName(stage string) string {
	if stage == script.StepScript {
		return "build_script"
	}
	return stage
}

// title is the headline of a stage in the log.
func title(stage string) string {
	titles := map[string]string{
		script.Prepare:           "Preparing environment",
		script.GetSources:        "Getting source from Git repository",
		script.ClearWorktree:     "Deleting all tracked and untracked files due to source fetch failure",
		script.RestoreCache:      "Restoring cache",
		script.DownloadArtifacts: "Downloading artifacts",
		script.AfterScript:       "Running after_script",
		script.ArchiveCache:      "Saving cache for successful job",
		script.ArchiveCacheFail:  "Saving cache for failed job",
		script.UploadOnSuccess:   "Uploading artifacts for successful job",
		script.UploadOnFailure:   "Uploading artifacts for failed job",
		script.CleanupFiles:      "Cleaning up project directory and file based variables",
	}
	if text, ok := titles[stage]; ok {
		return text
	}
	return fmt.Sprintf("Executing %q stage of the job script", stage)
}

func (a *attempt) warnTimeout(ctx context.Context, stage string) {
	if c := context.Cause(ctx); errors.Is(c, errTimeout) || errors.Is(c, errScriptTimeout) {
		a.t.log.Warning(stage + " could not run to completion because the timeout was exceeded. For more control over job and script timeouts see: " +
			"https://docs.gitlab.com/ci/runners/configure_runners/#set-script-and-after_script-timeouts")
	}
}

// repeat runs a stage up to as many times as a variable of the job says. Any failure counts, also one of the script.
func (a *attempt) repeat(ctx context.Context, stage, variable string) error {
	attempts := min(max(a.b.variables().Int(variable, 1), 1), 10)
	delay := a.t.opts.StageRetryDelay
	for n := 1; ; n++ {
		var err error
		if n == 2 && stage == script.GetSources {
			err = a.stage(ctx, script.ClearWorktree)
		}
		if err == nil {
			err = a.stage(ctx, stage)
		}
		if err == nil || n == attempts {
			return err
		}
		a.t.log.Warning("Retrying...")
		if wait.For(ctx, delay) != nil {
			return cause(ctx)
		}
		delay = min(2*delay, maxStageRetryDelay)
	}
}

// userScripts runs the user's script and its after_script. From here on a soft cancel ends only the script.
func (a *attempt) userScripts(ctx context.Context) error {
	scriptTimeout := a.timeoutVariable("RUNNER_SCRIPT_TIMEOUT", 0)
	afterTimeout := a.timeoutVariable("RUNNER_AFTER_SCRIPT_TIMEOUT", afterScriptTimeout)
	scriptCtx, cancel := limited(ctx, scriptTimeout)
	defer cancel(nil)
	a.t.setCancel(cancel)
	err := a.stage(scriptCtx, script.StepScript)
	a.t.setCancel(nil)
	if ctx.Err() == nil && scriptCtx.Err() != nil {
		if errors.Is(context.Cause(scriptCtx), errScriptTimeout) {
			err = &jobError{inner: fmt.Errorf("%w: %w", errScriptTimeout, context.DeadlineExceeded), reason: JobExecutionTimeout}
		} else {
			err = &jobError{inner: errCanceled, reason: JobCanceled}
			a.t.log.Warning("script canceled externally (UI, API)")
		}
	}
	status, _ := state(err, a.t.timeout())
	a.b.setStatus(status)
	afterCtx, cancelAfter := limited(ctx, afterTimeout)
	defer cancelAfter(nil)
	afterErr := a.stage(afterCtx, script.AfterScript)
	switch {
	case afterErr == nil, errors.Is(context.Cause(ctx), errTimeout):
	case a.b.variables().Bool("AFTER_SCRIPT_IGNORE_ERRORS", true):
		a.t.log.Warning(fmt.Sprintf("after_script failed, but job will continue unaffected: %v", afterErr))
	case err == nil:
		err = afterErr
	}
	return err
}

// limited returns a context that ends after d (0: never) with errScriptTimeout as its cause.
func limited(parent context.Context, d time.Duration) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	if d > 0 {
		timer := time.AfterFunc(d, func() { cancel(errScriptTimeout) })
		context.AfterFunc(ctx, func() { timer.Stop() })
	}
	return ctx, cancel
}

// timeoutVariable reads a duration as the user wrote it.
//
// Source: https://docs.gitlab.com/ci/runners/configure_runners/#set-script-and-after_script-timeouts
func (a *attempt) timeoutVariable(key string, otherwise time.Duration) time.Duration {
	value := a.b.variables().Value(key)
	if value == "" {
		return otherwise
	}
	d, err := time.ParseDuration(value)
	switch {
	case err != nil:
		a.t.log.Warning(fmt.Sprintf("Ignoring malformed %s timeout: %v", key, value))
	case d < 0:
		a.t.log.Warning(fmt.Sprintf("Ignoring relative %s timeout: %v", key, value))
	case d > a.t.timeout():
		a.t.log.Warning(fmt.Sprintf("%s timeout: %v is longer than job timeout. Setting to job timeout", key, value))
	case d > 0:
		return d
	}
	return otherwise
}
