package setup

import (
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gitlab-runner-tart-driver/internal/doctor"
	"gitlab-runner-tart-driver/internal/gitlab"
	"gitlab-runner-tart-driver/internal/gitlab/gitlabtest"
	"gitlab-runner-tart-driver/internal/runnerconf"
)

// put writes a file of the host that a directory plays.
func put(t *testing.T, opt RunnerOptions, path, content string) {
	t.Helper()
	path = opt.Host.Real(path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestVerifyTakesTheAuthorityThatGitLabRunnerTakes(t *testing.T) {
	const token, id = "glrt-abcdefghijklmnop", "r_0123456789ab"
	server := gitlabtest.NewTLS(token)
	defer server.Close()
	authority := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	opt := options(t)
	runner := runnerconf.Runner{URL: server.URL, Token: token}
	verify := func() error { return Verify(t.Context(), opt.Host, runner, id) }

	if err := verify(); !errors.Is(err, gitlab.ErrAuthority) {
		t.Errorf("without one: %v", err)
	}
	put(t, opt, filepath.Dir(doctor.DefaultConfigPath(opt.Host))+"/certs/127.0.0.1.crt", authority)
	if err := verify(); err != nil {
		t.Errorf("by its name: %v", err)
	}
	runner.TLSCAFile = "/etc/other.pem"
	if err := verify(); !errors.Is(err, gitlab.ErrAuthority) || !strings.Contains(err.Error(), "tls-ca-file /etc/other.pem: no such file") {
		t.Errorf("config.toml names one that is not there: %v", err)
	}
	put(t, opt, "/etc/other.pem", authority)
	if err := verify(); err != nil {
		t.Errorf("by config.toml: %v", err)
	}
	runner.TLSCertFile, runner.TLSKeyFile = "/etc/other.pem", "/etc/none.key"
	if err := verify(); !errors.Is(err, gitlab.ErrAuthority) || !strings.Contains(err.Error(), "tls-key-file /etc/none.key") {
		t.Errorf("a certificate without its key: %v", err)
	}
}

func TestPlanSystemID(t *testing.T) {
	const config = "/Users/ci/.gitlab-runner/config.toml"
	for content, kept := range map[string]bool{"": false, "s_0123456789ab": true, "r_abcdefGHIJKL\n": true, "r_short": false, "x_0123456789ab": false} {
		opt := options(t)
		if content != "" {
			put(t, opt, "/Users/ci/.gitlab-runner/.runner_system_id", content)
		}
		id, change, err := PlanSystemID(opt.Host, config)
		if err != nil || !systemIDForm().MatchString(id) || kept != (change == nil) || kept && id != strings.TrimSpace(content) {
			t.Errorf("%q: %q, %+v, %v", content, id, change, err)
			continue
		}
		if change == nil {
			continue
		}
		if _, err := change.File.Replace(change.Content, change.Mode, opt.Host.Now()); err != nil {
			t.Fatal(err)
		}
		if again, change, err := PlanSystemID(opt.Host, config); again != id || change != nil || err != nil {
			t.Errorf("the second time: %q after %q, %+v, %v", again, id, change, err)
		}
	}
}
