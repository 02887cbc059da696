package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gitlab-runner-tart-driver/internal/doctor"
	"gitlab-runner-tart-driver/internal/job"
)

const doctorLong = `Finds out what on this host would keep jobs from running, and says what mends it. Run it as the user that GitLab Runner runs as.

It looks at macOS, Tart, GitLab Runner and its config.toml, launchd, the login keychain, the network, the disk, and at this driver's own
files. It changes nothing, unless --fix is given, and asks nobody over the network.

Exit codes
  0    no check failed; there may be warnings
  1    a check failed: jobs will fail
  2    the checks could not be made
  64   the command line is not understood`

// doctorFlags are the flags of doctor.
type doctorFlags struct {
	config, root           string
	fix, asJSON, reference bool
}

func newDoctorCommand(env Env) *cobra.Command {
	var f doctorFlags
	cmd := &cobra.Command{
		Use: "doctor", Short: "Find out what would keep jobs from running", Long: doctorLong, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.reference {
				_, err := fmt.Fprint(env.Stdout, doctor.Reference())
				return err
			}
			return runDoctor(cmd.Context(), env, f)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.config, "runner-config", "c", "", "`PATH` of GitLab Runner's config.toml (default ~/.gitlab-runner/config.toml)")
	flags.BoolVar(&f.fix, "fix", false, "make the repairs that can't do harm")
	flags.BoolVar(&f.asJSON, "json", false, "write JSON")
	flags.BoolVar(&f.reference, "checks", false, "print the reference of all checks, in Markdown")
	addRootFlag(flags, &f.root)
	return cmd
}

// addRootFlag adds the flag that lets a directory play the host, for tests.
func addRootFlag(flags *pflag.FlagSet, root *string) {
	flags.StringVar(root, "root", "", "")
	flags.Lookup("root").Hidden = true
}

// newHost is this host, or a directory that plays one.
func newHost(env Env, root string) doctor.Host {
	host := &doctor.System{GOOS: runtime.GOOS, User: os.Getuid(), Environ: env.Environ, Root: root, Time: time.Now}
	if root != "" {
		const firstUser = 501 // on a Mac
		host.User = firstUser
		if abs, err := filepath.Abs(root); err == nil {
			host.Root = abs
		}
	}
	return host
}

func runDoctor(ctx context.Context, env Env, f doctorFlags) error {
	var show func(doctor.Result)
	if !f.asJSON {
		show = newDoctorOutput(env).result
	}
	report, err := doctor.Examine(ctx, doctor.Options{
		Host: newHost(env, f.root), ConfigPath: f.config, Executable: env.Executable, Parse: parseStageArgs, Mend: f.fix,
	}, show)
	if err != nil {
		return job.Infrastructure(err, "")
	}
	if f.asJSON {
		if err := writeJSON(env.Stdout, report); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(env.Stdout, "\n%d passed, %d with warnings, %d failed, %d skipped\n",
			report.Counts[doctor.Pass], report.Counts[doctor.Warn], report.Counts[doctor.Fail], report.Counts[doctor.Skip])
	}
	if report.Status == doctor.Fail {
		return &ExitError{Code: 1}
	}
	return nil
}

// doctorOutput writes results for a person.
type doctorOutput struct {
	painter
	w io.Writer
}

func newDoctorOutput(env Env) doctorOutput { return doctorOutput{newPainter(env), env.Stdout} }

func (o doctorOutput) result(r doctor.Result) {
	const indent = 21
	name := r.ID
	for _, f := range r.Findings {
		if f.Status != r.Status && (f.Status == doctor.Pass || f.Status == doctor.Skip) {
			continue // what is well beside what is not
		}
		fmt.Fprintf(o.w, "%s  %-*s  %s\n", o.coloured(f.Status), indent-8, name, wrap(job.Printable(f.Reason), o.width, indent))
		if f.Fix != "" {
			fmt.Fprintf(o.w, "%s%s %s\n", strings.Repeat(" ", indent), o.paint("1", "fix:"), job.Printable(f.Fix))
		}
		name = ""
	}
	if r.Mended != "" {
		fmt.Fprintf(o.w, "%s%s %s\n", strings.Repeat(" ", indent), o.paint("1", "mended:"), job.Printable(r.Mended))
	}
}

func (o doctorOutput) coloured(s doctor.Status) string {
	colours := map[doctor.Status]string{doctor.Pass: "32", doctor.Warn: "33", doctor.Fail: "1;31", doctor.Skip: "2"}
	return o.paint(colours[s], string(s))
}

// parseStageArgs takes the arguments of a stage apart as the stage itself does.
func parseStageArgs(args []string) (doctor.StageArgs, error) {
	var out doctor.StageArgs
	if len(args) == 0 {
		return out, nil
	}
	out.Stage = args[0]
	flags := pflag.NewFlagSet(out.Stage, pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	out.Flags = addStageFlags(flags, out.Stage, &out.File)
	err := flags.Parse(splitArgs(args)[1:])
	out.Rest = flags.Args()
	if errors.Is(err, pflag.ErrHelp) {
		err = errors.New("--help runs no stage")
	}
	return out, err
}
