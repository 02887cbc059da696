package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gitlab-runner-tart-driver/internal/settings"
)

// Of prose these are looked at: code in a line, the flags and variables in it, and links.
var (
	inlineCode   = regexp.MustCompile("`[^`]+`")
	inlineFlag   = regexp.MustCompile(`(?:^|[\s\x60])--([a-z][a-z-]*[a-z])(?:[^A-Za-z-]|$)`)
	helpFlag     = regexp.MustCompile(`(?m)^ +(?:-[A-Za-z], )?--([a-z][a-z-]*)`)
	ownVariable  = regexp.MustCompile(`TART_[A-Z_]*[A-Z]\b`)
	listedVerb   = regexp.MustCompile(`(?m)^  ([a-z]+)  `)
	pageLink     = regexp.MustCompile(`\]\(([^)#:\s]*)(#[^)\s]*)?\)`)
	headingNoise = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// learn takes from the driver and the stand-in what flags and variables there are.
func (h *reader) learn() {
	h.known = map[string]bool{}
	for _, row := range settings.Table() {
		for _, name := range append([]string{row.Name, "no-" + row.Name}, row.Aliases...) {
			h.known[name] = true
		}
		for _, name := range row.Variables {
			h.known[name] = true
		}
	}
	for _, program := range []string{h.bin, built.tartsim} {
		h.learnFrom(program)
	}
	for _, name := range foreign {
		h.known[name] = true
	}
}

// learnFrom reads the help of a program, and that of its verbs.
func (h *reader) learnFrom(words ...string) {
	help, _, _ := h.command(nil, words[0], append(slices.Clone(words[1:]), "--help")...)
	for _, m := range helpFlag.FindAllStringSubmatch(help, -1) {
		h.known[m[1]] = true
	}
	_, verbs, _ := strings.Cut(help, "Available Commands:\n")
	verbs, _, _ = strings.Cut(verbs, "\n\n")
	for _, m := range listedVerb.FindAllStringSubmatch(verbs, -1) {
		if m[1] != "help" {
			h.learnFrom(append(slices.Clone(words), m[1])...)
		}
	}
}

// checkProse looks at what a page says outside of its blocks: calls of the driver, and links to other pages.
func (h *reader) checkProse(page, prose string) {
	for _, code := range inlineCode.FindAllString(prose, -1) {
		for _, m := range inlineFlag.FindAllStringSubmatch(code, -1) {
			h.knows(page, "flag --", m[1])
		}
		for _, name := range ownVariable.FindAllString(code, -1) {
			h.knows(page, "variable ", name)
		}
		for _, call := range ownCalls(strings.Trim(code, "`")) {
			// An ellipsis stands for more arguments.
			if call = slices.DeleteFunc(call, func(word string) bool { return word == "…" }); len(call) > 0 {
				h.checkCall(page, call)
			}
		}
	}
	for _, link := range pageLink.FindAllStringSubmatch(prose, -1) {
		target := page
		if link[1] != "" {
			target = filepath.Join(filepath.Dir(page), link[1])
		}
		raw, err := os.ReadFile(filepath.Join(repository, target))
		if err != nil {
			h.t.Errorf("%s: a link to %s, which is not there", page, target)
			continue
		}
		if anchor := strings.TrimPrefix(link[2], "#"); anchor != "" && !slices.Contains(anchors(string(raw)), anchor) {
			h.t.Errorf("%s: a link to #%s of %s, which has no such heading", page, anchor, target)
		}
	}
}

// knows tells of names that neither the driver has nor another program that the pages are about.
func (h *reader) knows(page, kind, name string) {
	h.met[name] = true
	if !h.known[name] {
		h.t.Errorf("%s: there is no %s%s", page, kind, name)
	}
}

// anchors are the names of a page's headings in links, as GitLab and GitHub make them.
func anchors(page string) (all []string) {
	for line := range strings.Lines(page) {
		if text := strings.TrimLeft(line, "#"); text != line && strings.HasPrefix(text, " ") {
			text = headingNoise.ReplaceAllString(strings.ToLower(strings.TrimSpace(text)), "")
			all = append(all, strings.ReplaceAll(text, " ", "-"))
		}
	}
	return all
}

// TestEveryPageIsLinked looks for each page in the first one that people read.
func TestEveryPageIsLinked(t *testing.T) {
	_, prose := readPage(t, "README.md")
	for _, page := range pages(t) {
		if page != "README.md" && !strings.Contains(prose, "]("+page) {
			t.Errorf("README.md does not link %s", page)
		}
	}
}
