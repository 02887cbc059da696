package cli

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// manPages writes the pages of all verbs into a directory, and returns the commands that they are about.
func manPages(t *testing.T, dir string) []*cobra.Command {
	t.Helper()
	root := newRoot(Env{
		Args: []string{"man", dir}, Environ: []string{"SOURCE_DATE_EPOCH=1700000000"},
		Stdin: strings.NewReader(""), Stdout: io.Discard, Stderr: io.Discard, Version: "1.2.3",
	})
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	all := []*cobra.Command{root}
	for i := 0; i < len(all); i++ {
		for _, cmd := range all[i].Commands() {
			if !cmd.Hidden && cmd.Name() != "help" {
				all = append(all, cmd)
			}
		}
	}
	return all
}

func TestEveryVerbHasAManualPage(t *testing.T) {
	dir := t.TempDir()
	all := manPages(t, dir)
	if len(all) < 25 {
		t.Errorf("only %d commands", len(all))
	}
	for _, cmd := range all {
		name := strings.ReplaceAll(cmd.CommandPath(), " ", "-")
		raw, err := os.ReadFile(filepath.Join(dir, name+".1"))
		if err != nil {
			t.Error(err)
			continue
		}
		text := unformatted(string(raw))
		has := func(part string) {
			if !strings.Contains(text, part) {
				t.Errorf("%s.1 lacks %q", name, part)
			}
		}
		has(".TH " + strings.ToUpper(name) + " 1 2023-11-14 \"gitlab-runner-tart-driver 1.2.3\"")
		has("\n.SH NAME\n" + name + " - ")
		for _, section := range []string{"SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "SEE ALSO"} {
			has("\n.SH " + section + "\n")
		}
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				has("--" + f.Name)
			}
		})
		// What looks at the environment says so; these do not.
		if silent := []string{"settings", "images"}; !slices.Contains(silent, cmd.Name()) && !strings.Contains(name, "-completion") {
			has("\n.SH ENVIRONMENT\n")
		}
	}
	if pages, _ := filepath.Glob(filepath.Join(dir, "*")); len(pages) != len(all) {
		t.Errorf("%d pages for %d commands", len(pages), len(all))
	}
	prepare, _ := os.ReadFile(filepath.Join(dir, "gitlab-runner-tart-driver-prepare.1"))
	for _, part := range []string{"TART_EXECUTOR_BRIDGED", "where --unlock bridged opens that to jobs", "JOB_RESPONSE_FILE", "Default: if-not-present."} {
		if !strings.Contains(unformatted(string(prepare)), part) {
			t.Errorf("the page of prepare lacks %q", part)
		}
	}
}

// unformatted is a page without its fonts and with its characters as they come out.
func unformatted(page string) string {
	return strings.NewReplacer(`\fB`, "", `\fI`, "", `\fR`, "", `\-`, "-", `\(aq`, "'", `\(ti`, "~", `\(ha`, "^", `\(ga`, "`").Replace(page)
}

// TestManualPagesAreWellFormed looks at every line, and has the formatters of this machine look, too.
func TestManualPagesAreWellFormed(t *testing.T) {
	dir := t.TempDir()
	manPages(t, dir)
	pages, err := filepath.Glob(filepath.Join(dir, "*.1"))
	if err != nil || len(pages) == 0 {
		t.Fatal(pages, err)
	}
	macro := regexp.MustCompile(`^\.(SH|SS) [A-Za-z ]+$|^\.(PP|TP|EX|EE|nh|br|ad l)$|^\.TH [A-Z-]+(\\-[A-Z]+)* 1 `)
	known := regexp.MustCompile(`\\(f[BIR]|e|-|&|\(aq|\(ti|\(ha|\(ga|\(dq|\[u[0-9A-F]{4}\])`)
	for _, page := range pages {
		raw, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		examples := 0
		for i, line := range strings.Split(strings.TrimSuffix(string(raw), "\n"), "\n") {
			rest := known.ReplaceAllString(line, "")
			switch {
			case strings.HasPrefix(line, ".") && !macro.MatchString(line):
				t.Errorf("%s:%d: no macro of these pages: %s", filepath.Base(page), i+1, line)
			case strings.Contains(rest, `\`) || strings.TrimRight(line, " \t") != line || strings.ContainsFunc(rest, func(r rune) bool { return r > '~' || r < ' ' && r != '\t' }):
				t.Errorf("%s:%d: not what man(7) takes: %q", filepath.Base(page), i+1, line)
			case line == ".EX":
				examples++
			case line == ".EE":
				examples--
			case line == "":
				t.Errorf("%s:%d: an empty line", filepath.Base(page), i+1)
			}
		}
		if examples != 0 {
			t.Errorf("%s: .EX and .EE don't match", filepath.Base(page))
		}
	}
	for _, lint := range [][]string{{"mandoc", "-T", "lint", "-W", "warning"}, {"groff", "-man", "-T", "utf8", "-ww", "-z"}} {
		if _, err := exec.LookPath(lint[0]); err != nil {
			t.Logf("no %s on this machine", lint[0])
			continue
		}
		for _, page := range pages {
			var said bytes.Buffer
			cmd := exec.Command(lint[0], append(lint[1:], page)...)
			cmd.Stdout, cmd.Stderr = &said, &said
			if err := cmd.Run(); err != nil || said.Len() > 0 {
				t.Errorf("%s: %v\n%s", lint[0], err, said.String())
			}
		}
	}
}
