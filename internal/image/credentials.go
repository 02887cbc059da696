package image

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/settings"
	"gitlab-runner-tart-driver/internal/tart"
)

// Login is a registry login and where it came from.
type Login struct {
	tart.Credentials
	Origin string
}

// Logins are where registry logins come from.
type Logins struct {
	Settings *settings.Settings
	Job      *job.Job
	// Helpers run the credential helpers that DOCKER_AUTH_CONFIG names; nil for none.
	Helpers *Helpers
	// Operator says that there is no job, and all is the operator's.
	Operator bool
}

// Choose finds the login for an image: the TART_REGISTRY settings, DOCKER_AUTH_CONFIG, the job's own credentials and CI_REGISTRY, in
// this order. It returns nil where there is none for this registry, and what could not be used as a warning.
func (l Logins) Choose(ctx context.Context, ref Reference) (login *Login, warning string) {
	host, s := ref.Host, l.Settings
	var warnings []string
	if s.RegistryUsername != "" && s.RegistryPassword != "" {
		switch {
		case !l.Operator && !ownLogin(s):
			warnings = append(warnings, "the registry login is not used: TART_REGISTRY, TART_REGISTRY_USERNAME and TART_REGISTRY_PASSWORD must all be the job's, or "+
				"--registry, --registry-username and --registry-password all the operator's")
		case s.RegistryHost == "" || sameHost(s.RegistryHost, host):
			return newLogin(host, s.RegistryUsername, s.RegistryPassword, l.origin("registry-username", "TART_REGISTRY_USERNAME")), ""
		}
	}
	v := l.Job.Variables
	if config := v["DOCKER_AUTH_CONFIG"]; config != "" {
		user, password, origin, err := l.fromDockerConfig(ctx, config, ref)
		if err != nil {
			warnings = append(warnings, fmt.Sprintf("variable DOCKER_AUTH_CONFIG is not used: %v", err))
		} else if user != "" {
			return newLogin(host, user, password, origin), strings.Join(warnings, "; ")
		}
	}
	warning = strings.Join(warnings, "; ")
	for _, c := range l.Job.Credentials {
		if sameHost(c.Host, host) && !strings.ContainsFunc(c.Username+c.Password, unicode.IsControl) {
			return newLogin(host, c.Username, c.Password, "the job's own credentials"), warning
		}
	}
	if v["CI_REGISTRY_USER"] != "" && v["CI_REGISTRY_PASSWORD"] != "" && !strings.ContainsFunc(v["CI_REGISTRY_USER"]+v["CI_REGISTRY_PASSWORD"], unicode.IsControl) && sameHost(v["CI_REGISTRY"], host) {
		return newLogin(host, v["CI_REGISTRY_USER"], v["CI_REGISTRY_PASSWORD"], "variable CI_REGISTRY_USER"), warning
	}
	return nil, warning
}

// origin says where a setting came from. An operator who is not a job has the variables of the settings in the environment, as their defaults.
func (l Logins) origin(setting, variable string) string {
	if l.Operator && l.Settings.IsDefault(setting) {
		return "variable " + variable
	}
	return string(l.Settings.Origin(setting))
}

// ownLogin tells whether the login's parts belong together. A job must not get the operator's password sent to a registry of its own choice.
func ownLogin(s *settings.Settings) bool {
	job := s.FromJob("registry-username")
	if s.FromJob("registry-password") != job {
		return false
	}
	if s.RegistryHost == "" {
		return job // its own login may go wherever the job says
	}
	return s.FromJob("registry") == job
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

// fromDockerConfig finds the login for an image by way of the text of a Docker config.json: the registry's own credential helper, a login in
// the text, or the credential helper of all registries, as Docker does.
func (l Logins) fromDockerConfig(ctx context.Context, text string, ref Reference) (user, password, origin string, err error) {
	config, err := parseDockerConfig(text)
	if err != nil {
		return "", "", "", err
	}
	ask := func(helper string) (ok bool, err error) {
		if helper == "" || l.Helpers == nil {
			return false, nil
		}
		user, password, ok, err = l.Helpers.get(ctx, helper, ref.Host)
		origin = "docker-credential-" + helper + " of DOCKER_AUTH_CONFIG"
		if err != nil {
			err = fmt.Errorf("credential helper %q for %s: %w", helper, ref.Host, err)
		}
		return ok, err
	}
	own := config.helper(ref.Host)
	ok, helperErr := ask(own)
	if ok {
		return user, password, origin, nil
	}
	user, password, err = config.auth(ref)
	if err != nil || user != "" {
		return user, password, "variable DOCKER_AUTH_CONFIG", err
	}
	if helperErr != nil || own != "" {
		return "", "", "", helperErr
	}
	if ok, err = ask(config.CredsStore); !ok {
		if errors.Is(err, errNoHelper) { // the store of whoever wrote the file, most likely
			err = nil
		}
		return "", "", "", err
	}
	return user, password, origin, nil
}
