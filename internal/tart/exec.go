package tart

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"
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
	cmd.Stdin = streams.Stdin
	killRest := endWith(cmd, func() syscall.Signal { return syscall.SIGKILL })
	said := &tail{} // tart's own messages are among what the command writes
	end := c.calls.begin()
	err = runWithOutput(ctx, cmd, streams.Stdout, io.MultiWriter(said, orDiscard(streams.Stderr)))
	killRest()
	end()
	if cause := context.Cause(ctx); cause != nil && err != nil {
		return -1, &Error{Kind: KindInterrupted, Command: "exec", ExitCode: -1, Err: cause}
	}
	if exitErr := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exitErr) {
		return -1, &Error{Kind: KindCannotRun, Command: "exec", ExitCode: -1, Err: err}
	}
	code := cmd.ProcessState.ExitCode()
	done := call{args: []string{"exec"}, stderr: said.last(), exitCode: code}
	// The last words are the command's own, too: they count only with an exit code that tart has for itself.
	if e := newError(done, err); slices.Contains([]int{1, 2, 64}, code) && slices.Contains([]Kind{KindNoAgent, KindNotRunning, KindNoSuchVM, KindUsage}, e.Kind) {
		return code, e
	}
	return code, nil
}

// runWithOutput runs cmd and copies its output. Other than os/exec, it waits for a slow reader as long as it takes, and cuts what is left off
// only when ctx ends.
func runWithOutput(ctx context.Context, cmd *exec.Cmd, stdout, stderr io.Writer) error {
	copied := make(chan struct{}, 2)
	var readers []*os.File
	defer func() {
		for _, r := range readers {
			r.Close()
		}
	}()
	attach := func(to io.Writer, end *io.Writer) (closeOurs func(), err error) {
		r, w, err := os.Pipe()
		if err != nil {
			return func() {}, err
		}
		readers = append(readers, r)
		*end = w
		go func() {
			_, _ = io.Copy(orDiscard(to), r)
			r.Close() // where nobody takes it, tart is to know
			copied <- struct{}{}
		}()
		return func() { w.Close() }, nil
	}
	closeOut, err := attach(stdout, &cmd.Stdout)
	defer closeOut()
	if err != nil {
		return err
	}
	closeErr, err := attach(stderr, &cmd.Stderr)
	defer closeErr()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	closeOut()
	closeErr()
	err = cmd.Wait()
	for range 2 {
		select {
		case <-copied:
		case <-ctx.Done():
			limit := time.NewTimer(killDelay)
			defer limit.Stop()
			select {
			case <-copied:
			case <-limit.C:
				return err
			}
		}
	}
	return err
}

// tail keeps the last bytes that are written to it.
type tail struct {
	mu   sync.Mutex
	kept []byte
}

func (t *tail) Write(p []byte) (int, error) {
	const most = 4 << 10
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, p...)
	if extra := len(t.kept) - most; extra > 0 {
		t.kept = append([]byte(nil), t.kept[extra:]...)
	}
	return len(p), nil
}

func (t *tail) last() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.kept)
}

func orDiscard(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}
