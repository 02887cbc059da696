package doctor

import (
	"errors"
	"fmt"
	"strings"
)

// parseDefaults reads what `defaults read` prints: strings, with or without quotes, (a, b) for arrays and {key = value;} for dictionaries. The
// values are of type string, []any and map[string]any.
// https://developer.apple.com/library/archive/documentation/Cocoa/Conceptual/PropertyLists/OldStylePlists/OldStylePLists.html
func parseDefaults(text string) (any, error) {
	p := &defaultsParser{rest: text}
	value, err := p.value(0)
	if err == nil && p.peek() != 0 {
		err = errDefaults
	}
	return value, err
}

var errDefaults = errors.New("not what `defaults read` prints")

// maxDepth bounds how deep values are nested.
const maxDepth = 32

type defaultsParser struct{ rest string }

// peek is the next character that is no space, or 0 at the end.
func (p *defaultsParser) peek() byte {
	p.rest = strings.TrimLeft(p.rest, " \t\r\n")
	if p.rest == "" {
		return 0
	}
	return p.rest[0]
}

// take takes a character, if it is the next.
func (p *defaultsParser) take(c byte) bool {
	if p.peek() != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

func (p *defaultsParser) value(depth int) (any, error) {
	switch {
	case depth > maxDepth:
		return nil, errDefaults
	case p.take('('):
		items := []any{}
		for !p.take(')') {
			item, err := p.value(depth + 1)
			if err != nil {
				return nil, err
			}
			items = append(items, item)
			if !p.take(',') && p.peek() != ')' {
				return nil, errDefaults
			}
		}
		return items, nil
	case p.take('{'):
		fields := map[string]any{}
		for !p.take('}') {
			key, err := p.word()
			if err != nil || !p.take('=') {
				return nil, errDefaults
			}
			if fields[key], err = p.value(depth + 1); err != nil {
				return nil, err
			}
			if !p.take(';') {
				return nil, errDefaults
			}
		}
		return fields, nil
	default:
		return p.word()
	}
}

// word is a string, in quotes or not.
func (p *defaultsParser) word() (string, error) {
	if p.peek() != '"' {
		end := strings.IndexAny(p.rest, " \t\r\n(){}=;,\"")
		if end < 0 {
			end = len(p.rest)
		}
		word := p.rest[:end]
		p.rest = p.rest[end:]
		if word == "" {
			return "", errDefaults
		}
		return word, nil
	}
	var b strings.Builder
	for i := 1; i < len(p.rest); i++ {
		switch c := p.rest[i]; c {
		case '"':
			p.rest = p.rest[i+1:]
			return b.String(), nil
		case '\\':
			if i++; i < len(p.rest) {
				b.WriteByte(p.rest[i])
			}
		default:
			b.WriteByte(c)
		}
	}
	return "", fmt.Errorf("%w: a quote is missing", errDefaults)
}
