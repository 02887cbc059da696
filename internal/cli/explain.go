package cli

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/runnerconf"
	"gitlab-runner-tart-driver/internal/settings"
	"gitlab-runner-tart-driver/internal/trial/civar"
)

const explainLong = `Shows every setting as it is in effect for prepare: its value, where that came from, and who may change it. Secrets are not shown.

The settings are those of the flags given here, which are prepare's; with --config-toml, those of a runner as GitLab Runner's config.toml has it, with
the flags given here coming first; with --job-response, also what a job sets. While a job runs, its response is the file response.json that
GitLab Runner has in a directory custom-executor... of its TMPDIR.

Who may change a setting:
  operator   the operator only; jobs have no variable for it
  locked     jobs have one, and --lock keeps it from them
  closed     jobs have one that --unlock opens
  job        jobs may, within the bound that stands behind it

Exit codes
  0    the settings are usable
  1    prepare would refuse them: a value is faulty, or a job asks for more than it may; or a file can't be read
  64   the command line is not understood`

// explainFlags are the flags of explain beside those of prepare.
type explainFlags struct {
	configTOML, runner, response string
	asJSON                       bool
}

func newExplainCommand(env Env) *cobra.Command {
	var f explainFlags
	flags := &hostFlags{}
	cmd := &cobra.Command{
		Use: "explain", Short: "Show every setting, where it came from, and who may change it", Long: explainLong, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.runner != "" && f.configTOML == "" {
				return &usageError{errors.New("--runner is one of a config.toml: --config-toml is missing")}
			}
			return runExplain(env, f, flags)
		},
	}
	flags.given = addFlags(cmd.Flags(), settings.StagePrepare)
	cmd.Flags().StringVar(&flags.file, configFlag, "", "`FILE` in TOML with settings, by the names of their flags")
	cmd.Flags().StringVar(&f.configTOML, "config-toml", "", "`PATH` of GitLab Runner's config.toml, to take prepare's arguments from")
	cmd.Flags().StringVar(&f.runner, "runner", "", "`NAME` of the runner in it; needed if several use this driver")
	cmd.Flags().StringVar(&f.response, "job-response", "", "`FILE` with a job, as GitLab sent it")
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "write JSON: an object with settings, warnings and errors")
	_ = cmd.MarkFlagFilename("config-toml", "toml")
	_ = cmd.MarkFlagFilename("job-response", "json")
	return cmd
}

func runExplain(env Env, f explainFlags, flags *hostFlags) error {
	var variables civar.List
	title := "the flags given"
	if f.configTOML != "" {
		r, err := findRunner(f.configTOML, f.runner)
		if err != nil {
			return err
		}
		args, err := parseStageArgs(r.args)
		if err != nil {
			return job.Mistake(fmt.Errorf("%s in %s: prepare_args: %w", r.runner.Describe(), f.configTOML, err), "`gitlab-runner-tart-driver doctor` looks at all of config.toml")
		}
		title = fmt.Sprintf("%s in %s", r.runner.Describe(), f.configTOML)
		merged := maps.Clone(args.Flags)
		maps.Copy(merged, flags.given)
		flags = &hostFlags{given: merged, file: cmp.Or(flags.file, args.File)}
		for _, kv := range r.runner.Environment { // variables of the job come behind, and so before these
			name, value, _ := strings.Cut(kv, "=")
			variables = append(variables, civar.Public(name, value))
		}
	}
	src, err := flags.sources(env)
	if err != nil {
		return err
	}
	if f.response != "" {
		id, list, err := readJobResponse(f.response)
		if err != nil {
			return err
		}
		variables = append(variables, list...)
		title += ", and job " + id
	}
	src.Variables = map[string]string{}
	for _, v := range variables.Expand() {
		if v.File { // what the job sees is a path in the VM
			v.Value = filepath.Join(variables.Value("RUNNER_TEMP_PROJECT_DIR"), v.Key)
		}
		src.Variables[v.Key] = v.Value
	}
	explained, errs := settings.Explain(src)
	warnings := settings.Unknown(src.Variables)
	if f.asJSON {
		err = writeJSON(env.Stdout, newExplainReport(explained, warnings, errs))
	} else {
		for _, text := range warnings {
			fmt.Fprintf(env.Stderr, "warning: %s\n", job.Printable(text))
		}
		err = newPainter(env).writeExplained(env.Stdout, title, explained)
	}
	if err := written(err); err != nil {
		return err
	}
	if len(errs) > 0 {
		return job.Mistake(errors.Join(errs...), "prepare would end with this")
	}
	return nil
}

// preparing is a runner with the arguments that prepare is called with.
type preparing struct {
	runner runnerconf.Runner
	args   []string
}

// findRunner finds the runner that uses this driver, by its name where there are several.
func findRunner(path, name string) (preparing, error) {
	const hint = "`gitlab-runner-tart-driver doctor` looks at all of config.toml"
	file, err := runnerconf.Open(path)
	if err != nil {
		return preparing{}, job.Mistake(err, hint)
	}
	if !file.Exists {
		return preparing{}, job.Mistake(fmt.Errorf("there is no %s", path), "GitLab Runner's own is ~/.gitlab-runner/config.toml, or /etc/gitlab-runner/config.toml for root")
	}
	doc, err := runnerconf.Parse(file.Content)
	if err != nil {
		return preparing{}, job.Mistake(fmt.Errorf("%s is not valid: %w", path, err), hint)
	}
	var found []preparing
	var names []string
	for _, r := range doc.Config().Runners {
		for _, stage := range r.Custom.Stages() {
			call := stage.Call(fileHead)
			if stage.Verb == settings.StagePrepare && call.Driver == runnerconf.DriverOwn {
				names = append(names, fmt.Sprintf("%q", r.Name))
				if name == "" || r.Name == name {
					found = append(found, preparing{r, call.Args})
				}
			}
		}
	}
	switch {
	case len(names) == 0:
		return preparing{}, job.Mistake(fmt.Errorf("no runner in %s uses this driver", path), hint)
	case len(found) == 0:
		return preparing{}, job.Mistake(fmt.Errorf("no runner %q in %s uses this driver", name, path), "those that do: %s", strings.Join(names, ", "))
	case len(found) > 1:
		return preparing{}, job.Mistake(fmt.Errorf("%d runners in %s use this driver", len(found), path), "choose one with --runner: %s", strings.Join(names, ", "))
	}
	return found[0], nil
}

// fileHead is the beginning of a file, which tells a script from a binary, or nothing.
func fileHead(path string) []byte {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	const most = 512 // bytes
	head := make([]byte, most)
	n, _ := io.ReadFull(f, head)
	return head[:n]
}

// readJobResponse reads the job's id and variables from a job response.
func readJobResponse(path string) (id string, variables civar.List, err error) {
	const hint = "a job response is the JSON that GitLab Runner writes for every stage, JOB_RESPONSE_FILE"
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", nil, job.Mistake(fmt.Errorf("job response: %w", err), hint)
	}
	var r struct {
		ID        int64      `json:"id"`
		Variables civar.List `json:"variables"`
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		return "", nil, job.Mistake(fmt.Errorf("job response %s: %w", path, err), hint)
	}
	if r.ID <= 0 {
		return "", nil, job.Mistake(fmt.Errorf("job response %s: it has no job id", path), hint)
	}
	return fmt.Sprint(r.ID), r.Variables, nil
}

// explainReport is what explain --json writes.
type explainReport struct {
	Settings []explainRow `json:"settings"`
	Warnings []string     `json:"warnings"`
	Errors   []string     `json:"errors"`
}

// explainRow is a setting; Value is a text, or an array of texts for a list, and null for a secret that is set.
type explainRow struct {
	Setting   string          `json:"setting"`
	Value     any             `json:"value"`
	Hidden    bool            `json:"hidden"`
	Origin    settings.Origin `json:"origin"`
	Access    settings.Access `json:"access"`
	Bound     string          `json:"bound,omitempty"`
	Variables []string        `json:"variables"`
}

func newExplainReport(explained []settings.Explained, warnings []string, errs []error) explainReport {
	r := explainReport{Settings: []explainRow{}, Warnings: append([]string{}, warnings...), Errors: []string{}}
	for _, e := range explained {
		row := explainRow{Setting: e.Setting.Name, Value: e.Value, Origin: e.Origin, Access: e.Access, Bound: e.Bound, Variables: append([]string{}, e.Setting.Variables...)}
		switch {
		case hidden(e):
			row.Value, row.Hidden = nil, true
		case e.Setting.List:
			row.Value = append([]string{}, strings.FieldsFunc(e.Value, func(r rune) bool { return r == '\n' })...)
		}
		r.Settings = append(r.Settings, row)
	}
	for _, err := range errs {
		r.Errors = append(r.Errors, err.Error())
	}
	return r
}

// hidden tells whether there is a value that is not shown.
func hidden(e settings.Explained) bool { return e.Setting.Secret && e.IsSet }

// writeExplained writes the settings for people; what is not the default stands out.
func (p painter) writeExplained(w io.Writer, title string, explained []settings.Explained) error {
	if _, err := fmt.Fprintf(w, "%s\n\n", p.paint(bold, job.Printable("settings of "+title))); err != nil {
		return err
	}
	var rows [][]cell
	for _, e := range explained {
		value, colour := strings.ReplaceAll(e.Value, "\n", ", "), ""
		if hidden(e) {
			value = "(hidden)"
		}
		if e.Origin != settings.DefaultOrigin {
			colour = cyan
		}
		access := string(e.Access)
		if e.Bound != "" {
			access += ": " + e.Bound
		}
		rows = append(rows, []cell{{e.Setting.Name, colour}, {value, colour}, {string(e.Origin), colour}, {access, ""}})
	}
	return p.writeFitted(w, []column{{"SETTING", 0, 0}, {"VALUE", 20, 0}, {"FROM", 0, 0}, {"MAY CHANGE IT", 0, 0}}, rows)
}
