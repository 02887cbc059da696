package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gitlab-runner-tart-driver/internal/gitlab/gitlabtest"
	"gitlab-runner-tart-driver/internal/runnerconf"
	"gitlab-runner-tart-driver/internal/trial"
)

// newUser is somebody who knows the README and no more.
type newUser struct {
	*mac
	readme string
}

// PATH has what the README has a new user install.
func (u *newUser) path() string {
	return "PATH=" + strings.Join([]string{filepath.Dir(u.bin), filepath.Dir(u.tart), u.runnerDir(), "/usr/bin:/bin:/usr/sbin:/sbin"}, ":")
}

// config is GitLab Runner's config.toml. For root it is elsewhere, and not the test's to write.
func (u *newUser) config() string { return filepath.Join(u.home(), ".gitlab-runner", "config.toml") }

// setsUp types the README's line for it, with an address and a token.
func (u *newUser) setsUp(url, token string) (output string, code int) {
	u.t.Helper()
	line := ""
	for l := range strings.Lines(u.readme) {
		if strings.HasPrefix(l, "CI_SERVER_URL=") {
			line = strings.TrimSpace(l)
		}
	}
	typed := strings.NewReplacer("https://gitlab.com", url, "glrt-…", token).Replace(line)
	if !strings.Contains(typed, url+" ") || !strings.Contains(typed, token+" ") {
		u.t.Fatalf("the README says %q", line)
	}
	cmd := exec.Command("sh", "-c", typed+` --yes "$@"`, "sh", "-c", u.config())
	cmd.Args = append(cmd.Args, u.flags...) // what this machine's guests need
	cmd.Env = append(u.environ(), u.path())
	out, _ := cmd.CombinedOutput()
	return string(out), cmd.ProcessState.ExitCode()
}

// types calls a verb that the README names.
func (u *newUser) types(code int, text, verb string, args ...string) {
	u.t.Helper()
	if !strings.Contains(u.readme, "`"+verb+"`") && !strings.Contains(u.readme, "`"+verb+" ") {
		u.t.Errorf("the README does not tell of %s", verb)
	}
	u.expect(code, text, append([]string{verb}, args...)...)
}

// asConfigured are the programs of the stages as config.toml has them.
func (u *newUser) asConfigured(o *trial.Options) {
	u.t.Helper()
	raw, err := os.ReadFile(u.config())
	if err != nil {
		u.t.Fatal(err)
	}
	doc, err := runnerconf.Parse(raw)
	if err != nil || len(doc.Config().Runners) != 1 {
		u.t.Fatalf("%v in\n%s", err, raw)
	}
	for _, stage := range doc.Config().Runners[0].Custom.Stages() {
		exec := trial.Exec{Path: stage.Exec, Args: stage.Args}
		switch stage.Verb {
		case "config":
			o.Driver.Config = exec
		case "prepare":
			o.Driver.Prepare = exec
		case "run":
			o.Driver.Run = exec
		case "cleanup":
			o.Driver.Cleanup = exec
		}
	}
	o.Environ = append(o.Environ, u.path())
}

// TestNewUser sets a host up by the README, has a job fail and its VM held, gets in and finds out why, gives the VM back, and leaves the host clean.
func TestNewUser(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	const token = "glrt-abcdefghijklmnop"
	server := gitlabtest.New(token)
	defer server.Close()
	u := &newUser{newMac(t), string(raw)}

	// A token with a mistake in it.
	out, code := u.setsUp(server.URL, token+"q")
	if code != 1 || !strings.Contains(out, "GitLab refuses the runner's token") || !strings.Contains(out, "nothing was written") || strings.Contains(out, token) {
		t.Errorf("setup with a wrong token ends with %d:\n%s", code, out)
	}
	if _, err := os.Stat(filepath.Dir(u.config())); err == nil {
		t.Errorf("%s is there", filepath.Dir(u.config()))
	}
	// The right one. doctor, which setup ends with, finds nothing.
	out, code = u.setsUp(server.URL, token)
	if code != 0 || !strings.Contains(out, "knows the runner") || !strings.Contains(out, " 0 with warnings, 0 failed") || strings.Contains(out, token) {
		t.Errorf("setup ends with %d:\n%s", code, out)
	}
	if st, err := os.Stat(u.config()); err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("config.toml: %v, %v", st, err)
	}
	for _, argv := range u.calls() {
		if strings.Contains(strings.Join(argv, " "), "glrt-") {
			t.Errorf("the token is in a call of tart: %v", argv)
		}
	}

	// A job that fails, and says in its log how to get in.
	j := job("echo 'error: no such module: Networking' > build.log", "echo \"the build has failed in $PWD\"", "exit 65")
	j.Variables = variables("TART_HOLD_ON_FAILURE", "30m")
	r := u.run(j, u.asConfigured)
	want(t, r, trial.Failed, trial.ScriptFailure, 65)
	says(t, r, "the build has failed", "its VM is held for 30m0s afterwards", "gitlab-runner-tart-driver ssh "+id(r))
	if !strings.Contains(u.readme, "TART_HOLD_ON_FAILURE=30m") {
		t.Error("the README does not tell how to have a VM held")
	}
	u.types(0, "held", "ps")
	u.types(0, "build_script ended after ", "events")
	u.types(0, "held", "logs", id(r))
	u.types(0, "pull-policy", "explain")

	// A shell in the VM, in which a person looks around where the log says.
	_, where, _ := strings.Cut(string(stage(t, r, "build_script").Stdout), "\nthe build has failed in ")
	where, _, _ = strings.Cut(where, "\n")
	shell, errs, code := u.person(strings.NewReader("cd "+where+"\ncat build.log\n"), "ssh", id(r))
	if code != 0 || !strings.Contains(shell, "error: no such module: Networking\n") {
		t.Errorf("the shell ends with %d and prints %q, %q", code, shell, errs)
	}
	u.types(0, "is gone", "release", id(r))
	u.types(0, "no job runs here", "ps")
	u.assertClean()

	// The job that is mended, and a host that is as it was.
	want(t, u.run(job("echo the build is done"), u.asConfigured), trial.Success, "", 0)
	u.types(0, "nothing is left over", "sweep", "--dry-run", "-x", u.tart)
	cmd := exec.Command(u.bin, "doctor", "-c", u.config())
	cmd.Env = append(u.environ(), u.path())
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), " 0 with warnings, 0 failed") {
		t.Errorf("doctor: %v\n%s", err, out)
	}
	u.assertClean()
}
