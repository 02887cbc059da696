package argspec

import (
	"fmt"
	"strconv"
	"strings"
)

// parser holds the state of one parse.
type parser struct {
	cmd    *Command
	args   []string
	pos    int
	loose  []string // positional values in order
	out    *Parsed
	failed *UsageError
}

// Parse parses the arguments after the command's name. Errors are of type *UsageError.
func Parse(cmd *Command, args []string) (*Parsed, error) {
	p := &parser{cmd: cmd, args: args, out: &Parsed{options: map[string][]string{}, args: map[string][]string{}}}
	for p.pos < len(p.args) && p.failed == nil {
		arg := p.args[p.pos]
		p.pos++
		if p.done(arg) {
			break
		}
	}
	if p.out.Help || p.out.Version {
		return p.out, nil
	}
	if p.failed == nil {
		p.place()
	}
	if p.failed != nil {
		return nil, p.failed
	}
	return p.out, nil
}

// done takes one argument and reports whether parsing ends with it.
func (p *parser) done(arg string) bool {
	switch {
	case arg == "--":
		p.loose = append(p.loose, p.args[p.pos:]...)
		return true
	case arg == "--help" || arg == "-h":
		p.out.Help = true
		return true
	case arg == "--version":
		p.out.Version = true
		return true
	case strings.HasPrefix(arg, "--"):
		p.long(arg[2:])
	case len(arg) > 1 && arg[0] == '-':
		p.short(arg[1:])
	default:
		p.loose = append(p.loose, arg)
		next := len(p.loose)
		if next < len(p.cmd.Args) && p.cmd.Args[next].Passthrough {
			p.loose = append(p.loose, p.args[p.pos:]...)
			return true
		}
	}
	return false
}

func (p *parser) fail(help, format string, args ...any) {
	if p.failed == nil {
		p.failed = &UsageError{Message: fmt.Sprintf(format, args...), Help: help}
	}
}

func (p *parser) find(match func(*Option) bool) *Option {
	for i := range p.cmd.Options {
		if match(&p.cmd.Options[i]) {
			return &p.cmd.Options[i]
		}
	}
	return nil
}

func (p *parser) long(text string) {
	name, value, attached := strings.Cut(text, "=")
	opt := p.find(func(o *Option) bool { return o.Long != "" && o.Long == name })
	if opt != nil {
		p.take(opt, "--"+name, value, attached)
		return
	}
	if rest, ok := strings.CutPrefix(name, "no-"); ok {
		inverted := p.find(func(o *Option) bool { return o.Kind == Inverted && o.Long == rest })
		if inverted != nil {
			p.out.options[inverted.key()] = []string{"false"}
			return
		}
	}
	if near := p.nearest("--" + name); near != "" {
		p.fail("", "Unknown option '--%s'. Did you mean '%s'?", name, near)
		return
	}
	p.fail("", "Unknown option '--%s'", name)
}

func (p *parser) short(text string) {
	name, value, attached := strings.Cut(text, "=")
	letters := strings.Split(name, "")
	for i, letter := range letters {
		opt := p.find(func(o *Option) bool { return o.Short == letter })
		if opt == nil {
			p.fail("", "Unknown option '-%s'", name)
			return
		}
		last := i == len(letters)-1
		if opt.takesValue() && !last {
			p.fail("", "Unknown option '-%s'", name)
			return
		}
		p.take(opt, "-"+letter, value, attached && last)
	}
}

// take records an option; a value that is not attached is the next argument, unless that one is an option itself.
func (p *parser) take(opt *Option, shown, value string, attached bool) {
	if !opt.takesValue() {
		if attached {
			p.fail("", "The option '%s' does not take any value, but '%s' was specified.", shown, value)
			return
		}
		p.out.options[opt.key()] = append(p.out.options[opt.key()], "true")
		return
	}
	help := fmt.Sprintf("%s <%s>  %s", shown, opt.valueName(), opt.Help)
	if !attached {
		if p.pos >= len(p.args) || (len(p.args[p.pos]) > 1 && p.args[p.pos][0] == '-') {
			p.fail(help, "Missing value for '%s <%s>'", shown, opt.valueName())
			return
		}
		value = p.args[p.pos]
		p.pos++
	}
	if why, ok := opt.accepts(value); !ok {
		p.fail(help, "The value '%s' is invalid for '%s <%s>'%s", value, shown, opt.valueName(), why)
		return
	}
	p.out.options[opt.key()] = append(p.out.options[opt.key()], value)
}

func (o *Option) accepts(value string) (string, bool) {
	if o.Bits > 0 {
		_, err := strconv.ParseUint(value, 10, o.Bits)
		return "", err == nil
	}
	if len(o.Values) == 0 {
		return "", true
	}
	quoted := make([]string, len(o.Values))
	for i, word := range o.Values {
		if word == value {
			return "", true
		}
		quoted[i] = "'" + word + "'"
	}
	list := strings.Join(quoted, " and ")
	if len(quoted) > 2 {
		list = strings.Join(quoted[:len(quoted)-1], ", ") + " or " + quoted[len(quoted)-1]
	}
	return ". Please provide one of " + list + ".", false
}

// place distributes the loose values over the positionals.
func (p *parser) place() {
	rest := p.loose
	for i := range p.cmd.Args {
		arg := &p.cmd.Args[i]
		switch {
		case len(rest) == 0 && arg.Optional:
			continue
		case len(rest) == 0:
			p.fail("<"+arg.Name+">  "+arg.Help, "Missing expected argument '%s'", arg.synopsis())
			if p.failed != nil {
				p.failed.Bare = len(p.args) == 0
			}
			return
		case arg.Repeated || arg.Passthrough:
			p.out.args[arg.Name] = rest
			rest = nil
		default:
			p.out.args[arg.Name] = rest[:1]
			rest = rest[1:]
		}
	}
	switch len(rest) {
	case 0:
	case 1:
		p.fail("", "Unexpected argument '%s'", rest[0])
	default:
		p.fail("", "%d unexpected arguments: '%s'", len(rest), strings.Join(rest, "', '"))
	}
}

// suggestionFloor is the edit distance from which on no suggestion is made.
const suggestionFloor = 4

func (p *parser) nearest(name string) string {
	best, bestDistance := "", suggestionFloor
	for i := range p.cmd.Options {
		opt := &p.cmd.Options[i]
		if opt.Long == "" {
			continue
		}
		if d := distance(opt.display(), name); d < bestDistance {
			best, bestDistance = opt.display(), d
		}
	}
	return best
}

// distance is the Levenshtein distance between two words.
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	row := make([]int, len(y)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(x); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(y); j++ {
			cost := diagonal
			if x[i-1] != y[j-1] {
				cost++
			}
			diagonal = row[j]
			row[j] = min(row[j]+1, row[j-1]+1, cost)
		}
	}
	return row[len(y)]
}
