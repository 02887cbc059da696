package tart

import (
	"context"
	"errors"
	"io"
	"os/exec"
	"slices"
)

// ExecStreams are the standard streams of a command in a guest.
type ExecStreams struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// Exec runs a command in a running VM by way of its guest agent, as the user that is logged in there; argv is passed on word for word. The
// exit code is that of tart, which passes on the command's; but it uses 1 and 2 for itself, too, and may say 0 when the stream ends early,
// so a caller must get the command's own exit status in another way. An error means that tart could not be run or ctx ended.
// https://github.com/openai/tart/blob/main/Sources/tart/Commands/Exec.swift
func (c *Client) Exec(ctx context.Context, name string, argv []string, streams ExecStreams) (exitCode int, err error) {
	args := []string{"exec"}
	if streams.Stdin != nil {
		args = append(args, "-i")
	}
	cmd := exec.CommandContext(ctx, c.path, append(append(args, name), argv...)...)
	cmd.Env = slices.Clip(c.env)
	cmd.Stdin, cmd.Stdout = streams.Stdin, streams.Stdout
	said := &tail{} // tart's own messages are among what the command writes
	cmd.Stderr = io.MultiWriter(said, orDiscard(streams.Stderr))
	cmd.WaitDelay = killDelay
	err = cmd.Run()
	if cause := context.Cause(ctx); cause != nil && err != nil {
		return -1, &Error{Kind: KindInterrupted, Command: "exec", ExitCode: -1, Err: cause}
	}
	if exitErr := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exitErr) {
		return -1, &Error{Kind: KindCannotRun, Command: "exec", ExitCode: -1, Err: err}
	}
	code := cmd.ProcessState.ExitCode()
	done := call{args: []string{"exec"}, stderr: said.kept, exitCode: code}
	// The last words are the command's own, too: they count only with an exit code that tart has for itself.
	if e := newError(done, err); slices.Contains([]int{1, 2, 64}, code) && slices.Contains([]Kind{KindNoAgent, KindNotRunning, KindNoSuchVM, KindUsage}, e.Kind) {
		return code, e
	}
	return code, nil
}

// tail keeps the last bytes that are written to it.
type tail struct{ kept []byte }

func (t *tail) Write(p []byte) (int, error) {
	const most = 4 << 10
	t.kept = append(t.kept, p...)
	if extra := len(t.kept) - most; extra > 0 {
		t.kept = append([]byte(nil), t.kept[extra:]...)
	}
	return len(p), nil
}

func orDiscard(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}
