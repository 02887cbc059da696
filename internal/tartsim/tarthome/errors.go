package tarthome

import "fmt"

// RuntimeError is what tart prints bare, without a prefix.
type RuntimeError struct {
	Text string
	Code int
}

func (e *RuntimeError) Error() string { return e.Text }

// SystemError is any other error of tart: it is printed after "Error: " and ends in exit status 1.
type SystemError struct{ Text string }

func (e *SystemError) Error() string { return e.Text }

// ValidationError is raised for arguments that parse but make no sense; exit status 64.
type ValidationError struct{ Text string }

func (e *ValidationError) Error() string { return e.Text }

// Failure makes a RuntimeError with exit status 1.
func Failure(format string, args ...any) error {
	return &RuntimeError{Text: fmt.Sprintf(format, args...), Code: 1}
}

// System makes a SystemError.
func System(format string, args ...any) error {
	return &SystemError{Text: fmt.Sprintf(format, args...)}
}

// Invalid makes a ValidationError.
func Invalid(format string, args ...any) error {
	return &ValidationError{Text: fmt.Sprintf(format, args...)}
}

// NotExist is the error for a VM that is not there.
func NotExist(name string) error {
	return &RuntimeError{Text: fmt.Sprintf("the specified VM %q does not exist", name), Code: 2}
}

// NotRunning is the error for a VM that has to run.
func NotRunning(name string) error {
	return &RuntimeError{Text: fmt.Sprintf("VM \"%s\" is not running", name), Code: 2}
}

// AlreadyRunning is the error for a second `tart run` of a VM.
func AlreadyRunning(name string) error {
	return &RuntimeError{Text: fmt.Sprintf("VM %q is already running!", name), Code: 2}
}

// IsRunning is the error for a VM that must not run.
func IsRunning(name string) error { return Failure("VM %q is running", name) }
