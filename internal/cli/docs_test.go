package cli

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

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
