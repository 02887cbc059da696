package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os/user"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gitlab-runner-tart-driver/internal/crash"
	"gitlab-runner-tart-driver/internal/host"
	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/lifecycle"
	"gitlab-runner-tart-driver/internal/settings"
	"gitlab-runner-tart-driver/internal/tart"
)

var stages = []string{settings.StageConfig, settings.StagePrepare, settings.StageRun, settings.StageCleanup}

// configFlag is not in the table: a config file can't name another.
const configFlag = "config"

// splitArgs takes arguments apart that are a flag and its value in one, with a space between: so the README of the Python driver writes
// --volume in config.toml.
func splitArgs(args []string) []string {
	if !isStage(args) {
		return args
	}
	var out []string
	for _, arg := range args {
		name, value, ok := strings.Cut(arg, " ")
		if ok && strings.HasPrefix(name, "-") && !strings.Contains(name, "=") {
			out = append(out, name, strings.TrimSpace(value))
			continue
		}
		out = append(out, arg)
	}
	return out
}

// isStage tells whether the command line is one that GitLab Runner calls.
func isStage(args []string) bool { return len(args) > 0 && slices.Contains(stages, args[0]) }

// flagValue is a flag of the settings table. It only notes what was given: settings.Resolve does the rest.
type flagValue struct {
	given map[string]string
	row   *settings.Setting
	// negated is for --no-NAME.
	negated bool
}

func (f *flagValue) String() string { return f.row.Default }

func (f *flagValue) Set(v string) error {
	if f.negated {
		if v != "true" {
			return errors.New("takes no value")
		}
		v = "false"
	}
	if earlier, ok := f.given[f.row.Name]; ok && f.row.List {
		v = earlier + "\n" + v
	}
	f.given[f.row.Name] = v
	return nil
}

// Type stands for the value in help; "bool" makes pflag show none.
func (f *flagValue) Type() string {
	if f.row.IsSwitch() {
		return "bool"
	}
	return f.row.Takes
}

// addFlags gives a stage all flags of the table. Those that mean nothing to it are taken too, and left out of its help.
func addFlags(flags *pflag.FlagSet, stage string) map[string]string {
	flags.SortFlags = false
	given := map[string]string{}
	table := settings.Table()
	for i := range table {
		row := &table[i]
		shown := slices.Contains(row.Stages, stage)
		help := strings.ReplaceAll(row.Help, "`", "") // pflag would take what is quoted so for the name of the value
		f := flags.VarPF(&flagValue{given: given, row: row}, row.Name, row.Short, help+variablesHelp(row))
		f.Hidden = !shown
		if row.IsSwitch() {
			f.NoOptDefVal = "true"
			no := flags.VarPF(&flagValue{given: given, row: row, negated: true}, "no-"+row.Name, "", "")
			no.NoOptDefVal, no.Hidden = "true", true
		}
		for _, alias := range row.Aliases {
			flags.VarPF(&flagValue{given: given, row: row}, alias, "", "").Hidden = true
		}
	}
	return given
}

// addStageFlags is addFlags with the two flags that stages take besides: the path of a config file goes into file.
func addStageFlags(flags *pflag.FlagSet, stage string, file *string) map[string]string {
	given := addFlags(flags, stage)
	flags.StringVar(file, configFlag, "", "`FILE` in TOML with settings, by the names of their flags")
	flags.String(settings.UserFlag, "", "")
	flags.Lookup(settings.UserFlag).Hidden = true
	return given
}

func variablesHelp(row *settings.Setting) string {
	if len(row.Variables) == 0 {
		return ""
	}
	return " (variable " + row.Variables[0] + ")"
}

// newStageCommand makes the command of a stage. Settings that can't be used end it before it begins.
func newStageCommand(env Env, stage, use, long, short string, args cobra.PositionalArgs,
	run func(cmd *cobra.Command, args []string, s *lifecycle.Stage) error,
) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Long: long, Args: args}
	var file string
	given := addStageFlags(cmd.Flags(), stage, &file)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		log := env.Stderr
		if stage == settings.StageCleanup {
			log = env.Stdout // GitLab Runner logs a cleanup's stderr as warnings
		}
		crash.Point(stage + ": begun")
		if stage == settings.StagePrepare && cmd.Flags().Changed(settings.UserFlag) { // before root, say, is refused what is another user's
			job.NewLog(log, time.Now).Linef("warning: --%s has no effect: %s", settings.UserFlag, settings.UserFlagUnused)
		}
		s, err := newStage(env, stage, given, file, log)
		if s == nil {
			return err
		}
		return errors.Join(run(cmd, args, s), err)
	}
	if stage == settings.StageCleanup { // a mistake in its arguments is told, and is no reason to leave a VM
		cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return errors.Join(cmd.RunE(cmd, nil), &usageError{err}) })
	}
	return cmd
}

// newStage makes what a stage works with. For cleanup it does so whatever is wrong, as well as that is possible, and returns the error, too.
func newStage(env Env, stage string, given map[string]string, file string, log io.Writer) (*lifecycle.Stage, error) {
	environ := job.Environ(env.Environ)
	j, err := job.Load(environ)
	if err != nil {
		err = job.Infrastructure(err, "")
	}
	s, serr := resolve(environ, stage, given, file, j)
	err = errors.Join(err, serr)
	if err != nil && stage != settings.StageCleanup {
		return nil, err
	}
	state, oerr := host.Open(cmp.Or(s.StateDir, defaultStateDir(environ)))
	if oerr != nil {
		return nil, job.Infrastructure(oerr, "choose another with --state-dir, the same for all stages")
	}
	return &lifecycle.Stage{
		Settings: s, State: state, Job: j, Log: job.NewLog(log, time.Now), Handover: environ.Handover(),
		Environ: env.Environ, Executable: env.Executable, Version: version(env),
	}, err
}

// resolve works out the settings of a stage.
func resolve(environ job.Environ, stage string, given map[string]string, file string, j *job.Job) (*settings.Settings, error) {
	var values map[string]string
	var ferr error
	if file != "" {
		if values, ferr = settings.ReadFile(file); ferr != nil {
			ferr = job.Mistake(ferr, "a config file has the flags' names as keys, such as concurrency = 2")
		}
	}
	s, errs := settings.Resolve(settings.Sources{
		File: values, FilePath: file, Flags: given, Variables: j.Variables,
		Defaults: map[string]string{"state-dir": defaultStateDir(environ)},
	})
	errs = slices.DeleteFunc(errs, func(err error) bool {
		if errors.As(err, new(*settings.PolicyError)) {
			// The operator's rules may be in prepare's arguments alone. What they forbid ends prepare; the others don't use it.
			return stage != settings.StagePrepare
		}
		v := (*settings.ValueError)(nil) // a job's own mistakes ended prepare, which told of them
		return stage == settings.StageCleanup && errors.As(err, &v) && v.Origin.IsVariable()
	})
	if len(errs) > 0 {
		ferr = errors.Join(ferr,
			job.Mistake(errors.Join(errs...), "a job's variables are set in .gitlab-ci.yml or in the project's CI/CD settings, flags in the runner's config.toml"))
	}
	return s, ferr
}

// defaultStateDir is the directory that config used, or else one in the home directory. It must not depend on TMPDIR, which is another
// for every attempt at a job.
func defaultStateDir(environ job.Environ) string {
	if dir := environ.Handover().StateDir; dir != "" {
		return dir
	}
	home := environ.Get("HOME")
	if home == "" {
		if u, err := user.Current(); err == nil {
			home = u.HomeDir
		}
	}
	return host.DefaultDir(home)
}

func newTart(s *lifecycle.Stage) (*tart.Client, error) {
	client, err := tart.New(s.Settings.TartExecutable, s.Environ)
	if err != nil {
		return nil, job.Infrastructure(fmt.Errorf("%w (%s)", err, s.Settings.Origin("tart-executable")),
			"install Tart with `brew install openai/tools/tart`, or say where it is with -x")
	}
	return client, nil
}
