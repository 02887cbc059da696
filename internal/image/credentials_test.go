package image

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"

	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/settings"
	"gitlab-runner-tart-driver/internal/tart"
)

func resolved(t *testing.T, variables map[string]string) *settings.Settings {
	t.Helper()
	s, errs := settings.Resolve(settings.Sources{Variables: variables, Defaults: map[string]string{"state-dir": "/state"}})
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	return s
}

// choose finds a login without credential helpers.
func choose(t *testing.T, ref Reference, s *settings.Settings, j *job.Job) (*Login, string) {
	t.Helper()
	return Logins{Settings: s, Job: j}.Choose(t.Context(), ref)
}

// configAuth is the login for an image in the text of a Docker config.json.
func configAuth(text string, ref Reference) (user, password string, err error) {
	config, err := parseDockerConfig(text)
	if err != nil {
		return "", "", err
	}
	return config.auth(ref)
}

// configText is a Docker config.json with one login.
func configText(host, user, password string) string {
	return fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, host, base64.StdEncoding.EncodeToString([]byte(user+":"+password)))
}

// allSources are logins for r.example from everywhere, in the order in which they count.
var allSources = []struct {
	origin    string
	variables map[string]string
	own       []job.RegistryLogin
}{
	{"variable TART_REGISTRY_USERNAME", map[string]string{"TART_REGISTRY": "r.example", "TART_REGISTRY_USERNAME": "u0", "TART_REGISTRY_PASSWORD": "p0"}, nil},
	{"variable DOCKER_AUTH_CONFIG", map[string]string{"DOCKER_AUTH_CONFIG": configText("r.example", "u1", "p1")}, nil},
	{"the job's own credentials", nil, []job.RegistryLogin{{Host: "r.example", Username: "u2", Password: "p2"}}},
	{"variable CI_REGISTRY_USER", map[string]string{"CI_REGISTRY": "r.example", "CI_REGISTRY_USER": "u3", "CI_REGISTRY_PASSWORD": "p3"}, nil},
}

func TestLoginsCountInOrder(t *testing.T) {
	for first := range allSources {
		variables, j := map[string]string{}, &job.Job{}
		for _, s := range allSources[first:] {
			maps.Copy(variables, s.variables)
			j.Credentials = append(j.Credentials, s.own...)
		}
		j.Variables = variables
		want := Login{Origin: allSources[first].origin,
			Credentials: tart.Credentials{Host: "r.example", Username: fmt.Sprint("u", first), Password: fmt.Sprint("p", first)}}
		got, warning := choose(t, at("r.example"), resolved(t, variables), j)
		if got == nil || *got != want || warning != "" {
			t.Errorf("got %+v (warning %q), want %+v", got, warning, want)
		}
		// None of them is for anybody else.
		if got, warning := choose(t, at("evil.example"), resolved(t, variables), j); got != nil || warning != "" {
			t.Errorf("evil.example gets %+v (warning %q)", got, warning)
		}
	}
}

// TestLoginUnderTartsOwnNames takes a login as gitlab-tart-executor's users have it: in tart's own variables.
func TestLoginUnderTartsOwnNames(t *testing.T) {
	login := map[string]string{"TART_REGISTRY_HOSTNAME": "r.example", "TART_REGISTRY_USERNAME": "u", "TART_REGISTRY_PASSWORD": "p"}
	for host, want := range map[string]string{"r.example": "u", "evil.example": ""} {
		user := ""
		got, warning := choose(t, at(host), resolved(t, login), &job.Job{Variables: login})
		if got != nil {
			user = got.Username
		}
		if user != want || warning != "" {
			t.Errorf("%s gets the login of %q (warning %q), want %q", host, user, warning, want)
		}
	}
}

func TestHalfALoginIsNone(t *testing.T) {
	for _, variables := range []map[string]string{
		{},
		{"TART_REGISTRY": "r.example"},
		{"TART_REGISTRY": "r.example", "TART_REGISTRY_USERNAME": "u"},
		{"TART_REGISTRY": "r.example", "TART_REGISTRY_PASSWORD": "p"},
		{"TART_REGISTRY_HOSTNAME": "r.example", "TART_REGISTRY_USERNAME": "u"},
		{"CI_REGISTRY": "r.example", "CI_REGISTRY_USER": "u"},
		{"CI_REGISTRY": "r.example", "CI_REGISTRY_PASSWORD": "p"},
		{"CI_REGISTRY_USER": "u", "CI_REGISTRY_PASSWORD": "p"},
		{"DOCKER_AUTH_CONFIG": "{}"},
		{"DOCKER_AUTH_CONFIG": `{"auths":null}`},
		{"DOCKER_AUTH_CONFIG": `{"auths":{"r.example":{}},"credHelpers":{"r.example":"x"}}`},
	} {
		if got, warning := choose(t, at("r.example"), resolved(t, variables), &job.Job{Variables: variables}); got != nil || warning != "" {
			t.Errorf("%v gives %+v, warning %q", variables, got, warning)
		}
	}
}

func TestSameHost(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"r.example", "r.example", true},
		{"R.Example", "r.example", true},
		{"https://r.example", "r.example", true},
		{"https://r.example/v2/", "r.example", true},
		{"r.example/", "r.example", true},
		{"r.example:5000", "http://r.example:5000/v2", true},
		{"r.example:5000", "r.example", false},
		{"r.example", "x.r.example", false},
		{"r.example", "r.example.evil", false},
		{"xr.example", "r.example", false},
		{"", "", false},
		{"", "r.example", false},
		{"/", "/", false},
		{"https://", "https://", false},
	} {
		if got := sameHost(c.a, c.b); got != c.want {
			t.Errorf("%q and %q: %v", c.a, c.b, got)
		}
		if got := sameHost(c.b, c.a); got != c.want {
			t.Errorf("%q and %q: %v", c.b, c.a, got)
		}
	}
}

func TestDockerConfig(t *testing.T) {
	for _, c := range []struct{ config, user, password string }{
		{configText("r.example", "u", "p"), "u", "p"},
		{configText("https://r.example/v2/", "u", "p"), "u", "p"},
		{configText("r.example", "u", "p:with:colons:"), "u", "p:with:colons:"},
		{configText("r.example", "u", ""), "u", ""},
		{configText("r.example", "robot$x", "é ü"), "robot$x", "é ü"},
		{`{"auths":{"r.example":{"username":"u","password":"p:w"}}}`, "u", "p:w"},
		{`{"auths":{"other.example":{"auth":"!!!"},"r.example":{"auth":"dTpw","email":"e"}},"credsStore":"desktop","future":[]}`, "u", "p"},
		{configText("other.example", "u", "p"), "", ""},
		{"{}", "", ""},
		{"null", "", ""},
	} {
		user, password, err := configAuth(c.config, at("r.example"))
		if user != c.user || password != c.password || err != nil {
			t.Errorf("%s: got %q, %q, %v", c.config, user, password, err)
		}
	}
}

func TestDamagedDockerConfigIsSkippedWithoutQuotingIt(t *testing.T) {
	secret := base64.StdEncoding.EncodeToString([]byte("hunter2"))
	for _, config := range []string{
		"hunter2", `"hunter2"`, `["hunter2"]`, `{"auths":"hunter2"}`, `{"auths":{"r.example":"hunter2"}}`, `{"auths":{"r.example":{"auth":"hunter2!"}}}`,
		`{"auths":{"r.example":{"auth":["hunter2"]}}}`, `{"auths":{"r.example":{"auth":"` + secret + `"}}}`, `{"auths":{"r.example":{"auth":"dTpw"}}`,
		`{"auths":{"r.example":{"auth":"` + secret[:5] + `"}}}`, `{hunter2`, configText("r.example", "u", "hunter2") + "x",
	} {
		variables := map[string]string{"DOCKER_AUTH_CONFIG": config, "CI_REGISTRY": "r.example", "CI_REGISTRY_USER": "u3", "CI_REGISTRY_PASSWORD": "p3"}
		login, warning := choose(t, at("r.example"), resolved(t, variables), &job.Job{Variables: variables})
		if login == nil || login.Username != "u3" {
			t.Errorf("%s: the next login is not used: %+v", config, login)
		}
		if !strings.HasPrefix(warning, "variable DOCKER_AUTH_CONFIG is not used: ") || strings.Contains(warning, "hunter2") ||
			strings.Contains(warning, secret[:5]) || strings.Contains(warning, "dTpw") {
			t.Errorf("%s: the warning is %q", config, warning)
		}
	}
}

func FuzzDockerConfig(f *testing.F) {
	f.Add("r.example", base64.StdEncoding.EncodeToString([]byte("user:pass:word")))
	f.Add("https://R.example/x", "not base64")
	f.Add("", "Og==")
	f.Add("", "MDow")
	config := func(t *testing.T, name, auth string) string {
		raw, err := json.Marshal(map[string]any{"auths": map[string]any{name: map[string]string{"auth": auth}}})
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	f.Fuzz(func(t *testing.T, name, auth string) {
		user, password, err := configAuth(config(t, name, auth), at("r.example"))
		if err != nil && user+password != "" {
			t.Errorf("error %v, and yet %q, %q", err, user, password)
		}
		if user+password != "" {
			if raw, err := base64.StdEncoding.DecodeString(auth); err != nil || string(raw) != user+":"+password {
				t.Errorf("%q became %q and %q", auth, user, password)
			}
			if !sameHost(name, "r.example") {
				t.Errorf("the login of %q is used for r.example", name)
			}
		}
		for _, text := range []string{config(t, name, "hunter2"+auth), "hunter2" + auth, `{"auths":{"r.example":{"auth":"hunter2` + auth} {
			_, _, err := configAuth(text, at("r.example"))
			if err != nil && strings.Contains(err.Error(), "hunter2") && !strings.Contains(name, "hunter2") {
				t.Errorf("error %q has the secret", err)
			}
		}
	})
}

// at is an image in a registry.
func at(host string) Reference { return Reference{Name: host + "/o/image:latest", Host: host} }

// TestNobodyGetsTheOperatorsPassword lets a job send the operator's login to a registry of its own choice.
func TestNobodyGetsTheOperatorsPassword(t *testing.T) {
	operator := map[string]string{"registry-username": "op", "registry-password": "opsecret", "state-dir": "/s"}
	for name, c := range map[string]struct {
		registry  string
		variables map[string]string
		image     string
		want      string
	}{
		"the operator's registry":            {"r.example", nil, "r.example", "op"},
		"another registry":                   {"r.example", nil, "evil.example", ""},
		"the job's registry":                 {"r.example", map[string]string{"TART_REGISTRY": "evil.example"}, "evil.example", ""},
		"the operator names no registry":     {"", nil, "evil.example", ""},
		"the job's registry as its host":     {"r.example", map[string]string{"TART_REGISTRY_HOSTNAME": "evil.example"}, "evil.example", ""},
		"the job's registry and user":        {"r.example", map[string]string{"TART_REGISTRY": "evil.example", "TART_REGISTRY_USERNAME": "job"}, "evil.example", ""},
		"the job's registry, user, password": {"r.example", map[string]string{"TART_REGISTRY": "j.example", "TART_REGISTRY_USERNAME": "job", "TART_REGISTRY_PASSWORD": "j"}, "j.example", "job"},
	} {
		src := settings.Sources{Flags: maps.Clone(operator), Variables: c.variables}
		if c.registry != "" {
			src.Flags["registry"] = c.registry
		}
		s, errs := settings.Resolve(src)
		if len(errs) > 0 {
			t.Fatal(errs)
		}
		got := ""
		if login, _ := choose(t, at(c.image), s, &job.Job{}); login != nil {
			got = login.Username
		}
		if got != c.want {
			t.Errorf("%s: the login is %q's, want %q", name, got, c.want)
		}
	}
}

func TestDockerConfigTakesTheLongestPath(t *testing.T) {
	entry := func(user string) string { return base64.StdEncoding.EncodeToString([]byte(user + ":p")) }
	config := fmt.Sprintf(`{"auths":{"r.example/a":{"auth":%q},"https://r.example/v2/":{"auth":%q},"r.example/a/b":{"auth":%q},"r.example/ab":{"auth":%q}}}`,
		entry("a"), entry("all"), entry("b"), entry("ab"))
	for name, want := range map[string]string{"r.example/a/x:1": "a", "r.example/a/b/x:1": "b", "r.example/a/b@sha256:0": "b", "r.example/abc/x:1": "all", "r.example/x:1": "all", "s.example/a:1": ""} {
		if user, _, err := configAuth(config, Reference{Name: name}); err != nil || user != want {
			t.Errorf("%s: user %q (%v), want %q", name, user, err, want)
		}
	}
}
