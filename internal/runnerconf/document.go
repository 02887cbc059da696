package runnerconf

import (
	"bytes"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// Document is a config.toml with the places of everything in it.
type Document struct {
	raw      []byte
	config   Config
	sections []*section
	edits    []edit
	added    []*newSection
}

// span is a range of bytes of the file.
type span struct{ from, to int }

// section is a table of the file: the top without a header, or what follows a header.
type section struct {
	// path is that of the header, such as runners, custom.
	path []string
	// runner counts the [[runners]] that it belongs to, from 0; -1 for tables outside.
	runner int
	// header is the line of the header; empty for the top of the file.
	header  span
	entries []entry
}

// entry is a key with its value.
type entry struct {
	// path is the key within the section; longer than one for dotted keys and for what is in inline tables.
	path  []string
	key   span
	value span
	// texts are the strings of the value: itself, or the items of an array.
	texts []text
	// inline says that it stands in an inline table.
	inline bool
}

// text is a string of the file, as it is written and as it is meant.
type text struct {
	at    span
	value string
}

// Parse reads a config.toml. An error is a *SyntaxError.
//
// The positions come from go-toml's parser, whose interface may change in another version of that library; go.mod pins it, and the tests of
// this package would tell.
func Parse(raw []byte) (*Document, error) {
	raw = slices.Clip(raw) // the parser tells positions from capacities
	d := &Document{raw: raw}
	var err error
	if d.config, err = decode(raw); err != nil {
		return nil, err
	}
	top := &section{runner: -1}
	d.sections = []*section{top}
	current, runner := top, -1
	var p unstable.Parser
	p.Reset(raw)
	for p.NextExpression() {
		node := p.Expression()
		switch node.Kind {
		case unstable.Table, unstable.ArrayTable:
			s := &section{runner: -1}
			for key := node.Key(); key.Next(); {
				s.path = append(s.path, string(key.Node().Data))
				s.header = d.line(int(key.Node().Raw.Offset))
			}
			if s.path[0] == "runners" {
				if node.Kind == unstable.ArrayTable && len(s.path) == 1 {
					runner++
				}
				s.runner = runner
			}
			d.sections = append(d.sections, s)
			current = s
		case unstable.KeyValue:
			current.entries = append(current.entries, entries(&p, node, nil, false)...)
		}
	}
	if err := p.Error(); err != nil {
		return nil, &SyntaxError{Err: err}
	}
	return d, nil
}

// entries are the key of a node and, for an inline table, those within.
func entries(p *unstable.Parser, node *unstable.Node, outer []string, inline bool) []entry {
	e := entry{path: slices.Clone(outer), inline: inline}
	end := 0
	for key := node.Key(); key.Next(); {
		k := key.Node()
		e.path = append(e.path, string(k.Data))
		at := spanOf(k.Raw)
		if e.key.to == 0 {
			e.key.from = at.from
		}
		e.key.to, end = at.to, at.to
	}
	whole := spanOf(node.Raw)
	e.value = span{end, whole.to}
	data := p.Data()
	for e.value.from < e.value.to && strings.IndexByte(" \t=", data[e.value.from]) >= 0 {
		e.value.from++
	}
	value := node.Value()
	switch value.Kind {
	case unstable.String:
		e.texts = []text{{spanOf(value.Raw), string(value.Data)}}
	case unstable.Array:
		for items := value.Children(); items.Next(); {
			if item := items.Node(); item.Kind == unstable.String {
				e.texts = append(e.texts, text{spanOf(item.Raw), string(item.Data)})
			}
		}
	case unstable.InlineTable:
		all := []entry{e}
		for items := value.Children(); items.Next(); {
			if items.Node().Kind == unstable.KeyValue {
				all = append(all, entries(p, items.Node(), e.path, true)...)
			}
		}
		return all
	}
	return []entry{e}
}

func spanOf(r unstable.Range) span { return span{int(r.Offset), int(r.Offset + r.Length)} }

// line is the line that an offset is on, with its end.
func (d *Document) line(at int) span {
	from := bytes.LastIndexByte(d.raw[:at], '\n') + 1
	to := len(d.raw)
	if i := bytes.IndexByte(d.raw[at:], '\n'); i >= 0 {
		to = at + i + 1
	}
	return span{from, to}
}

// Config is what the document says.
func (d *Document) Config() Config { return d.config }

// Global is the runner's index that stands for the settings above all [[runners]].
const Global = -1

// find looks a key up: of a runner, by its path below [[runners]], or a global one.
func (d *Document) find(runner int, path ...string) (*section, *entry) {
	for _, s := range d.sections {
		below, ok := s.below(runner)
		if !ok {
			continue
		}
		for i := range s.entries {
			if e := &s.entries[i]; len(below)+len(e.path) == len(path) && slices.Equal(slices.Concat(below, e.path), path) {
				return s, e
			}
		}
	}
	return nil, nil
}

// below is the path of the section within a runner, or within the file for Global.
func (s *section) below(runner int) ([]string, bool) {
	if s.runner != runner {
		return nil, false
	}
	if runner == Global {
		return s.path, true
	}
	return s.path[1:], true
}

// Line is the line of a key, counted from 1. Where the key is not set, it is that of its table, or of the runner, or 1.
func (d *Document) Line(runner int, path ...string) int {
	for n := len(path); n >= 0; n-- {
		if _, e := d.find(runner, path[:n]...); e != nil && n > 0 {
			return d.lineNumber(e.key.from)
		}
		if s := d.table(runner, path[:n]); s != nil {
			return d.lineNumber(s.header.from)
		}
	}
	return 1
}

// table is the section of a path.
func (d *Document) table(runner int, path []string) *section {
	for _, s := range d.sections {
		if below, ok := s.below(runner); ok && slices.Equal(below, path) {
			return s
		}
	}
	return nil
}

func (d *Document) lineNumber(at int) int { return bytes.Count(d.raw[:at], []byte("\n")) + 1 }
