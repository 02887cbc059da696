package settings

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// ValueError is a value that a setting does not take.
type ValueError struct {
	// Origin says who gave the value.
	Origin Origin
	// Value is what was given; it is not shown for secrets.
	Value string
	// Secret hides the value.
	Secret bool
	// Expected says what the setting takes.
	Expected string
}

func (e *ValueError) Error() string {
	if e.Secret {
		return fmt.Sprintf("%s: value is not usable: expected %s", e.Origin, e.Expected)
	}
	return fmt.Sprintf("%s: %q: expected %s", e.Origin, shorten(e.Value), e.Expected)
}

// shorten cuts a value that may be a whole file's content.
func shorten(v string) string {
	const most = 200 // bytes
	if len(v) > most {
		return v[:most] + "…"
	}
	return v
}

// PolicyError is a value that the operator does not let a job set.
type PolicyError struct {
	// Variable is the job's.
	Variable string
	Value    string
	Secret   bool
	// Allowed says what would be, and who decides.
	Allowed string
}

func (e *PolicyError) Error() string {
	if e.Secret {
		return fmt.Sprintf("variable %s: not allowed on this runner: %s", e.Variable, e.Allowed)
	}
	return fmt.Sprintf("variable %s: %q is not allowed on this runner: %s", e.Variable, shorten(e.Value), e.Allowed)
}

// setForJob gives a setting the job's value, if the operator lets it. operator are the settings without the job's.
func (row Setting) setForJob(s, operator *Settings, value, variable string) error {
	trial := *operator
	if expected := row.set(&trial, value); expected != "" {
		return &ValueError{Origin: ofVariable(variable), Value: value, Secret: row.Secret, Expected: expected}
	}
	refuse := func(format string, args ...any) error {
		return &PolicyError{Variable: variable, Value: value, Secret: row.Secret, Allowed: fmt.Sprintf(format, args...)}
	}
	if !reflect.DeepEqual(&trial, operator) { // what the operator has set anyway is nothing to ask for
		switch {
		case slices.Contains(operator.Lock, row.Name):
			return refuse("only the operator sets %s (%s)", row.Name, operator.origins["lock"])
		case row.Closed && !slices.Contains(operator.Unlock, row.Name):
			return refuse("only the operator sets %s, unless it is named with --unlock", row.Name)
		case row.bound != nil:
			if allowed := row.bound(&trial, operator); allowed != "" {
				return refuse("%s", allowed)
			}
		}
	}
	row.set(s, value)
	s.origins[row.Name] = ofVariable(variable)
	return nil
}

// checkNames finds names under lock and unlock that are no settings of a job.
func (s *Settings) checkNames(table []Setting) []error {
	var errs []error
	for _, list := range []struct {
		name  string
		names []string
	}{{"lock", s.Lock}, {"unlock", s.Unlock}} {
		for _, name := range list.names {
			i := slices.IndexFunc(table, func(row Setting) bool { return row.Name == name })
			if i < 0 || len(table[i].Variables) == 0 {
				errs = append(errs, &ValueError{Origin: s.origins[list.name], Value: name, Expected: "the name of a setting that jobs have a variable for: " + jobSettings(table)})
			}
		}
	}
	return errs
}

func jobSettings(table []Setting) string {
	var names []string
	for _, row := range table {
		if len(row.Variables) > 0 {
			names = append(names, row.Name)
		}
	}
	return strings.Join(names, ", ")
}

// atMost bounds a number: a job may ask for no more than the operator's limit, and for nothing where there is none.
func atMost(value, limit func(*Settings) int, limitName string) func(job, operator *Settings) string {
	return func(job, operator *Settings) string {
		most := limit(operator)
		switch {
		case most == 0:
			return fmt.Sprintf("the operator has set no --%s", limitName)
		case value(job) > most:
			return fmt.Sprintf("at most %d (%s)", most, boundOrigin(operator, limitName))
		default:
			return ""
		}
	}
}

// boundOrigin says where a limit comes from.
func boundOrigin(operator *Settings, name string) string {
	if o := operator.origins[name]; o != DefaultOrigin {
		return string(o)
	}
	return "the default of --" + name
}

// within bounds a list: every item of the job's must be among the operator's.
func within(value, allowed func(*Settings) []string, allowedName string) func(job, operator *Settings) string {
	return func(job, operator *Settings) string {
		if list := allowed(operator); len(list) > 0 {
			for _, v := range value(job) {
				if !slices.Contains(list, v) {
					return fmt.Sprintf("one of %s (%s)", strings.Join(list, ", "), boundOrigin(operator, allowedName))
				}
			}
		}
		return ""
	}
}
