package manpage

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"gitlab-runner-tart-driver/internal/lazy"
)

// page collects the lines of a page in the language of man(7), https://man.openbsd.org/man.7.
type page struct {
	strings.Builder
	begun bool // whether something stands in the section
}

// macro writes a line that begins with a macro. What stands behind its name is written as it is.
func (p *page) macro(name string, rest ...string) {
	if name == "PP" && !p.begun {
		return // a section begins with a paragraph anyway
	}
	p.begun = name != "SH" && name != "SS"
	p.WriteString("." + strings.Join(append([]string{name}, rest...), " ") + "\n")
}

// line writes a line that is no macro.
func (p *page) line(s string) {
	p.begun = true
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s // or else it were one
	}
	p.WriteString(s + "\n")
}

// text writes running text: a line for each sentence, with flags and what stands in backticks in bold.
func (p *page) text(s string) {
	s = sentence().ReplaceAllString(strings.Join(strings.Fields(s), " "), "$1\n$2")
	for one := range strings.Lines(s) {
		p.wrapped(marked(strings.TrimSuffix(one, "\n")))
	}
}

// wrapped writes a line of text in as many as it takes.
func (p *page) wrapped(s string) {
	const width = 78
	for len(s) > width {
		at := strings.LastIndexByte(s[:width+1], ' ')
		if at < 0 {
			if at = strings.IndexByte(s, ' '); at < 0 {
				break
			}
		}
		p.line(s[:at])
		s = s[at+1:]
	}
	p.line(s)
}

// sentence is the gap between two sentences.
var sentence = lazy.Regexp(`([.!?][)"]?) ([A-Z])`)

// flagForm is a flag in running text, and code what stands in backticks.
var (
	flagForm = lazy.Regexp("(^|[\\s(])(--?[a-z][a-z0-9-]*)")
	code     = lazy.Regexp("`([^`]+)`")
)

// marked is a line of text with its bold parts.
func marked(s string) string {
	s = code().ReplaceAllString(s, "\x01$1\x02")
	s = flagForm().ReplaceAllString(s, "$1\x01$2\x02")
	return strings.NewReplacer("\x01", `\fB`, "\x02", `\fR`).Replace(escape(s))
}

// item writes a term and what there is to say of it. The term is written as it is.
func (p *page) item(term string, texts ...string) {
	p.macro("TP")
	p.line(term)
	for _, t := range texts {
		p.text(t)
	}
}

// verbatim writes lines that stay as they are.
func (p *page) verbatim(lines []string) {
	p.macro("PP")
	p.macro("EX")
	for _, line := range lines {
		p.line(escape(line))
	}
	p.macro("EE")
}

func bold(s string) string   { return `\fB` + escape(s) + `\fR` }
func italic(s string) string { return `\fI` + escape(s) + `\fR` }

// escape writes characters so that they come out as themselves, and can be copied into a shell. https://man.openbsd.org/mandoc_char.7
func escape(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\\':
			b.WriteString(`\e`)
		case r == '-':
			b.WriteString(`\-`)
		case r == '~':
			b.WriteString(`\(ti`)
		case r == '^':
			b.WriteString(`\(ha`)
		case r == '`':
			b.WriteString(`\(ga`)
		case r == '\'':
			b.WriteString(`\(aq`)
		case r >= utf8.RuneSelf:
			fmt.Fprintf(&b, `\[u%04X]`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
