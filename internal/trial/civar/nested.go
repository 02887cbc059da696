package civar

import (
	"fmt"
	"regexp"
	"strings"
)

// reference forms of GitLab's own expansion: $NAME, ${NAME}, %NAME%; "$$" and "%%" are kept for GitLab Runner and the shell.
const referencePattern = `\$\$|%%|\$([A-Za-z_][A-Za-z0-9_]*)|\$\{([A-Za-z_][A-Za-z0-9_]*)?\}|%([A-Za-z_][A-Za-z0-9_]*)%`

// CircularError says that variables refer to each other in a circle, which GitLab refuses when it creates the pipeline.
type CircularError struct {
	// Keys are the variables of the circle in the order of their references.
	Keys []string
}

func (e *CircularError) Error() string {
	return fmt.Sprintf("circular variable reference detected: %s", strings.Join(append(e.Keys, e.Keys[0]), " -> "))
}

// Nested resolves variables that refer to other variables of the list, as GitLab does before it sends a job to GitLab Runner.
// References to unknown, raw and file-type variables stay as they are: GitLab Runner resolves those. A variable that refers to
// itself stays as it is, too. The order of the list is kept.
//
// Source: https://docs.gitlab.com/ci/variables/where_variables_can_be_used/#nested-variable-expansion
func (l List) Nested() (List, error) {
	n := &nester{
		pattern: regexp.MustCompile(referencePattern),
		last:    make(map[string]int, len(l)),
		out:     append(List(nil), l...),
		state:   make([]visit, len(l)),
	}
	for i, v := range l {
		n.last[v.Key] = i
	}
	for i := range l {
		if err := n.visit(i); err != nil {
			return nil, err
		}
	}
	return n.out, nil
}

type visit int

const (
	unseen visit = iota
	open
	done
)

type nester struct {
	pattern *regexp.Regexp
	last    map[string]int
	out     List
	state   []visit
	stack   []int
}

func (n *nester) visit(i int) error {
	switch n.state[i] {
	case done:
		return nil
	case open:
		return n.circle(i)
	}
	n.state[i] = open
	n.stack = append(n.stack, i)
	if !n.out[i].Raw {
		value, err := n.expand(i)
		if err != nil {
			return err
		}
		n.out[i].Value = value
	}
	n.stack = n.stack[:len(n.stack)-1]
	n.state[i] = done
	return nil
}

// expand replaces the references in variable i after those they point to are themselves resolved.
func (n *nester) expand(i int) (string, error) {
	var failed error
	value := n.pattern.ReplaceAllStringFunc(n.out[i].Value, func(ref string) string {
		key := strings.Trim(ref, "${}%")
		j, known := n.last[key]
		if key == "" || !known || n.out[j].Key == n.out[i].Key || failed != nil {
			return ref
		}
		if failed = n.visit(j); failed != nil || n.out[j].Raw || n.out[j].File {
			return ref
		}
		return n.out[j].Value
	})
	return value, failed
}

func (n *nester) circle(i int) error {
	var keys []string
	for at := len(n.stack) - 1; at >= 0; at-- {
		keys = append([]string{n.out[n.stack[at]].Key}, keys...)
		if n.stack[at] == i {
			break
		}
	}
	return &CircularError{Keys: keys}
}
