package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"

	"gitlab-runner-tart-driver/internal/lazy"
	"gitlab-runner-tart-driver/internal/tart"
)

// Helpers runs Docker's credential helpers, the programs docker-credential-NAME of the host. It is the only place that does.
// https://github.com/docker/docker-credential-helpers
type Helpers struct {
	// Environ is the stage's environment; an allow-listed part of it is passed on.
	Environ []string
}

// errNoHelper means that the host does not have a helper.
var errNoHelper = errors.New("it is not on the host")

const (
	// helperLimit bounds a helper, which may ask its registry or a keychain.
	helperLimit = 30 * time.Second
	// helperKillDelay is how long its pipes may stay open after it was killed.
	helperKillDelay = time.Second
	// helperMost bounds what is read from it, in bytes.
	helperMost = 64 << 10
)

// helperName leaves out all that could lead to another program than docker-credential-NAME in PATH: the name is the job's.
var helperName = lazy.Regexp(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)

// helperPassed are variables that helpers look for, besides what tart gets: where to find logins, but no logins.
var helperPassed = []string{
	"AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_SDK_LOAD_CONFIG",
	"CLOUDSDK_CONFIG", "DBUS_SESSION_BUS_ADDRESS", "DOCKER_CONFIG", "GNUPGHOME", "GOOGLE_APPLICATION_CREDENTIALS", "PASSWORD_STORE_DIR", "TMPDIR",
	"XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR",
}

// get asks a helper for the login of a registry. ok is false where it has none. No error, and no log, quotes what the helper says.
func (h *Helpers) get(ctx context.Context, name, host string) (user, password string, ok bool, err error) {
	if !helperName().MatchString(name) {
		return "", "", false, errors.New("its name is not a plain one")
	}
	env := h.environ()
	path, err := lookPath("docker-credential-"+name, env)
	if err != nil {
		return "", "", false, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, helperLimit, fmt.Errorf("it did not answer within %s", helperLimit))
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "get")
	cmd.Env = env
	cmd.Stdin = strings.NewReader(host + "\n")
	var out capped
	cmd.Stdout = &out // stderr goes nowhere
	cmd.WaitDelay = helperKillDelay
	err = cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) { // it ended well, and what it has started, such as an agent, still has its output open
		err = nil
	}
	if err != nil && ctx.Err() != nil {
		return "", "", false, context.Cause(ctx)
	}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		if bytes.Contains(out.Bytes(), []byte("credentials not found")) { // the protocol's own words
			return "", "", false, nil
		}
		return "", "", false, fmt.Errorf("it failed (%s)", exit.ProcessState)
	}
	if err != nil {
		return "", "", false, errors.New("it could not be run")
	}
	return parseHelper(out.Bytes())
}

// parseHelper reads a helper's answer.
func parseHelper(out []byte) (user, password string, ok bool, err error) {
	var answer struct{ Username, Secret string }
	if json.Unmarshal(out, &answer) != nil {
		return "", "", false, errors.New("its answer is not understood")
	}
	switch {
	case answer.Username == "<token>":
		return "", "", false, errors.New("it has an identity token, which tart cannot use")
	case answer.Username == "" || answer.Secret == "":
		return "", "", false, nil
	case strings.ContainsFunc(answer.Username+answer.Secret, unicode.IsControl):
		return "", "", false, errors.New("its answer has control characters")
	}
	return answer.Username, answer.Secret, true, nil
}

// environ is what helpers get to see.
func (h *Helpers) environ() []string {
	env := tart.Environ(h.Environ) // also adds the places where Homebrew puts programs
	env = slices.DeleteFunc(env, func(kv string) bool { return strings.HasPrefix(kv, "TART_") })
	for _, kv := range h.Environ {
		if name, _, _ := strings.Cut(kv, "="); slices.Contains(helperPassed, name) {
			env = append(env, kv)
		}
	}
	return env
}

// lookPath finds a program in the PATH of env.
func lookPath(program string, env []string) (string, error) {
	for _, kv := range env {
		dirs, ok := strings.CutPrefix(kv, "PATH=")
		if !ok {
			continue
		}
		for _, dir := range filepath.SplitList(dirs) {
			path := filepath.Join(dir, program)
			if st, err := os.Stat(path); filepath.IsAbs(path) && err == nil && st.Mode().IsRegular() && st.Mode().Perm()&0o111 != 0 {
				return path, nil
			}
		}
	}
	return "", errNoHelper
}

// capped keeps the first part of what is written to it.
type capped struct{ bytes.Buffer }

func (c *capped) Write(p []byte) (int, error) {
	c.Buffer.Write(p[:min(len(p), max(0, helperMost-c.Len()))])
	return len(p), nil
}
