package setup

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gitlab-runner-tart-driver/internal/doctor"
	"gitlab-runner-tart-driver/internal/runnerconf"
)

const program = "/opt/bin/gitlab-runner-tart-driver"

// parseArgs takes arguments apart by the table alone.
func parseArgs(args []string) (doctor.StageArgs, error) {
	out := doctor.StageArgs{Flags: map[string]string{}}
	for _, a := range takeApart(args) {
		switch {
		case a.name == "config":
			out.File = a.value
		case a.row != nil:
			out.Flags[a.row.Name] = a.given()
		case a.name != "":
			return out, errors.New("unknown flag: --" + a.name)
		default:
			out.Stage = a.value
		}
	}
	return out, nil
}

func options(t *testing.T) RunnerOptions {
	return RunnerOptions{
		URL: "https://gitlab.example", Token: "glrt-new", DefaultName: "host", Driver: program, Parse: parseArgs,
		Host: &doctor.System{Root: t.TempDir(), Time: time.Now, Environ: []string{"HOME=/Users/ci"}},
	}
}

// planned is the config.toml that comes of one.
func planned(t *testing.T, before string, opt RunnerOptions) (string, error) {
	t.Helper()
	change, _, err := PlanRunner(&runnerconf.File{Path: "config.toml", Exists: true, Content: []byte(before)}, opt)
	if err != nil {
		return "", err
	}
	again, _, err := PlanRunner(&runnerconf.File{Path: "config.toml", Exists: true, Content: change.Content}, opt)
	if err != nil {
		t.Errorf("the second time: %v", err)
	} else if again.Needed() {
		t.Errorf("the second time there is more to change:\n%s", again.Diff("config.toml"))
	}
	return string(change.Content), nil
}

func TestNumbersFit(t *testing.T) {
	for _, c := range []struct {
		name  string
		given map[string]string
		file  string // the driver's own settings
		want  []string
	}{
		{"by default", nil, "", []string{"concurrent = 2 ", "limit = 2 ", "request_concurrency = 2 ", `prepare_args = ["prepare", "--concurrency", "2"]`, "prepare_exec_timeout = 4500 "}},
		{"one at a time", map[string]string{"max-vm-count": "1"}, "", []string{"concurrent = 1 ", "limit = 1 ", `prepare_args = ["prepare", "--concurrency", "1", "--max-vm-count", "1"]`}},
		{"four Linux guests", map[string]string{"concurrency": "4"}, "", []string{"concurrent = 4 ", "limit = 4 ", "request_concurrency = 4 ", `"--concurrency", "4"`}},
		{"a long wait", map[string]string{"slot-timeout": "7200"}, "", []string{"prepare_exec_timeout = 8100 "}},
		{"from the settings file", nil, "max-vm-count = 1\nslot-timeout = 600\n", []string{"concurrent = 1 ", "limit = 1 ", `["prepare", "--concurrency", "1", "--config", "/d.toml"]`,
			`["cleanup", "--config", "/d.toml"]`, "prepare_exec_timeout = 1500 "}},
		{"all in the settings file", nil, "concurrency = 3\n", []string{"concurrent = 3 ", `["prepare", "--config", "/d.toml"]`}},
	} {
		opt := options(t)
		opt.Given = c.given
		if c.file != "" {
			opt.SettingsFile = "/d.toml"
			if err := os.WriteFile(filepath.Join(opt.Host.Real("/"), "d.toml"), []byte(c.file), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		got, err := planned(t, "", opt)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		for _, want := range c.want {
			if !strings.Contains(got, want) {
				t.Errorf("%s: no %q in\n%s", c.name, want, got)
			}
		}
		if c.given["max-vm-count"] == "1" && strings.Contains(got, "request_concurrency") {
			t.Errorf("%s: one job needs no second request", c.name)
		}
	}
}

func TestWhichRunner(t *testing.T) {
	const (
		shell = "[[runners]]\n  name = \"sh\"\n  token = \"glrt-shell\"\n  executor = \"shell\"\n"
		fresh = "[[runners]]\n  name = \"fresh\"\n  url = \"https://gitlab.example\"\n  token = \"glrt-fresh\"\n  executor = \"custom\"\n  [runners.custom]\n    run_exec = \"\"\n"
		own   = "[[runners]]\n  name = \"own\"\n  url = \"https://gitlab.example\"\n  token = \"glrt-own\"\n  executor = \"custom\"\n  [runners.custom]\n    run_exec = \"" + program + "\"\n    run_args = [\"run\"]\n"
		mine  = "[[runners]]\n  name = \"mine\"\n  token = \"glrt-mine\"\n  executor = \"custom\"\n  [runners.custom]\n    run_exec = \"/bin/mine\"\n"
	)
	for _, c := range []struct {
		name, url, token, runner, config string
		want                             string // the name of the runner that is changed
		err                              string
	}{
		{"a new one", "u", "glrt-new", "", shell + own, "host", ""},
		{"by its token", "", "glrt-fresh", "", shell + own + fresh, "fresh", ""},
		{"by its name, with a new token", "", "glrt-new", "own", shell + fresh + own, "own", ""},
		{"token before name", "", "glrt-fresh", "own", own + fresh, "own", ""}, // and it is called own from then on
		{"one of this driver", "", "", "", fresh + own, "own", ""},
		{"one that was registered", "", "", "", shell + mine + fresh, "fresh", ""},
		{"none, and nothing given", "", "", "", shell, "", "a new runner needs a url"},
		{"none, and no token", "u", "", "", shell, "", "a new runner needs a token"},
		{"another executor", "", "glrt-shell", "", shell, "", `has the executor "shell"`},
		{"another program", "", "", "mine", mine, "", "calls /bin/mine, which is not this driver"},
	} {
		opt := options(t)
		opt.URL, opt.Token, opt.Name = c.url, c.token, c.runner
		change, index, err := PlanRunner(&runnerconf.File{Content: []byte(c.config)}, opt)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v, want %q", c.name, err, c.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		doc, err := runnerconf.Parse(change.Content)
		if err != nil {
			t.Fatal(err)
		}
		r := doc.Config().Runners[index]
		if r.Name != c.want || r.Custom.RunExec != program || c.token != "" && r.Token != c.token {
			t.Errorf("%s: %+v", c.name, r)
		}
	}
}

func TestFaultyArgumentsAreNotBuiltOn(t *testing.T) {
	opt := options(t)
	config := "[[runners]]\n  token = \"glrt-new\"\n  executor = \"custom\"\n  [runners.custom]\n    prepare_exec = \"" + program + "\"\n    prepare_args = [\"prepare\", \"--nonsense\"]\n"
	if _, err := planned(t, config, opt); err == nil || err.Error() != "prepare_args: unknown flag: --nonsense" {
		t.Error(err)
	}
	if _, err := planned(t, "concurrent = \"two\"", opt); err == nil || !strings.HasPrefix(err.Error(), "config.toml is not valid: line 1") {
		t.Error(err)
	}
}

func TestTokensAndAddresses(t *testing.T) {
	for token, ok := range map[string]bool{"": true, "glrt-abcdefghijkl": true, "acme-glrt-abc": true, "glpat-abcdefgh": false, "GR1348941abcdefgh": false, "glrt-abc def": false, "glrt-\u00e4": false} {
		if err := CheckToken(token); (err == nil) != ok || err != nil && strings.Contains(err.Error(), "abc") {
			t.Errorf("%q: %v", token, err)
		}
	}
	for url, ok := range map[string]bool{"https://gitlab.com": true, "http://10.0.0.1:8080/gitlab": true, "gitlab.com": false, "ftp://gitlab.com": false, "https://": false, "https://u:p@gitlab.com": false, "://": false} {
		if err := CheckURL(url); (err == nil) != ok {
			t.Errorf("%q: %v", url, err)
		}
	}
}
