package settings

import (
	"slices"
	"strconv"
	"strings"
)

// Access says who may change a setting.
type Access string

// The kinds of access.
const (
	// OperatorOnly settings have no variable.
	OperatorOnly Access = "operator"
	// Locked settings have one that the operator has taken away.
	Locked Access = "locked"
	// ClosedToJobs is closed unless the operator opens it.
	ClosedToJobs Access = "closed"
	// OpenToJobs can be set by a job, within a bound if there is one.
	OpenToJobs Access = "job"
)

// Explained is a setting as it is in effect.
type Explained struct {
	Setting Setting
	// Value is in effect; a list has its items on lines of their own. It is empty for secrets, of which IsSet tells whether there is one.
	Value string
	IsSet bool
	// Origin says where the value came from.
	Origin Origin
	Access Access
	// Bound says what a job may ask for, or why it is locked; empty where nothing bounds it.
	Bound string
}

// Explain tells of every setting what is in effect and why, in the order of the table, and what is wrong with the sources.
func Explain(src Sources) ([]Explained, []error) {
	s, errs := Resolve(src)
	operator, _ := Resolve(Sources{Defaults: src.Defaults, File: src.File, FilePath: src.FilePath, Flags: src.Flags})
	var all []Explained
	for _, row := range Table() {
		e := Explained{Setting: row, Origin: s.origins[row.Name]}
		if e.Origin.IsVariable() {
			e.Value, _ = row.jobs(src)
		} else {
			e.Value, _ = row.operators(src)
		}
		if row.Name == "max-vm-count" && s.IsDefault(row.Name) && s.Slots() != s.MaxVMs {
			e.Value, e.Origin = strconv.Itoa(s.Slots()), s.origins["concurrency"]
		}
		e.IsSet = e.Value != ""
		switch {
		case row.Secret:
			e.Value = ""
		case row.Name == "tart-run-env":
			e.Value = namesOnly(e.Value)
		}
		e.Access, e.Bound = row.access(operator)
		all = append(all, e)
	}
	return all, errs
}

// namesOnly hides the values of NAME=VALUE: they may be anything.
func namesOnly(list string) string {
	var out []string
	for line := range strings.Lines(list) {
		name, _, has := strings.Cut(strings.TrimRight(line, "\n"), "=")
		if has {
			name += "=…"
		}
		out = append(out, name)
	}
	return strings.Join(out, "\n")
}

// beyond are values that a job might ask for, the largest first, to find out what bounds a setting.
var beyond = [...]string{"8388608", "1024", "64", "168h", "always", "if-not-present", "never", "true", "false"}

// access is who may change a setting, given the operator's.
func (row Setting) access(operator *Settings) (Access, string) {
	switch {
	case len(row.Variables) == 0:
		return OperatorOnly, ""
	case slices.Contains(operator.Lock, row.Name):
		return Locked, string(operator.origins["lock"])
	case row.Closed && !slices.Contains(operator.Unlock, row.Name):
		return ClosedToJobs, "--unlock " + row.Name + " opens it"
	case row.bound == nil:
		return OpenToJobs, ""
	}
	for _, value := range beyond {
		trial := *operator
		if row.set(&trial, value) == "" {
			if allowed := row.bound(&trial, operator); allowed != "" {
				return OpenToJobs, allowed
			}
		}
	}
	return OpenToJobs, ""
}
