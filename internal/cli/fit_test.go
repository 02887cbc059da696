package cli

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

func TestTableFitsTheTerminal(t *testing.T) {
	columns := []column{{"JOB", 0, 0}, {"PROJECT", 8, 0}, {"VM", 0, 2}, {"IMAGE", 10, 0}, {"ADDRESS", 0, 1}}
	rows := [][]cell{
		plain("4711", "group/subgroup/project", "grtd-aaaaaa-4711-aaaaaaaa", "ghcr.io/cirruslabs/macos-sequoia-base:latest", "192.168.64.2"),
		plain("4712", "g/p", "", "base", ""),
	}
	for _, c := range []struct {
		width int
		first string // the longer row
	}{
		{0, "4711  group/subgroup/project  grtd-aaaaaa-4711-aaaaaaaa  ghcr.io/cirruslabs/macos-sequoia-base:latest  192.168.64.2"},
		{115, "4711  group/subgroup/project  grtd-aaaaaa-4711-aaaaaaaa  ghcr.io/cirruslabs/macos-sequoia-base:latest  192.168.64.2"},
		{110, "4711  …subgroup/project  grtd-aaaaaa-4711-aaaaaaaa  ghcr.io/cirruslabs/macos-sequoia-base:latest  192.168.64.2"},
		{80, "4711  …project  grtd-aaaaaa-4711-aaaaaaaa  …os-sequoia-base:latest  192.168.64.2"},
		{60, "4711  …project  …abs/macos-sequoia-base:latest  192.168.64.2"},
		{30, "4711  …project  …a-base:latest"},
		{10, "4711  …project  …se:latest"}, // as narrow as it gets
	} {
		var out bytes.Buffer
		if err := (painter{width: c.width}).writeFitted(&out, columns, rows); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(out.String(), "\n")
		if widest := slices.MaxFunc(lines, func(a, b string) int { return utf8.RuneCountInString(a) - utf8.RuneCountInString(b) }); c.width > 20 && utf8.RuneCountInString(widest) > c.width {
			t.Errorf("%d: %q is too wide", c.width, widest)
		}
		if lines[1] != c.first {
			t.Errorf("%d: got\n%s, want\n%s", c.width, lines[1], c.first)
		}
	}
	if rows[0][1].text != "group/subgroup/project" || len(rows[0]) != len(columns) {
		t.Error("the caller's rows have changed")
	}
}

func TestWrap(t *testing.T) {
	const text = "one two three four five six"
	for _, c := range []struct {
		width, indent int
		want          string
	}{
		{0, 4, text}, {80, 4, text}, {24, 4, "one two three four\n    five six"}, {23, 4, text}, {20, 0, "one two three four\nfive six"},
	} {
		if got := wrap(text, c.width, c.indent); got != c.want {
			t.Errorf("%d, %d: %q", c.width, c.indent, got)
		}
	}
	got := wrapParagraphs("A paragraph of\ntwo lines.\n\nExit codes\n  0    all is well with everything\n  an example that is as long as it is", 30)
	want := "A paragraph of two lines.\n\nExit codes\n  0    all is well with\n       everything\n  an example that is as long as it is"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestHelpFitsTheTerminal looks at the help of all commands, on a terminal of 80 columns.
func TestHelpFitsTheTerminal(t *testing.T) {
	const width = 80
	root := newRoot(Env{})
	wrapHelp(root, width)
	var look func(*cobra.Command)
	look = func(cmd *cobra.Command) {
		var out bytes.Buffer
		cmd.SetOut(&out)
		if err := cmd.Help(); err != nil {
			t.Error(err)
		}
		for line := range strings.Lines(out.String()) {
			example := strings.HasPrefix(line, "  ") && !strings.Contains(strings.TrimSpace(line), "  ")
			if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > width && !example {
				t.Errorf("%s: a line of %d: %s", cmd.CommandPath(), n, line)
			}
		}
		for _, sub := range cmd.Commands() {
			look(sub)
		}
	}
	look(root)
}

// TestHelpNamesValues has flags of settings whose help quotes something.
func TestHelpNamesValues(t *testing.T) {
	var out bytes.Buffer
	root := newRoot(Env{Args: []string{"prepare", "--help"}, Stdout: &out})
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"--hold-on-failure DURATION ", "--tart-run-env NAME[=VALUE] ", "--disk PATH[:OPTIONS] "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("help does not have %q", want)
		}
	}
}
