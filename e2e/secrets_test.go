package e2e

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"gitlab-runner-tart-driver/internal/trial"
	"gitlab-runner-tart-driver/internal/trial/civar"
)

// secretOf is a secret that no other test on this machine has.
func (h *mac) secretOf(kind string) string { return "zq-" + kind + "-" + filepath.Base(h.dir) }

// secretsIn names the kinds of secrets of this host that a text has.
func (h *mac) secretsIn(text []byte) (kinds []string) {
	if bytes.Contains(text, []byte("hunter2")) && bytes.Contains(text, []byte(h.dir)) {
		kinds = append(kinds, "runner")
	}
	for _, m := range regexp.MustCompile(`zq-([a-z]+)-`+regexp.QuoteMeta(filepath.Base(h.dir))).FindAllSubmatch(text, -1) {
		kinds = append(kinds, string(m[1]))
	}
	for _, kind := range []string{"docker", "registry"} { // in the form that Docker's config file has it
		if bytes.Contains(text, []byte(base64.StdEncoding.EncodeToString([]byte("bot:"+h.secretOf(kind))))) {
			kinds = append(kinds, kind)
		}
	}
	slices.Sort(kinds)
	return slices.Compact(kinds)
}

// exposure looks for secrets in the arguments and environments of all processes of this machine, and in the state directory.
type exposure struct {
	h  *mac
	mu sync.Mutex
	// pulls is how often a `tart pull` was seen with its password, and looks how often it was looked.
	pulls, looks int
	// gate holds up each pull until it was looked for.
	gate *os.File
}

// atTheGate is what a pull says that is held up.
const atTheGate = "at the gate"

// newExposure has each pull wait until somebody has looked.
func (h *mac) newExposure() *exposure {
	h.t.Helper()
	path := filepath.Join(h.dir, "gate")
	err := syscall.Mkfifo(path, 0o600)
	e := &exposure{h: h}
	if err == nil {
		e.gate, err = os.OpenFile(path, os.O_RDWR, 0) // for both, so that it waits for nobody
	}
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { e.gate.Close() })
	h.wrapTart(`if [ "$1" = pull ]; then echo '` + atTheGate + `'; read -r go < gate; fi`)
	return e
}

// process is what the arguments and the environment of a process are, empty where it is gone. Between its start and its exec a process looks like the one
// that started it, and in the middle of an exec like none: what has changed while it was read is read again.
func (e *exposure) process(dir string) (cmdline, environ []byte) {
	e.h.eventually(dir+" stays what it is", func() bool {
		cmdline, _ = os.ReadFile(dir + "/cmdline")
		environ, _ = os.ReadFile(dir + "/environ")
		again, _ := os.ReadFile(dir + "/cmdline")
		return bytes.Equal(cmdline, again) && (len(cmdline) > 0 || len(environ) == 0)
	})
	return cmdline, environ
}

// isPull tells whether a process is a `tart pull`, or the script that passes for one.
func (e *exposure) isPull(argv []string) bool {
	wrapper := e.h.flags[1]
	return len(argv) > 1 && argv[0] == e.h.tart && argv[1] == "pull" || len(argv) > 2 && argv[1] == wrapper && argv[2] == "pull"
}

// look reports every secret that it finds, but for those that a process must have: GitLab Runner gives a stage all variables, and `tart pull` gets
// the password that it is for.
func (e *exposure) look(at string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.looks++
	own, _ := os.Readlink("/proc/self/ns/pid")
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		if ns, _ := os.Readlink(d + "/ns/pid"); ns != own || filepath.Base(d) == strconv.Itoa(os.Getpid()) {
			continue // what runs in the guest is looked for there
		}
		cmdline, environ := e.process(d)
		argv := strings.Split(string(cmdline), "\x00")
		if kinds := e.h.secretsIn(cmdline); len(kinds) > 0 {
			e.h.t.Errorf("%s: the arguments of %.200q have secrets: %v", at, argv, kinds)
		}
		kinds := e.h.secretsIn(environ)
		switch {
		case len(kinds) == 0 || len(argv) > 1 && argv[0] == built.driver && slices.Contains([]string{"config", "prepare", "run", "cleanup"}, argv[1]):
		case e.isPull(argv) && slices.Equal(kinds, []string{"registry"}):
			e.pulls++
		default:
			e.h.t.Errorf("%s: the environment of %.200q has secrets: %v", at, argv, kinds)
		}
	}
	e.h.assertNoSecretsInState(at)
}

// assertNoSecretsInState looks through all files of the state directory.
func (h *mac) assertNoSecretsInState(at string) {
	h.t.Helper()
	err := filepath.WalkDir(h.state(), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // it is gone
		}
		raw, _ := os.ReadFile(path)
		if kinds := h.secretsIn(append(raw, path...)); len(kinds) > 0 {
			h.t.Errorf("%s: %s has secrets: %v", at, path, kinds)
		}
		return nil
	})
	if err != nil {
		h.t.Error(err)
	}
}

// into looks whenever a stage begins, and whenever prepare has something to say.
func (e *exposure) into(o *trial.Options) {
	o.Hooks.Started = func(_ *trial.Trial, p trial.Process) { e.look("start of " + p.Stage) }
	o.Hooks.Output = func(_ *trial.Trial, stage string, _ trial.Stream, data []byte) {
		if stage != trial.StageCleanup {
			e.look(fmt.Sprintf("%s, when it says %.60q", stage, data))
		}
		if stage == trial.StagePrepare && bytes.Contains(data, []byte(atTheGate)) {
			if _, err := e.gate.WriteString("go\n"); err != nil {
				e.h.t.Error(err)
			}
		}
	}
}

// assertNoSecretsSaid looks through what the stages have written, before GitLab Runner masks it.
func (h *mac) assertNoSecretsSaid(r *trial.Result, but ...string) {
	h.t.Helper()
	for _, s := range r.Stages {
		kinds := slices.DeleteFunc(h.secretsIn(slices.Concat(s.Stdout, s.Stderr)), func(kind string) bool { return slices.Contains(but, kind) })
		if len(kinds) > 0 {
			h.t.Errorf("the output of %s has secrets: %v", s.Name, kinds)
		}
	}
}

// TestSecretsOfEveryKind runs a job with a secret in every place that secrets come from, and looks for all of them at every step.
func TestSecretsOfEveryKind(t *testing.T) { overTransports(t, testSecretsOfEveryKind) }

func testSecretsOfEveryKind(t *testing.T, h *mac) {
	h.sim("image", "create", "app", "--registry", private, "--registry-only", "--registry-user", "bot", "--registry-password", h.secretOf("registry"),
		"--user", "runner", "--password", h.secretOf("guest"))
	file := filepath.Join(h.dir, "driver.toml")
	text := "default-ssh-user = 'runner'\ndefault-ssh-password = '" + h.secretOf("guest") + "'\nregistry-password = '" + h.secretOf("operator") + "'\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	h.flags = append(h.flags, "--config", file)
	// The guest must have none of those that are no variables, which its scripts have. The pattern does not find itself.
	j := job(`for f in /proc/[0-9]*/environ /proc/[0-9]*/cmdline "$HOME" /tmp; do grep -rsalE 'z[q]-(guest|operator|own)-|hunter[2]' "$f" && echo lea''ked; done; echo "masked $MASKED"`)
	j.Image.Name = private
	j.Variables = append(variables("TART_REGISTRY", "private.test", "TART_REGISTRY_USERNAME", "bot", "TART_REGISTRY_PASSWORD", h.secretOf("registry"),
		"DOCKER_AUTH_CONFIG", `{"auths":{"private.test":{"auth":"`+base64.StdEncoding.EncodeToString([]byte("bot:"+h.secretOf("docker")))+`"}}}`,
		"CI_REGISTRY", "private.test", "CI_REGISTRY_USER", "bot", "CI_REGISTRY_PASSWORD", h.secretOf("ci")), civar.Variable{Key: "MASKED", Value: h.secretOf("masked"), Masked: true})
	j.Credentials = []trial.Credentials{{Type: "registry", URL: "private.test", Username: "bot", Password: h.secretOf("own")}}
	look := h.newExposure()
	r := h.run(j, look.into, func(o *trial.Options) { o.Token = h.secretOf("token") })
	want(t, r, trial.Success, "", 0)
	says(t, r, ": pulled ", "masked [MASKED]")
	switch build := r.Stage("build_script"); {
	case build == nil || !slices.Equal(h.secretsIn(build.Stdout), []string{"masked"}):
		t.Error("this test does not find the secret that the script itself tells")
	case h.isolated() && strings.Contains(string(build.Stdout), "leaked"):
		t.Errorf("the script finds secrets in the VM: %s", build.Stdout)
	}
	h.assertNoSecretsSaid(r, "masked")
	if look.pulls == 0 || look.looks < len(r.Stages) {
		t.Errorf("looked %d times, and saw the registry's password with its pull %d times", look.looks, look.pulls)
	}
	h.assertNoSecretsInState("at the end")
	h.assertClean()
}

// TestSecretsInMistakes has everything go wrong that has a secret in it.
func TestSecretsInMistakes(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	h.sim("image", "create", "app", "--registry", private, "--registry-only", "--registry-user", "bot", "--registry-password", "another")
	helpers := filepath.Join(h.dir, "helpers")
	for name, body := range map[string]string{"talks": `echo "$S"; echo "$S" >&2; exit 1`, "garbage": `echo "{\"Secret\": $S"`, "token": `echo '{"Username":"<token>","Secret":"'$S'"}'`,
		"wrong": `echo '{"Username":"bot","Secret":"'$S'"}'`, "env": "env > " + filepath.Join(h.dir, "env-of-helper")} {
		h.script(filepath.Join(helpers, "docker-credential-"+name), "S="+h.secretOf("helper")+"\n"+body)
	}
	config := func(text string) []string {
		file := filepath.Join(h.dir, fmt.Sprintf("config-%d.toml", len(text)))
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return []string{"--config", file}
	}
	s, operator := h.secretOf("registry"), h.secretOf("operator")
	docker := func(auth string) []string {
		return []string{"DOCKER_AUTH_CONFIG", `{"auths":{"private.test":{"auth":"` + auth + `"}}}`}
	}
	helper := func(name string) []string {
		return []string{"DOCKER_AUTH_CONFIG", `{"credHelpers":{"private.test":"` + name + `"}}`, "CI_REGISTRY_PASSWORD", s}
	}
	login := []string{"TART_REGISTRY_USERNAME", "bot", "TART_REGISTRY_PASSWORD", s}
	for name, c := range map[string]struct {
		image    string
		vars     []string
		flags    []string
		response string // in place of a usable one
		code     int
		says     string
	}{
		"refused":                 {vars: login, code: 101, says: `refuses user "bot"`},
		"refused, of the config":  {vars: docker(base64.StdEncoding.EncodeToString([]byte("bot:" + s))), code: 101, says: `refuses user "bot"`},
		"refused, of the job":     {code: 101, vars: []string{"X", s}, says: `refuses user "own"`},
		"no such image":           {image: "private.test/macos/none:1", vars: login, code: 101, says: "does not exist"},
		"no such registry":        {image: "nowhere.test/macos/none:1", vars: login, code: 102, says: "is the registry reachable"},
		"password on two lines":   {vars: []string{"TART_REGISTRY_PASSWORD", s + "\n" + s}, code: 101, says: "variable TART_REGISTRY_PASSWORD: value is not usable"},
		"guest's on two lines":    {vars: []string{"TART_SSH_PASSWORD", s + "\r" + s}, code: 101, says: "variable TART_SSH_PASSWORD: value is not usable"},
		"locked password":         {vars: []string{"TART_SSH_PASSWORD", s}, flags: []string{"--lock", "default-ssh-password"}, code: 101, says: "variable TART_SSH_PASSWORD: not allowed"},
		"config that is no JSON":  {vars: []string{"DOCKER_AUTH_CONFIG", `{"auths":{"private.test":{"auth":"` + s}, code: 101, says: "DOCKER_AUTH_CONFIG is not used"},
		"config of another form":  {vars: []string{"DOCKER_AUTH_CONFIG", `{"auths":["` + s + `"]}`}, code: 101, says: "DOCKER_AUTH_CONFIG is not used"},
		"auth that is no base64":  {vars: docker(s), code: 101, says: "is not base64"},
		"auth without a user":     {vars: docker(base64.StdEncoding.EncodeToString([]byte(s))), code: 101, says: "is not base64 of USER:PASSWORD"},
		"helper that talks":       {vars: helper("talks"), code: 101, says: "it failed"},
		"helper's garbage":        {vars: helper("garbage"), code: 101, says: "its answer is not understood"},
		"helper's token":          {vars: helper("token"), code: 101, says: "identity token"},
		"helper's wrong login":    {vars: helper("wrong"), code: 101, says: `refuses user "bot"`},
		"helper that looks":       {vars: helper("env"), code: 101, says: "wants a login"},
		"file that is no TOML":    {flags: config("registry-password = '" + operator), code: 101, says: "line 1"},
		"file with a list":        {flags: config("registry-password = ['" + operator + "']\n"), code: 101, says: "not a list"},
		"file with a wrong name":  {flags: config("registry-pasword = '" + operator + "'\n"), code: 101, says: "did you mean"},
		"file with two lines":     {flags: config("default-ssh-password = \"" + operator + "\\n\"\n"), code: 101, says: "value is not usable"},
		"flag with a wrong name":  {flags: []string{"--registry-pasword=" + operator}, code: 101, says: "unknown flag"},
		"response of other types": {response: `{"id":4711,"token":{"x":"` + s + `"}}`, code: 102, says: "JOB_RESPONSE_FILE"},
		"response that is cut":    {response: `{"id":4711,"token":"` + s, code: 102, says: "JOB_RESPONSE_FILE"},
		"guest's login refused":   {image: "base", vars: []string{"TART_SSH_PASSWORD", s}, code: 101, says: "login refused as user"},
	} {
		fields := map[string]any{"token": h.secretOf("token"), "image.name": private, "git_info.repo_url": "https://gitlab-ci-token:" + h.secretOf("token") + "@gitlab.example/g/p.git"}
		if c.image != "" {
			fields["image.name"] = c.image
		}
		if strings.Contains(c.says, `"own"`) {
			fields["credentials"] = []any{map[string]any{"type": "registry", "url": "private.test", "username": "own", "password": h.secretOf("own")}}
		}
		response := responseOf(t, fields)
		if c.response != "" {
			response = []byte(c.response)
		}
		r := h.call("prepare", response, append(c.vars, "MASKED", h.secretOf("masked")), append(c.flags, "--builds-dir", filepath.Join(h.dir, "builds"))...)
		if r.code != c.code || !strings.Contains(r.stderr, c.says) {
			t.Errorf("%s: prepare ended with %d and said %s", name, r.code, r.stderr)
		}
		if kinds := h.secretsIn([]byte(r.stdout + r.stderr)); len(kinds) > 0 {
			t.Errorf("%s: prepare told of %v: %s", name, kinds, r.stderr)
		}
		h.assertNoSecretsInState(name)
	}
	if kinds := h.secretsIn([]byte(h.commandLines() + strings.Join(h.tree(), "\n"))); len(kinds) > 0 {
		t.Errorf("arguments of tart, or names of files, have %v", kinds)
	}
	raw, err := os.ReadFile(filepath.Join(h.dir, "env-of-helper"))
	if err != nil || len(h.secretsIn(raw)) > 0 || strings.Contains(string(raw), "CUSTOM_ENV_") {
		t.Errorf("a credential helper sees %v, %v", h.secretsIn(raw), err)
	}
	h.assertClean()
}

// TestSecretsOfACrash ends a keeper by a signal that makes Go programs tell all they know.
func TestSecretsOfACrash(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	h.sim("image", "create", "locked", "--password", h.secretOf("guest"))
	wrapper := filepath.Join(h.dir, "with-core-dumps")
	h.script(wrapper, `ulimit -c unlimited || exit 1; exec "$@"`)
	cores, _ := filepath.Glob("/core*")
	j := job("echo started; sleep 300")
	j.Image.Name = "locked"
	j.Variables = variables("TART_SSH_PASSWORD", h.secretOf("guest"), "GOTRACEBACK", "crash")
	told := false
	r := h.run(j, when("build_script", "started\n", func(*trial.Trial, trial.Process) {
		log := filepath.Join(h.state(), "vms", h.theVM(), "keeper.log")
		h.signalKeeper(syscall.SIGABRT)
		h.eventually("the keeper has told", func() bool {
			raw, _ := os.ReadFile(log)
			told = strings.Contains(string(raw), "SIGABRT") && strings.Contains(string(raw), "goroutine")
			return told
		})
		h.assertNoSecretsInState("after the crash")
	}), func(o *trial.Options) {
		for _, e := range []*trial.Exec{&o.Driver.Config, &o.Driver.Prepare, &o.Driver.Run, &o.Driver.Cleanup} {
			e.Args, e.Path = append([]string{e.Path}, e.Args...), wrapper
		}
	})
	want(t, r, trial.Failed, trial.RunnerSystemFailure, 0)
	if !told {
		t.Error("the keeper did not crash")
	}
	h.assertNoSecretsSaid(r)
	if now, _ := filepath.Glob("/core*"); !slices.Equal(now, cores) {
		t.Errorf("there are core dumps: %v, before: %v", now, cores)
	}
	h.assertClean("locked")
}
