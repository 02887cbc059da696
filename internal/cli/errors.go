package cli

import (
	"errors"
	"fmt"
	"io"

	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/tart"
)

// ExitError ends the program with a code; what there was to say has been said.
type ExitError struct{ Code int }

func (e *ExitError) Error() string { return fmt.Sprintf("exit code %d", e.Code) }

// usageError is a command line that is not understood.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

// As makes it the job's, or rather the operator's, mistake where a stage was called: another try is no use.
func (e *usageError) As(target any) bool {
	f, ok := target.(**job.Failure)
	if ok {
		*f = job.Mistake(e.error, "`gitlab-runner-tart-driver --help` lists commands and flags")
	}
	return ok
}

// joined are the errors that errors.Join has put together, also within a failure.
func joined(err error) []error {
	if f, ok := err.(*job.Failure); ok {
		return joined(f.Err)
	}
	list, ok := err.(interface{ Unwrap() []error })
	if !ok || errors.Join(list.Unwrap()...).Error() != err.Error() { // fmt.Errorf has such lists, too
		return []error{err}
	}
	var all []error
	for _, e := range list.Unwrap() {
		all = append(all, joined(e)...)
	}
	return all
}

// printError writes an error and what to do about it. Errors that were joined get a line each.
func printError(w io.Writer, err error) {
	hint := ""
	if f := (*job.Failure)(nil); errors.As(err, &f) {
		hint = f.Hint
	} else if errors.Is(err, tart.ErrNotFound) {
		hint = "install Tart with `brew install openai/tools/tart`, or say where it is with -x"
	}
	for _, e := range joined(err) {
		fmt.Fprintln(w, job.Line("error: %v", e))
	}
	if hint != "" {
		fmt.Fprintf(w, "hint: %s\n", job.Printable(hint))
	}
}
