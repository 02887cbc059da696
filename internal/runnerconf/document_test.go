package runnerconf

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

// asWritten is a file as GitLab Runner writes it, with a person's comments.
const asWritten = `# our Mac
concurrent = 1 # one at a time
check_interval = 0

[session_server]
  session_timeout = 1800

# the runner
[[runners]]
  name = "mac" # in the corner
  url = "https://gitlab.example"
  id = 1
  token = "glrt-abcdefghijklmnop"
  token_obtained_at = 2023-04-03T07:21:42Z
  executor = "custom"
  [runners.cache]
    MaxUploadedArchiveSize = 0
    [runners.cache.s3]
      AccessKey = "AKIA"
      SecretKey = "hush"
  [runners.custom]
    # how jobs begin
    prepare_exec = '/opt/homebrew/bin/gitlab-runner-tart-driver'
    prepare_args = ["prepare", # the verb
      '-x', "tart"]

[[runners]]
  name = "other"
  executor = "shell"
`

func parse(t *testing.T, text string) *Document {
	t.Helper()
	d, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func bytesOf(t *testing.T, d *Document) string {
	t.Helper()
	out, err := d.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestValuesAndLines(t *testing.T) {
	d := parse(t, asWritten)
	c := d.Config()
	if c.Concurrent != 1 || len(c.Runners) != 2 || c.Runners[0].Token != "glrt-abcdefghijklmnop" {
		t.Errorf("%+v", c)
	}
	prepare := c.Runners[0].Custom.Stages()[1]
	want := Stage{"prepare", "/opt/homebrew/bin/gitlab-runner-tart-driver", []string{"prepare", "-x", "tart"}, DefaultExecTimeout}
	if !reflect.DeepEqual(prepare, want) {
		t.Errorf("prepare is %+v, want %+v", prepare, want)
	}
	for _, c := range []struct {
		runner int
		path   string
		line   int
	}{
		{Global, "concurrent", 2}, {Global, "shutdown_timeout", 1}, {Global, "session_server.session_timeout", 6},
		{0, "name", 10}, {0, "limit", 9}, {0, "custom.prepare_args", 24}, {0, "custom.run_exec", 21}, {1, "name", 28}, {1, "custom.run_exec", 27},
	} {
		if got := d.Line(c.runner, strings.Split(c.path, ".")...); got != c.line {
			t.Errorf("line of %d %s is %d, want %d", c.runner, c.path, got, c.line)
		}
	}
}

func TestEditsKeepTheRest(t *testing.T) {
	d := parse(t, asWritten)
	for _, s := range []struct {
		runner int
		path   string
		value  any
		why    string
	}{
		{Global, "concurrent", 2, "two"},
		{Global, "shutdown_timeout", 120, "time to clean up"},
		{0, "name", "mac", "no change"},
		{0, "limit", 2, ""},
		{0, "custom.prepare_args", []string{"prepare", "-x", `a "b" \ c`}, ""},
		{0, "custom.run_exec", "/usr/local/bin/driver", "new"},
		{1, "custom.run_exec", "/bin/a", ""},
		{1, "custom.cleanup_exec", "/bin/b", "later"},
	} {
		if err := d.Set(s.runner, strings.Split(s.path, "."), s.value, s.why); err != nil {
			t.Fatal(err)
		}
	}
	want := strings.NewReplacer(
		"concurrent = 1 # one at a time\ncheck_interval = 0\n", "concurrent = 2 # one at a time\ncheck_interval = 0\nshutdown_timeout = 120 # time to clean up\n",
		"executor = \"custom\"\n", "executor = \"custom\"\n  limit = 2\n",
		"[\"prepare\", # the verb\n      '-x', \"tart\"]\n", `["prepare", "-x", "a \"b\" \\ c"]`+"\n    run_exec = \"/usr/local/bin/driver\" # new\n",
		"executor = \"shell\"\n", "executor = \"shell\"\n  [runners.custom]\n    run_exec = \"/bin/a\"\n    cleanup_exec = \"/bin/b\" # later\n",
	).Replace(asWritten)
	got := bytesOf(t, d)
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	c := parse(t, got).Config()
	if c.Runners[0].Custom.PrepareArgs[2] != `a "b" \ c` || c.Runners[1].Custom.CleanupExec != "/bin/b" {
		t.Errorf("read back: %+v", c)
	}
}

func TestNothingToChange(t *testing.T) {
	d := parse(t, asWritten)
	for _, err := range []error{
		d.Set(Global, []string{"concurrent"}, 1, "why"), d.Set(0, []string{"executor"}, "custom", ""),
		d.Set(0, []string{"custom", "prepare_args"}, []string{"prepare", "-x", "tart"}, ""),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	if got := bytesOf(t, d); got != asWritten {
		t.Errorf("changed:\n%s", got)
	}
}

func TestUnusualForms(t *testing.T) {
	for _, c := range []struct {
		name, text string
		runner     int
		path       string
		value      any
		want       string // empty for a refusal
	}{
		{"empty", "", Global, "concurrent", 2, "concurrent = 2\n"},
		{"no newline at the end", "concurrent = 1", Global, "shutdown_timeout", 5, "concurrent = 1\nshutdown_timeout = 5\n"},
		{"nothing global", "# head\n\n# about it\n[[runners]]\n", Global, "concurrent", 2, "# head\nconcurrent = 2\n\n# about it\n[[runners]]\n"},
		{"no keys yet", "[[runners]]", 0, "limit", 2, "[[runners]]\n  limit = 2\n"},
		{"tabs", "[[runners]]\n\tname = \"a\"\n\t[runners.custom]\n\t\trun_exec = \"/a\"\n", 0, "custom.run_args", []string{"run"},
			"[[runners]]\n\tname = \"a\"\n\t[runners.custom]\n\t\trun_exec = \"/a\"\n\t\trun_args = [\"run\"]\n"},
		{"windows line ends", "concurrent = 1\r\n[[runners]]\r\n", 0, "limit", 2, "concurrent = 1\r\n[[runners]]\r\n  limit = 2\r\n"},
		{"dotted keys", "[[runners]]\n  custom.run_exec = \"/a\"\n", 0, "custom.run_args", []string{"run"},
			"[[runners]]\n  custom.run_exec = \"/a\"\n  custom.run_args = [\"run\"]\n"},
		{"a value in braces", "[[runners]]\n  custom = {run_exec = \"/a\", run_args = [\"x\"]}\n", 0, "custom.run_exec", "/b",
			"[[runners]]\n  custom = {run_exec = \"/b\", run_args = [\"x\"]}\n"},
		{"a new key in braces", "[[runners]]\n  custom = {run_exec = \"/a\"}\n", 0, "custom.run_args", []string{"run"}, ""},
		{"runners in brackets", "runners = [{name = \"a\"}]\n", 0, "limit", 2, ""},
		{"keys in quotes", "\"concurrent\" = 0x01\n", Global, "concurrent", 1, "\"concurrent\" = 0x01\n"},
		{"several lines of text", "[[runners]]\nname = \"\"\"\nname = 1\n[runners.custom]\"\"\"\n", 0, "name", "b", "[[runners]]\nname = \"b\"\n"},
		{"another runner's table", "[[runners]]\n[[runners]]\n[runners.custom]\nrun_exec = \"/a\"\n", 0, "custom.run_exec", "/b",
			"[[runners]]\n  [runners.custom]\n    run_exec = \"/b\"\n[[runners]]\n[runners.custom]\nrun_exec = \"/a\"\n"},
	} {
		d := parse(t, c.text)
		err := d.Set(c.runner, strings.Split(c.path, "."), c.value, "")
		switch {
		case c.want == "" && err == nil:
			t.Errorf("%s: not refused", c.name)
		case c.want != "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && bytesOf(t, d) != c.want:
			t.Errorf("%s: got\n%s\nwant\n%s", c.name, bytesOf(t, d), c.want)
		}
	}
}

// TestSeveralInsertionsAtTheEnd of a file that ends without a newline.
func TestSeveralInsertionsAtTheEnd(t *testing.T) {
	d := parse(t, "[[runners]]\n  name = \"a\"")
	for _, key := range []string{"limit", "request_concurrency"} {
		if err := d.Set(0, []string{key}, 2, ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Set(0, []string{"custom", "run_exec"}, "/a", ""); err != nil {
		t.Fatal(err)
	}
	want := "[[runners]]\n  name = \"a\"\n  limit = 2\n  request_concurrency = 2\n  [runners.custom]\n    run_exec = \"/a\"\n"
	if got := bytesOf(t, d); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestErrorsHaveTheirPlace(t *testing.T) {
	for text, line := range map[string]int{
		"concurrent = 1\n[[runners]\n":                    2,
		"concurrent = \"two\"\n":                          1,
		"a = 1\na = 2\n":                                  2,
		"[[runners]]\n  [runners.custom]\nrun_args = 1\n": 3,
	} {
		_, err := Parse([]byte(text))
		syntax := (*SyntaxError)(nil)
		if !errors.As(err, &syntax) || syntax.Line != line {
			t.Errorf("%q: %v, want an error in line %d", text, err, line)
		}
	}
}

func TestWhoseProgram(t *testing.T) {
	heads := map[string]string{
		"/py/gitlab-runner-tart-driver":  "#!/opt/homebrew/opt/python@3.12/bin/python3.12\nimport re\n",
		"/py2/gitlab-runner-tart-driver": "#!/bin/sh\n'''exec' \"/a long way/python3\" \"$0\" \"$@\"\n' '''\n",
		"/sh/gitlab-runner-tart-driver":  "#!/bin/sh\nexec driver # not python\n",
	}
	for _, c := range []struct {
		stage Stage
		want  Call
	}{
		{Stage{}, Call{}},
		{Stage{Exec: "/usr/bin/true", Args: []string{"a"}}, Call{Driver: DriverOther, Program: "/usr/bin/true", Args: []string{"a"}}},
		{Stage{Exec: "/b/gitlab-runner-tart-driver", Args: []string{"run"}}, Call{DriverOwn, "/b/gitlab-runner-tart-driver", []string{}, []string{"run"}}},
		{Stage{Exec: "/py/gitlab-runner-tart-driver"}, Call{DriverPython, "/py/gitlab-runner-tart-driver", []string{}, []string{}}},
		{Stage{Exec: "/py2/gitlab-runner-tart-driver"}, Call{DriverPython, "/py2/gitlab-runner-tart-driver", []string{}, []string{}}},
		{Stage{Exec: "/sh/gitlab-runner-tart-driver"}, Call{DriverOwn, "/sh/gitlab-runner-tart-driver", []string{}, []string{}}},
		{Stage{Exec: "gitlab-tart-executor", Args: []string{"prepare"}}, Call{DriverTartExecutor, "gitlab-tart-executor", []string{}, []string{"prepare"}}},
		{Stage{Exec: "/usr/bin/sudo", Args: []string{"-u", "ci", "/b/gitlab-runner-tart-driver", "prepare"}},
			Call{DriverOwn, "/b/gitlab-runner-tart-driver", []string{"/usr/bin/sudo", "-u", "ci"}, []string{"prepare"}}},
	} {
		if got := c.stage.Call(func(path string) []byte { return []byte(heads[path]) }); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%+v: got %+v, want %+v", c.stage, got, c.want)
		}
	}
}
