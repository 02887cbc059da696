package settings

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// ReadFile reads a config file: TOML, with the flags' names as keys. Lists are arrays, or a single value.
func ReadFile(path string) (map[string]string, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("config file: %w", err)
	}
	values, err := parseFile(raw)
	if err != nil {
		return nil, fmt.Errorf("config file %s: %w", path, err)
	}
	return values, nil
}

func parseFile(raw []byte) (map[string]string, error) {
	var doc map[string]any
	if err := toml.Unmarshal(raw, &doc); err != nil {
		if where := (*toml.DecodeError)(nil); errors.As(err, &where) {
			row, column := where.Position()
			return nil, fmt.Errorf("line %d, column %d: %w", row, column, err)
		}
		return nil, err
	}
	rows := map[string]Setting{}
	for _, row := range Table() {
		rows[row.Name] = row
	}
	values := map[string]string{}
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(doc)) {
		row, ok := rows[key]
		if !ok {
			text := fmt.Sprintf("%q is not a setting", key)
			if near := nearest(key, slices.Sorted(maps.Keys(rows))); near != "" {
				text += fmt.Sprintf("; did you mean %q?", near)
			}
			errs = append(errs, errors.New(text))
			continue
		}
		value, err := row.fileValue(doc[key])
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", key, err))
		}
		values[key] = value
	}
	return values, errors.Join(errs...)
}

// fileValue is the text of a TOML value.
func (row Setting) fileValue(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case bool:
		return strconv.FormatBool(v), nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	case []any:
		if !row.List && row.Name != "pull-policy" {
			return "", errors.New("one value is expected, not a list")
		}
		var items []string
		for _, item := range v {
			text, ok := item.(string)
			if !ok {
				return "", fmt.Errorf("a list of texts is expected, and %v is none", item)
			}
			items = append(items, text)
		}
		return strings.Join(items, "\n"), nil
	default:
		return "", fmt.Errorf("a text, a number, true or false is expected, not %T", v)
	}
}
