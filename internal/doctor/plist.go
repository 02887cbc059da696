package doctor

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// ErrPlist means that a text is no property list in XML.
var ErrPlist = errors.New("not a property list in XML")

// ParsePlist reads a property list in XML, as launchd's are: dictionaries are map[string]any, arrays []any, strings and numbers string, and
// true and false bool. https://developer.apple.com/library/archive/documentation/Cocoa/Conceptual/PropertyLists/
func ParsePlist(raw []byte) (any, error) {
	d := xml.NewDecoder(bytes.NewReader(raw))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil, ErrPlist
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrPlist, err)
		}
		start, ok := token.(xml.StartElement)
		if ok && start.Name.Local == "plist" {
			value, _, err := plistValue(d, 0)
			if err != nil {
				return nil, fmt.Errorf("%w: %w", ErrPlist, err)
			}
			return value, nil
		}
	}
}

// plistValue reads the next value; ended says that the element around it ended instead.
func plistValue(d *xml.Decoder, depth int) (value any, ended bool, err error) {
	if depth > maxDepth {
		return nil, false, errors.New("too deep")
	}
	for {
		token, err := d.Token()
		if err != nil {
			return nil, false, err
		}
		switch token := token.(type) {
		case xml.EndElement:
			return nil, true, nil
		case xml.StartElement:
			value, err := plistElement(d, token.Name.Local, depth)
			return value, false, err
		}
	}
}

func plistElement(d *xml.Decoder, name string, depth int) (any, error) {
	switch name {
	case "dict":
		fields := map[string]any{}
		key := ""
		for isKey := true; ; isKey = !isKey {
			value, ended, err := plistValue(d, depth+1)
			if err != nil || ended {
				return fields, err
			}
			if isKey {
				key, _ = value.(string)
			} else {
				fields[key] = value
			}
		}
	case "array":
		items := []any{}
		for {
			item, ended, err := plistValue(d, depth+1)
			if err != nil || ended {
				return items, err
			}
			items = append(items, item)
		}
	case "true", "false":
		return name == "true", d.Skip()
	default: // key, string, integer, real, date, data
		var b strings.Builder
		for {
			token, err := d.Token()
			if err != nil {
				return nil, err
			}
			switch token := token.(type) {
			case xml.CharData:
				b.Write(token)
			case xml.StartElement:
				return nil, fmt.Errorf("<%s> in <%s>", token.Name.Local, name)
			case xml.EndElement:
				return b.String(), nil
			}
		}
	}
}
