package trial

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"gitlab-runner-tart-driver/internal/trial/script"
)

func TestOrderOfStages(t *testing.T) {
	full := func(b *bench) {
		b.job.AfterScript = []string{"true"}
		b.job.Cache = []script.Cache{{Key: "k", Paths: []string{"p"}, When: "always"}}
		b.job.Artifacts = []script.Artifact{{Paths: []string{"p"}, When: "always"}}
		b.job.Dependencies = []script.Dependency{{ID: 1, Name: "d", ArtifactsFile: script.DependencyFile{Filename: "a.zip"}}}
	}
	none := func(*bench) {}
	tests := []struct {
		name   string
		plans  []string
		job    func(*bench)
		want   string
		reason FailureReason
	}{
		{"a small job", nil, none, "config prepare prepare_script get_sources build_script cleanup_file_variables cleanup", ""},
		{"everything", nil, full, "config prepare prepare_script get_sources restore_cache download_artifacts build_script after_script archive_cache upload_artifacts_on_success cleanup_file_variables cleanup", ""},
		{"script fails", []string{"build_script", "exit 1"}, full,
			"config prepare prepare_script get_sources restore_cache download_artifacts build_script after_script archive_cache_on_failure upload_artifacts_on_failure cleanup_file_variables cleanup", ScriptFailure},
		{"driver fails in the script", []string{"build_script", "exit 2"}, full,
			"config prepare prepare_script get_sources restore_cache download_artifacts build_script after_script archive_cache_on_failure upload_artifacts_on_failure cleanup_file_variables cleanup", RunnerSystemFailure},
		{"prepare_script fails", []string{"prepare_script", "exit 1"}, full, "config prepare prepare_script cleanup", ScriptFailure},
		{"get_sources fails", []string{"get_sources", "exit 1"}, full,
			"config prepare prepare_script get_sources archive_cache_on_failure upload_artifacts_on_failure cleanup_file_variables cleanup", ScriptFailure},
		{"restore_cache fails", []string{"restore_cache", "exit 2"}, full,
			"config prepare prepare_script get_sources restore_cache archive_cache_on_failure upload_artifacts_on_failure cleanup_file_variables cleanup", RunnerSystemFailure},
		{"download_artifacts fails", []string{"download_artifacts", "exit 1"}, none, "config prepare prepare_script get_sources build_script cleanup_file_variables cleanup", ""},
		{"archive_cache fails a green job", []string{"archive_cache", "exit 1"}, full,
			"config prepare prepare_script get_sources restore_cache download_artifacts build_script after_script archive_cache upload_artifacts_on_success cleanup_file_variables cleanup", ScriptFailure},
		{"upload_artifacts fails a green job", []string{"upload_artifacts_on_success", "exit 2"}, full,
			"config prepare prepare_script get_sources restore_cache download_artifacts build_script after_script archive_cache upload_artifacts_on_success cleanup_file_variables cleanup", RunnerSystemFailure},
		{"the ends do not matter", []string{"cleanup_file_variables", "exit 2", "cleanup", "exit 3"}, none,
			"config prepare prepare_script get_sources build_script cleanup_file_variables cleanup", ""},
		{"get_sources again", []string{"get_sources", "exit 1 | exit 2 | ok"}, func(b *bench) {
			b.job.Variables = append(b.job.Variables, variable("GET_SOURCES_ATTEMPTS", "3"))
		}, "config prepare prepare_script get_sources clear_worktree get_sources get_sources build_script cleanup_file_variables cleanup", ""},
		{"get_sources again and again", []string{"get_sources", "exit 1"}, func(b *bench) {
			b.job.Variables = append(b.job.Variables, variable("GET_SOURCES_ATTEMPTS", "99"))
		}, "config prepare prepare_script get_sources clear_worktree" + strings.Repeat(" get_sources", 9) + " cleanup_file_variables cleanup", ScriptFailure},
		{"clear_worktree fails", []string{"get_sources", "exit 1", "clear_worktree", "exit 1"}, func(b *bench) {
			b.job.Variables = append(b.job.Variables, variable("GET_SOURCES_ATTEMPTS", "2"))
		}, "config prepare prepare_script get_sources clear_worktree cleanup_file_variables cleanup", ScriptFailure},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, tt.plans...)
			tt.job(b)
			r := b.run()
			if got := strings.Join(r.Names(), " "); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if r.FailureReason != tt.reason {
				t.Errorf("failed with %q (%v), want %q", r.FailureReason, r.Err, tt.reason)
			}
		})
	}
}

// TestStartedComesBeforeOutput has a stage whose output is there before the test has heard of its process.
func TestStartedComesBeforeOutput(t *testing.T) {
	b := newBench(t)
	written := filepath.Join(b.dir, "written")
	b.opts.Environ = append(b.opts.Environ, "FAKE_prepare=out early; facts "+written)
	var heard atomic.Bool
	b.opts.Hooks.Started = func(_ *Trial, p Process) {
		for _, err := os.Stat(written); p.Stage == StagePrepare && err != nil; _, err = os.Stat(written) {
			runtime.Gosched()
		}
		heard.Store(p.Stage == StagePrepare)
	}
	b.opts.Hooks.Output = func(_ *Trial, stage string, _ Stream, data []byte) {
		if stage == StagePrepare && !heard.Load() {
			t.Errorf("%q comes before its process", data)
		}
	}
	if r := b.run(); string(r.Stage(StagePrepare).Stdout) != "early" {
		t.Errorf("prepare says %q", r.Stage(StagePrepare).Stdout)
	}
}

func TestPrepareAttempts(t *testing.T) {
	const scripts = " prepare_script get_sources build_script cleanup_file_variables cleanup"
	tests := []struct {
		name     string
		plans    []string
		want     string
		attempts int
		reason   FailureReason
		exit     int
	}{
		{"second try", []string{"prepare", "exit 2 | ok"}, "config prepare cleanup config prepare" + scripts, 2, "", 0},
		{"third try", []string{"prepare", "exit 3 | kill | ok"}, "config prepare cleanup config prepare cleanup config prepare" + scripts, 3, "", 0},
		{"never", []string{"prepare", "exit 2"}, "config prepare cleanup config prepare cleanup config prepare cleanup", 3, RunnerSystemFailure, ExitSystem},
		{"build failure is final", []string{"prepare", "exit 1"}, "config prepare cleanup", 1, ScriptFailure, 1},
		{"build failure with a code", []string{"prepare", `code "42\n"; exit 1`}, "config prepare cleanup", 1, ScriptFailure, 42},
		{"junk in the file", []string{"prepare", `code "42 "; exit 1`}, "config prepare cleanup config prepare cleanup config prepare cleanup", 3, RunnerSystemFailure, ExitSystem},
		{"config fails", []string{"config", "exit 2"}, "config cleanup config cleanup config cleanup", 3, RunnerSystemFailure, ExitSystem},
		{"config says no", []string{"config", "exit 1"}, "config cleanup", 1, ScriptFailure, 1},
		{"config prints prose", []string{"config", "out hello"}, "config cleanup config cleanup config cleanup", 3, RunnerSystemFailure, ExitSystem},
		{"config prints a line break", []string{"config", "out \n"}, "config cleanup config cleanup config cleanup", 3, RunnerSystemFailure, ExitSystem},
		{"config prints more than JSON", []string{"config", "out {}; out x"}, "config cleanup config cleanup config cleanup", 3, RunnerSystemFailure, ExitSystem},
		{"no builds_dir", []string{"config", "ok"}, "config cleanup", 1, ConfigurationError, ExitSystem},
		{"empty builds_dir", []string{"config", `out {"builds_dir":"","cache_dir":"/c"}`}, "config cleanup", 1, ConfigurationError, ExitSystem},
		{"no cache_dir", []string{"config", `out {"builds_dir":"/b"}`}, "config cleanup", 1, ConfigurationError, ExitSystem},
		{"zsh is no shell of GitLab Runner", []string{"config", `out {"builds_dir":"/b","cache_dir":"/c","shell":"zsh"}`}, "config cleanup config cleanup config cleanup", 3, RunnerSystemFailure, ExitSystem},
		{"pwsh can't be written", []string{"config", `out {"builds_dir":"/b","cache_dir":"/c","shell":"pwsh"}`}, "config cleanup", 1, ConfigurationError, ExitSystem},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, tt.plans...)
			r := b.run()
			if got := strings.Join(r.Names(), " "); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if r.PrepareAttempts != tt.attempts || r.FailureReason != tt.reason || r.ExitCode != tt.exit {
				t.Errorf("%d attempts, %q, exit %d (%v)", r.PrepareAttempts, r.FailureReason, r.ExitCode, r.Err)
			}
			temps := map[string]bool{}
			for _, s := range r.Stages {
				temps[s.TempDir] = true
			}
			if len(temps) != tt.attempts {
				t.Errorf("%d temporary directories for %d attempts", len(temps), tt.attempts)
			}
		})
	}
}

func TestRetriesAreAnnounced(t *testing.T) {
	b := newBench(t, "prepare", "exit 2")
	r := b.run()
	log := string(r.Log)
	if n := strings.Count(log, "\x1b[31;1mERROR: Preparation failed: exit status 2\x1b[0;m\n\x1b[32;1mWill be retried in 1ns ...\x1b[0;m\n"); n != 3 {
		t.Errorf("announced %d times:\n%s", n, log)
	}
	if !strings.HasSuffix(log, "\x1b[31;1mERROR: Job failed (system failure): exit status 2\x1b[0;m\n") || b.out.String() != log {
		t.Errorf("log:\n%s", log)
	}
}

func TestWithoutOptionalStages(t *testing.T) {
	b := newBench(t)
	b.opts.Driver.Config, b.opts.Driver.Prepare, b.opts.Driver.Cleanup = Exec{}, Exec{}, Exec{}
	b.opts.BuildsDir, b.opts.CacheDir = b.dir+"/b", b.dir+"/c"
	r := b.run()
	if want := []string{"prepare_script", "get_sources", "build_script", "cleanup_file_variables"}; !slices.Equal(r.Names(), want) || r.Status != Success {
		t.Errorf("got %v %v", r.Names(), r.Err)
	}
}

func TestDriverThatCannotStart(t *testing.T) {
	b := newBench(t)
	b.opts.Driver = SelfDriver(b.dir + "/none")
	r := b.run()
	if r.PrepareAttempts != 3 || r.FailureReason != RunnerSystemFailure || !strings.Contains(r.Err.Error(), "failed to start command") {
		t.Errorf("%d %q %v", r.PrepareAttempts, r.FailureReason, r.Err)
	}
	if s := r.Stages[0]; s.PID != 0 || s.ExitCode != -1 {
		t.Errorf("got %+v", s)
	}
	if !strings.Contains(b.errs.String(), "Cleanup script failed") {
		t.Errorf("stderr: %s", b.errs.String())
	}
}

func TestJobsThatMakeNoSense(t *testing.T) {
	for name, change := range map[string]func(*bench){
		"no run stage":          func(b *bench) { b.opts.Driver.Run = Exec{} },
		"no script":             func(b *bench) { b.job.Script = nil },
		"NUL in a variable":     func(b *bench) { b.job.Variables = append(b.job.Variables, variable("A", "a\x00b")) },
		"no name of a variable": func(b *bench) { b.job.Variables = append(b.job.Variables, variable("", "x")) },
		"NUL in the script":     func(b *bench) { b.job.Script = []string{"a\x00b"} },
		"circular variables":    func(b *bench) { b.job.Variables = append(b.job.Variables, variable("A", "$B"), variable("B", "$A")) },
	} {
		b := newBench(t)
		change(b)
		if r, err := Run(t.Context(), b.job, b.opts); err == nil {
			t.Errorf("%s: ran %v", name, r.Names())
		}
	}
}

func TestErrorsKeepTheirCause(t *testing.T) {
	b := newBench(t, "prepare_script", "exit 1")
	r := b.run()
	var job *jobError
	if !errors.As(r.Err, &job) || !strings.HasPrefix(r.Err.Error(), "prepare environment: exit status 1. Check https://docs.gitlab.com/runner/shells/") {
		t.Errorf("got %v", r.Err)
	}
}
