package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"gitlab-runner-tart-driver/internal/host"
	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/settings"
)

// painter colours text for a person at a terminal, and makes it fit; nothing else.
type painter struct {
	colours bool
	// width is that of the terminal, or 0.
	width int
}

func newPainter(env Env) painter {
	// https://no-color.org
	colours := isTerminal(env.Stdout) && job.Environ(env.Environ).Get("NO_COLOR") == "" && job.Environ(env.Environ).Get("TERM") != "dumb"
	return painter{colours, terminalWidth(env.Stdout)}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Colours, as parameters of SGR: https://en.wikipedia.org/wiki/ANSI_escape_code#Select_Graphic_Rendition_parameters
const (
	bold   = "1"
	dim    = "2"
	red    = "1;31"
	yellow = "33"
	cyan   = "36"
)

func (p painter) paint(colour, text string) string {
	if !p.colours || colour == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// writeJSON writes a value for scripts, and for people who look at what scripts get.
func writeJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}

// writeJSONLine writes a value on a line of its own.
func writeJSONLine(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}

// cell is a field of a table.
type cell struct{ text, colour string }

// writeTable writes rows of equal length with their fields below one another. Widths are counted in characters, without the colours.
func (p painter) writeTable(w io.Writer, header []string, rows [][]cell) error {
	widths := make([]int, len(header))
	all := make([][]cell, 0, len(rows)+1)
	head := make([]cell, len(header))
	for i, title := range header {
		head[i] = cell{title, bold}
	}
	for _, row := range append(append(all, head), rows...) {
		clean := make([]cell, len(row))
		for i, c := range row {
			if c.text == "" {
				c.text = "-"
			}
			clean[i] = cell{job.Printable(c.text), c.colour}
			widths[i] = max(widths[i], utf8.RuneCountInString(clean[i].text))
		}
		all = append(all, clean)
	}
	var b strings.Builder
	for _, row := range all {
		for i, c := range row {
			b.WriteString(p.paint(c.colour, c.text))
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c.text)+columnGap))
			}
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// plain are fields without colours.
func plain(texts ...string) []cell {
	cells := make([]cell, len(texts))
	for i, text := range texts {
		cells[i].text = text
	}
	return cells
}

// shortAge is a duration in one or two units: 12s, 3m20s, 2h5m, 3d4h.
func shortAge(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
	default:
		return fmt.Sprintf("%dd%dh", int(d.Hours())/24, int(d.Hours())%24)
	}
}

// written is the error of writing, unless it is that nobody reads any more: a reader such as head has seen enough.
func written(err error) error {
	if errors.Is(err, syscall.EPIPE) {
		return nil
	}
	return err
}

// newHostVerb makes a verb that looks at this host's jobs. shown are the settings that it uses beside the state directory.
func newHostVerb(use, short, long string, args cobra.PositionalArgs, shown ...string) (cmd *cobra.Command, flags *hostFlags) {
	cmd = &cobra.Command{Use: use, Short: short, Long: long, Args: args}
	flags = &hostFlags{given: addFlags(cmd.Flags(), cmd.Name())}
	cmd.Flags().VisitAll(func(f *pflag.Flag) { f.Hidden = true })
	for _, name := range append(shown, "state-dir") {
		cmd.Flags().Lookup(name).Hidden = false
	}
	cmd.Flags().StringVar(&flags.file, configFlag, "", "`FILE` in TOML with settings, by the names of their flags")
	return cmd, flags
}

// hostFlags are the flags of the settings table that a verb was given.
type hostFlags struct {
	given map[string]string
	file  string
}

// sources are where the settings of a verb come from. There is no job.
func (f *hostFlags) sources(env Env) (settings.Sources, error) {
	src := settings.Sources{Flags: f.given, FilePath: f.file, Defaults: map[string]string{"state-dir": defaultStateDir(job.Environ(env.Environ))}}
	if f.file != "" {
		var err error
		if src.File, err = settings.ReadFile(f.file); err != nil {
			return src, job.Mistake(err, "a config file has the flags' names as keys, such as concurrency = 2")
		}
	}
	return src, nil
}

// open opens the state directory, which must be there.
func (f *hostFlags) open(env Env) (*settings.Settings, *host.State, error) {
	src, err := f.sources(env)
	if err != nil {
		return nil, nil, err
	}
	s, errs := settings.Resolve(src)
	if len(errs) > 0 {
		return nil, nil, job.Mistake(errors.Join(errs...), "`gitlab-runner-tart-driver --help` lists verbs and flags")
	}
	state, err := host.Look(s.StateDir)
	switch {
	case errors.Is(err, host.ErrNoState):
		return nil, nil, job.Mistake(err, "no job has run here yet; say where with --state-dir, and be the user that GitLab Runner runs as")
	case err != nil:
		return nil, nil, job.Mistake(err, "be the user that GitLab Runner runs as; --state-dir is the same as the stages have")
	}
	return s, state, nil
}

// completeLiveJobs offers the jobs that run, for shell completion.
func completeLiveJobs(env Env, flags *hostFlags) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return liveJobs(env, flags, ""), cobra.ShellCompDirectiveNoFileComp
	}
}

// liveJobs are the jobs that run, with something behind each number, and what people know them by.
func liveJobs(env Env, flags *hostFlags, behind string) (jobs []cobra.Completion) {
	_, state, err := flags.open(env)
	if err != nil {
		return nil
	}
	records, err := state.Records()
	if err != nil {
		return nil
	}
	for _, r := range records {
		jobs = append(jobs, cobra.CompletionWithDesc(job.Printable(r.JobID)+behind, job.Printable(strings.TrimSpace(r.Project+" "+r.Image))))
	}
	return jobs
}
