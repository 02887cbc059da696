package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// prelude is what the table of deviations has at hand.
const prelude = `
# endless runs what goes on until ^C, and types that as soon as it has shown something.
endless() {
	rm -f "$DIR/shown"
	"$@" > "$DIR/shown" & local pid=$!
	until [ -s "$DIR/shown" ]; do kill -0 $pid || break; sleep 0.05; done
	kill -INT $pid; wait $pid
}
`

// typed types the commands of a page into one shell.
func (h *reader) typed(commands []command) {
	if len(commands) == 0 {
		return
	}
	var script strings.Builder
	script.WriteString(prelude)
	codes := make([]int, len(commands))
	for i, c := range commands {
		text, before, code := h.deviate(c)
		codes[i] = code
		fmt.Fprintf(&script, "{\n:\n%s\n} > /dev/null\n{\n%s\ncodes=${PIPESTATUS[*]}\n} > \"$DIR/typed-%d\" 2>&1 < /dev/null\necho %d $codes\n", before, text, i, i)
	}
	out, errs, _ := h.command(nil, "bash", "-c", script.String())
	ended := map[int][]int{}
	for line := range strings.Lines(out) {
		var numbers []int
		for _, word := range strings.Fields(line) {
			n, err := strconv.Atoi(word)
			if err != nil {
				h.t.Errorf("the shell says %q", line)
			}
			numbers = append(numbers, n)
		}
		ended[numbers[0]] = numbers[1:]
	}
	for i, c := range commands {
		printed, _ := os.ReadFile(filepath.Join(h.dir, fmt.Sprintf("typed-%d", i)))
		got, ok := ended[i]
		const brokenPipe = 128 + 13
		if !ok {
			h.t.Errorf("%s:%d: %q does not end: %s%s", c.page, c.line, c.text, printed, errs)
			break
		}
		if last := got[len(got)-1]; last != codes[i] || slices.ContainsFunc(got[:len(got)-1], func(n int) bool { return n != 0 && n != brokenPipe }) {
			h.t.Errorf("%s:%d: %q ends with %v: %s", c.page, c.line, c.text, got, printed)
		}
		c.compare(h.t, string(printed))
	}
	if errs != "" {
		h.t.Errorf("%s: %s", commands[0].page, errs)
	}
}

// deviate is what is typed for a command of a page, what has to happen before, and the exit code.
func (h *reader) deviate(c command) (text, before string, code int) {
	text = c.text
	for i, d := range deviations {
		if d.page != "" && d.page != c.page {
			continue
		}
		m := regexp.MustCompile(`(?s)^` + d.command + `$`).FindStringSubmatchIndex(c.text)
		if m == nil {
			continue
		}
		h.used[i] = true
		before, code = d.before, d.code
		if d.instead != "" || d.before == "" && d.code == 0 {
			text = string(regexp.MustCompile(`(?s)^`+d.command+`$`).ExpandString(nil, d.instead, c.text, m))
			for _, call := range ownCalls(c.text) {
				h.checkCall(fmt.Sprintf("%s:%d", c.page, c.line), call)
			}
		}
		break
	}
	if text == "" {
		text = "true"
	}
	if place, ok := places[c.page]; ok {
		text = strings.ReplaceAll(text, place[0], place[1])
	}
	return text, before, code
}

// compare checks that a command prints what its page says. There … stands for anything, and on a line of its own for any lines; a number or an age stands
// for any, spaces for any spaces, and the name of a VM for any.
func (c command) compare(t *testing.T, printed string) {
	t.Helper()
	if c.shows == nil {
		return
	}
	var pattern strings.Builder
	for _, line := range c.shows {
		if line == "…" {
			pattern.WriteString(`(?:.*\n)*`)
			continue
		}
		for line != "" {
			at := varying.FindStringIndex(line)
			if at == nil {
				at = []int{len(line), len(line)}
			}
			pattern.WriteString(regexp.QuoteMeta(line[:at[0]]))
			switch found := line[at[0]:at[1]]; {
			case found == "":
			case found == "…":
				pattern.WriteString(`.*`)
			case found[0] == ' ':
				pattern.WriteString(` +`)
			case found[0] == 'g':
				pattern.WriteString(`grtd-[a-z0-9-]+`)
			case strings.ContainsAny(found, "dhms"):
				pattern.WriteString(age)
			default:
				pattern.WriteString(`[0-9]+(?:\.[0-9]+)?`)
			}
			line = line[at[1]:]
		}
		pattern.WriteString(`\n`)
	}
	printed = colours.ReplaceAllString(printed, "")
	if !regexp.MustCompile(`^` + pattern.String() + `$`).MatchString(printed) {
		t.Errorf("%s:%d: %q prints\n%s\nand the page says\n%s", c.page, c.line, c.text, printed, strings.Join(c.shows, "\n"))
	}
}

// colours are what a page can't show, and what marks sections in GitLab's log.
var colours = regexp.MustCompile(`\x1b\[[0-9;]*[A-Za-z]`)

// age is one as ps prints it, such as 3m20s.
const age = `(?:[0-9]+[dhm])?[0-9]+[dhms]\b`

// varying are the parts of what is printed that are others each time.
var varying = regexp.MustCompile(`…|grtd-[a-z0-9-]+|` + age + `|[0-9]+(?:\.[0-9]+)?| +`)
