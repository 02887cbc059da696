package job

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
)

// Failure is an error that knows whose fault it is and what to do about it.
type Failure struct {
	// Job blames the job or the operator's settings, so that trying again is no use. Otherwise the infrastructure is to blame.
	Job bool
	Err error
	// Hint says what to do next; may be empty.
	Hint string
}

func (f *Failure) Error() string { return f.Err.Error() }

func (f *Failure) Unwrap() error { return f.Err }

// Mistake is a failure that the job, or the operator's settings, must answer for.
func Mistake(err error, hint string, args ...any) *Failure {
	return &Failure{Job: true, Err: err, Hint: fmt.Sprintf(hint, args...)}
}

// Infrastructure is a failure of the host, the network, Tart or the VM.
func Infrastructure(err error, hint string, args ...any) *Failure {
	return &Failure{Err: err, Hint: fmt.Sprintf(hint, args...)}
}

// ScriptError is the exit status of a job's script that failed. There is nothing to say about it: the script's output did.
type ScriptError struct {
	// Code is 1 to 255; 128+n for a script that signal n ended.
	Code int
}

func (e *ScriptError) Error() string { return fmt.Sprintf("script exited with status %d", e.Code) }

// Clear removes the script exit code of an earlier stage, which GitLab Runner would take for this one's: it is never deleted and
// has the same path in every stage.
func (c ExitCodes) Clear() error {
	if c.File == "" {
		return nil
	}
	if err := os.Remove(c.File); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the exit code of an earlier stage: %w", err)
	}
	return nil
}

// Of is the exit code for a stage that ended with err. A script's own code goes into the file, bare, as GitLab Runner reads it.
func (c ExitCodes) Of(err error) int {
	script := (*ScriptError)(nil)
	failure := (*Failure)(nil)
	switch {
	case err == nil:
		return 0
	case errors.As(err, &script):
		if c.File != "" && os.WriteFile(c.File, []byte(strconv.Itoa(script.Code)), 0o600) != nil {
			// Without the file GitLab Runner takes the code for 1. A half-written one it would take for a system failure.
			os.Remove(c.File)
		}
		return c.BuildFailure
	case errors.As(err, &failure) && failure.Job:
		return c.BuildFailure
	default:
		return c.SystemFailure
	}
}
