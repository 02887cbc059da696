package setup

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gitlab-runner-tart-driver/internal/doctor"
	"gitlab-runner-tart-driver/internal/proc/proctest"
)

const plistHead = `<?xml version="1.0"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0"><dict>
`

func TestWithPath(t *testing.T) {
	const entry = "<key>PATH</key><string>/new&amp;</string>"
	for _, c := range []struct{ name, body, want string }{
		{"no environment", "<key>Label</key><string>l</string>\n", "<key>Label</key><string>l</string>\n  <key>EnvironmentVariables</key>\n  <dict>\n    " + entry + "\n  </dict>\n"},
		{"no PATH", "<key>EnvironmentVariables</key>\n  <dict>\n    <key>A</key><string>PATH</string>\n  </dict>\n", "<key>EnvironmentVariables</key>\n  <dict>\n    <key>A</key><string>PATH</string>\n    " +
			entry + "\n  </dict>\n"},
		{"an empty environment", "<key>EnvironmentVariables</key><dict/>\n", "<key>EnvironmentVariables</key><dict>" + entry + "</dict>\n"},
		{"a PATH", "<key>EnvironmentVariables</key><dict><key>PATH</key><string>/old</string><key>B</key><string>b</string></dict>\n",
			"<key>EnvironmentVariables</key><dict><key>PATH</key><string>/new&amp;</string><key>B</key><string>b</string></dict>\n"},
		{"a PATH elsewhere", "<key>KeepAlive</key><dict><key>PATH</key><string>/old</string></dict><!-- EnvironmentVariables -->\n",
			"<key>KeepAlive</key><dict><key>PATH</key><string>/old</string></dict><!-- EnvironmentVariables -->\n  <key>EnvironmentVariables</key>\n  <dict>\n    " + entry + "\n  </dict>\n"},
	} {
		got, err := withPath([]byte(plistHead+c.body+"</dict></plist>\n"), "/new&")
		// White space between elements is nobody's business.
		squeeze := func(s string) string { return strings.Join(strings.Fields(s), " ") }
		if want := plistHead + c.want + "</dict></plist>\n"; err != nil || squeeze(string(got)) != squeeze(want) {
			t.Errorf("%s: %v\n%s\nwant\n%s", c.name, err, got, want)
		}
		if _, err := doctor.ParsePlist(got); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	for _, text := range []string{"", "bplist00", "<plist><dict>", "<plist><string>a</string></plist>"} {
		if got, err := withPath([]byte(text), "/new"); err == nil {
			t.Errorf("%q became %q", text, got)
		}
	}
}

// mac is a host that has the given LaunchAgents and the like.
func mac(t *testing.T, files map[string]string) *doctor.System {
	t.Helper()
	root := t.TempDir()
	files["bin/sw_vers"] = "#!/bin/sh\n"
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := proctest.WriteProgram(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return &doctor.System{Root: root, User: 501, Environ: []string{"HOME=/Users/ci"}, Time: time.Now}
}

func TestPlanAgent(t *testing.T) {
	const agents = "Users/ci/Library/LaunchAgents/"
	job := plistHead + "<key>ProgramArguments</key><array><string>/usr/local/bin/gitlab-runner</string></array></dict></plist>"
	opt := AgentOptions{Runner: "/opt/homebrew/bin/gitlab-runner", Config: "/Users/ci/a & b/config.toml"}
	for _, c := range []struct {
		name          string
		files         map[string]string
		path, content string // of the file that is to be written
		made          bool
		note          string
	}{
		{"none yet", map[string]string{}, "/" + agents + "gitlab-runner.plist", "<string>/Users/ci/a &amp; b/config.toml</string>", true, ""},
		{"one of gitlab-runner install", map[string]string{agents + "gitlab-runner.plist": job}, "/" + agents + "gitlab-runner.plist", "<string>/opt/homebrew/bin:/usr/bin:", false, "when it starts again"},
		{"one of Homebrew", map[string]string{agents + "homebrew.mxcl.gitlab-runner.plist": job}, "", "", false, "Homebrew writes it anew"},
		{"a daemon", map[string]string{"Library/LaunchDaemons/gitlab-runner.plist": job}, "", "", false, "as a LaunchDaemon"},
		{"what can't be read", map[string]string{agents + "gitlab-runner.plist": "text"}, "", "", false, "is left alone"},
		{"another job", map[string]string{agents + "gitlab-runner-images.plist": strings.Replace(job, "/gitlab-runner<", "/gitlab-runner-tart-driver<", 1)},
			"/" + agents + "gitlab-runner.plist", "Interactive", true, ""},
	} {
		plan, err := PlanAgent(t.Context(), mac(t, c.files), opt)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if (plan.Change != nil) != (c.path != "") || plan.Made != c.made || !strings.Contains(strings.Join(plan.Notes, "\n"), c.note) || c.note == "" && len(plan.Notes) > 0 {
			t.Errorf("%s: %+v", c.name, plan)
			continue
		}
		if plan.Change == nil {
			continue
		}
		if _, err := doctor.ParsePlist(plan.Change.Content); err != nil || plan.Path != c.path || !strings.Contains(string(plan.Change.Content), c.content) {
			t.Errorf("%s: %s, %v\n%s", c.name, plan.Path, err, plan.Change.Content)
		}
	}
	if plan, err := PlanAgent(t.Context(), mac(t, map[string]string{}), AgentOptions{}); err != nil || plan.Change != nil || len(plan.Notes) != 1 {
		t.Errorf("without gitlab-runner: %+v %v", plan, err)
	}
	root := mac(t, map[string]string{})
	root.User = 0
	if plan, err := PlanAgent(t.Context(), root, opt); err != nil || plan.Change != nil || len(plan.Notes) != 1 {
		t.Errorf("for root: %+v %v", plan, err)
	}
}

func TestLoad(t *testing.T) {
	refuses := mac(t, map[string]string{"bin/launchctl": "#!/bin/sh\nexit 5\n"})
	plan := AgentPlan{Made: true, Path: "/Users/ci/x.plist"}
	if notes := plan.Load(t.Context(), refuses); len(notes) != 1 || !strings.Contains(notes[0], "launchctl bootstrap gui/501 /Users/ci/x.plist") {
		t.Error(notes)
	}
	if notes := (AgentPlan{Path: "/Users/ci/x.plist"}).Load(t.Context(), refuses); notes != nil {
		t.Error(notes)
	}
}
