package trial

import (
	"strings"
	"testing"
)

func TestExitCodes(t *testing.T) {
	tests := []struct {
		name, script string
		reason       FailureReason
		toGitLab     int    // the exit code GitLab is told
		exit         int    // the exit code of the trial
		says         string // the end of the job's log
	}{
		{"0", "exit 0", "", 0, 0, "Job succeeded"},
		{"1 without a file", "uncode; exit 1", ScriptFailure, 1, 1, "ERROR: Job failed: exit status 1"},
		{"1 with 42", `code "42"; exit 1`, ScriptFailure, 42, 42, "ERROR: Job failed: exit status 42"},
		{"1 with 42 and a line break", `code "42\n"; exit 1`, ScriptFailure, 42, 42, "ERROR: Job failed: exit status 42"},
		{"1 with 42 and CRLF", `code "42\r\n7"; exit 1`, ScriptFailure, 42, 42, "ERROR: Job failed: exit status 42"},
		{"1 with 137", `code "137"; exit 1`, ScriptFailure, 137, 137, "ERROR: Job failed: exit status 137"},
		{"1 with 0", `code "0"; exit 1`, ScriptFailure, 0, 1, "ERROR: Job failed: exit status 0"},
		{"1 with 256", `code "256"; exit 1`, ScriptFailure, 256, 1, "ERROR: Job failed: exit status 256"},
		{"1 with -1", `code "-1"; exit 1`, ScriptFailure, -1, 1, "ERROR: Job failed: exit status -1"},
		{"1 with a space", `code "42 "; exit 1`, RunnerSystemFailure, 0, ExitSystem,
			"ERROR: Job failed (system failure): unknown Custom executor executable exit code 2; executable execution terminated with: exit status 1"},
		{"1 with nothing", `code ""; exit 1`, RunnerSystemFailure, 0, ExitSystem,
			"ERROR: Job failed (system failure): unknown Custom executor executable exit code 2; executable execution terminated with: exit status 1"},
		{"1 with junk", `code "junk\n42"; exit 1`, RunnerSystemFailure, 0, ExitSystem,
			"ERROR: Job failed (system failure): unknown Custom executor executable exit code 2; executable execution terminated with: exit status 1"},
		{"0 with a file", `code "42"; exit 0`, "", 0, 0, "Job succeeded"},
		{"2", "exit 2", RunnerSystemFailure, 0, ExitSystem, "ERROR: Job failed (system failure): exit status 2"},
		{"2 with a file", `code "42"; exit 2`, RunnerSystemFailure, 0, ExitSystem, "ERROR: Job failed (system failure): exit status 2"},
		{"3", "exit 3", RunnerSystemFailure, 0, ExitSystem,
			"ERROR: Job failed (system failure): unknown Custom executor executable exit code 3; executable execution terminated with: exit status 3"},
		{"255", "exit 255", RunnerSystemFailure, 0, ExitSystem,
			"ERROR: Job failed (system failure): unknown Custom executor executable exit code 255; executable execution terminated with: exit status 255"},
		{"killed", "kill", RunnerSystemFailure, 0, ExitSystem,
			"ERROR: Job failed (system failure): unknown Custom executor executable exit code -1; executable execution terminated with: signal: killed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newBench(t, "build_script", tt.script).run()
			if r.FailureReason != tt.reason || r.ScriptExitCode != tt.toGitLab || r.ExitCode != tt.exit {
				t.Errorf("%q, GitLab is told %d, exit %d (%v)", r.FailureReason, r.ScriptExitCode, r.ExitCode, r.Err)
			}
			lines := strings.Split(strings.TrimSpace(string(r.Log)), "\n")
			if last := plain(lines[len(lines)-1]); last != tt.says {
				t.Errorf("the log ends with %q, want %q", last, tt.says)
			}
			if want := map[bool]Status{true: Success, false: Failed}[tt.reason == ""]; r.Status != want {
				t.Errorf("status %q", r.Status)
			}
		})
	}
}

// plain removes the colours of GitLab Runner's messages.
func plain(s string) string {
	return strings.NewReplacer("\x1b[31;1m", "", "\x1b[32;1m", "", "\x1b[36;1m", "", "\x1b[0;33m", "", "\x1b[0;m", "", "\x1b[0K", "").Replace(s)
}

func TestExitCodeFileOfAnEarlierStageStillCounts(t *testing.T) {
	r := newBench(t, "get_sources", `code "7"; exit 0`, "build_script", "exit 1").run()
	if r.ScriptExitCode != 7 || r.ExitCode != 7 {
		t.Errorf("GitLab is told %d, exit %d (%v)", r.ScriptExitCode, r.ExitCode, r.Err)
	}
	// the file belongs to the temporary directory of the attempt
	r = newBench(t, "prepare", `code "7"; exit 2 | ok`, "build_script", "exit 1").run()
	if r.ScriptExitCode != 1 {
		t.Errorf("GitLab is told %d (%v)", r.ScriptExitCode, r.Err)
	}
}

func TestAfterScriptDoesNotChangeTheJob(t *testing.T) {
	tests := []struct {
		name          string
		script, after string
		vars          string // AFTER_SCRIPT_IGNORE_ERRORS
		exit          int
		warns         bool
	}{
		{"after_script fails", "ok", "exit 1", "", 0, true},
		{"driver fails in after_script", "ok", "exit 2", "", 0, true},
		{"both fail", `code "5"; exit 1`, `code "6"; exit 1`, "", 5, true},
		{"both fail, and both count", `code "5"; exit 1`, `code "6"; exit 1`, "false", 5, false},
		{"after_script counts", "ok", `code "6"; exit 1`, "false", 6, false},
		{"nothing fails", "ok", "ok", "false", 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, "build_script", tt.script, "after_script", tt.after)
			b.job.AfterScript = []string{"true"}
			if tt.vars != "" {
				b.job.Variables = append(b.job.Variables, variable("AFTER_SCRIPT_IGNORE_ERRORS", tt.vars))
			}
			r := b.run()
			if r.ExitCode != tt.exit {
				t.Errorf("exit %d, want %d (%v)", r.ExitCode, tt.exit, r.Err)
			}
			if got := strings.Contains(string(r.Log), "after_script failed, but job will continue unaffected"); got != tt.warns {
				t.Errorf("warns: %v\n%s", got, r.Log)
			}
		})
	}
}

func TestJobStatusInLaterStages(t *testing.T) {
	tests := []struct {
		name   string
		plans  []string
		status map[string]string
	}{
		{"success", nil, map[string]string{"config": "running", "prepare": "running", "build_script": "running", "after_script": "success", "cleanup_file_variables": "success", "cleanup": "success"}},
		{"script failure", []string{"build_script", "exit 1"}, map[string]string{"after_script": "failed", "cleanup": "failed"}},
		{"driver failure", []string{"build_script", "exit 2"}, map[string]string{"after_script": "failed", "cleanup": "failed"}},
		{"no script was reached", []string{"get_sources", "exit 1"}, map[string]string{"cleanup_file_variables": "running", "cleanup": "running"}},
		{"not prepared", []string{"prepare", "exit 2"}, map[string]string{"cleanup": "running"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, tt.plans...)
			b.job.AfterScript = []string{"true"}
			r := b.run()
			for stage, want := range tt.status {
				if got, _ := r.Stage(stage).Getenv("CUSTOM_ENV_CI_JOB_STATUS"); got != want {
					t.Errorf("%s: %q, want %q", stage, got, want)
				}
			}
		})
	}
}
