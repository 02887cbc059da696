package trial

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gitlab-runner-tart-driver/internal/trial/script"
)

// anHour is a timeout that a test must not reach.
const anHour = time.Hour

func TestSoftCancelWhileTheScriptRuns(t *testing.T) {
	for _, code := range []string{"0", "1", "2", "143"} {
		t.Run("driver exits "+code, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, "build_script", "hang "+code)
			b.opts.GracefulKillTimeout = anHour
			b.job.AfterScript = []string{"true"}
			b.job.Cache = []script.Cache{{Key: "k", Paths: []string{"p"}, When: "always"}}
			var first, second bool
			b.onReady("build_script", func(t *Trial) { first, second = t.Cancel(), t.Cancel() })
			r := b.run()
			want := []string{"config", "prepare", "prepare_script", "get_sources", "restore_cache", "build_script", "after_script", "archive_cache_on_failure", "cleanup_file_variables", "cleanup"}
			if !slices.Equal(r.Names(), want) || !first || second {
				t.Errorf("%v, canceled %v %v", r.Names(), first, second)
			}
			if r.Status != Canceled || r.FailureReason != JobCanceled || r.ExitCode != ExitCanceled || r.ScriptExitCode != 0 {
				t.Errorf("%q %q exit %d", r.Status, r.FailureReason, r.ExitCode)
			}
			if out := string(r.Stage("build_script").Stdout); out != "ready\ngot terminated\n" {
				t.Errorf("the driver saw %q", out)
			}
			for _, stage := range []string{"after_script", "cleanup_file_variables", "cleanup"} {
				if got, _ := r.Stage(stage).Getenv("CUSTOM_ENV_CI_JOB_STATUS"); got != "canceled" {
					t.Errorf("%s: CI_JOB_STATUS is %q", stage, got)
				}
			}
			log := plain(string(r.Log))
			if !strings.Contains(log, "WARNING: script canceled externally (UI, API)\n") || !strings.HasSuffix(log, "ERROR: Job failed: canceled\n") {
				t.Errorf("log:\n%s", log)
			}
		})
	}
}

func TestSoftCancelBeforeTheScriptAborts(t *testing.T) {
	tests := []struct {
		stage, want string
	}{
		{"config", "config cleanup"},
		{"prepare", "config prepare cleanup"},
		{"prepare_script", "config prepare prepare_script cleanup"},
		{"get_sources", "config prepare prepare_script get_sources cleanup"},
	}
	for _, tt := range tests {
		t.Run(tt.stage, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, tt.stage, "hang 2")
			b.opts.GracefulKillTimeout = anHour
			b.job.AfterScript = []string{"true"}
			b.onReady(tt.stage, func(t *Trial) { t.Cancel() })
			r := b.run()
			if got := strings.Join(r.Names(), " "); got != tt.want {
				t.Errorf("got %s", got)
			}
			if r.FailureReason != JobCanceled || r.ExitCode != ExitCanceled {
				t.Errorf("%q exit %d (%v)", r.FailureReason, r.ExitCode, r.Err)
			}
			if got, _ := r.Stage("cleanup").Getenv("CUSTOM_ENV_CI_JOB_STATUS"); got != "running" {
				t.Errorf("CI_JOB_STATUS is %q", got)
			}
		})
	}
}

func TestCancelAtTheVeryBeginning(t *testing.T) {
	b := newBench(t, "config", "hang 2")
	b.opts.GracefulKillTimeout = anHour
	trial, err := Start(t.Context(), b.job, b.opts)
	if err != nil {
		t.Fatal(err)
	}
	if !trial.Cancel() {
		t.Error("the cancel was lost")
	}
	if r := trial.Wait(); r.FailureReason != JobCanceled {
		t.Errorf("%q (%v)", r.FailureReason, r.Err)
	}
}

func TestExitZeroOnTermInPrepareStillAborts(t *testing.T) {
	b := newBench(t, "prepare", "hang 0")
	b.opts.GracefulKillTimeout = anHour
	b.onReady("prepare", func(t *Trial) { t.Cancel() })
	r := b.run()
	if got := strings.Join(r.Names(), " "); got != "config prepare cleanup" || r.FailureReason != JobCanceled {
		t.Errorf("%s, %q (%v)", got, r.FailureReason, r.Err)
	}
	// a build failure while the job is being aborted is still a build failure
	b = newBench(t, "prepare", "hang 1")
	b.opts.GracefulKillTimeout = anHour
	b.onReady("prepare", func(t *Trial) { t.Cancel() })
	if r := b.run(); r.FailureReason != ScriptFailure {
		t.Errorf("%q (%v)", r.FailureReason, r.Err)
	}
}

func TestCancelBehindTheScriptDoesNothing(t *testing.T) {
	b := newBench(t, "after_script", "hang 0")
	b.job.AfterScript = []string{"true"}
	canceled := true
	b.onReady("after_script", func(t *Trial) {
		canceled = t.Cancel()
		b.signal(syscall.SIGTERM) // nobody else will
	})
	r := b.run()
	if canceled || r.Status != Success {
		t.Errorf("canceled %v, %q (%v)", canceled, r.Status, r.Err)
	}
}

func TestAbort(t *testing.T) {
	tests := []struct {
		stage, code, want, status string
	}{
		{"prepare", "2", "config prepare cleanup", "running"},
		{"get_sources", "2", "config prepare prepare_script get_sources cleanup", "running"},
		{"build_script", "2", "config prepare prepare_script get_sources build_script cleanup", "failed"},
		{"build_script", "0", "config prepare prepare_script get_sources build_script cleanup", "success"},
		{"after_script", "2", "config prepare prepare_script get_sources build_script after_script cleanup", "success"},
	}
	for _, tt := range tests {
		t.Run(tt.stage+" exits "+tt.code, func(t *testing.T) {
			t.Parallel()
			for how, abort := range map[string]func(*Trial, context.CancelFunc){
				"Abort":                func(t *Trial, _ context.CancelFunc) { t.Abort() },
				"the caller's context": func(_ *Trial, cancel context.CancelFunc) { cancel() },
			} {
				b := newBench(t, tt.stage, "hang "+tt.code)
				b.opts.GracefulKillTimeout = anHour
				b.job.AfterScript = []string{"true"}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				b.onReady(tt.stage, func(t *Trial) { abort(t, cancel) })
				r, err := Run(ctx, b.job, b.opts)
				if err != nil {
					t.Fatal(err)
				}
				b.checkNothingLeft()
				if got := strings.Join(r.Names(), " "); got != tt.want {
					t.Errorf("%s: got %s", how, got)
				}
				if r.Status != Canceled || r.ExitCode != ExitCanceled || r.Stage(StageCleanup).ExitCode != 0 {
					t.Errorf("%s: %q exit %d, cleanup %v", how, r.Status, r.ExitCode, r.Stage(StageCleanup).Err)
				}
				if got, _ := r.Stage("cleanup").Getenv("CUSTOM_ENV_CI_JOB_STATUS"); got != tt.status {
					t.Errorf("%s: CI_JOB_STATUS is %q", how, got)
				}
			}
		})
	}
}

func TestSoftThenHardCancel(t *testing.T) {
	b := newBench(t, "build_script", "hang 2", "after_script", "hang 2")
	b.opts.GracefulKillTimeout = anHour
	b.job.AfterScript = []string{"true"}
	var once, twice sync.Once
	b.opts.Hooks.Output = func(t *Trial, stage string, _ Stream, data []byte) {
		if !strings.Contains(string(data), "ready") {
			return
		}
		switch stage {
		case "build_script":
			once.Do(func() { t.Cancel() })
		case "after_script":
			twice.Do(t.Abort)
		}
	}
	r := b.run()
	if got := strings.Join(r.Names(), " "); got != "config prepare prepare_script get_sources build_script after_script cleanup" || r.Status != Canceled {
		t.Errorf("%s %q", got, r.Status)
	}
}

func TestCleanupIsNotCanceled(t *testing.T) {
	b := newBench(t, "cleanup", "hang 0")
	b.onReady("cleanup", func(t *Trial) {
		t.Cancel()
		t.Abort()
		b.signal(syscall.SIGINT)
	})
	r := b.run()
	if out := string(r.Stage("cleanup").Stdout); out != "ready\ngot interrupt\n" || r.Status != Success {
		t.Errorf("cleanup saw %q; %q (%v)", out, r.Status, r.Err)
	}
	if b.errs.String() != "ready\ngot interrupt\n" || strings.Contains(string(r.Log), "ready") {
		t.Errorf("stderr %q, log %s", b.errs.String(), r.Log)
	}
}

func TestJobTimeout(t *testing.T) {
	tests := []struct {
		stage, want, status string
	}{
		{"prepare", "config prepare cleanup", "running"},
		{"build_script", "config prepare prepare_script get_sources build_script cleanup", "failed"},
	}
	for _, tt := range tests {
		t.Run(tt.stage, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, tt.stage, "hang 2")
			b.opts.GracefulKillTimeout = anHour
			b.job.AfterScript = []string{"true"}
			b.job.Timeout = 90 * time.Minute
			b.onReady(tt.stage, func(t *Trial) { t.Expire() })
			r := b.run()
			if got := strings.Join(r.Names(), " "); got != tt.want {
				t.Errorf("got %s", got)
			}
			if r.Status != Failed || r.FailureReason != JobExecutionTimeout || r.ExitCode != ExitTimeout {
				t.Errorf("%q %q exit %d", r.Status, r.FailureReason, r.ExitCode)
			}
			if log := plain(string(r.Log)); !strings.HasSuffix(log, "ERROR: Job failed: execution took longer than 1h30m0s seconds\n") {
				t.Errorf("log:\n%s", log)
			}
			for _, s := range r.Stages {
				if got, _ := s.Getenv("CUSTOM_ENV_CI_JOB_TIMEOUT"); got != "5400" {
					t.Errorf("%s: CI_JOB_TIMEOUT is %q", s.Name, got)
				}
			}
			if got, _ := r.Stage("cleanup").Getenv("CUSTOM_ENV_CI_JOB_STATUS"); got != tt.status {
				t.Errorf("CI_JOB_STATUS is %q", got)
			}
		})
	}
}

func TestTimeoutCountsByItself(t *testing.T) {
	b := newBench(t, "build_script", "hang 2")
	b.opts.GracefulKillTimeout = anHour
	b.job.Timeout = time.Second
	if r := b.run(); r.FailureReason != JobExecutionTimeout || r.ExitCode != ExitTimeout {
		t.Errorf("%q exit %d (%v)", r.FailureReason, r.ExitCode, r.Err)
	}
}

func TestScriptTimeouts(t *testing.T) {
	t.Run("RUNNER_SCRIPT_TIMEOUT", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, "build_script", "hang 2")
		b.opts.GracefulKillTimeout = anHour
		b.job.AfterScript = []string{"true"}
		b.job.Variables = append(b.job.Variables, variable("RUNNER_SCRIPT_TIMEOUT", "10ms"))
		r := b.run()
		want := []string{"config", "prepare", "prepare_script", "get_sources", "build_script", "after_script", "cleanup_file_variables", "cleanup"}
		if !slices.Equal(r.Names(), want) || r.FailureReason != JobExecutionTimeout || r.ExitCode != ExitTimeout {
			t.Errorf("%v %q (%v)", r.Names(), r.FailureReason, r.Err)
		}
		if got, _ := r.Stage("after_script").Getenv("CUSTOM_ENV_CI_JOB_STATUS"); got != "timedout" {
			t.Errorf("CI_JOB_STATUS is %q", got)
		}
		if log := plain(string(r.Log)); !strings.Contains(log, "WARNING: step_script could not run to completion because the timeout was exceeded.") {
			t.Errorf("log:\n%s", log)
		}
	})
	t.Run("RUNNER_AFTER_SCRIPT_TIMEOUT", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, "after_script", "hang 2")
		b.opts.GracefulKillTimeout = anHour
		b.job.AfterScript = []string{"true"}
		b.job.Variables = append(b.job.Variables, variable("RUNNER_AFTER_SCRIPT_TIMEOUT", "10ms"))
		r := b.run()
		if r.Status != Success || r.Stage("after_script").Err == nil || r.Stage("cleanup_file_variables") == nil {
			t.Errorf("%v %q (%v)", r.Names(), r.Status, r.Err)
		}
	})
	t.Run("values that make no sense", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		b.job.Variables = append(b.job.Variables, variable("RUNNER_SCRIPT_TIMEOUT", "soon"), variable("RUNNER_AFTER_SCRIPT_TIMEOUT", "-1s"))
		r := b.run()
		log := plain(string(r.Log))
		if r.Status != Success || !strings.Contains(log, "Ignoring malformed RUNNER_SCRIPT_TIMEOUT timeout: soon") || !strings.Contains(log, "Ignoring relative RUNNER_AFTER_SCRIPT_TIMEOUT timeout: -1s") {
			t.Errorf("%v\n%s", r.Err, log)
		}
	})
}

func TestExecTimeouts(t *testing.T) {
	// What a driver makes of SIGTERM decides: exit 0 in prepare lets the job go on. The timeout itself can't be used here, because SIGTERM
	// must not come before the driver can catch it.
	for code, want := range map[string]string{
		"0": "config prepare prepare_script get_sources build_script cleanup_file_variables cleanup",
		"2": "config prepare cleanup config prepare cleanup config prepare cleanup",
	} {
		b := newBench(t, "prepare", "hang "+code)
		b.opts.Hooks.Output = func(_ *Trial, stage string, _ Stream, data []byte) {
			if stage == StagePrepare && strings.Contains(string(data), "ready") {
				b.signal(syscall.SIGTERM)
			}
		}
		if got := strings.Join(b.run().Names(), " "); got != want {
			t.Errorf("exit %s: got %s", code, got)
		}
	}
	b := newBench(t, "config", "hang 2", "cleanup", "hang 2")
	b.opts.ConfigTimeout, b.opts.CleanupTimeout = 10*time.Millisecond, 10*time.Millisecond
	if r := b.run(); r.PrepareAttempts != 3 || r.FailureReason != RunnerSystemFailure || strings.Count(b.errs.String(), "Cleanup script failed") != 3 {
		t.Errorf("%d attempts, %q, %s", r.PrepareAttempts, r.FailureReason, b.errs.String())
	}
}

func TestSigkillFollowsSigterm(t *testing.T) {
	b := newBench(t, "build_script", "hang never")
	b.opts.GracefulKillTimeout = time.Millisecond
	b.onReady("build_script", func(t *Trial) { t.Cancel() })
	r := b.run()
	s := r.Stage("build_script")
	if s.ExitCode != -1 || !strings.Contains(s.Err.Error(), "signal: killed") || r.Status != Canceled {
		t.Errorf("exit %d (%v), %q", s.ExitCode, s.Err, r.Status)
	}
	if err := syscall.Kill(s.PID, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the process is still there: %v", err)
	}
}

func TestSignalsReachTheWholeProcessGroup(t *testing.T) {
	b := newBench(t)
	fifo, _ := b.fifo() // nobody lets the process go: the signal has to
	b.opts.Environ = append(b.opts.Environ, "FAKE_build_script=leave-in-group "+fifo+"; hang 2")
	b.opts.GracefulKillTimeout = anHour
	b.onReady("build_script", func(t *Trial) { t.Cancel() })
	if s := b.run().Stage("build_script"); s.ExitCode != 2 {
		t.Errorf("exit %d (%v)", s.ExitCode, s.Err)
	}
}
