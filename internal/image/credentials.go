package image

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/settings"
	"gitlab-runner-tart-driver/internal/tart"
)

// Login is a registry login and where it came from.
type Login struct {
	tart.Credentials
	Origin string
}

// ChooseLogin finds the login for a registry: the TART_REGISTRY settings, DOCKER_AUTH_CONFIG, the job's own credentials and
// CI_REGISTRY, in this order. It returns nil where there is none for this host, and what could not be read as a warning.
func ChooseLogin(host string, s *settings.Settings, j *job.Job) (login *Login, warning string) {
	if s.RegistryUsername != "" && s.RegistryPassword != "" && (s.RegistryHost == "" || sameHost(s.RegistryHost, host)) {
		return newLogin(host, s.RegistryUsername, s.RegistryPassword, string(s.Origin("registry-username"))), ""
	}
	if config := j.Variables["DOCKER_AUTH_CONFIG"]; config != "" {
		user, password, err := fromDockerConfig(config, host)
		if err != nil {
			warning = fmt.Sprintf("variable DOCKER_AUTH_CONFIG is not used: %v", err)
		} else if user != "" {
			return newLogin(host, user, password, "variable DOCKER_AUTH_CONFIG"), ""
		}
	}
	for _, c := range j.Credentials {
		if sameHost(c.Host, host) {
			return newLogin(host, c.Username, c.Password, "the job's own credentials"), warning
		}
	}
	v := j.Variables
	if v["CI_REGISTRY_USER"] != "" && v["CI_REGISTRY_PASSWORD"] != "" && sameHost(v["CI_REGISTRY"], host) {
		return newLogin(host, v["CI_REGISTRY_USER"], v["CI_REGISTRY_PASSWORD"], "variable CI_REGISTRY_USER"), warning
	}
	return nil, warning
}

func newLogin(host, user, password, origin string) *Login {
	return &Login{Credentials: tart.Credentials{Host: host, Username: user, Password: password}, Origin: origin}
}

// sameHost compares registries as people write them: with or without a scheme, a path or a slash at the end.
func sameHost(a, b string) bool {
	bare := func(s string) string {
		if _, rest, ok := strings.Cut(s, "://"); ok {
			s = rest
		}
		s, _, _ = strings.Cut(s, "/")
		return strings.ToLower(s)
	}
	return bare(a) != "" && bare(a) == bare(b)
}

// fromDockerConfig finds a host's login in the text of a Docker config.json.
func fromDockerConfig(text, host string) (user, password string, err error) {
	var config struct {
		Auths map[string]struct {
			Auth     string `json:"auth"`
			Username string `json:"username"`
			Password string `json:"password"`
		} `json:"auths"`
	}
	if err := json.Unmarshal([]byte(text), &config); err != nil {
		return "", "", fmt.Errorf("it is not JSON of the form {\"auths\": {...}}") // the decoder's message may quote secrets
	}
	for name, auth := range config.Auths {
		if !sameHost(name, host) {
			continue
		}
		if auth.Auth == "" {
			return auth.Username, auth.Password, nil
		}
		raw, err := base64.StdEncoding.DecodeString(auth.Auth)
		if err != nil {
			return "", "", fmt.Errorf("the auth of %s is not base64", name)
		}
		user, password, ok := strings.Cut(string(raw), ":")
		if !ok {
			return "", "", fmt.Errorf("the auth of %s is not base64 of USER:PASSWORD", name)
		}
		return user, password, nil
	}
	return "", "", nil
}
