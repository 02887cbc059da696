package tartcmd

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"gitlab-runner-tart-driver/internal/tartsim/simconf"
	"gitlab-runner-tart-driver/internal/tartsim/tarthome"
)

// KeychainName is the file that stands for the login keychain, in TART_HOME.
const KeychainName = "tartsim-keychain.json"

type login struct {
	User     string `json:"user"`
	Password string `json:"password"`
}

// credentials looks for a login in Tart's order: environment, Docker's configuration, keychain. A source that fails is reported on
// standard output and passed over.
func (a *app) credentials(host string) (user, password string) {
	for _, source := range []struct {
		name string
		find func(string) (*login, error)
	}{
		{"environment variable credentials provider", a.environmentLogin},
		{"Docker configuration credentials provider", a.dockerLogin},
		{"Keychain credentials provider", a.keychainLogin},
	} {
		found, err := source.find(host)
		if err != nil {
			a.println("Failed to retrieve credentials using %s, authentication may fail: %v", source.name, err)
			continue
		}
		if found != nil {
			return found.User, found.Password
		}
	}
	return "", ""
}

func providerFailed(format string, args ...any) error {
	return tarthome.System("Failed(message: %q)", fmt.Sprintf(format, args...))
}

func (a *app) environmentLogin(host string) (*login, error) {
	if only, set := a.env["TART_REGISTRY_HOSTNAME"]; set && only != host {
		return nil, nil
	}
	user, haveUser := a.env["TART_REGISTRY_USERNAME"]
	password, havePassword := a.env["TART_REGISTRY_PASSWORD"]
	if !haveUser || !havePassword {
		return nil, nil
	}
	return &login{user, password}, nil
}

// dockerLogin reads ~/.docker/config.json: auths first, then credHelpers, whose keys may be patterns. credsStore is not looked at.
func (a *app) dockerLogin(host string) (*login, error) {
	data, err := os.ReadFile(filepath.Join(a.env["HOME"], ".docker", "config.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var config struct {
		Auths       map[string]struct{ Auth string }
		CredHelpers map[string]string
	}
	if err := json.Unmarshal(data, &config); err != nil {
		return nil, tarthome.System("The data couldn’t be read because it isn’t in the correct format.")
	}
	if decoded, err := base64.StdEncoding.DecodeString(config.Auths[host].Auth); err == nil {
		// A password with a colon makes more than two parts, and Tart passes it over.
		if parts := strings.Split(string(decoded), ":"); len(parts) == 2 {
			return &login{parts[0], parts[1]}, nil
		}
	}
	for pattern, helper := range config.CredHelpers {
		matched, err := regexp.MatchString("^(?:"+pattern+")$", host)
		if pattern == host || err == nil && matched {
			return a.helperLogin("docker-credential-"+helper, host)
		}
	}
	return nil, nil
}

func (a *app) helperLogin(program, host string) (*login, error) {
	path, err := a.lookPath(program)
	if err != nil {
		return nil, providerFailed("%s not found in PATH", program)
	}
	helper := exec.Command(path, "get")
	helper.Env = a.Environ
	helper.Stdin = strings.NewReader(host + "\n")
	output, err := helper.CombinedOutput()
	if err != nil {
		a.println("%s", output)
		return nil, providerFailed("Docker helper failed!")
	}
	var got struct{ Username, Secret string }
	if err := json.Unmarshal(bytes.TrimSpace(output), &got); err != nil {
		return nil, providerFailed("Docker helper output is empty!")
	}
	return &login{got.Username, got.Secret}, nil
}

// keychainLocked is the status with which a locked keychain answers.
const keychainLocked = -25308

func (a *app) keychainLogin(host string) (*login, error) {
	if a.fault(simconf.KeychainLocked) != nil {
		return nil, providerFailed("Keychain returned unsuccessful status %d", keychainLocked)
	}
	keychain, err := a.readKeychain()
	if err != nil {
		return nil, err
	}
	if found, ok := keychain[host]; ok {
		return &found, nil
	}
	return nil, nil
}

func (a *app) readKeychain() (map[string]login, error) {
	keychain := map[string]login{}
	data, err := os.ReadFile(filepath.Join(a.home.Dir, KeychainName))
	if errors.Is(err, fs.ErrNotExist) {
		return keychain, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, &keychain); err != nil {
		return nil, providerFailed("Keychain item has unexpected format")
	}
	return keychain, nil
}

func (a *app) writeKeychain(keychain map[string]login) error {
	data, err := json.MarshalIndent(keychain, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(a.home.Dir, KeychainName), append(data, '\n'), 0o600)
}

func (a *app) login() error {
	entry, err := a.askLogin()
	if err != nil {
		return err
	}
	host := a.args.Arg("host")
	if !a.args.Has("no-validate") {
		if err := a.ping(host, entry); err != nil {
			return tarthome.Failure("invalid credentials: %v", err)
		}
	}
	keychain, err := a.readKeychain()
	if err != nil {
		return err
	}
	if a.fault(simconf.KeychainLocked) != nil {
		verb := "add"
		if _, known := keychain[host]; known {
			verb = "update"
		}
		return providerFailed("Keychain failed to %s item: User interaction is not allowed.", verb)
	}
	keychain[host] = entry
	return a.writeKeychain(keychain)
}

func (a *app) askLogin() (login, error) {
	if a.args.Has("username") {
		data, err := io.ReadAll(a.Stdin)
		if err != nil {
			return login{}, tarthome.System("%v", err)
		}
		return login{a.args.Value("username", ""), strings.TrimRight(string(data), "\r\n")}, nil
	}
	input := bufio.NewReader(a.Stdin)
	var answers [2]string
	for i, question := range []string{"User: ", "Password: "} {
		a.print(question)
		line, err := input.ReadString('\n')
		if err != nil {
			return login{}, tarthome.System("CredentialRequired(which: %q)", strings.ToLower(strings.TrimSuffix(question, ": ")))
		}
		answers[i] = strings.TrimRight(line, "\r\n")
	}
	return login{answers[0], answers[1]}, nil
}

// ping plays the request to /v2/ by which Tart checks a login: one that opens none of the host's protected repositories is refused.
func (a *app) ping(host string, entry login) error {
	all, err := a.registry().List()
	if err != nil {
		return err
	}
	known, protected, allowed := false, false, false
	for _, repository := range all {
		if repository.Host != host {
			continue
		}
		known = true
		failure, err := a.registry().Failing(repository, "doing ping")
		if err != nil {
			return err
		}
		if failure != nil {
			return httpError("doing ping", failure.Status, failure.Details)
		}
		protected = protected || repository.Username != ""
		allowed = allowed || repository.Username != "" && repository.Allows(entry.User, entry.Password)
	}
	switch {
	case !known:
		return tarthome.System("Error Domain=NSURLErrorDomain Code=-1003 \"A server with the specified hostname could not be found.\"")
	case protected && !allowed:
		return authFailed()
	}
	return nil
}

func (a *app) logout() error {
	keychain, err := a.readKeychain()
	if err != nil {
		return err
	}
	if _, known := keychain[a.args.Arg("host")]; !known {
		return nil
	}
	delete(keychain, a.args.Arg("host"))
	return a.writeKeychain(keychain)
}
