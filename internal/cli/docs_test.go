package cli

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestDocumentedCommands has every command of the page about debugging taken by the command line.
func TestDocumentedCommands(t *testing.T) {
	raw, err := os.ReadFile("../../docs/debugging.md")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(raw)) {
		rest, ok := strings.CutPrefix(line, "gitlab-runner-tart-driver ")
		if !ok {
			continue
		}
		n++
		rest, _, _ = strings.Cut(rest, " | ")
		rest, _, _ = strings.Cut(rest, " > ")
		words := strings.Fields(rest)
		root := newRoot(Env{Args: words, Stdin: strings.NewReader(""), Stdout: io.Discard, Stderr: io.Discard, Executable: "driver"})
		root.InitDefaultCompletionCmd()
		cmd, args, err := root.Find(words)
		if err == nil && cmd == root {
			err = os.ErrNotExist
		}
		if err == nil {
			err = cmd.ParseFlags(args)
		}
		if err == nil {
			err = cmd.ValidateArgs(cmd.Flags().Args())
		}
		if err != nil {
			t.Errorf("%s: %v", strings.TrimSpace(line), err)
		}
	}
	if n < 15 {
		t.Errorf("the page has only %d commands", n)
	}
}

// TestTroubleshootingHasTheWordsOfErrors looks for each heading of that page in the code, as part of a message.
func TestTroubleshootingHasTheWordsOfErrors(t *testing.T) {
	page, err := os.ReadFile("../../docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	var code strings.Builder
	err = filepath.WalkDir("..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "tartsim") {
			return err
		}
		raw, err := os.ReadFile(path)
		code.Write(raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(page)) {
		if text, ok := strings.CutPrefix(line, "### "); ok {
			n++
			if !strings.Contains(code.String(), strings.TrimSpace(text)) {
				t.Errorf("no error says %q", strings.TrimSpace(text))
			}
		}
	}
	if n == 0 {
		t.Error("the page has no errors")
	}
}
