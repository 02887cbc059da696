// Package civar holds CI/CD variables and expands them the way GitLab and GitLab Runner do.
//
// Expansion happens twice on the way to a job: GitLab resolves variables that refer to each other before it sends the job (Nested),
// GitLab Runner replaces what is left with its own variables (Expand). The package knows nothing of jobs, files or processes.
//
// Source: https://docs.gitlab.com/ci/variables/where_variables_can_be_used/
package civar

import (
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Variable is one CI/CD variable in the form in which GitLab sends it to GitLab Runner.
type Variable struct {
	// Key is the variable's name.
	Key string `json:"key"`
	// Value is its value; for a variable of type "file" the content of the file.
	Value string `json:"value"`
	// Public says that the value may be shown to people.
	Public bool `json:"public"`
	// File says that the job sees the path of a file which has the value as its content.
	File bool `json:"file"`
	// Masked says that the value must not appear in the job's log.
	Masked bool `json:"masked"`
	// Raw says that references in the value are left as they are ("expand: false").
	Raw bool `json:"raw"`
}

// List is a list of variables. Where a key occurs more than once, the last one counts.
type List []Variable

// tempDirKey is the variable that holds the directory of file-type variables in the guest.
const tempDirKey = "RUNNER_TEMP_PROJECT_DIR"

// Public returns a public variable, as most predefined ones are.
func Public(key, value string) Variable { return Variable{Key: key, Value: value, Public: true} }

// lookup returns the last variable with that key.
func (l List) lookup(key string) (Variable, bool) {
	for _, v := range slices.Backward(l) {
		if v.Key == key {
			return v, true
		}
	}
	return Variable{}, false
}

// Value returns the value of key, for a file-type variable its content, or "" where there is no such variable.
func (l List) Value(key string) string {
	v, _ := l.lookup(key)
	return v.Value
}

// Has tells whether there is a variable with that key.
func (l List) Has(key string) bool {
	_, ok := l.lookup(key)
	return ok
}

// reference returns what a reference to key stands for in another value: for a file-type variable the path in the guest.
// The shell's own parameters are no variables of the job: "$$" is the way to write a dollar sign, the others are empty.
func (l List) reference(key string) string {
	if key == "$" {
		return key
	}
	if len(key) == 1 && strings.Contains("*#@!?0123456789", key) {
		return ""
	}
	v, _ := l.lookup(key)
	if v.File {
		return path.Join(l.Value(tempDirKey), v.Key)
	}
	return v.Value
}

// ExpandValue replaces $NAME and ${NAME} in s, once, as GitLab Runner does; unknown names become empty, "$$" becomes "$".
func (l List) ExpandValue(s string) string { return os.Expand(s, l.reference) }

// Expand returns the list with every value expanded that is not raw.
func (l List) Expand() List {
	out := make(List, 0, len(l))
	for _, v := range l {
		if !v.Raw {
			v.Value = l.ExpandValue(v.Value)
		}
		out = append(out, v)
	}
	return out
}

// Merge returns the list with the variables of over behind it; of several with the same key only the last is kept.
func (l List) Merge(over List) List {
	all := slices.Concat(l, over)
	last := make(map[string]int, len(all))
	for i, v := range all {
		last[v.Key] = i
	}
	out := make(List, 0, len(last))
	for i, v := range all {
		if last[v.Key] == i {
			out = append(out, v)
		}
	}
	return out
}

// Masked returns the values that must not appear in a log.
func (l List) Masked() []string {
	var out []string
	for _, v := range l {
		if v.Masked && v.Value != "" {
			out = append(out, v.Value)
		}
	}
	return out
}

// Bool reads key as GitLab Runner reads its settings; an empty or malformed value is def.
func (l List) Bool(key string, def bool) bool {
	b, err := strconv.ParseBool(l.Value(key))
	if err != nil {
		return def
	}
	return b
}

// Int reads key as a number; an empty or malformed value is def.
func (l List) Int(key string, def int) int {
	n, err := strconv.Atoi(l.Value(key))
	if err != nil {
		return def
	}
	return n
}

// ValidKey tells whether key can be the name of an environment variable in a shell.
func ValidKey(key string) bool {
	return regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`).MatchString(key)
}
