package runnerconf

import (
	"bytes"
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// edit replaces a range of the file.
type edit struct {
	at   span
	text string
}

// newSection is a table that the file is to get.
type newSection struct {
	runner int
	path   []string
	at     int
	indent string
	lines  []string
}

// Set gives a key a value: a string, an int or a []string. A key that has the value already stays as it is, with everything around it. why is
// put behind it as a comment, unless there is one; it may be empty. runner is the index of the runner, or Global.
func (d *Document) Set(runner int, path []string, value any, why string) error {
	rendered, err := render(value)
	if err != nil {
		return err
	}
	name := strings.Join(path, ".")
	if _, e := d.find(runner, path...); e != nil {
		if !d.has(*e, value) {
			d.replace(*e, rendered, why)
		}
		return nil
	}
	if runner != Global && d.table(runner, nil) == nil {
		return fmt.Errorf("%s: cannot be added, since the file has no [[runners]] of its own for this runner", name)
	}
	line := path[len(path)-1] + " = " + rendered
	if why != "" {
		line += " # " + why
	}
	parent := path[:len(path)-1]
	if s := d.table(runner, parent); s != nil {
		d.insert(s, line)
		return nil
	}
	if _, e := d.find(runner, parent...); e != nil {
		return fmt.Errorf("line %d: %s cannot be added to %s in braces; write that as a table, [%s]", d.lineNumber(e.key.from), name,
			strings.Join(parent, "."), strings.Join(append([]string{"runners"}, parent...), "."))
	}
	if s := d.dotted(runner, parent); s != nil {
		d.insert(s, strings.Join(path[len(s.path)-1:len(path)-1], ".")+"."+line)
		return nil
	}
	d.inNewSection(runner, parent, line)
	return nil
}

// dotted is a section of the runner in which keys below path are written with dots.
func (d *Document) dotted(runner int, path []string) *section {
	for _, s := range d.sections {
		below, ok := s.below(runner)
		if !ok || len(below) >= len(path) || runner == Global {
			continue
		}
		for _, e := range s.entries {
			full := slices.Concat(below, e.path)
			if !e.inline && len(full) > len(path) && slices.Equal(full[:len(path)], path) {
				return s
			}
		}
	}
	return nil
}

// has tells whether an entry has this value already.
func (d *Document) has(e entry, value any) bool {
	raw := d.raw[e.value.from:e.value.to]
	switch value := value.(type) {
	case string:
		return len(e.texts) == 1 && raw[0] != '[' && e.texts[0].value == value
	case []string:
		var items []string
		for _, t := range e.texts {
			items = append(items, t.value)
		}
		return raw[0] == '[' && reflect.DeepEqual(items, value)
	case int:
		n, err := strconv.ParseInt(strings.ReplaceAll(string(raw), "_", ""), 0, 64)
		return err == nil && n == int64(value)
	default:
		return false
	}
}

// replace changes a value, and explains it where nothing is written behind it.
func (d *Document) replace(e entry, rendered, why string) {
	line := d.line(max(e.value.from, e.value.to-1))
	rest := string(d.raw[e.value.to:line.to])
	if why != "" && strings.TrimSpace(rest) == "" {
		rendered += " # " + why
	}
	d.edits = append(d.edits, edit{e.value, rendered})
}

// insert adds a line behind the last key of a section.
func (d *Document) insert(s *section, line string) {
	at, indent := d.insertion(s)
	d.edits = append(d.edits, edit{span{at, at}, d.asLines(at, indent, line)})
}

// insertion is where a section's next line goes, and how far in.
func (d *Document) insertion(s *section) (at int, indent string) {
	if n := len(s.entries); n > 0 {
		last := s.entries[0]
		for _, e := range s.entries { // of those within an inline table, the outer one ends last
			if e.value.to > last.value.to {
				last = e
			}
		}
		return d.line(max(last.value.from, last.value.to-1)).to, d.indent(last.key.from)
	}
	if s.header.to > 0 {
		return s.header.to, d.indent(s.header.from) + "  "
	}
	if len(d.sections) == 1 {
		return len(d.raw), ""
	}
	// Above the first header, and above the comment and the empty lines that belong to it.
	at = d.sections[1].header.from
	for _, belongs := range []func(line string) bool{
		func(line string) bool { return strings.HasPrefix(line, "#") }, func(line string) bool { return line == "" },
	} {
		for at > 0 {
			before := d.line(at - 1)
			if !belongs(strings.TrimSpace(string(d.raw[before.from:before.to]))) {
				break
			}
			at = before.from
		}
	}
	return at, ""
}

// indent is the white space in front of what begins at an offset of a line.
func (d *Document) indent(at int) string {
	line := d.raw[d.line(at).from:]
	return string(line[:len(line)-len(bytes.TrimLeft(line, " \t"))])
}

// asLines are whole lines for an insertion, whether or not the file ends in one.
func (d *Document) asLines(at int, indent string, lines ...string) string {
	var b strings.Builder
	newline := d.newline()
	if at > 0 && d.raw[at-1] != '\n' {
		b.WriteString(newline)
	}
	for _, line := range lines {
		b.WriteString(indent + line + newline)
	}
	return b.String()
}

func (d *Document) newline() string {
	if bytes.Contains(d.raw, []byte("\r\n")) {
		return "\r\n"
	}
	return "\n"
}

// inNewSection adds a line to a table that is to be made behind the last one of the runner.
func (d *Document) inNewSection(runner int, path []string, line string) {
	for _, n := range d.added {
		if n.runner == runner && slices.Equal(n.path, path) {
			n.lines = append(n.lines, line)
			return
		}
	}
	last := d.table(runner, nil)
	indent := d.indent(last.header.from) + "  "
	for _, s := range d.sections {
		if s.runner == runner {
			last = s
		}
	}
	at, _ := d.insertion(last)
	d.added = append(d.added, &newSection{runner: runner, path: path, at: at, indent: indent, lines: []string{line}})
}

// Bytes is the file with all changes. They are tried out first: an error means that the file is too unusual to be edited.
func (d *Document) Bytes() ([]byte, error) {
	edits := slices.Clone(d.edits)
	for _, n := range d.added {
		lines := []string{n.indent + "[" + strings.Join(append([]string{"runners"}, n.path...), ".") + "]"}
		for _, line := range n.lines {
			lines = append(lines, n.indent+"  "+line)
		}
		edits = append(edits, edit{span{n.at, n.at}, d.asLines(n.at, "", lines...)})
	}
	slices.SortStableFunc(edits, func(a, b edit) int { return cmp.Compare(a.at.from, b.at.from) })
	var out bytes.Buffer
	at := 0
	for _, e := range edits {
		out.Write(d.raw[at:e.at.from])
		text := e.text
		if out.Len() > 0 && out.Bytes()[out.Len()-1] == '\n' { // an insertion before this one has ended the last line
			text = strings.TrimLeft(text, "\r\n")
		}
		out.WriteString(text)
		at = e.at.to
	}
	out.Write(d.raw[at:])
	if _, err := Parse(out.Bytes()); err != nil {
		return nil, fmt.Errorf("the file cannot be edited as it is written: %w", err)
	}
	return out.Bytes(), nil
}

// render writes a value as TOML.
func render(value any) (string, error) {
	switch value := value.(type) {
	case string:
		return Quote(value), nil
	case int:
		return strconv.Itoa(value), nil
	case []string:
		items := make([]string, len(value))
		for i, item := range value {
			items[i] = Quote(item)
		}
		return "[" + strings.Join(items, ", ") + "]", nil
	default:
		return "", fmt.Errorf("a %T cannot be written to config.toml", value)
	}
}

// Quote writes a basic string of TOML. https://toml.io/en/v1.0.0#string
func Quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range strings.ToValidUTF8(s, string(utf8.RuneError)) {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
