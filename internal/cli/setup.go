package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gitlab-runner-tart-driver/internal/doctor"
	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/runnerconf"
	"gitlab-runner-tart-driver/internal/settings"
	"gitlab-runner-tart-driver/internal/setup"
)

const setupLong = `Makes a runner of this host, from nothing: writes a runner with this driver to GitLab Runner's config.toml, and a LaunchAgent that starts GitLab
Runner with Homebrew in its PATH. It asks GitLab whether it knows the runner, shows every change, asks before it writes, and keeps what was there
beside the new file. What is there and fits stays as it is, comments too; a second run changes nothing. It ends with what doctor finds.

In GitLab, create a runner (Settings > CI/CD > Runners) and take its token, which begins with glrt-. It is best given in the environment or on
standard input: other users of the host see arguments.
  CI_SERVER_URL=https://gitlab.com CI_SERVER_TOKEN=glrt-… gitlab-runner-tart-driver setup
  gitlab-runner-tart-driver setup --url https://gitlab.com --token - --yes < token
Without one, a runner that the file has already is brought into shape.

GitLab is asked as GitLab Runner asks it: through the proxy of HTTPS_PROXY, and with the authority of --tls-ca-file, of config.toml, or of the file
in certs beside it that has GitLab's name. --no-verify leaves that out.

Settings of prepare --help can be given, too, and are written to the arguments of the stages.

Exit codes
  0    the host is set up
  1    a value is to blame, GitLab refuses the token, or doctor finds that jobs will fail
  2    a file, the host or the network is to blame
  64   the command line is not understood`

// setupFlags are the flags of setup.
type setupFlags struct {
	config, root, driver string
	url, token, name     string
	caFile, settingsFile string
	dryRun, yes          bool
	noVerify             bool
	given                map[string]string
	host                 doctor.Host
	path                 string // of config.toml, on the host
	tools                []setup.Tool
	say                  func(kind, format string, args ...any)
	changes              []*setup.Change
	names                map[*setup.Change]string
}

// setupShown are the settings that setup's help has; it takes all.
func setupShown() []string {
	return []string{"tart-executable", "state-dir", "concurrency", "max-vm-count", "allow-image", "pull-policy", "image-budget", "softnet", "transport",
		"shell", "timezone", "install-gitlab-runner", "volume", "builds-dir", "cache-dir"}
}

func newSetupCommand(env Env) *cobra.Command {
	f := &setupFlags{names: map[*setup.Change]string{}}
	cmd := &cobra.Command{Use: "setup", Short: "Make a runner of this host", Long: setupLong, Args: cobra.NoArgs}
	flags := cmd.Flags()
	flags.SortFlags = false // its own first
	flags.StringVarP(&f.config, "runner-config", "c", "", "`PATH` of GitLab Runner's config.toml (default ~/.gitlab-runner/config.toml)")
	flags.StringVar(&f.url, "url", "", "`URL` of GitLab (default CI_SERVER_URL of the environment)")
	flags.StringVar(&f.token, "token", "", "the runner's `TOKEN`, or - to read it from standard input (default CI_SERVER_TOKEN of the environment)")
	flags.StringVar(&f.name, "name", "", "`NAME` of the runner (default that of the host)")
	flags.StringVar(&f.caFile, "tls-ca-file", "", "`PATH` of the authority that vouches for GitLab, in PEM, where the host does not trust it (default CI_SERVER_TLS_CA_FILE of the environment)")
	image := flags.String("image", "", "`IMAGE` of jobs that name none; the same as --default-image")
	flags.BoolVar(&f.dryRun, "dry-run", false, "only show what would be written")
	flags.BoolVar(&f.yes, "yes", false, "write without asking")
	flags.BoolVar(&f.noVerify, "no-verify", false, "write without asking GitLab whether it knows the runner")
	flags.StringVar(&f.driver, "driver", "", "`PATH` of this driver in config.toml (default the one that runs)")
	own := pflag.NewFlagSet("", pflag.ContinueOnError)
	f.given = addFlags(own, settings.StagePrepare)
	own.VisitAll(func(flag *pflag.Flag) { flag.Hidden = true })
	for _, name := range setupShown() {
		own.Lookup(name).Hidden = false
	}
	own.Lookup("concurrency").DefValue = "as many as VMs may run"
	flags.AddFlagSet(own)
	flags.StringVar(&f.settingsFile, configFlag, "", "`FILE` in TOML with settings, for all stages")
	addRootFlag(flags, &f.root)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *image != "" {
			f.given["default-image"] = *image
		}
		return runSetup(cmd.Context(), env, f)
	}
	return cmd
}

// runSetup goes from what is there to a host that runs jobs.
func runSetup(ctx context.Context, env Env, f *setupFlags) error {
	f.say = func(kind, format string, args ...any) {
		fmt.Fprintf(env.Stderr, "%s: %s\n", kind, job.Line(format, args...))
	}
	if err := f.check(env); err != nil {
		return err
	}
	f.findTools()
	runner, err := f.planRunner(ctx, env)
	if err != nil {
		return err
	}
	if err := f.verify(ctx, runner); err != nil {
		return err
	}
	agent, err := f.planAgent(ctx)
	if err != nil {
		return err
	}
	if err := f.write(ctx, env); err != nil || f.dryRun {
		return err
	}
	for _, note := range agent.Load(ctx, f.host) {
		f.say("note", "%s", note)
	}
	fmt.Fprintln(env.Stdout)
	err = runDoctor(ctx, env, doctorFlags{config: f.path, root: f.root})
	image := cmp.Or(f.given["default-image"], "ghcr.io/cirruslabs/macos-sequoia-base:latest")
	fmt.Fprintf(env.Stdout, "\nTo try a job without GitLab:\n  gitlab-runner-tart-driver try --image %s -- sw_vers\n", image)
	return err
}

// check looks at what was given before anything else is done.
func (f *setupFlags) check(env Env) error {
	f.host = newHost(env, f.root)
	var err error
	if f.driver, err = ownPath(env, f.driver); err != nil {
		return err
	}
	f.path = cmp.Or(f.config, doctor.DefaultConfigPath(f.host))
	if abs, err := filepath.Abs(f.path); err == nil {
		f.path = abs
	}
	if f.settingsFile != "" && !filepath.IsAbs(f.settingsFile) {
		return job.Mistake(fmt.Errorf("--config %s: the path must be absolute", f.settingsFile), "stages run in directories of their own")
	}
	_, errs := settings.Resolve(settings.Sources{Flags: f.given, Defaults: map[string]string{"state-dir": "/"}})
	if err = errors.Join(errs...); err != nil {
		return job.Mistake(err, "`gitlab-runner-tart-driver setup --help` lists the flags")
	}
	environ := job.Environ(env.Environ)
	f.url = cmp.Or(f.url, environ.Get("CI_SERVER_URL"))
	switch f.token {
	case "":
		f.token = environ.Get("CI_SERVER_TOKEN")
	case "-":
		token, err := readLine(env.Stdin)
		if err != nil || token == "" {
			return job.Mistake(errors.New("no token on standard input"), "--token - reads one line")
		}
		f.token = token
	}
	if f.caFile = cmp.Or(f.caFile, environ.Get("CI_SERVER_TLS_CA_FILE")); f.caFile != "" {
		if f.caFile, err = filepath.Abs(f.caFile); err != nil {
			return err
		}
	}
	return f.checkOwn()
}

func (f *setupFlags) checkOwn() error {
	if f.url != "" {
		if err := setup.CheckURL(f.url); err != nil {
			return job.Mistake(err, "")
		}
	}
	if err := setup.CheckToken(f.token); err != nil {
		return job.Mistake(err, "Settings > CI/CD > Runners > New project runner, or the same for a group")
	}
	return nil
}

// findTools says what is there and what is to be installed.
func (f *setupFlags) findTools() {
	f.tools = setup.Tools(f.host)
	for _, tool := range f.tools {
		switch {
		case tool.Path != "":
			f.say("found", "%s", tool.Path)
		case tool.Name != "brew" || f.host.OS() == "darwin":
			f.say("missing", "%s; install it with: %s", tool.Name, tool.Install)
		}
	}
}

// planRunner works out config.toml, asking at a terminal for what is missing.
func (f *setupFlags) planRunner(ctx context.Context, env Env) (runnerconf.Runner, error) {
	file, err := runnerconf.Open(f.host.Real(f.path))
	if err != nil {
		return runnerconf.Runner{}, job.Infrastructure(fmt.Errorf("%s: %w", f.path, withoutPath(err)), "-c names another file")
	}
	file.Path = f.path
	hostname, err := os.Hostname()
	if err != nil {
		hostname = "mac"
	}
	for {
		change, index, err := setup.PlanRunner(file, setup.RunnerOptions{
			URL: f.url, Token: f.token, TLSCAFile: f.caFile, Name: f.name, DefaultName: hostname, Given: f.given, SettingsFile: f.settingsFile, Driver: f.driver,
			Host: f.host, Parse: parseStageArgs,
		})
		missing := (*setup.MissingError)(nil)
		switch {
		case errors.As(err, &missing):
			if err := f.ask(ctx, env, missing); err != nil {
				return runnerconf.Runner{}, err
			}
			continue
		case err != nil:
			return runnerconf.Runner{}, job.Mistake(err, "nothing was written")
		}
		f.plan(change, f.path)
		doc, err := runnerconf.Parse(change.Content)
		if err != nil {
			return runnerconf.Runner{}, err
		}
		return doc.Config().Runners[index], nil
	}
}

// ask asks at a terminal for what is missing.
func (f *setupFlags) ask(ctx context.Context, env Env, missing *setup.MissingError) error {
	value := ""
	var err error
	if missing.What == "token" {
		value, err = askSecret(ctx, env, "token of the runner, as GitLab shows it (glrt-…): ")
		f.token = value
	} else {
		value, err = askLine(ctx, env, "URL of GitLab: ")
		f.url = value
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil || value == "" {
		return job.Mistake(missing, "give --%s, or CI_SERVER_%s in the environment%s", missing.What, map[string]string{"url": "URL", "token": "TOKEN"}[missing.What],
			map[string]string{"token": ", or --token - and the token on standard input"}[missing.What])
	}
	return f.checkOwn()
}

func (f *setupFlags) planAgent(ctx context.Context) (setup.AgentPlan, error) {
	plan, err := setup.PlanAgent(ctx, f.host, setup.AgentOptions{Runner: f.toolPath("gitlab-runner"), Config: f.path})
	if err != nil {
		return plan, job.Infrastructure(fmt.Errorf("%s: %w", plan.Path, withoutPath(err)), "")
	}
	for _, note := range plan.Notes {
		f.say("note", "%s", note)
	}
	if plan.Change != nil {
		f.plan(plan.Change, plan.Path)
	}
	return plan, nil
}

func (f *setupFlags) toolPath(name string) string {
	for _, tool := range f.tools {
		if tool.Name == name {
			return tool.Path
		}
	}
	return ""
}

// plan notes a change that is needed.
func (f *setupFlags) plan(change *setup.Change, name string) {
	if change.Needed() {
		f.changes = append(f.changes, change)
		f.names[change] = name
	}
}

// write shows the changes and makes them, once a person has agreed.
func (f *setupFlags) write(ctx context.Context, env Env) error {
	if len(f.changes) == 0 {
		f.say("note", "nothing to change in %s", f.path)
		return nil
	}
	for _, change := range f.changes {
		showDiff(env, change.Diff(f.names[change]))
	}
	if f.dryRun {
		f.say("note", "nothing was written")
		return nil
	}
	if !f.yes {
		answer, err := askLine(ctx, env, "write this? [y/N] ")
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return job.Mistake(errors.New("nobody can be asked: standard input is no terminal"), "--yes writes without asking, and --dry-run only shows")
		}
		if answer != "y" && answer != "yes" {
			f.say("note", "nothing was written")
			return &ExitError{Code: 1}
		}
	}
	for _, change := range f.changes {
		if err := replace(change, f.names[change], f.say); err != nil {
			return err
		}
	}
	return nil
}
