package tarthome

import (
	"bytes"
	"encoding/json"
	"regexp"
)

var keyColon = regexp.MustCompile(`(?m)^(\s*"(?:[^"\\]|\\.)*"):`)

// SwiftJSON encodes a value in the shape of Swift's pretty-printed JSON: two spaces, a space on both sides of the colon, escaped slashes.
func SwiftJSON(value any) ([]byte, error) {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(value); err != nil {
		return nil, err
	}
	text := keyColon.ReplaceAll(bytes.TrimSpace(buffer.Bytes()), []byte("$1 :"))
	if string(text) == "[]" {
		return []byte("[\n\n]"), nil
	}
	return bytes.ReplaceAll(text, []byte("/"), []byte(`\/`)), nil
}
