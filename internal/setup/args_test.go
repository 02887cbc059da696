package setup

import (
	"slices"
	"testing"
)

func TestTakeApart(t *testing.T) {
	for _, c := range []struct {
		args []string
		want []argument // without rows and words
		rows []string
	}{
		{[]string{"prepare", "-x", "/bin/tart", "--cpu=4"}, []argument{{value: "prepare"}, {name: "x", value: "/bin/tart", hasValue: true}, {name: "cpu", value: "4", hasValue: true}},
			[]string{"", "tart-executable", "cpu"}},
		{[]string{"-x/bin/tart", "--volume /a:/b"}, []argument{{name: "x", value: "/bin/tart", hasValue: true}, {name: "volume", value: "/a:/b", hasValue: true}}, []string{"tart-executable", "volume"}},
		{[]string{"--softnet", "--no-headless", "--vnc=false"}, []argument{{name: "softnet"}, {name: "no-headless", negated: true}, {name: "vnc", value: "false", hasValue: true}},
			[]string{"softnet", "headless", "vnc"}},
		{[]string{"--strange", "value", "--stranger", "--cpu", "2"}, []argument{{name: "strange", value: "value", hasValue: true}, {name: "stranger"}, {name: "cpu", value: "2", hasValue: true}},
			[]string{"", "", "cpu"}},
		{[]string{"--default-ssh-username", "-x"}, []argument{{name: "default-ssh-username", value: "-x", hasValue: true}}, []string{"default-ssh-user"}},
		{[]string{"--cpu"}, []argument{{name: "cpu"}}, []string{"cpu"}},
	} {
		got := takeApart(c.args)
		var words []string
		for i, a := range got {
			words = append(words, a.words...)
			row := ""
			if a.row != nil {
				row = a.row.Name
			}
			want := c.want[i]
			if a.name != want.name || a.value != want.value || a.hasValue != want.hasValue || a.negated != want.negated || row != c.rows[i] {
				t.Errorf("%q: argument %d is %+v of %q", c.args, i, a, row)
			}
		}
		if len(got) != len(c.want) || !slices.Equal(words, c.args) {
			t.Errorf("%q: %d arguments, %q together", c.args, len(got), words)
		}
	}
}

func TestWithSettings(t *testing.T) {
	for _, c := range []struct {
		name  string
		args  []string
		verb  string
		given map[string]string
		want  []string
	}{
		{"a new one", []string{"prepare"}, "prepare", map[string]string{"cpu": "4"}, []string{"prepare", "--cpu", "4"}},
		{"the same", []string{"prepare", "--cpu=4", "--nested"}, "prepare", map[string]string{"cpu": "4", "nested": "true"}, []string{"prepare", "--cpu=4", "--nested"}},
		{"another value", []string{"prepare", "-x", "a", "--nested"}, "prepare", map[string]string{"tart-executable": "b"}, []string{"prepare", "--nested", "--tart-executable", "b"}},
		{"a switch turned off", []string{"prepare", "--nested"}, "prepare", map[string]string{"nested": "false"}, []string{"prepare", "--no-nested"}},
		{"a list", []string{"prepare", "--volume", "/a:/b"}, "prepare", map[string]string{"volume": "/a:/b\n/c:/d"}, []string{"prepare", "--volume", "/a:/b", "--volume", "/c:/d"}},
		{"a list that is there", []string{"prepare", "--volume", "/a:/b", "--volume /c:/d"}, "prepare", map[string]string{"volume": "/a:/b\n/c:/d"}, []string{"prepare", "--volume", "/a:/b", "--volume /c:/d"}},
		{"what another stage is for", []string{"run"}, "run", map[string]string{"cpu": "4", "shell": "/bin/bash"}, []string{"run", "--shell", "/bin/bash"}},
		{"nothing", []string{"run"}, "run", nil, []string{"run"}},
	} {
		before := slices.Clone(c.args)
		if got := withSettings(c.args, c.verb, c.given); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
		if !slices.Equal(c.args, before) {
			t.Errorf("%s: the arguments themselves were changed", c.name)
		}
	}
}

func TestWithSettingsFile(t *testing.T) {
	for _, c := range []struct{ args, want []string }{
		{[]string{"run"}, []string{"run", "--config", "/d.toml"}},
		{[]string{"run", "--config=/d.toml"}, []string{"run", "--config=/d.toml"}},
		{[]string{"run", "--config", "/e.toml", "--shell", "sh"}, []string{"run", "--shell", "sh", "--config", "/d.toml"}},
	} {
		if got := withSettingsFile(c.args, "/d.toml"); !slices.Equal(got, c.want) {
			t.Errorf("%q: %q", c.args, got)
		}
	}
}
