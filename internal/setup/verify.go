package setup

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"strings"

	"gitlab-runner-tart-driver/internal/doctor"
	"gitlab-runner-tart-driver/internal/gitlab"
	"gitlab-runner-tart-driver/internal/lazy"
	"gitlab-runner-tart-driver/internal/runnerconf"
)

// Verify asks GitLab whether it knows a runner of config.toml, with the authorities and the certificate that GitLab Runner would take.
// systemID is that of PlanSystemID.
func Verify(ctx context.Context, host doctor.Host, runner runnerconf.Runner, systemID string) error {
	ask := gitlab.Runner{URL: runner.URL, Token: runner.Token, SystemID: systemID}
	own := certificateFile(host, runner)
	if ca := cmp.Or(runner.TLSCAFile, own(".crt")); ca != "" {
		raw, err := host.ReadFile(ca)
		if err != nil {
			return fmt.Errorf("%w: tls-ca-file %s: %w", gitlab.ErrAuthority, ca, withoutPath(err))
		}
		ask.Authorities = raw
	}
	cert, key := cmp.Or(runner.TLSCertFile, own(".auth.crt")), cmp.Or(runner.TLSKeyFile, own(".auth.key"))
	if cert != "" && key != "" {
		pair, err := tls.LoadX509KeyPair(host.Real(cert), host.Real(key))
		if err != nil {
			return fmt.Errorf("%w: tls-cert-file %s and tls-key-file %s: %w", gitlab.ErrAuthority, cert, key, withoutPath(err))
		}
		ask.Certificate = &pair
	}
	return gitlab.Verify(ctx, ask)
}

// certificateFile finds files that GitLab Runner takes by their names alone.
// https://docs.gitlab.com/runner/configuration/tls-self-signed/#supported-options-for-self-signed-certificates-targeting-the-gitlab-server
func certificateFile(host doctor.Host, runner runnerconf.Runner) func(suffix string) string {
	return func(suffix string) string {
		u, err := url.Parse(runner.URL)
		if err != nil || u.Hostname() == "" {
			return ""
		}
		path := filepath.Join(filepath.Dir(doctor.DefaultConfigPath(host)), "certs", u.Hostname()+suffix)
		if _, err := host.Stat(path); err != nil {
			return ""
		}
		return path
	}
}

// withoutPath is an error without the path, which is said already.
func withoutPath(err error) error {
	if pathErr := (*fs.PathError)(nil); errors.As(err, &pathErr) {
		return pathErr.Err
	}
	return err
}

// systemIDForm is what GitLab Runner takes for an id of its own. An id that it has not made from the machine's begins with r_.
var systemIDForm = lazy.Regexp(`^[sr]_[0-9a-zA-Z]{12}$`)

// PlanSystemID finds out by what id GitLab is to know this host, which GitLab Runner keeps beside its config.toml. One that is not there yet is
// made up: GitLab Runner takes it for its own, and GitLab does not list the host twice.
func PlanSystemID(host doctor.Host, config string) (id string, change *Change, err error) {
	path := filepath.Join(filepath.Dir(config), ".runner_system_id")
	file, err := runnerconf.Open(host.Real(path))
	if err != nil {
		return "", nil, fmt.Errorf("%s: %w", path, withoutPath(err))
	}
	file.Path = path
	if id = strings.TrimSpace(string(file.Content)); systemIDForm().MatchString(id) {
		return id, nil, nil
	}
	const digits = 12
	id = "r_" + strings.ToLower(rand.Text()[:digits])
	return id, &Change{File: file, Content: []byte(id + "\n"), Mode: configMode}, nil
}
