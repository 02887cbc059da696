package trial

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"time"
)

// causes of the end of a context
var (
	errCanceled      = errors.New("canceled")
	errTimeout       = errors.New("job timeout")
	errScriptTimeout = errors.New("script timeout")
)

// jobError is an end of a job that GitLab Runner does not take for its own failure. It is not retried.
type jobError struct {
	inner    error
	reason   FailureReason
	exitCode int
}

func (e *jobError) Error() string { return e.inner.Error() }
func (e *jobError) Unwrap() error { return e.inner }

// unknownFailureError is an exit status that a driver must not use.
type unknownFailureError struct {
	inner error
	code  int
}

func (e *unknownFailureError) Error() string {
	return fmt.Sprintf("unknown Custom executor executable exit code %d; executable execution terminated with: %v", e.code, e.inner)
}

func (e *unknownFailureError) Unwrap() error { return e.inner }

// Exit codes that GitLab Runner tells the driver to use.
//
// Source: https://docs.gitlab.com/runner/executors/custom/#build-failure
const (
	buildFailureExitCode  = 1
	systemFailureExitCode = 2
)

// interpret turns the end of a driver's process into what GitLab Runner makes of it. exitCodeFile is BUILD_EXIT_CODE_FILE, which is never
// removed between stages: what one stage wrote there still counts for the next.
func interpret(err error, exitCodeFile string) error {
	exit, ok := err.(*exec.ExitError)
	if !ok {
		return err
	}
	switch code := exit.ExitCode(); code {
	case buildFailureExitCode:
		return buildFailure(exit, exitCodeFile)
	case systemFailureExitCode:
		return exit
	default:
		return &unknownFailureError{inner: exit, code: code}
	}
}

// buildFailure reads the exit code of the script from the first line of the file, to the letter.
func buildFailure(exit *exec.ExitError, exitCodeFile string) error {
	file, err := os.Open(exitCodeFile)
	if err != nil {
		return &jobError{inner: exit, reason: ScriptFailure, exitCode: buildFailureExitCode}
	}
	defer file.Close()
	line := ""
	if scanner := bufio.NewScanner(file); scanner.Scan() {
		line = scanner.Text()
	}
	code, err := strconv.Atoi(line)
	if err != nil {
		return &unknownFailureError{inner: exit, code: systemFailureExitCode}
	}
	return &jobError{inner: fmt.Errorf("exit status %s", line), reason: ScriptFailure, exitCode: code}
}

// state is the job's status as its scripts see it, and the error with which it ends.
func state(err error, timeout time.Duration) (string, error) {
	switch {
	case err == nil:
		return "success", nil
	case errors.Is(err, errCanceled):
		return "canceled", &jobError{inner: errCanceled, reason: JobCanceled}
	case errors.Is(err, errTimeout), errors.Is(err, errScriptTimeout):
		return "timedout", &jobError{inner: fmt.Errorf("execution took longer than %v seconds", timeout), reason: JobExecutionTimeout}
	default:
		return "failed", err
	}
}
