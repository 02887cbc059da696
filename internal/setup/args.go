package setup

import (
	"slices"
	"strings"

	"gitlab-runner-tart-driver/internal/settings"
)

// argument is a flag with its value, or a word that is no flag, among a stage's arguments.
type argument struct {
	// name is the flag's, without dashes; empty for what is no flag.
	name string
	// value is that of the flag, if it has one, or the word.
	value string
	// hasValue says that the flag has one.
	hasValue bool
	// negated says that the flag is --no-NAME.
	negated bool
	// row is the setting that the flag sets; nil where there is none.
	row *settings.Setting
	// words are the arguments as they are written.
	words []string
}

// takeApart reads a stage's arguments, also those that this driver doesn't know: what follows such a flag and is no flag is taken for its value.
func takeApart(args []string) []argument {
	table := settings.Table()
	var out []argument
	for i := 0; i < len(args); i++ {
		word := args[i]
		if !strings.HasPrefix(word, "-") || word == "-" || word == "--" {
			out = append(out, argument{value: word, words: []string{word}})
			continue
		}
		a := argument{words: []string{word}}
		a.name, a.value, a.hasValue = splitFlag(word)
		a.row = rowOf(table, a.name)
		if positive, ok := strings.CutPrefix(a.name, "no-"); ok && a.row == nil {
			if row := rowOf(table, positive); row != nil && row.IsSwitch() {
				a.row, a.negated = row, true
			}
		}
		takes := a.row == nil || !a.row.IsSwitch()
		if next := i + 1; takes && !a.hasValue && next < len(args) && (a.row != nil || !strings.HasPrefix(args[next], "-")) {
			a.value, a.hasValue = args[next], true
			a.words = append(a.words, args[next])
			i = next
		}
		out = append(out, a)
	}
	return out
}

// splitFlag takes --name=value, "--name value" as one word, -xvalue and -x apart.
func splitFlag(word string) (name, value string, hasValue bool) {
	if !strings.HasPrefix(word, "--") && len(word) > 2 {
		return word[1:2], strings.TrimLeft(word[2:], "= "), true
	}
	name = strings.TrimLeft(word, "-")
	if i := strings.IndexAny(name, "= "); i >= 0 {
		return name[:i], strings.TrimSpace(name[i+1:]), true
	}
	return name, "", false
}

func rowOf(table []settings.Setting, name string) *settings.Setting {
	i := slices.IndexFunc(table, func(row settings.Setting) bool {
		return name != "" && (row.Name == name || row.Short == name || slices.Contains(row.Aliases, name))
	})
	if i < 0 {
		return nil
	}
	return &table[i]
}

// flagWords writes a setting as arguments. A list has its items on lines of their own.
func flagWords(row settings.Setting, value string) []string {
	switch {
	case row.IsSwitch() && value == "false":
		return []string{"--no-" + row.Name}
	case row.IsSwitch() && value == "true":
		return []string{"--" + row.Name}
	case row.IsSwitch():
		return []string{"--" + row.Name + "=" + value}
	case !row.List:
		return []string{"--" + row.Name, value}
	}
	var words []string
	for item := range strings.Lines(value) {
		words = append(words, "--"+row.Name, strings.TrimRight(item, "\n"))
	}
	return words
}

// withSettings are a stage's arguments with settings added, or changed where they had another value. Those that mean nothing to the stage are left
// out.
func withSettings(args []string, verb string, given map[string]string) []string {
	out := slices.Clone(args)
	for _, row := range settings.Table() {
		value, ok := given[row.Name]
		if !ok || !slices.Contains(row.Stages, verb) {
			continue
		}
		words := flagWords(row, value)
		var kept, had []string
		for _, a := range takeApart(out) {
			if a.row != nil && a.row.Name == row.Name {
				had = append(had, canonical(a)...)
			} else {
				kept = append(kept, a.words...)
			}
		}
		if !slices.Equal(had, words) {
			out = append(kept, words...)
		}
	}
	return out
}

// canonical is a flag as flagWords would write it.
func canonical(a argument) []string { return flagWords(*a.row, a.given()) }

// given is the value of a flag that sets something, also of a switch that has none written behind it.
func (a argument) given() string {
	switch {
	case !a.row.IsSwitch() || a.hasValue:
		return a.value
	case a.negated:
		return "false"
	default:
		return "true"
	}
}
