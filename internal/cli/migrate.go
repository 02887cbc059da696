package cli

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"gitlab-runner-tart-driver/internal/doctor"
	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/runnerconf"
	"gitlab-runner-tart-driver/internal/setup"
)

const migrateLong = `Turns the runners of the Python driver, and of gitlab-tart-executor, into runners of this driver: shows what would change in GitLab Runner's
config.toml, and what can't be carried over or will be different. Nothing is written without --write; with it, what was there is kept beside the
new file. All else in the file stays as it is, comments too.

Exit codes
  0    the change was shown or made, or there is nothing to change
  1    no runner can be migrated, or the file is not valid
  2    the file or the host is to blame
  64   the command line is not understood`

// migrateFlags are the flags of migrate.
type migrateFlags struct {
	config, root, driver string
	write                bool
}

func newMigrateCommand(env Env) *cobra.Command {
	var f migrateFlags
	cmd := &cobra.Command{
		Use: "migrate", Short: "Turn runners of other drivers into ones of this driver", Long: migrateLong, Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return runMigrate(env, f) },
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.config, "runner-config", "c", "", "`PATH` of GitLab Runner's config.toml (default ~/.gitlab-runner/config.toml)")
	flags.BoolVar(&f.write, "write", false, "make the change")
	flags.StringVar(&f.driver, "driver", "", "`PATH` of this driver in config.toml (default the one that runs)")
	addRootFlag(flags, &f.root)
	return cmd
}

func runMigrate(env Env, f migrateFlags) error {
	say := func(kind, format string, args ...any) {
		fmt.Fprintf(env.Stderr, "%s: %s\n", kind, job.Line(format, args...))
	}
	host := newHost(env, f.root)
	path := cmp.Or(f.config, doctor.DefaultConfigPath(host))
	driver, err := ownPath(env, f.driver)
	if err != nil {
		return err
	}
	file, err := runnerconf.Open(host.Real(path))
	if err != nil {
		return job.Infrastructure(fmt.Errorf("%s: %w", path, withoutPath(err)), "-c names another file")
	}
	file.Path = path
	if !file.Exists {
		return job.Mistake(fmt.Errorf("there is no %s", path), "-c names another file; `gitlab-runner-tart-driver setup` makes one")
	}
	m, err := setup.PlanMigration(file, setup.MigrateOptions{Driver: driver, Host: host})
	if err != nil {
		return job.Mistake(err, "nothing was written")
	}
	switch {
	case len(m.Runners) == 0 && m.Own:
		say("note", "nothing to change: no runner in %s uses another driver that is known", path)
		return nil
	case len(m.Runners) == 0:
		return job.Mistake(fmt.Errorf("no runner in %s uses the Python driver or gitlab-tart-executor", path), "`gitlab-runner-tart-driver setup` makes a runner for this driver")
	}
	for _, runner := range m.Runners {
		say("migrates", "%s", runner)
	}
	showDiff(env, m.Change.Diff(path))
	for _, note := range m.Notes {
		say("note", "%s", note)
	}
	if !f.write {
		say("note", "nothing was written: --write does so, and keeps what was there")
		return nil
	}
	if err := replace(m.Change, path, say); err != nil {
		return err
	}
	say("note", "GitLab Runner reads the new file by itself; `gitlab-runner-tart-driver doctor` says whether all is well, and `gitlab-runner-tart-driver setup` sets "+
		"limits and timeouts that fit")
	return nil
}

// ownPath is the path of this driver that config.toml is to have. Its name tells it from other drivers there.
func ownPath(env Env, given string) (string, error) {
	path, err := filepath.Abs(cmp.Or(given, env.Executable))
	if err != nil {
		return "", fmt.Errorf("where is this program: %w", err)
	}
	if filepath.Base(path) != runnerconf.Name {
		return "", job.Mistake(fmt.Errorf("driver %s: its name in config.toml must be %s", path, runnerconf.Name), "--driver says where it is under that name")
	}
	return path, nil
}

// replace writes a changed file.
func replace(change *setup.Change, name string, say func(kind, format string, args ...any)) error {
	backup, err := change.File.Replace(change.Content, change.Mode, time.Now())
	if err != nil {
		return job.Infrastructure(fmt.Errorf("%s: %w", name, withoutPath(err)), "")
	}
	if backup == "" {
		say("wrote", "%s", name)
		return nil
	}
	if !change.File.Linked { // the path as the person knows it
		backup = filepath.Join(filepath.Dir(name), filepath.Base(backup))
	}
	say("wrote", "%s; what it was is in %s", name, backup)
	return nil
}

// showDiff writes a unified diff, in colour on a terminal.
func showDiff(env Env, diff string) {
	o := newDoctorOutput(env)
	for line := range strings.Lines(diff) {
		line = strings.TrimSuffix(line, "\n")
		colour := map[byte]string{'+': "32", '-': "31", '@': "36"}[line[0]]
		if colour == "" {
			fmt.Fprintln(o.w, line)
			continue
		}
		fmt.Fprintln(o.w, o.paint(colour, line))
	}
}

// withoutPath is an error without the path that was given; the caller has said it as the user knows it.
func withoutPath(err error) error {
	if pathErr := (*fs.PathError)(nil); errors.As(err, &pathErr) {
		return pathErr.Err
	}
	return err
}

// errNoTerminal means that there is nobody to ask.
var errNoTerminal = errors.New("standard input is no terminal")

// readLine reads one line, without what is behind it.
func readLine(r io.Reader) (string, error) {
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil && line == "" {
		return "", err
	}
	return strings.TrimSpace(line), nil
}

// terminal is the terminal that a person types at.
func terminal(env Env) (*os.File, bool) {
	f, ok := env.Stdin.(*os.File)
	return f, ok && term.IsTerminal(int(f.Fd()))
}

// askLine asks a person for a line.
func askLine(ctx context.Context, env Env, prompt string) (string, error) {
	f, ok := terminal(env)
	if !ok {
		return "", errNoTerminal
	}
	fmt.Fprint(env.Stderr, prompt)
	return await(ctx, func() (string, error) { return readLine(f) })
}

// askSecret asks for what is not to be seen.
func askSecret(ctx context.Context, env Env, prompt string) (string, error) {
	f, ok := terminal(env)
	if !ok {
		return "", errNoTerminal
	}
	fd := int(f.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return "", err
	}
	defer func() { _ = term.Restore(fd, before) }() // also where ^C ended the wait
	fmt.Fprint(env.Stderr, prompt)
	secret, err := await(ctx, func() (string, error) {
		raw, err := term.ReadPassword(fd)
		return strings.TrimSpace(string(raw)), err
	})
	fmt.Fprintln(env.Stderr)
	return secret, err
}

// await reads what a person types, until the person wants to end it all: a read from a terminal doesn't end by itself.
func await(ctx context.Context, read func() (string, error)) (string, error) {
	type answer struct {
		text string
		err  error
	}
	answers := make(chan answer, 1)
	go func() {
		text, err := read()
		answers <- answer{text, err}
	}()
	select {
	case a := <-answers:
		return a.text, a.err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}
