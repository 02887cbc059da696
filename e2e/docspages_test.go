package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// repository is where this code lies.
const repository = ".."

// block is a fenced block of a page.
type block struct {
	// page is the path of the page in the repository, and line the number of the line that opens the block.
	page string
	line int
	// language is what stands behind the fence, such as sh.
	language, text string
}

// pages are all pages of the documentation, in the order in which people come to them.
func pages(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"*.md", "docs/*.md"} {
		found, err := filepath.Glob(filepath.Join(repository, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range found {
			all = append(all, strings.TrimPrefix(path, repository+"/"))
		}
	}
	first := []string{"README.md", "docs/getting-started.md"}
	for _, page := range first {
		if !slices.Contains(all, page) {
			t.Errorf("there is no %s", page)
		}
	}
	return append(first, slices.DeleteFunc(all, func(page string) bool { return slices.Contains(first, page) })...)
}

// readPage takes a page apart. prose is what is not in blocks.
func readPage(t *testing.T, page string) (blocks []block, prose string) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(repository, page))
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	open, n := false, 0
	for line := range strings.Lines(string(raw)) {
		n++
		language, fence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case fence && !open:
			blocks = append(blocks, block{page: page, line: n, language: language})
			open = true
		case fence:
			open = false
		case open:
			blocks[len(blocks)-1].text += line
		default:
			text.WriteString(line)
		}
	}
	if open {
		t.Errorf("%s:%d: the block has no end", page, blocks[len(blocks)-1].line)
	}
	return blocks, text.String()
}

// command is one that a page tells people to type.
type command struct {
	page string
	line int
	text string
	// shows is what the page says that it prints; nil where the page says nothing about that.
	shows []string
}

// commands are those of a block of shell. A command has as many lines as the shell needs to understand it. In a console, commands stand behind a $, and
// what they print below.
func (b block) commands(t *testing.T) (all []command) {
	t.Helper()
	var pending command
	n := b.line
	for line := range strings.Lines(b.text) {
		n++
		if b.language == "console" && pending.text == "" {
			typed, ok := strings.CutPrefix(line, "$ ")
			if !ok && len(all) > 0 {
				all[len(all)-1].shows = append(all[len(all)-1].shows, strings.TrimRight(line, "\n"))
				continue
			}
			line = typed
		}
		if pending.text == "" {
			if text := strings.TrimSpace(line); text == "" || strings.HasPrefix(text, "#") {
				continue
			}
			pending = command{page: b.page, line: n}
		}
		pending.text += line
		if out, err := exec.Command("bash", "-n", "-c", pending.text).CombinedOutput(); err == nil && len(out) == 0 {
			pending.text = strings.TrimSpace(pending.text)
			all = append(all, pending)
			pending = command{}
		}
	}
	if pending.text != "" {
		t.Errorf("%s:%d: no shell understands %q", pending.page, pending.line, pending.text)
	}
	return all
}

// ownCalls are the calls of the driver in a line of shell, as far as flags go: nothing behind --, and no quotes.
func ownCalls(text string) (calls [][]string) {
	for {
		_, rest, ok := strings.Cut(text, "gitlab-runner-tart-driver ")
		if !ok {
			return calls
		}
		text = rest
		call := rest
		for _, end := range []string{" -- ", " |", " >", " <", " #", " &", ";", "`", "\n"} {
			call, _, _ = strings.Cut(call, end)
		}
		calls = append(calls, strings.Fields(call))
	}
}
