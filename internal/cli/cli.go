// Package cli is the command line: one file a verb, flags in, text out. What a verb does is done elsewhere.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/keeper"
	"gitlab-runner-tart-driver/internal/settings"
)

// Env is what the command line gets from its process.
type Env struct {
	// Args are the arguments, without the program's name.
	Args []string
	// Environ is in the form of os.Environ.
	Environ        []string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Executable is the path of this program.
	Executable string
	// Version is this program's, and Commit that of its source in git; empty for what the Go toolchain knows of them.
	Version, Commit string
}

const long = `Runs each GitLab CI job in a fresh Tart virtual machine, as GitLab Runner's Custom executor.

GitLab Runner calls config, prepare, run and cleanup; try runs a job without GitLab.

Exit codes
  0    all is well
  1    the job, or a setting, is to blame (BUILD_FAILURE_EXIT_CODE)
  2    the host, the network, Tart or the VM is to blame (SYSTEM_FAILURE_EXIT_CODE)
  64   the command line is not understood; in a stage, and in whatever else GitLab Runner calls, it is 1, since trying again is no use`

// exitUsage is EX_USAGE of <sysexits.h>, which tart uses too.
const exitUsage = 64

// Main runs the command line and returns the process's exit code.
func Main(env Env) int {
	if len(env.Args) == 1 && env.Args[0] == keeper.Command {
		return runKeeper(env)
	}
	ctx, stop := withSignals(context.Background())
	defer stop()
	if isStage(env.Args) { // whatever comes, an earlier stage's exit code must not be taken for this one's
		err := job.Environ(env.Environ).ExitCodes().Clear()
		switch {
		case err != nil && env.Args[0] == settings.StageCleanup: // nobody reads the code after it, and the VM has to go
			job.NewLog(env.Stderr, time.Now).Linef("warning: %v", err)
		case err != nil:
			return report(env, job.Infrastructure(err, "let all stages run as the user that GitLab Runner runs as, to whom its directories belong"))
		}
	}
	return report(env, newRoot(env).ExecuteContext(ctx))
}

func newRoot(env Env) *cobra.Command {
	root := &cobra.Command{
		Use: "gitlab-runner-tart-driver", Short: "Runs GitLab CI jobs in Tart virtual machines", Long: long,
		Version: version(env), SilenceErrors: true, SilenceUsage: true,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if job.Environ(env.Environ).OfRunner() { // to which a prepare that does nothing and ends well would be one
				return &usageError{errors.New(`the first argument is missing, which says what to do: in config.toml, prepare_args begins with "prepare", and so on`)}
			}
			return cmd.Help()
		},
	}
	root.SetArgs(splitArgs(env.Args))
	root.SetIn(env.Stdin)
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	root.SetVersionTemplate("{{.Name}} {{.Version}}" + commit(env) + "\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if cmd == root && !strings.HasPrefix(env.Args[0], "-") { // the flags behind a verb that is none are not the mistake
			err = cobra.NoArgs(root, env.Args)
		}
		return &usageError{err}
	})
	addCommands(root, env)
	root.CompletionOptions.DisableDefaultCmd = isStage(env.Args)
	if !isStage(env.Args) || slices.Contains(env.Args, "--help") || slices.Contains(env.Args, "-h") {
		wrapHelp(root, terminalWidth(env.Stdout))
	}
	for _, cmd := range append(root.Commands(), root) {
		if check := cmd.Args; check != nil {
			cmd.Args = func(cmd *cobra.Command, args []string) error {
				if err := check(cmd, args); err != nil {
					return &usageError{err}
				}
				return nil
			}
		}
	}
	return root
}

// addCommands adds the one command that GitLab Runner calls, or all: each has dozens of flags, and a job calls a dozen times.
func addCommands(root *cobra.Command, env Env) {
	calledByRunner := map[string]func(Env) *cobra.Command{
		settings.StageConfig: newConfigCommand, settings.StagePrepare: newPrepareCommand, settings.StageRun: newRunCommand, settings.StageCleanup: newCleanupCommand,
	}
	if isStage(env.Args) {
		root.AddCommand(calledByRunner[env.Args[0]](env))
		return
	}
	for _, stage := range stages {
		root.AddCommand(calledByRunner[stage](env))
	}
	root.AddCommand(newSetupCommand(env), newDoctorCommand(env), newMigrateCommand(env), newTryCommand(env), newImagesCommand(env), newSettingsCommand(env))
	root.AddCommand(newPsCommand(env), newExplainCommand(env), newLogsCommand(env), newEventsCommand(env), newSweepCommand(env))
	root.AddCommand(newSSHCommand(env), newCopyCommand(env), newVNCCommand(env), newHoldCommand(env), newReleaseCommand(env), newManCommand(env))
}

// version is the one given at build time, or else what the Go toolchain recorded.
func version(env Env) string {
	if env.Version != "" {
		return env.Version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}

// commit names the source of a build behind its version, as far as that is known.
func commit(env Env) string {
	hash := env.Commit
	if hash == "" {
		hash = recordedCommit()
	}
	if hash == "" {
		return ""
	}
	const enough = 12 // digits, for git to know it by
	return " (commit " + hash[:min(enough, len(hash))] + ")"
}

// recordedCommit is what the Go toolchain recorded, if it did.
func recordedCommit() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return ""
}

// withSignals ends the context on the signals that ask a stage to end. GitLab Runner sends SIGTERM to the stage's whole process group.
// SIGPIPE is caught so that writing to a runner that is gone is an error like any other and does not end a cleanup half-way.
func withSignals(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 4)
	pipe := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	signal.Notify(pipe, syscall.SIGPIPE)
	go func() {
		select {
		case sig := <-signals:
			cancel(fmt.Errorf("ended on request: received %s", name(sig)))
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		signal.Stop(pipe)
		cancel(nil)
	}
}

func name(sig os.Signal) string {
	switch sig {
	case syscall.SIGTERM:
		return "SIGTERM"
	case syscall.SIGINT:
		return "SIGINT"
	default:
		return "SIGHUP"
	}
}

func runKeeper(env Env) int {
	stderr, ok := env.Stderr.(*os.File)
	if !ok {
		return exitUsage
	}
	if err := keeper.Main(env.Environ, stderr); err != nil {
		fmt.Fprintln(env.Stderr, "error:", err)
		return 1
	}
	return 0
}

// report prints an error, and says which exit code it makes.
func report(env Env, err error) int {
	if exit := (*ExitError)(nil); errors.As(err, &exit) {
		return exit.Code
	}
	if script := (*job.ScriptError)(nil); err != nil && !errors.As(err, &script) {
		printError(env.Stderr, err)
	}
	environ := job.Environ(env.Environ)
	if usage := (*usageError)(nil); errors.As(err, &usage) && !isStage(env.Args) && !environ.OfRunner() {
		return exitUsage
	}
	return environ.ExitCodes().Of(err)
}
