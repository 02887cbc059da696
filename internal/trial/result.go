package trial

import (
	"errors"
	"time"
)

// FailureReason is GitLab's word for why a job failed.
//
// Source: https://docs.gitlab.com/ci/jobs/job_troubleshooting/ and https://docs.gitlab.com/ci/yaml/#retrywhen
type FailureReason string

// Reasons that a job with a Custom executor can have.
const (
	ScriptFailure       FailureReason = "script_failure"
	RunnerSystemFailure FailureReason = "runner_system_failure"
	JobExecutionTimeout FailureReason = "job_execution_timeout"
	ConfigurationError  FailureReason = "runner_configuration_error"
	JobCanceled         FailureReason = "job_canceled"
)

// Status is how a job ended.
type Status string

// The ends of a job.
const (
	Success  Status = "success"
	Failed   Status = "failed"
	Canceled Status = "canceled"
)

// Exit codes of a trial as a whole. A script failure has the exit code of the script, which may be the same number; the log tells.
const (
	// ExitTimeout means that the job or its script took too long.
	ExitTimeout = 124
	// ExitSystem means that the driver or its configuration failed.
	ExitSystem = 125
	// ExitCanceled means that the job was canceled.
	ExitCanceled = 130
)

// Result is what became of a job.
type Result struct {
	JobID int64
	// Status is how it ended, FailureReason why it failed ("" on success), Err what GitLab Runner says about it.
	Status        Status
	FailureReason FailureReason
	Err           error
	// ScriptExitCode is the exit code that GitLab would be told, for allow_failure:exit_codes and retry:exit_codes; 0 for none.
	ScriptExitCode int
	// ExitCode is the exit code for the trial as a whole.
	ExitCode int
	// Stages are all processes in the order in which they ended.
	Stages []StageResult
	// PrepareAttempts is how often the driver was asked to prepare.
	PrepareAttempts int
	// Duration is the time from the start to the end of cleanup.
	Duration time.Duration
	// Log is the job's log (Capture).
	Log []byte
}

// StageResult is what one process of the driver did.
type StageResult struct {
	// Name is "config", "prepare", "cleanup", or the name that was given to run.
	Name string
	// Attempt is the number of the Prepare attempt, counted from 1.
	Attempt int
	// Argv is the command, TempDir its TMPDIR.
	Argv    []string
	TempDir string
	// PID is the process, 0 where it could not be started.
	PID int
	// ExitCode is the exit status of the process, -1 where a signal ended it or it could not be started or killed.
	ExitCode int
	// Err is what GitLab Runner makes of the end; nil for success.
	Err      error
	Started  time.Time
	Duration time.Duration
	// Environ, Stdout, Stderr and Script are there if Capture was asked for. Script is what the stage was told to run.
	Environ        []string
	Stdout, Stderr []byte
	Script         []byte
}

// Names returns the names of the stages in their order.
func (r *Result) Names() []string {
	var names []string
	for _, s := range r.Stages {
		names = append(names, s.Name)
	}
	return names
}

// Stage returns the last stage of that name, or nil.
func (r *Result) Stage(name string) *StageResult {
	for i := len(r.Stages) - 1; i >= 0; i-- {
		if r.Stages[i].Name == name {
			return &r.Stages[i]
		}
	}
	return nil
}

// Getenv returns the value of a variable in the environment of the stage; as for the process itself, the last one counts.
func (s *StageResult) Getenv(key string) (string, bool) {
	for i := len(s.Environ) - 1; i >= 0; i-- {
		if e := s.Environ[i]; len(e) > len(key) && e[:len(key)] == key && e[len(key)] == '=' {
			return e[len(key)+1:], true
		}
	}
	return "", false
}

// conclude fills in how the job ended.
func (r *Result) conclude(err error) {
	r.Err, r.Status = err, Success
	if err == nil {
		return
	}
	r.Status, r.FailureReason, r.ExitCode = Failed, RunnerSystemFailure, ExitSystem
	var job *jobError
	if !errors.As(err, &job) {
		return
	}
	r.FailureReason, r.ScriptExitCode = job.reason, job.exitCode
	switch job.reason {
	case JobCanceled:
		r.Status, r.ExitCode = Canceled, ExitCanceled
	case JobExecutionTimeout:
		r.ExitCode = ExitTimeout
	case ScriptFailure:
		// a number outside of what a process can return must not look like success
		if r.ExitCode = job.exitCode; job.exitCode < 1 || job.exitCode > 255 {
			r.ExitCode = 1
		}
	}
}
