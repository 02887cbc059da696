package cli

import (
	"io"
	"os"
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
