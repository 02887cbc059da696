// Package argspec parses command lines the way Tart's own parser does (Swift ArgumentParser): kebab-case flags, `--flag value` and
// `--flag=value`, options in any order around positionals, and its error texts.
//
// It knows nothing of Tart's commands; they are data handed to it. It prints nothing and never exits.
package argspec

import (
	"strconv"
	"strings"
)

// Kind says what an option takes.
type Kind int

// The kinds of options.
const (
	Flag     Kind = iota // no value
	Inverted             // `--x` and `--no-x`
	Value                // one value; the last one wins
	Repeated             // one value each time, all are kept
)

// Option is one named option of a command.
type Option struct {
	Long      string // without dashes; may be empty when Short is set
	Short     string // one letter, without the dash
	Kind      Kind
	ValueName string // what the usage line shows in angle brackets; default: Long
	Help      string
	Hidden    bool
	// Bits is the width of an unsigned integer value; 0 means any string is accepted.
	Bits int
	// Values restricts the value to these words.
	Values []string
}

// Positional is one positional argument.
type Positional struct {
	Name     string
	Help     string
	Repeated bool // one or more
	Optional bool
	// Passthrough takes everything from here on verbatim, dashes and all.
	Passthrough bool
}

// Command is one subcommand.
type Command struct {
	Name     string
	Abstract string
	Options  []Option
	Args     []Positional
	Hidden   bool
}

// Parsed is the outcome of a successful parse.
type Parsed struct {
	options map[string][]string
	args    map[string][]string
	// Help is set when --help or -h was given; the rest is then empty.
	Help bool
	// Version is set when --version was given.
	Version bool
}

// Has reports whether a flag, or an option with a value, was given.
func (p *Parsed) Has(name string) bool { return len(p.options[name]) > 0 }

// Value returns an option's last value, or def when it was not given.
func (p *Parsed) Value(name, def string) string {
	values := p.options[name]
	if len(values) == 0 {
		return def
	}
	return values[len(values)-1]
}

// Values returns all values of a repeated option.
func (p *Parsed) Values(name string) []string { return p.options[name] }

// Uint returns an option's last value as a number, or def. The parser has checked the range already.
func (p *Parsed) Uint(name string, def uint64) uint64 {
	values := p.options[name]
	if len(values) == 0 {
		return def
	}
	n, err := strconv.ParseUint(values[len(values)-1], 10, 64)
	if err != nil {
		return def
	}
	return n
}

// Arg returns a positional argument, or "" when an optional one is absent.
func (p *Parsed) Arg(name string) string {
	values := p.args[name]
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

// Args returns all values of a repeated or passthrough positional.
func (p *Parsed) Args(name string) []string { return p.args[name] }

// UsageError is a command line that does not fit the command.
type UsageError struct {
	Message string // without the "Error: " prefix
	Help    string // the option the message is about, with its help; may be empty
	// Bare is set when the command was called without any argument: the full help follows the message then, not the usage line.
	Bare bool
}

func (e *UsageError) Error() string { return e.Message }

func (o *Option) display() string {
	if o.Long != "" {
		return "--" + o.Long
	}
	return "-" + o.Short
}

func (o *Option) key() string {
	if o.Long != "" {
		return o.Long
	}
	return o.Short
}

func (o *Option) valueName() string {
	if o.ValueName != "" {
		return o.ValueName
	}
	return o.Long
}

func (o *Option) takesValue() bool { return o.Kind == Value || o.Kind == Repeated }

// synopsis is the option as the usage line shows it.
func (o *Option) synopsis() string {
	text := o.display()
	switch {
	case o.takesValue():
		text += " <" + o.valueName() + ">"
	case o.Kind == Inverted:
		text += "] [--no-" + o.Long
	}
	if o.Kind == Repeated {
		text += " ..."
	}
	return "[" + text + "]"
}

func (p *Positional) synopsis() string {
	text := "<" + p.Name + ">"
	if p.Repeated || p.Passthrough {
		text += " ..."
	}
	if p.Optional {
		text = "[" + text + "]"
	}
	return text
}

// longestSynopsis is the number of arguments above which the usage line shows positionals only, as Swift ArgumentParser does.
const longestSynopsis = 12

// Synopsis is the usage line without "Usage: ".
func (c *Command) Synopsis(tool string) string {
	words := []string{tool, c.Name}
	var named []string
	for i := range c.Options {
		if !c.Options[i].Hidden {
			named = append(named, c.Options[i].synopsis())
		}
	}
	if len(named)+len(c.Args) > longestSynopsis {
		named = []string{"[<options>]"}
	}
	words = append(words, named...)
	for i := range c.Args {
		words = append(words, c.Args[i].synopsis())
	}
	return strings.Join(words, " ")
}
