package tartcmd

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
	"unicode/utf8"

	"gitlab-runner-tart-driver/internal/tartsim/tarthome"
)

// field is one column of a table or key of an object.
type field struct {
	name     string
	value    any
	jsonOnly bool
}

// object encodes fields as JSON in random order: the order of keys in Tart's output is not specified, and nobody may rely on one.
type object []field

// MarshalJSON writes the object.
func (o object) MarshalJSON() ([]byte, error) {
	shuffled := make(object, len(o))
	for i, j := range rand.Perm(len(o)) {
		shuffled[i] = o[j]
	}
	var b strings.Builder
	b.WriteString("{")
	for i, f := range shuffled {
		if i > 0 {
			b.WriteString(",")
		}
		value, err := json.Marshal(f.value)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "%q:%s", f.name, value)
	}
	b.WriteString("}")
	return []byte(b.String()), nil
}

func (a *app) printJSON(value any) error {
	text, err := tarthome.SwiftJSON(value)
	if err != nil {
		return tarthome.System("%v", err)
	}
	a.println("%s", text)
	return nil
}

// table renders rows as padded columns; without rows it is an empty line.
func table(rows []object) string {
	if len(rows) == 0 {
		return ""
	}
	lines := [][]string{{}}
	for _, f := range rows[0] {
		if !f.jsonOnly {
			lines[0] = append(lines[0], f.name)
		}
	}
	for _, row := range rows {
		var line []string
		for _, f := range row {
			if !f.jsonOnly {
				line = append(line, fmt.Sprint(f.value))
			}
		}
		lines = append(lines, line)
	}
	widths := make([]int, len(lines[0]))
	for _, line := range lines {
		for i, cell := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var out []string
	for _, line := range lines {
		var b strings.Builder
		for i, cell := range line {
			if i > 0 {
				b.WriteString(" ")
			}
			b.WriteString(cell + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)))
		}
		out = append(out, b.String())
	}
	return strings.TrimSpace(strings.Join(out, "\n"))
}

// relative words a moment in the past as macOS does.
func relative(then, now time.Time) string {
	seconds := int(now.Sub(then).Seconds())
	if seconds < 0 {
		seconds = 0
	}
	units := []struct {
		name string
		size int
	}{{"year", 365 * 86400}, {"month", 30 * 86400}, {"week", 7 * 86400}, {"day", 86400}, {"hour", 3600}, {"minute", 60}, {"second", 1}}
	for _, unit := range units {
		if n := seconds / unit.size; n > 0 || unit.size == 1 {
			plural := "s"
			if n == 1 {
				plural = ""
			}
			return fmt.Sprintf("%d %s%s ago", n, unit.name, plural)
		}
	}
	return "now"
}
