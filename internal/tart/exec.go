package tart

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
)

// ExecStreams are the standard streams of a command in a guest. An *os.File is given to tart as it is, so that output takes no extra hop.
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
	// Where stderr is the job log's own, tart's messages go there as well; elsewhere they are read.
	var said bytes.Buffer
	cmd.Stderr = streams.Stderr
	if _, direct := streams.Stderr.(*os.File); !direct {
		cmd.Stderr = io.MultiWriter(&said, orDiscard(streams.Stderr))
	}
	cmd.WaitDelay = killDelay
	err = cmd.Run()
	if cause := context.Cause(ctx); cause != nil && err != nil {
		return -1, &Error{Kind: KindInterrupted, Command: "exec", ExitCode: -1, Err: cause}
	}
	if exitErr := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exitErr) {
		return -1, &Error{Kind: KindCannotRun, Command: "exec", ExitCode: -1, Err: err}
	}
	code := cmd.ProcessState.ExitCode()
	done := call{args: []string{"exec"}, stderr: said.Bytes(), exitCode: code}
	if e := newError(done, err); code != 0 && slices.Contains([]Kind{KindNoAgent, KindNotRunning, KindNoSuchVM, KindUsage}, e.Kind) {
		return code, e
	}
	return code, nil
}

func orDiscard(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}
