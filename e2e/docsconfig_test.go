package e2e

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gitlab-runner-tart-driver/internal/runnerconf"
	"gitlab-runner-tart-driver/internal/settings"
	"gitlab-runner-tart-driver/internal/trial/ciyaml"
)

// checkTOML tries a configuration: a config.toml of GitLab Runner, a part of one, or settings of the driver.
func (h *reader) checkTOML(at, path, text string) {
	if !strings.Contains(text, "_exec") {
		h.write(path, text)
		if out, errs, code := h.person(nil, "explain", "--config", path); code != 0 {
			h.t.Errorf("%s: explain ends with %d: %s%s", at, code, out, errs)
		}
		return
	}
	if !strings.Contains(text, "[[runners]]") {
		text = "concurrent = 2\n[[runners]]\nname = \"mac\"\nurl = \"https://gitlab.example\"\ntoken = \"glrt-abcdefghijklmnop\"\nexecutor = \"custom\"\n" +
			"limit = 2\nrequest_concurrency = 2\n[runners.custom]\ngraceful_kill_timeout = 60\n" + text
	}
	h.write(path, text)
	document, err := runnerconf.Parse([]byte(text))
	if err != nil {
		h.t.Errorf("%s: %v", at, err)
		return
	}
	for _, r := range document.Config().Runners {
		var variables = map[string]string{}
		for _, kv := range r.Environment {
			name, value, _ := strings.Cut(kv, "=")
			variables[name] = value
		}
		for _, unknown := range settings.Unknown(variables) {
			h.t.Errorf("%s: %s", at, unknown)
		}
		for _, args := range [][]string{r.Custom.ConfigArgs, r.Custom.PrepareArgs, r.Custom.RunArgs, r.Custom.CleanupArgs} {
			h.makeDirectories(args)
		}
	}
	h.write(filepath.Join(h.played(), "docs.toml"), text)
	if err := os.Chmod(filepath.Join(h.played(), "docs.toml"), 0o600); err != nil {
		h.t.Error(err)
	}
	h.doctorPasses(at, "/docs.toml")
	out, errs, code := h.command(nil, runnerconf.Name, "migrate", "-c", "/docs.toml")
	if code != 0 || !strings.Contains(errs, "nothing to change") {
		h.t.Errorf("%s: migrate ends with %d: %s%s", at, code, out, errs)
	}
}

// makeDirectories makes those of the host that arguments share with VMs.
func (h *reader) makeDirectories(args []string) {
	args = strings.Fields(strings.Join(args, " ")) // the Python driver's users write a flag and its value in one
	for i, arg := range args {
		if i > 0 && slices.Contains([]string{"--volume", "--builds-dir", "--cache-dir"}, args[i-1]) {
			host, _, _ := strings.Cut(arg, ":")
			if err := os.MkdirAll(filepath.Join(h.played(), host), 0o755); err != nil {
				h.t.Error(err)
			}
		}
	}
}

// aboutConfig are the checks of doctor that look at nothing but a config.toml.
var aboutConfig = []string{"config", "stages", "settings", "limits", "timeouts", "overridden"}

// doctorPasses lets doctor look at a config.toml.
func (h *reader) doctorPasses(at, path string) {
	out, errs, _ := h.command(nil, runnerconf.Name, "doctor", "-c", path, "--json")
	var report struct {
		Checks []struct {
			ID, Status string
			Findings   []struct{ Status, Reason string }
		}
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		h.t.Fatalf("doctor --json: %v: %s%s", err, out, errs)
	}
	passed := 0
	for _, check := range report.Checks {
		if !slices.Contains(aboutConfig, check.ID) {
			continue
		}
		if check.Status != "pass" {
			h.t.Errorf("%s: doctor: %s: %s: %v", at, check.ID, check.Status, check.Findings)
		}
		passed++
	}
	if passed != len(aboutConfig) {
		h.t.Errorf("doctor has made %d checks of the %d about config.toml", passed, len(aboutConfig))
	}
}

// checkYAML reads a .gitlab-ci.yml, and puts it into the project.
func (h *reader) checkYAML(at, text string) {
	file, err := ciyaml.Parse(at, []byte(text))
	if err != nil {
		h.t.Error(err)
		return
	}
	if len(file.JobNames()) == 0 {
		h.t.Errorf("%s: no job", at)
	}
	for _, name := range file.JobNames() {
		j, err := file.Job(name)
		if err != nil {
			h.t.Error(err)
			continue
		}
		variables := map[string]string{}
		for _, v := range j.Variables {
			variables[v.Key] = v.Value
		}
		for _, unknown := range settings.Unknown(variables) {
			h.t.Errorf("%s: %s", at, unknown)
		}
		// The operator of the page is one who lets jobs do what it says.
		_, errs := settings.Resolve(settings.Sources{Variables: variables, Defaults: map[string]string{"state-dir": "/", "max-cpu": "8", "max-memory": "16384"}})
		if err := errors.Join(errs...); err != nil {
			h.t.Errorf("%s: job %s: %v", at, name, err)
		}
	}
	h.write(filepath.Join(h.project(), ".gitlab-ci.yml"), text)
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"add", "."}, {"-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-qm", at, "--allow-empty"}} {
		if out, errs, code := h.command(nil, "git", args...); code != 0 {
			h.t.Fatalf("git %v: %s%s", args, out, errs)
		}
	}
}

// checkUntried has only blocks go by that the table names.
func (h *reader) checkUntried(at string, b block) {
	for _, u := range untried {
		if b.page == u.page && strings.HasPrefix(b.text, u.begins) {
			h.met[u.begins] = true
			return
		}
	}
	h.t.Errorf("%s: nothing is known of how to try a block of %q", at, b.language)
}

// checkJSON puts logins where the page says that they are.
func (h *reader) checkJSON(at, text string) {
	if !json.Valid([]byte(text)) {
		h.t.Errorf("%s: not JSON", at)
	}
	if strings.Contains(text, `"auths"`) {
		h.write(filepath.Join(h.project(), "auth.json"), text)
	}
}

// checkXML reads a property list of launchd, and looks at the call of the driver in it.
func (h *reader) checkXML(at, text string) {
	var words []string
	decoder := xml.NewDecoder(strings.NewReader(text))
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			h.t.Errorf("%s: %v", at, err)
			return
		}
		if s, ok := token.(xml.StartElement); ok && s.Name.Local == "string" {
			var word string
			if err := decoder.DecodeElement(&word, &s); err != nil {
				h.t.Errorf("%s: %v", at, err)
			}
			words = append(words, word)
		}
	}
	i := slices.IndexFunc(words, func(word string) bool { return filepath.Base(word) == runnerconf.Name })
	if i < 0 {
		h.t.Errorf("%s: it does not call the driver", at)
		return
	}
	h.checkCall(at, words[i+1:])
}

// checkCall has the driver understand a call that is not made: flags, and the verb in front of them.
func (h *reader) checkCall(at string, call []string) {
	out, errs, code := h.person(nil, append(slices.Clone(call), "--help")...)
	if code != 0 || !strings.Contains(out, "Usage:\n  gitlab-runner-tart-driver "+call[0]) {
		h.t.Errorf("%s: the driver does not understand %q (%d): %s", at, call, code, errs)
	}
}
