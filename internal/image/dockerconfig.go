package image

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
)

// dockerConfig is the part of a Docker config.json that has logins, or says who does. Unknown fields are ignored.
// https://docs.docker.com/reference/cli/docker/login/#credential-stores
type dockerConfig struct {
	Auths map[string]struct {
		Auth     string `json:"auth"`
		Username string `json:"username"`
		Password string `json:"password"`
	} `json:"auths"`
	// CredHelpers are the credential helpers of single registries, CredsStore is that of all others.
	CredHelpers map[string]string `json:"credHelpers"`
	CredsStore  string            `json:"credsStore"`
}

func parseDockerConfig(text string) (dockerConfig, error) {
	var config dockerConfig
	if err := json.Unmarshal([]byte(text), &config); err != nil {
		return dockerConfig{}, errors.New(`it is not JSON of the form {"auths": {...}}`) // the decoder's message may quote secrets
	}
	return config, nil
}

// helper is the credential helper for a registry, or empty.
func (c dockerConfig) helper(host string) string {
	for _, key := range slices.Sorted(maps.Keys(c.CredHelpers)) {
		if sameHost(key, host) {
			return c.CredHelpers[key]
		}
	}
	return ""
}

// auth is the login for an image, or empty. A key may be a registry or a path in it; the longest that fits counts, as for GitLab Runner.
// https://gitlab.com/gitlab-org/gitlab-runner/-/blob/main/helpers/docker/auth/auth.go
func (c dockerConfig) auth(ref Reference) (user, password string, err error) {
	best := ""
	for _, key := range slices.Sorted(maps.Keys(c.Auths)) {
		if pathOf := barePath(key); pathOf != "" && within(ref.Name, pathOf) && len(pathOf) > len(barePath(best)) {
			best = key
		}
	}
	if best == "" {
		return "", "", nil
	}
	auth := c.Auths[best]
	if auth.Auth == "" {
		if strings.ContainsFunc(auth.Username+auth.Password, unicode.IsControl) {
			return "", "", fmt.Errorf("the login of %s has control characters", best)
		}
		return auth.Username, auth.Password, nil
	}
	raw, err := base64.StdEncoding.DecodeString(auth.Auth)
	if err != nil {
		return "", "", fmt.Errorf("the auth of %s is not base64", best)
	}
	user, password, ok := strings.Cut(string(raw), ":")
	if strings.ContainsFunc(user+password, unicode.IsControl) {
		return "", "", fmt.Errorf("the auth of %s has control characters", best)
	}
	if !ok {
		return "", "", fmt.Errorf("the auth of %s is not base64 of USER:PASSWORD", best)
	}
	return user, password, nil
}

// barePath is a registry, and perhaps a path in it, without scheme and API version.
func barePath(key string) string {
	if _, rest, ok := strings.Cut(key, "://"); ok {
		key = rest
	}
	key = strings.TrimSuffix(key, "/")
	for _, api := range []string{"/v1", "/v2"} {
		key = strings.TrimSuffix(key, api)
	}
	host, path, _ := strings.Cut(key, "/")
	return strings.TrimSuffix(strings.ToLower(host)+"/"+path, "/")
}

// within tells whether an image's name lies under a registry or a path.
func within(name, path string) bool {
	host, rest, _ := strings.Cut(name, "/")
	name = strings.ToLower(host) + "/" + rest
	after, ok := strings.CutPrefix(name, path)
	return ok && (after == "" || strings.ContainsAny(after[:1], "/:@"))
}
