package e2e

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gitlab-runner-tart-driver/internal/proc/proctest"
	"gitlab-runner-tart-driver/internal/trial"
)

// newPrivate is a host with a registry that wants a login.
func newPrivate(t *testing.T, flags ...string) *mac {
	h := newMac(t, flags...)
	h.sim("image", "create", "app", "--registry", private, "--registry-only", "--registry-user", "bot", "--registry-password", password)
	return h
}

// TestRegistryLogins pulls a private image with a login from everywhere a login can come from. The password is seen by `tart pull` and by
// nobody else.
func TestRegistryLogins(t *testing.T) {
	t.Parallel()
	h := newPrivate(t)
	helpers := filepath.Join(h.dir, "helpers")
	h.script(filepath.Join(helpers, "docker-credential-vault"), `read -r host && [ "$1 $host" = "get private.test" ] && echo '{"Username":"bot","Secret":"`+password+`"}'`)
	login := base64.StdEncoding.EncodeToString([]byte("bot:" + password))
	for origin, c := range map[string]struct {
		vars []string
		own  []trial.Credentials
	}{
		"variable TART_REGISTRY_USERNAME":               {vars: []string{"TART_REGISTRY", "private.test", "TART_REGISTRY_USERNAME", "bot", "TART_REGISTRY_PASSWORD", password}},
		"variable DOCKER_AUTH_CONFIG":                   {vars: []string{"DOCKER_AUTH_CONFIG", `{"auths":{"private.test":{"auth":"` + login + `"}}}`}},
		"docker-credential-vault of DOCKER_AUTH_CONFIG": {vars: []string{"DOCKER_AUTH_CONFIG", `{"credHelpers":{"private.test":"vault"}}`}},
		"the job's own credentials":                     {own: []trial.Credentials{{Type: "registry", URL: "private.test", Username: "bot", Password: password}}},
		"variable CI_REGISTRY_USER":                     {vars: []string{"CI_REGISTRY", "private.test", "CI_REGISTRY_USER", "bot", "CI_REGISTRY_PASSWORD", password}},
	} {
		j := imageJob(private, append(c.vars, "TART_PULL_POLICY", "always")...)
		j.Credentials = c.own
		r := h.run(j, func(o *trial.Options) {
			o.Environ = append(o.Environ, "PATH="+helpers+":/usr/bin:/bin:/usr/sbin:/sbin")
		})
		want(t, r, trial.Success, "", 0)
		says(t, r, `as user "bot" (`+origin+")", "image "+private+": pulled")
		if strings.Contains(string(r.Log), secret) || strings.Contains(string(r.Log), login) {
			t.Errorf("%s: the job log has the password", origin)
		}
		h.tartDo("delete", private)
	}
	h.assertSecretOnlyInPull()
	assertNoSecretInFiles(t, h.state())
	h.assertClean()
}

// script writes an executable shell script.
func (h *mac) script(path, body string) {
	h.t.Helper()
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = proctest.WriteProgram(path, []byte("#!/bin/sh\n"+body+"\n"), 0o755)
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

// recorded are the calls of tart with the part of their environment that the stand-in records.
func (h *mac) recorded() []recordedCall {
	h.t.Helper()
	var all []recordedCall
	if err := json.Unmarshal([]byte(h.sim("calls", "--json")), &all); err != nil {
		h.t.Error(err)
	}
	return all
}

type recordedCall struct {
	Argv []string
	Env  map[string]string
}

func (h *mac) assertSecretOnlyInPull() {
	h.t.Helper()
	pulls := 0
	for _, c := range h.recorded() {
		if strings.Contains(strings.Join(c.Argv, " "), secret) {
			h.t.Errorf("a password is in the arguments %q", c.Argv)
		}
		for name, value := range c.Env {
			switch {
			case c.Argv[1] != "pull" && (strings.Contains(value, secret) || strings.HasPrefix(name, "TART_REGISTRY")):
				h.t.Errorf("tart %s sees %s", c.Argv[1], name)
			case c.Argv[1] == "pull" && name == "TART_REGISTRY_PASSWORD" && value == password:
				pulls++
			}
		}
	}
	if pulls == 0 {
		h.t.Error("no pull saw the password")
	}
	if _, err := os.Stat(filepath.Join(h.tartHome(), "tartsim-keychain.json")); err == nil {
		h.t.Error("the keychain has something")
	}
}

func TestRefusedLogins(t *testing.T) {
	t.Parallel()
	h := newPrivate(t)
	for text, vars := range map[string][]string{
		`registry private.test refuses user "bot" (variable TART_REGISTRY_USERNAME)`: {"TART_REGISTRY", "private.test", "TART_REGISTRY_USERNAME", "bot", "TART_REGISTRY_PASSWORD", secret},
		`registry private.test refuses user "ci" (variable CI_REGISTRY_USER)`:        {"CI_REGISTRY", "private.test", "CI_REGISTRY_USER", "ci", "CI_REGISTRY_PASSWORD", secret},
		`registry private.test wants a login, and the job has none for it`:           {"TART_REGISTRY", "other.test", "TART_REGISTRY_USERNAME", "bot", "TART_REGISTRY_PASSWORD", password},
		`credential helper "nope" for private.test: it is not on the host`:           {"DOCKER_AUTH_CONFIG", `{"credHelpers":{"private.test":"nope"}}`},
	} {
		h.forgetCalls()
		r := h.run(imageJob(private, vars...))
		want(t, r, trial.Failed, trial.ScriptFailure, 1)
		says(t, r, text)
		if r.PrepareAttempts != 1 || h.called("pull") != 1 || strings.Contains(string(r.Log), secret) {
			t.Errorf("%s: %d attempts, %d pulls; log has the password: %v", text, r.PrepareAttempts, h.called("pull"), strings.Contains(string(r.Log), secret))
		}
	}
	h.assertClean()
}
