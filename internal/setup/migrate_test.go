package setup

import (
	"strings"
	"testing"

	"gitlab-runner-tart-driver/internal/runnerconf"
)

func TestCarryOver(t *testing.T) {
	for _, c := range []struct {
		name, from, args string
		want             string // of prepare_args
		notes            []string
	}{
		{"the README of the Python driver", "gitlab-tart", `"prepare", '-x', '/opt/homebrew/bin/tart', '--volume /data/models/:/opt/data/models:ro'`,
			`["prepare", "-x", "/opt/homebrew/bin/tart", "--volume", "/data/models/:/opt/data/models:ro"]`, nil},
		{"all flags of the Python driver", "gitlab-tart", `"prepare", "--cpu", "4", "--memory", "8192", "--display", "1200x800", "--no-auto-resources", "--concurrency", "2", "--cache-dir", "/c", "--builds-dir", ` +
			`"/b", "--timeout", "90", "--install-gitlab-runner", "--force-install-gitlab-runner", "--gitlab-runner-version", "15.11.0", "-e", "evil.*", "--default-ssh-user", "me"`,
			`["prepare", "--cpu", "4", "--memory", "8192", "--display", "1200x800", "--no-auto-resources", "--concurrency", "2", "--cache-dir", "/c", "--builds-dir", "/b", "--timeout", "90", ` +
				`"--install-gitlab-runner", "--force-install-gitlab-runner", "--gitlab-runner-version", "15.11.0", "-e", "evil.*", "--default-ssh-user", "me"]`,
			[]string{"prepare: --timeout has an effect here", "prepare: --auto-resources has an effect here"}},
		{"flags of gitlab-tart-executor", "gitlab-tart-executor", `"prepare", "--cpu=auto", "--memory", "auto", "--auto-prune=false", "--nested", "--dir", "~/x:tag=y", "--user", "me", "--allow-image", "a/**"`,
			`["prepare", "--cpu=auto", "--memory", "auto", "--auto-prune=false", "--nested", "--dir", "~/x:tag=y", "--allow-image", "a/**"]`,
			[]string{"--user me is not carried over: this driver stays the user that it is called as"}},
		{"what nobody knows", "gitlab-tart", `"prepare", "--new", "thing", "--newer", "--timeout", "soon", "--gitlab-runner-version"`, `["prepare"]`,
			[]string{"--new thing is not carried over: this driver has no such flag", "--newer is not carried over", `--timeout soon is not carried over: flag --timeout: "soon"`,
				"--gitlab-runner-version is not carried over: its value is missing"}},
		{"another verb", "gitlab-tart", `"--timeout", "5"`, `["--timeout", "5"]`, []string{`prepare_args do not begin with "prepare"`}},
	} {
		config := "[[runners]]\n  name = \"r\"\n  executor = \"custom\"\n  [runners.custom]\n    prepare_exec = \"/usr/bin/" + c.from + "\"\n    prepare_args = [" + c.args + "]\n"
		m, err := PlanMigration(&runnerconf.File{Content: []byte(config), Exists: true}, MigrateOptions{Driver: program, Host: options(t).Host})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := string(m.Change.Content); !strings.Contains(got, "prepare_exec = \""+program+"\"\n    prepare_args = "+c.want+"\n") {
			t.Errorf("%s: want %s in\n%s", c.name, c.want, got)
		}
		for _, note := range c.notes {
			if !strings.Contains(strings.Join(m.Notes, "\n"), note) {
				t.Errorf("%s: no %q in\n%s", c.name, note, strings.Join(m.Notes, "\n"))
			}
		}
		for _, verb := range []string{"config", "run", "cleanup"} { // the driver needs all
			if !strings.Contains(string(m.Change.Content), verb+"_exec = \""+program+"\"\n    "+verb+"_args = [\""+verb+"\"]\n") {
				t.Errorf("%s: no %s stage in\n%s", c.name, verb, m.Change.Content)
			}
		}
		if len(m.Runners) != 1 || m.Own {
			t.Errorf("%s: %+v", c.name, m)
		}
	}
}

func TestNothingToMigrate(t *testing.T) {
	config := "[[runners]]\n  executor = \"custom\"\n  [runners.custom]\n    run_exec = \"" + program + "\" # kept\n"
	m, err := PlanMigration(&runnerconf.File{Content: []byte(config), Exists: true}, MigrateOptions{Driver: "/other/" + runnerconf.Name, Host: options(t).Host})
	if err != nil || len(m.Runners) != 0 || !m.Own || m.Change.Needed() {
		t.Errorf("%+v %v", m, err)
	}
}
