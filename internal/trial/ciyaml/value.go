package ciyaml

import (
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

type kind int

const (
	kindNull kind = iota
	kindString
	kindInt
	kindFloat
	kindBool
	kindDate
	kindList
	kindMap
	kindReference
)

// value is a YAML value as GitLab sees it. Values are shared by aliases and must not be changed.
type value struct {
	kind    kind
	line    int
	text    string // of a scalar; integers in decimal form, booleans "true" and "false"
	list    []*value
	entries []entry
	path    []string // of a reference
	refs    bool     // there is a reference in it
}

type entry struct {
	key   string
	line  int
	value *value
}

// get returns what stands under a key of a map, or nil.
func (v *value) get(key string) *value {
	if v == nil {
		return nil
	}
	for _, e := range v.entries {
		if e.key == key {
			return e.value
		}
	}
	return nil
}

// with returns a map with one entry set.
func (v *value) with(e entry) *value {
	out := *v
	out.refs = v.refs || e.value.refs
	out.entries = append([]entry(nil), v.entries...)
	for i := range out.entries {
		if out.entries[i].key == e.key {
			out.entries[i] = e
			return &out
		}
	}
	out.entries = append(out.entries, e)
	return &out
}

// describe names the kind of a value for a message.
func (v *value) describe() string {
	switch v.kind {
	case kindNull:
		return "empty"
	case kindString:
		return "a string"
	case kindInt:
		return "the number " + v.text
	case kindFloat:
		return "the number " + v.text
	case kindBool:
		return "the boolean " + v.text
	case kindDate:
		return "the date " + v.text
	case kindList:
		return "a list"
	case kindMap:
		return "a map"
	default:
		return "a reference"
	}
}

// converter turns the parser's nodes into values.
type converter struct {
	file *File
	done map[*yaml.Node]*value
}

func (c *converter) convert(n *yaml.Node) (*value, error) {
	switch n.Kind {
	case yaml.DocumentNode:
		return c.convert(n.Content[0])
	case yaml.AliasNode:
		return c.convert(n.Alias)
	}
	if v, seen := c.done[n]; seen {
		if v == nil {
			return nil, c.file.errorf(n.Line, "the anchor %q contains itself", n.Anchor)
		}
		return v, nil
	}
	c.done[n] = nil // while it is being converted
	v, err := c.fresh(n)
	if err != nil {
		return nil, err
	}
	c.done[n] = v
	return v, nil
}

func (c *converter) fresh(n *yaml.Node) (*value, error) {
	switch {
	case n.Tag == "!reference":
		return c.reference(n)
	case strings.HasPrefix(n.Tag, "!") && !strings.HasPrefix(n.Tag, "!!"):
		return nil, c.file.errorf(n.Line, "unknown tag %s", n.Tag)
	case n.Kind == yaml.ScalarNode:
		return scalar(n), nil
	case n.Kind == yaml.SequenceNode:
		v := &value{kind: kindList, line: n.Line}
		for _, item := range n.Content {
			one, err := c.convert(item)
			if err != nil {
				return nil, err
			}
			v.list = append(v.list, one)
			v.refs = v.refs || one.refs
		}
		return v, nil
	case n.Kind == yaml.MappingNode:
		return c.mapping(n)
	default:
		return nil, c.file.errorf(n.Line, "unexpected YAML node")
	}
}

func (c *converter) reference(n *yaml.Node) (*value, error) {
	v := &value{kind: kindReference, line: n.Line, refs: true}
	for _, item := range n.Content {
		if item.Kind != yaml.ScalarNode || scalar(item).kind != kindString {
			return nil, c.file.errorf(n.Line, "!reference should be a list of names")
		}
		v.path = append(v.path, item.Value)
	}
	if n.Kind != yaml.SequenceNode || len(v.path) == 0 {
		return nil, c.file.errorf(n.Line, "!reference should be a list of names")
	}
	return v, nil
}

// mapping converts a map. A merge key counts where it stands: it overrides what comes before it, as in GitLab's YAML library.
func (c *converter) mapping(n *yaml.Node) (*value, error) {
	v := &value{kind: kindMap, line: n.Line}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		val, err := c.convert(n.Content[i+1])
		if err != nil {
			return nil, err
		}
		if key.Tag != "!!merge" {
			if key.Kind == yaml.AliasNode {
				key = key.Alias
			}
			if key.Kind != yaml.ScalarNode {
				return nil, c.file.errorf(key.Line, "a key should be a plain name")
			}
			v = v.with(entry{key: key.Value, line: key.Line, value: val})
			continue
		}
		sources := []*value{val}
		if val.kind == kindList {
			sources = nil
			for j := len(val.list) - 1; j >= 0; j-- {
				sources = append(sources, val.list[j])
			}
		}
		for _, source := range sources {
			if source.kind != kindMap {
				return nil, c.file.errorf(key.Line, "<< should name a map, it names %s", source.describe())
			}
			for _, e := range source.entries {
				v = v.with(e)
			}
		}
	}
	return v, nil
}

// scalar types a scalar. GitLab reads YAML 1.1: "yes" and "on" are booleans, "010" is eight, "12:30" is 750.
func scalar(n *yaml.Node) *value {
	v := &value{kind: kindString, line: n.Line, text: n.Value}
	if n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0 || n.Tag == "!!str" && n.Style&yaml.TaggedStyle != 0 {
		return v
	}
	matches := func(pattern string) bool { return regexp.MustCompile(pattern).MatchString(n.Value) }
	switch {
	case matches(`^(~|(?i:null))?$`):
		v.kind, v.text = kindNull, ""
	case matches(`^(?i:yes|true|on)$`):
		v.kind, v.text = kindBool, "true"
	case matches(`^(?i:no|false|off)$`):
		v.kind, v.text = kindBool, "false"
	case matches(`^[-+]?(0|[1-9]([0-9]|[,_][0-9])*|0[0-7_,]+|0x[0-9a-fA-F_,]+|0b[01_,]+)$`):
		v.kind, v.text = kindInt, decimal(n.Value)
	case matches(`^[-+]?[0-9][0-9_]*(:[0-5]?[0-9]){1,2}$`):
		v.kind, v.text = kindInt, sexagesimal(n.Value)
	case matches(`^[-+]?([0-9][0-9_,]*)?\.[0-9]*([eE][-+][0-9]+)?$`) && matches(`[0-9]`), matches(`^[-+]?\.(?i:inf|nan)$`):
		v.kind = kindFloat
	case matches(`^[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt ].*)?$`):
		v.kind = kindDate
	}
	return v
}
