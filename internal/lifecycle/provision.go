package lifecycle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"gitlab-runner-tart-driver/internal/guest"
	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/keeper"
	"gitlab-runner-tart-driver/internal/provision"
)

// maxSetupOutput bounds what a script that sets up the guest may print, in bytes.
const maxSetupOutput = 1 << 20

// provisionLimit bounds each script that sets up the guest. Fetching GitLab Runner can take a while.
const provisionLimit = 10 * time.Minute

// provision sets the guest up for its job.
func (p *preparation) provision(ctx context.Context, info guest.Info, mounts []provision.Mount) error {
	s := p.Settings
	plan := provision.Plan{Mounts: mounts, ShareWait: s.Timeout, Timezone: hostTimezone(s.Timezone), CheckRunner: s.InstallRunner || s.ForceInstallRunner}
	if plan.Empty() {
		return nil
	}
	began := time.Now()
	answers, err := p.runInGuest(ctx, strings.NewReader(plan.Script()))
	if err != nil {
		return p.explain(answers, err)
	}
	for _, m := range mounts {
		p.step(began, "%s is at %s", m.Title, m.Target)
	}
	if plan.Timezone != "" {
		p.step(began, "time zone %s", plan.Timezone)
	}
	if !plan.CheckRunner {
		return nil
	}
	return p.installRunner(ctx, info, provision.Answer(answers, "runner"))
}

// explain turns a script's exit code and answers into an error. A program that could not do its part has said why, in its last answer.
func (p *preparation) explain(answers []string, err error) error {
	script := (*job.ScriptError)(nil)
	if !errors.As(err, &script) {
		return err
	}
	said := fmt.Errorf("setting up the VM ended with exit code %d", script.Code)
	if len(answers) > 0 {
		said = errors.New(answers[len(answers)-1])
	}
	switch script.Code {
	case provision.ExitTimezone:
		return job.Mistake(said, "the time zone is from %s; expected a name such as Europe/Berlin", p.Settings.Origin("timezone"))
	case provision.ExitRunner:
		return job.Infrastructure(said, "artifacts and caches need GitLab Runner in the VM: put it into the image, or see that the VM reaches the internet")
	case provision.ExitMount:
		return job.Infrastructure(said, "does the host's user, as which GitLab Runner runs, have the right to the directory? macOS may also want Full Disk Access for it")
	default:
		return job.Infrastructure(said, "")
	}
}

// installRunner gets GitLab Runner into a guest that has none, or another than is wanted.
func (p *preparation) installRunner(ctx context.Context, info guest.Info, have string) error {
	s := p.Settings
	began := time.Now()
	host := p.Job.Variables["CI_RUNNER_VERSION"]
	if have != "" && !s.ForceInstallRunner {
		p.step(began, "the VM has GitLab Runner %s", have)
		p.noteSkew(have, host)
		return nil
	}
	install := provision.Install{Version: s.RunnerVersion, Methods: []string{"curl", "wget", "brew"}}
	if s.InstallMethod != "" {
		install.Methods = []string{s.InstallMethod}
	}
	var payload io.Reader = strings.NewReader("")
	if s.InstallMethod == "" && versionFits(s.RunnerVersion, host) {
		if binary, err := p.hostRunner(info); err == nil {
			defer binary.Close()
			install.Methods = append([]string{"host"}, install.Methods...)
			payload = binary
		}
	}
	answers, err := p.runInGuest(ctx, io.MultiReader(strings.NewReader(install.Script()), payload))
	if err != nil {
		return p.explain(answers, err)
	}
	have = provision.Answer(answers, "runner")
	p.step(began, "GitLab Runner %s installed (%s)", have, provision.Answer(answers, "how"))
	p.noteSkew(have, host)
	return nil
}

// noteSkew tells of a GitLab Runner in the VM that is another than the host's: scripts may use flags that it doesn't know.
func (p *preparation) noteSkew(guest, host string) {
	if host != "" && !strings.HasPrefix(guest, host) {
		p.Log.Linef("note: the VM has GitLab Runner %s, the host %s; artifacts and caches may need the same", guest, host)
	}
}

func versionFits(wanted, host string) bool {
	wanted = strings.TrimPrefix(wanted, "v")
	return wanted == "" || wanted == host
}

// hostRunner opens the host's own GitLab Runner, if it can run in the guest.
func (p *preparation) hostRunner(info guest.Info) (*os.File, error) {
	systems := map[string]string{"Darwin": "darwin", "Linux": "linux"}
	machines := map[string]string{"arm64": "arm64", "aarch64": "arm64", "x86_64": "amd64"}
	if systems[info.OS] != runtime.GOOS || machines[info.Arch] != runtime.GOARCH {
		return nil, errNoRunner
	}
	path := job.Environ(p.Environ).Get("PATH")
	for _, dir := range append(filepath.SplitList(path), "/opt/homebrew/bin", "/usr/local/bin") {
		if !filepath.IsAbs(dir) {
			continue
		}
		f, err := os.Open(filepath.Join(dir, "gitlab-runner"))
		if err != nil {
			continue
		}
		if st, err := f.Stat(); err == nil && st.Mode().IsRegular() && st.Mode().Perm()&0o111 != 0 && isBinary(f) {
			return f, nil
		}
		f.Close()
	}
	return nil, errNoRunner
}

// isBinary tells an executable from a script, such as a wrapper, that would be of no use elsewhere.
func isBinary(f *os.File) bool {
	head := make([]byte, 4)
	if _, err := f.ReadAt(head, 0); err != nil {
		return false
	}
	return bytes.Equal(head, []byte("\x7fELF")) || bytes.Equal(head, []byte{0xcf, 0xfa, 0xed, 0xfe}) || bytes.Equal(head, []byte{0xca, 0xfe, 0xba, 0xbe})
}

// runInGuest runs a script through the keeper and returns the answers in its output. An exit code is a *job.ScriptError.
func (p *preparation) runInGuest(ctx context.Context, script io.Reader) ([]string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, provisionLimit, fmt.Errorf("setting up the VM took more than %s", provisionLimit))
	defer cancel()
	dir := p.State.EntryDir(p.vm)
	in, err := os.OpenFile(filepath.Join(dir, "setup"), os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return nil, job.Infrastructure(fmt.Errorf("set up the VM: %w", err), "")
	}
	defer os.Remove(in.Name())
	defer in.Close()
	if _, err = io.Copy(in, script); err == nil {
		_, err = in.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, job.Infrastructure(fmt.Errorf("set up the VM: %w", err), "")
	}
	said, out, err := os.Pipe()
	if err != nil {
		return nil, job.Infrastructure(fmt.Errorf("set up the VM: %w", err), "")
	}
	defer out.Close()
	read := make(chan []byte, 1)
	go func() {
		raw, _ := io.ReadAll(io.LimitReader(said, maxSetupOutput))
		said.Close() // whoever prints more is ended by that
		read <- raw
	}()
	code, err := keeper.Exec(ctx, p.State, p.vm, p.Job.Key, keeper.Script{File: in, Stdout: out, Stderr: out})
	out.Close()
	text := <-read
	if err == nil && code != 0 {
		err = &job.ScriptError{Code: code}
	}
	if err != nil && len(text) == maxSetupOutput {
		err = job.Infrastructure(fmt.Errorf("setting up the VM printed more than %d bytes: %w", maxSetupOutput, err), "look at the startup files of the user's shell in the image")
	}
	return provision.Answers(string(text)), err
}

// hostTimezone is the zone that the setting means.
func hostTimezone(setting string) string {
	if setting != "auto" {
		return setting
	}
	target, err := filepath.EvalSymlinks("/etc/localtime")
	if err != nil {
		return "UTC"
	}
	_, zone, ok := strings.Cut(target, "zoneinfo/")
	if !ok {
		return "UTC"
	}
	return strings.TrimPrefix(zone, "uclibc/")
}
