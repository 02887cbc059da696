package tart

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"syscall"
)

// ExecTerminal is Exec for somebody with a terminal, which the guest's command gets one for: tart takes over the terminal that in and out
// are, raw mode included, and looks at its size again whenever resized says so. Both must be terminals, or tart crashes. An exit code of 1 or 2
// may be tart's own, which then has said why.
// https://github.com/openai/tart/blob/main/Sources/tart/Commands/Exec.swift
func (c *Client) ExecTerminal(ctx context.Context, name string, argv []string, in, out, stderr *os.File, resized <-chan struct{}) (exitCode int, err error) {
	cmd := exec.CommandContext(ctx, c.path, append([]string{"exec", "-i", "-t", name}, argv...)...)
	cmd.Env = slices.Clip(c.env)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, stderr
	killRest := endWith(cmd, func() syscall.Signal { return syscall.SIGKILL })
	defer killRest()
	if err := cmd.Start(); err != nil {
		return -1, &Error{Kind: KindCannotRun, Command: "exec", ExitCode: -1, Err: err}
	}
	ended := make(chan struct{})
	defer close(ended)
	go func() { // it is not in the terminal's session, and so hears nothing of its size
		for {
			select {
			case <-ended:
				return
			case _, ok := <-resized:
				if !ok {
					return
				}
				_ = cmd.Process.Signal(syscall.SIGWINCH)
			}
		}
	}()
	err = cmd.Wait()
	if cause := context.Cause(ctx); cause != nil && err != nil {
		return -1, &Error{Kind: KindInterrupted, Command: "exec", ExitCode: -1, Err: cause}
	}
	if exitErr := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exitErr) {
		return -1, &Error{Kind: KindCannotRun, Command: "exec", ExitCode: -1, Err: err}
	}
	return cmd.ProcessState.ExitCode(), nil
}
