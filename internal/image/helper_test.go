package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/proc/proctest"
)

// helpers are credential helpers in a directory of their own: name, script, name, script…
func helpers(t *testing.T, scripts ...string) *Helpers {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i+1 < len(scripts); i += 2 {
		script := fmt.Sprintf("#!/bin/sh\ncd '%s'\necho \"$*\" >> calls\ncat >> stdin\nenv > env\n%s\n", dir, scripts[i+1])
		if err := proctest.WriteProgram(filepath.Join(dir, "docker-credential-"+scripts[i]), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return &Helpers{Environ: []string{"PATH=" + dir + ":/usr/bin:/bin", "HOME=" + dir, "SECRET=hunter2", "CUSTOM_ENV_SECRET=hunter2", "TART_HOME=/x", "AWS_PROFILE=ci",
		"AWS_SECRET_ACCESS_KEY=hunter2"}}
}

func (h *Helpers) file(t *testing.T, name string) string {
	t.Helper()
	dir := strings.TrimPrefix(h.Environ[1], "HOME=")
	raw, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(raw)
}

const answers = `echo '{"ServerURL":"r.example","Username":"u","Secret":"hunter2"}'`

func TestHelpers(t *testing.T) {
	for name, c := range map[string]struct {
		config string
		helper string // what docker-credential-x does
		user   string
		origin string
		warns  string
	}{
		"of the registry":        {`{"credHelpers":{"r.example":"x"}}`, answers, "u", "docker-credential-x of DOCKER_AUTH_CONFIG", ""},
		"written as an address":  {`{"credHelpers":{"https://R.example/":"x"}}`, answers, "u", "docker-credential-x of DOCKER_AUTH_CONFIG", ""},
		"of all registries":      {`{"credsStore":"x"}`, answers, "u", "docker-credential-x of DOCKER_AUTH_CONFIG", ""},
		"of another registry":    {`{"credHelpers":{"s.example":"x"}}`, answers, "", "", ""},
		"before auths":           {`{"credHelpers":{"r.example":"x"},"auths":{"r.example":{"auth":"djpw"}}}`, answers, "u", "docker-credential-x of DOCKER_AUTH_CONFIG", ""},
		"auths before the store": {`{"credsStore":"x","auths":{"r.example":{"auth":"djpw"}}}`, answers, "v", "variable DOCKER_AUTH_CONFIG", ""},
		"auths without a login":  {`{"credsStore":"x","auths":{"r.example":{}}}`, answers, "u", "docker-credential-x of DOCKER_AUTH_CONFIG", ""},
		"has none":               {`{"credHelpers":{"r.example":"x"}}`, "echo 'credentials not found in native keychain'; exit 1", "", "", ""},
		"has none, auths has":    {`{"credHelpers":{"r.example":"x"},"auths":{"r.example":{"auth":"djpw"}}}`, "echo 'credentials not found'; exit 1", "v", "variable DOCKER_AUTH_CONFIG", ""},
		"leaves an agent":        {`{"credHelpers":{"r.example":"x"}}`, answers + "; sleep 10 &", "u", "docker-credential-x of DOCKER_AUTH_CONFIG", ""},
		"fails":                  {`{"credHelpers":{"r.example":"x"}}`, "echo hunter2; echo hunter2 >&2; exit 3", "", "", "it failed (exit status 3)"},
		"store fails":            {`{"credsStore":"x"}`, "echo hunter2; exit 3", "", "", "it failed (exit status 3)"},
		"talks nonsense":         {`{"credHelpers":{"r.example":"x"}}`, "echo hunter2", "", "", "its answer is not understood"},
		"an identity token":      {`{"credHelpers":{"r.example":"x"}}`, `echo '{"Username":"<token>","Secret":"hunter2"}'`, "", "", "identity token"},
		"half a login":           {`{"credHelpers":{"r.example":"x"}}`, `echo '{"Username":"u","Secret":""}'`, "", "", ""},
		"is missing":             {`{"credHelpers":{"r.example":"y"}}`, answers, "", "", `credential helper "y" for r.example: it is not on the host`},
		"store is missing":       {`{"credsStore":"desktop"}`, answers, "", "", ""},
		"a path":                 {`{"credHelpers":{"r.example":"../x"}}`, answers, "", "", "its name is not a plain one"},
		"a flag":                 {`{"credHelpers":{"r.example":"-x"}}`, answers, "", "", "its name is not a plain one"},
		"an absolute path":       {`{"credsStore":"/bin/sh"}`, answers, "", "", "its name is not a plain one"},
	} {
		h := helpers(t, "x", c.helper)
		variables := map[string]string{"DOCKER_AUTH_CONFIG": c.config}
		login, warning := Logins{Settings: resolved(t, variables), Job: &job.Job{Variables: variables}, Helpers: h}.Choose(t.Context(), at("r.example"))
		if login == nil {
			login = &Login{}
		}
		if login.Username != c.user || login.Origin != c.origin || c.user == "u" && login.Password != "hunter2" {
			t.Errorf("%s: got %+v", name, login)
		}
		if c.warns == "" && warning != "" || !strings.Contains(warning, c.warns) || strings.Contains(warning, "hunter2") {
			t.Errorf("%s: warning %q, want %q", name, warning, c.warns)
		}
	}
}

func TestHelperGetsTheHostAndNoSecrets(t *testing.T) {
	h := helpers(t, "x", answers)
	if user, _, ok, err := h.get(t.Context(), "x", "r.example:5000"); user != "u" || !ok || err != nil {
		t.Fatalf("got %q, %v, %v", user, ok, err)
	}
	if h.file(t, "calls") != "get\n" || h.file(t, "stdin") != "r.example:5000\n" {
		t.Errorf("called with %q, stdin %q", h.file(t, "calls"), h.file(t, "stdin"))
	}
	env := h.file(t, "env")
	if strings.Contains(env, "hunter2") || strings.Contains(env, "TART_") || !strings.Contains(env, "AWS_PROFILE=ci\n") || !strings.Contains(env, "HOME=") {
		t.Errorf("it sees %s", env)
	}
}

func TestHelperEndsWithItsContext(t *testing.T) {
	h := helpers(t, "x", "exec sleep 600")
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("canceled")
	cancel(cause)
	if _, _, _, err := h.get(ctx, "x", "r.example"); !errors.Is(err, cause) {
		t.Errorf("error %v", err)
	}
}

// TestHelpersAreAskedOnlyForAPull: a keychain may ask its user for leave.
func TestHelpersAreAskedOnlyForAPull(t *testing.T) {
	r := newRegistry(t)
	var said []string
	p := r.puller(&said)
	p.Login = func(context.Context) (*Login, string) {
		t.Error("a login was looked for")
		return nil, ""
	}
	if done, err := p.Ensure(t.Context(), mustParse(t, "r.example/o/macos:15"), []string{"if-not-present"}, true); done != "cached" || err != nil {
		t.Errorf("got %q, %v", done, err)
	}
}

func FuzzHelperAnswer(f *testing.F) {
	for _, s := range []string{`{"Username":"u","Secret":"s"}`, `{"Username":"<token>","Secret":"hunter2"}`, "hunter2", "{}", "null"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, out []byte) {
		user, password, ok, err := parseHelper(out)
		if ok != (user != "" && password != "") || err != nil && ok || !ok && user+password != "" {
			t.Errorf("%q: %q, %q, %v, %v", out, user, password, ok, err)
		}
		if err != nil && len(out) > 8 && strings.Contains(err.Error(), string(out)) {
			t.Errorf("%q is quoted by %v", out, err)
		}
	})
}
