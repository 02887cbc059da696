package argspec

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

func command() *Command {
	return &Command{
		Name: "do", Abstract: "Do it",
		Options: []Option{
			{Long: "wait", Short: "w", Kind: Value, Bits: 16, Help: "seconds"},
			{Long: "format", Kind: Value, Values: []string{"text", "json"}},
			{Long: "dir", Kind: Repeated, ValueName: "path"},
			{Long: "quiet", Short: "q"}, {Short: "i"}, {Short: "t"},
			{Long: "fit", Kind: Inverted},
		},
		Args: []Positional{{Name: "name", Help: "VM name"}, {Name: "rest", Passthrough: true}},
	}
}

func TestParse(t *testing.T) {
	for _, test := range []struct {
		line    string
		options map[string][]string
		args    map[string][]string
	}{
		{"vm ls", nil, map[string][]string{"name": {"vm"}, "rest": {"ls"}}},
		{"--wait 5 -q vm ls -la --wait x", map[string][]string{"wait": {"5"}, "quiet": {"true"}}, map[string][]string{"name": {"vm"}, "rest": {"ls", "-la", "--wait", "x"}}},
		{"--wait=5 --dir a --dir=b=c:d vm -- x", map[string][]string{"wait": {"5"}, "dir": {"a", "b=c:d"}}, map[string][]string{"name": {"vm"}, "rest": {"--", "x"}}},
		{"-it -w 7 vm x", map[string][]string{"i": {"true"}, "t": {"true"}, "wait": {"7"}}, map[string][]string{"name": {"vm"}, "rest": {"x"}}},
		{"-w=7 --no-fit vm x", map[string][]string{"wait": {"7"}, "fit": {"false"}}, map[string][]string{"name": {"vm"}, "rest": {"x"}}},
		{"-- --wait x", nil, map[string][]string{"name": {"--wait"}, "rest": {"x"}}},
		{"- x", nil, map[string][]string{"name": {"-"}, "rest": {"x"}}},
	} {
		got, err := Parse(command(), strings.Fields(test.line))
		if err != nil {
			t.Errorf("%q: %v", test.line, err)
			continue
		}
		if test.options == nil {
			test.options = map[string][]string{}
		}
		if !reflect.DeepEqual(got.options, test.options) || !reflect.DeepEqual(got.args, test.args) {
			t.Errorf("%q: options %v, args %v; want %v, %v", test.line, got.options, got.args, test.options, test.args)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for line, want := range map[string]string{
		"":                       "Missing expected argument '<name>'",
		"vm":                     "Missing expected argument '<rest> ...'",
		"--qiet vm x":            "Unknown option '--qiet'. Did you mean '--quiet'?",
		"--altogether-other vm":  "Unknown option '--altogether-other'",
		"-x vm":                  "Unknown option '-x'",
		"-ix vm":                 "Unknown option '-ix'",
		"--wait vm x":            "The value 'vm' is invalid for '--wait <wait>'",
		"--wait 70000 vm x":      "The value '70000' is invalid for '--wait <wait>'",
		"--wait --quiet vm x":    "Missing value for '--wait <wait>'",
		"--wait":                 "Missing value for '--wait <wait>'",
		"--quiet=1 vm x":         "The option '--quiet' does not take any value, but '1' was specified.",
		"--format yaml vm x":     "The value 'yaml' is invalid for '--format <format>'. Please provide one of 'text' and 'json'.",
		"--no-quiet vm x":        "Unknown option '--no-quiet'. Did you mean '--quiet'?",
		"--dir -x vm":            "Missing value for '--dir <path>'",
		"--fit=yes vm x":         "The option '--fit' does not take any value, but 'yes' was specified.",
		"--unknown --format bad": "Unknown option '--unknown'",
	} {
		_, err := Parse(command(), strings.Fields(line))
		var usage *UsageError
		if !errors.As(err, &usage) || usage.Message != want {
			t.Errorf("%q: %v, want %q", line, err, want)
		}
	}
	plain := &Command{Name: "list", Args: []Positional{{Name: "name", Optional: true}}}
	for line, want := range map[string]string{"a b": "Unexpected argument 'b'", "a b c": "2 unexpected arguments: 'b', 'c'"} {
		if _, err := Parse(plain, strings.Fields(line)); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %q", line, err, want)
		}
	}
}

func TestHelpAndVersion(t *testing.T) {
	for line, want := range map[string][2]bool{"--help": {true, false}, "-h": {true, false}, "--wait 1 --version vm": {false, true}, "--wait 1 --help junk": {true, false}} {
		got, err := Parse(command(), strings.Fields(line))
		if err != nil || got.Help != want[0] || got.Version != want[1] {
			t.Errorf("%q: %+v, %v", line, got, err)
		}
	}
	if got, err := Parse(command(), []string{"vm", "ls", "--help"}); err != nil || got.Help {
		t.Errorf("--help of a passed-through command: %+v, %v", got, err)
	}
}

func TestUsageOfACommandWithManyOptions(t *testing.T) {
	c := &Command{Name: "run", Args: []Positional{{Name: "name"}}}
	for range longestSynopsis {
		c.Options = append(c.Options, Option{Long: "x"})
	}
	if got := c.Synopsis("tart"); got != "tart run [<options>] <name>" {
		t.Errorf("synopsis: %q", got)
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"vm x", "--wait=5 vm x", "-it vm sh -c x", "--no-fit -- a b", "--=", "-=x", "--dir"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		args := strings.Split(line, " ")
		got, err := Parse(command(), args)
		var usage *UsageError
		switch {
		case err != nil && (!errors.As(err, &usage) || usage.Message == ""):
			t.Fatalf("%q: error %v is no usage error with a message", args, err)
		case err != nil || got.Help || got.Version:
			return
		}
		if len(got.args["name"]) != 1 || len(got.args["rest"]) == 0 {
			t.Fatalf("%q: accepted without its arguments: %v", args, got.args)
		}
		for _, value := range got.options["wait"] {
			if _, ok := (&Option{Bits: 16}).accepts(value); !ok {
				t.Fatalf("%q: accepted the value %q", args, value)
			}
		}
	})
}
