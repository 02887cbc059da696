package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"gitlab-runner-tart-driver/internal/guest"
	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/keeper"
)

const sshLong = `Opens a shell in the VM of a job that runs, or in one that is held, by the connection that its keeper has: no address, no password. The shell is
the one of the job's scripts, as a login shell. The job goes on, and the shell ends when its VM goes.

A single word behind -- is a line for the shell as it is; several words are a command with its arguments. A command has a terminal if standard
input and output are one.
  ssh 4711
  ssh 4711 -- 'cd /opt/builds && ls'
  ssh 4711 -- tail -n 100 /var/log/system.log > system.log

Exit codes
  0-255    the command's own
  1        there is no such job
  2        the VM has ended, or cannot be reached
  64       the command line is not understood`

func newSSHCommand(env Env) *cobra.Command {
	cmd, flags := newHostVerb("ssh JOB|VM [-- COMMAND...]", "Open a shell in a job's VM, or run a command in it", sshLong,
		func(cmd *cobra.Command, args []string) error {
			switch dash := cmd.ArgsLenAtDash(); {
			case len(args) == 0 || dash == 0:
				return errors.New("a job's number or a VM's name is missing")
			case dash > 1 || dash < 0 && len(args) > 1:
				return fmt.Errorf("unexpected argument %q: a command stands behind --", args[1])
			}
			return nil
		})
	cmd.ValidArgsFunction = completeLiveJobs(env, flags)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return runSSH(cmd.Context(), env, flags, args[0], shellLine(args[1:]))
	}
	return cmd
}

// shellLine makes a line for a shell of a command.
func shellLine(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = guest.Quote(w)
	}
	return strings.Join(quoted, " ")
}

func runSSH(ctx context.Context, env Env, flags *hostFlags, name, command string) error {
	stdout, ok1 := env.Stdout.(*os.File)
	stderr, ok2 := env.Stderr.(*os.File)
	if !ok1 || !ok2 {
		return errors.New("ssh hands its output files to another process, and so needs real ones")
	}
	state, rec, err := flags.job(env, name)
	if err != nil {
		return err
	}
	s := keeper.Session{Command: command}
	v := keeper.Visitor{In: env.Stdin, Out: stdout, Err: stderr}
	if stdin, ok := env.Stdin.(*os.File); ok && isTerminal(stdin) && isTerminal(stdout) {
		t := &userTerminal{in: stdin, out: stdout}
		if t.before, err = term.GetState(int(stdin.Fd())); err != nil {
			return fmt.Errorf("the terminal: %w", err)
		}
		defer t.restore()
		sizes, stop := t.watch()
		defer stop()
		s.Terminal = &guest.Terminal{Kind: job.Environ(env.Environ).Get("TERM"), Size: t.size()}
		v.Begun, v.Resized = t.raw, sizes
	}
	code, err := keeper.Visit(ctx, state, rec.VM, rec.JobKey, s, v)
	switch {
	case ctx.Err() != nil:
		return job.Infrastructure(context.Cause(ctx), "")
	case err != nil:
		return gone(rec, err)
	case code != 0:
		return &ExitError{Code: code}
	}
	return nil
}

// userTerminal is the one that a person sits at.
type userTerminal struct {
	in, out *os.File
	// before is how it was set. It is asked for early: where the keeper hands the terminal on, tart sets it, too.
	before *term.State
}

// raw lets every key through to the guest, ^C among them.
func (t *userTerminal) raw() { _, _ = term.MakeRaw(int(t.in.Fd())) }

// restore makes the terminal what it was.
func (t *userTerminal) restore() { _ = term.Restore(int(t.in.Fd()), t.before) }

// size is the terminal's, or a usual one where it can't be told.
func (t *userTerminal) size() guest.Size {
	columns, rows, err := term.GetSize(int(t.out.Fd()))
	if err != nil || columns <= 0 || rows <= 0 {
		return guest.Size{Columns: 80, Rows: 24}
	}
	return guest.Size{Columns: columns, Rows: rows}
}

// watch tells of the terminal's size whenever it changes, until stop is called.
func (t *userTerminal) watch() (sizes <-chan guest.Size, stop func()) {
	changed, told, done := make(chan os.Signal, 1), make(chan guest.Size), make(chan struct{})
	signal.Notify(changed, syscall.SIGWINCH)
	go func() {
		for {
			select {
			case <-done:
				return
			case <-changed:
			}
			select {
			case <-done:
				return
			case told <- t.size():
			}
		}
	}()
	return told, func() {
		signal.Stop(changed)
		close(done)
	}
}
