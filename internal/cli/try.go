package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"gitlab-runner-tart-driver/internal/trial"
	"gitlab-runner-tart-driver/internal/trial/plan"
)

const tryLong = `Runs one job the way GitLab Runner would, without GitLab: all stages in its order, with its environment, scripts, signals and exit codes.

The job is an image and a command, or a job of a .gitlab-ci.yml. It gets the committed state of the git repository around the
current directory (or around the file), unless --repo names another or --no-sources leaves it out.

A single word behind -- is a line of script as it is; several words are a command with its arguments:
  try --image ghcr.io/cirruslabs/macos-sequoia-base:latest -- 'sw_vers && uname -m'
  try --image ghcr.io/cirruslabs/macos-sequoia-base:latest -- sh -c 'echo "$CI_JOB_ID"'
  try --job unit-tests --variable DEBUG=1

The first ^C cancels the job as GitLab does: a script that runs is ended, and after_script and cleanup follow. The second aborts: only
cleanup follows.

Exit codes
  0        the job succeeded
  1-255    the exit code of the script that failed
  64       the command line, the file or the sources are not usable; nothing was run
  124      the job or its script took too long
  125      the driver failed, or its configuration is incomplete (what GitLab calls a system failure)
  130      the job was canceled
A script can use the last three numbers, too; the last line of the log tells.`

// tryFlags are the flags of try.
type tryFlags struct {
	request                                       plan.Request
	driver                                        string
	configArgs, prepareArgs, runArgs, cleanupArgs []string
	gracefulKillTimeout                           time.Duration
	raw                                           bool
}

func newTryCommand(env Env) *cobra.Command {
	var f tryFlags
	cmd := &cobra.Command{
		Use:   "try (--image IMAGE [flags] -- COMMAND... | --job NAME [flags])",
		Short: "Run one job as GitLab Runner would, without GitLab",
		Long:  tryLong,
		Args: func(cmd *cobra.Command, args []string) error {
			if dash := cmd.ArgsLenAtDash(); dash > 0 || dash < 0 && len(args) > 0 {
				return fmt.Errorf("unexpected argument %q: a command stands behind --", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			f.request.Command = args
			return runTry(cmd.Context(), env, f)
		},
	}
	flags, r := cmd.Flags(), &f.request
	flags.StringVar(&r.Image, "image", "", "`IMAGE` to run in; with --job, instead of that of the job")
	flags.StringVar(&r.JobName, "job", "", "`NAME` of the job to run")
	flags.StringVar(&r.File, "file", "", "`FILE` with the job (default "+plan.DefaultFile+")")
	flags.StringArrayVar(&r.After, "after", nil, "`LINE` of after_script (can be repeated)")
	flags.StringArrayVar(&r.Variables, "variable", nil, "variable as `NAME=VALUE`, or NAME for its value in the environment (can be repeated)")
	flags.StringArrayVar(&r.FileVariables, "file-variable", nil, "variable of type file as `NAME=PATH` (can be repeated)")
	flags.StringVar(&r.Repo, "repo", "", "`URL` of a git repository that the guest fetches")
	flags.StringVar(&r.Ref, "ref", "", "branch, tag or commit of --repo (default its default branch)")
	flags.BoolVar(&r.NoSources, "no-sources", false, "start with an empty project directory")
	flags.DurationVar(&r.Timeout, "timeout", 0, "timeout of the job (default that of the job, or 1h)")
	flags.StringVar(&f.driver, "driver", "", "`PROGRAM` to try as a driver (default this one)")
	for verb, list := range map[string]*[]string{"config": &f.configArgs, "prepare": &f.prepareArgs, "run": &f.runArgs, "cleanup": &f.cleanupArgs} {
		flags.StringArrayVar(list, verb+"-args", nil, "one `ARGUMENT` for "+verb+", as in config.toml (can be repeated)")
	}
	flags.DurationVar(&f.gracefulKillTimeout, "graceful-kill-timeout", trial.DefaultGracefulKillTimeout, "time between SIGTERM and SIGKILL for a stage")
	flags.BoolVar(&f.raw, "raw", false, "keep the markers of collapsible sections in the log")
	return cmd
}

// runTry plans the job, runs it, and says how it went.
func runTry(ctx context.Context, env Env, f tryFlags) error {
	say := func(kind, text string) { fmt.Fprintf(env.Stderr, "%s: %s\n", kind, text) }
	dir, err := os.Getwd()
	if err != nil {
		return fmt.Errorf("current directory: %w", err)
	}
	f.request.Dir, f.request.Environ = dir, env.Environ
	p, err := plan.Make(ctx, f.request)
	if err != nil {
		return f.refuse(say, err)
	}
	for _, warning := range p.Warnings {
		say("warning", warning)
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	// the signals end ctx as well, but here they mean more than that
	job, err := trial.Start(context.WithoutCancel(ctx), p.Job, f.options(env))
	if err != nil {
		return f.refuse(say, err)
	}
	job.Obey(signals, func(text string) { say("note", text) })
	result := job.Wait()
	if err := trial.WriteTable(env.Stderr, result); err != nil {
		return err
	}
	if result.ExitCode != 0 {
		return &ExitError{Code: result.ExitCode}
	}
	return nil
}

// refuse says why nothing was run.
func (f tryFlags) refuse(say func(kind, text string), err error) error {
	say("error", err.Error())
	var usage *plan.UsageError
	if errors.As(err, &usage) && usage.Hint != "" {
		say("hint", usage.Hint)
	}
	return &ExitError{Code: exitUsage}
}

func (f tryFlags) options(env Env) trial.Options {
	driver := f.driver
	if driver == "" {
		driver = env.Executable
	}
	exec := func(verb string, args []string) trial.Exec {
		return trial.Exec{Path: driver, Args: trial.DriverArgs(verb, args)}
	}
	opts := trial.Options{
		Driver: trial.Driver{
			Config: exec("config", f.configArgs), Prepare: exec("prepare", f.prepareArgs), Run: exec("run", f.runArgs), Cleanup: exec("cleanup", f.cleanupArgs),
		},
		Environ: env.Environ, Stdout: env.Stdout, Stderr: env.Stderr, RawLog: f.raw, GracefulKillTimeout: f.gracefulKillTimeout,
	}
	if i := slices.IndexFunc(env.Environ, func(e string) bool { return strings.HasPrefix(e, "TMPDIR=") }); i >= 0 {
		if temp := strings.TrimPrefix(env.Environ[i], "TMPDIR="); filepath.IsAbs(temp) {
			opts.TempDir = temp
		}
	}
	return opts
}
