package lifecycle

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"gitlab-runner-tart-driver/internal/guest"
	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/provision"
)

const elf = "\x7fELF\x02\x01\x01"

func TestIsBinary(t *testing.T) {
	for content, want := range map[string]bool{
		elf: true, "\x7fELF": true, "\xcf\xfa\xed\xfe\x0c\x00\x00\x01": true, "\xca\xfe\xba\xbe\x00\x00\x00\x02": true,
		"": false, "\x7f": false, "\x7fEL": false, "#!/bin/sh\n": false, " \x7fELF": false, "\xfe\xed\xfa\xcf": false,
	} {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := isBinary(f); got != want {
			t.Errorf("%q: got %v", content, got)
		}
		if at, err := f.Seek(0, 1); at != 0 || err != nil {
			t.Errorf("%q: the file is at %d, %v", content, at, err)
		}
		f.Close()
	}
}

// sameMachine is a guest that can run what this machine can.
func sameMachine(t *testing.T) guest.Info {
	t.Helper()
	system, arch := map[string]string{"darwin": "Darwin", "linux": "Linux"}[runtime.GOOS], map[string]string{"arm64": "arm64", "amd64": "x86_64"}[runtime.GOARCH]
	if system == "" || arch == "" {
		t.Skip("no guest is like this machine")
	}
	return guest.Info{OS: system, Arch: arch}
}

func TestHostRunnerIsTheFirstThatFits(t *testing.T) {
	base := t.TempDir()
	install := func(dir, content string, mode os.FileMode) string {
		t.Helper()
		path := filepath.Join(base, dir)
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(path, "gitlab-runner"), []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if err := os.MkdirAll(filepath.Join(base, "directory", "gitlab-runner"), 0o700); err != nil {
		t.Fatal(err)
	}
	wrapper, plain := install("wrapper", "#!/bin/sh\nexec x\n", 0o700), install("plain", elf, 0o600)
	good, other := install("good", elf+"good", 0o755), install("other", elf+"other", 0o755)
	linked := filepath.Join(base, "linked")
	if err := os.MkdirAll(linked, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(good, "gitlab-runner"), filepath.Join(linked, "gitlab-runner")); err != nil {
		t.Fatal(err)
	}
	t.Chdir(other) // a relative directory of PATH must not lead there
	list := func(dirs ...string) string { return strings.Join(dirs, string(filepath.ListSeparator)) }
	for path, want := range map[string]string{
		list(good, other):   "good",
		list(other, good):   "other",
		list(linked, other): "good",
		list("", ".", "../other", "/no/such/place", good):            "good",
		list(wrapper, plain, filepath.Join(base, "directory"), good): "good",
	} {
		p := &preparation{Stage: &Stage{Environ: []string{"PATH=" + path}}}
		f, err := p.hostRunner(sameMachine(t))
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		content := make([]byte, 100)
		n, _ := f.Read(content)
		f.Close()
		if string(content[:n]) != elf+want {
			t.Errorf("%s: got %q, want the one of %s, from its beginning", path, content[:n], want)
		}
	}
	p := &preparation{Stage: &Stage{Environ: []string{"PATH=" + list(wrapper, plain)}}}
	if f, err := p.hostRunner(sameMachine(t)); err == nil { // this machine may have one at a usual place
		if strings.HasPrefix(f.Name(), base) {
			t.Errorf("%s is taken", f.Name())
		}
		f.Close()
	} else if !errors.Is(err, errNoRunner) {
		t.Error(err)
	}
}

func TestHostRunnerIsForLikeGuestsOnly(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "gitlab-runner"), []byte(elf), 0o700); err != nil {
		t.Fatal(err)
	}
	p := &preparation{Stage: &Stage{Environ: []string{"PATH=" + dir}}}
	same := sameMachine(t)
	otherSystem := map[string]string{"Darwin": "Linux", "Linux": "Darwin"}[same.OS]
	otherArch := map[string]string{"arm64": "x86_64", "x86_64": "arm64"}[same.Arch]
	for _, info := range []guest.Info{{}, {OS: same.OS}, {Arch: same.Arch}, {OS: otherSystem, Arch: same.Arch}, {OS: same.OS, Arch: otherArch},
		{OS: "FreeBSD", Arch: same.Arch}, {OS: same.OS, Arch: "riscv64"}} {
		if f, err := p.hostRunner(info); !errors.Is(err, errNoRunner) {
			t.Errorf("%+v: got %v, %v", info, f, err)
		}
	}
}

func TestHostTimezone(t *testing.T) {
	for _, setting := range []string{"", "UTC", "Europe/Berlin"} {
		if got := hostTimezone(setting); got != setting {
			t.Errorf("%q: got %q", setting, got)
		}
	}
	got := hostTimezone("auto")
	if got == "" || got == "auto" || strings.HasPrefix(got, "/") || strings.Contains(got, "zoneinfo") {
		t.Errorf("auto: got %q", got)
	}
	if target, err := filepath.EvalSymlinks("/etc/localtime"); err == nil && strings.Contains(target, "zoneinfo/") && !strings.HasSuffix(target, "/"+got) {
		t.Errorf("auto: got %q, the host has %s", got, target)
	}
}

func TestExplain(t *testing.T) {
	p := &preparation{Stage: newStage(t, map[string]string{"timezone": "Europe/Atlantis"})}
	other := errors.New("the keeper is gone")
	if err := p.explain([]string{"an answer"}, other); err != other {
		t.Errorf("what is no exit code becomes %v", err)
	}
	for _, c := range []struct {
		code    int
		answers []string
		mistake bool
		says    string
		hint    string
	}{
		{provision.ExitTimezone, []string{"x", "the VM does not know it"}, true, "the VM does not know it", "Europe/Berlin"},
		{provision.ExitRunner, []string{"tried: curl"}, false, "tried: curl", "GitLab Runner"},
		{provision.ExitMount, []string{"volume x: cannot be read"}, false, "volume x: cannot be read", "right to the directory"},
		{provision.ExitMount, nil, false, "exit code 3", "right to the directory"},
		{143, nil, false, "exit code 143", ""},
	} {
		err := p.explain(c.answers, fmt.Errorf("run: %w", &job.ScriptError{Code: c.code}))
		f, script := (*job.Failure)(nil), (*job.ScriptError)(nil)
		if !errors.As(err, &f) || f.Job != c.mistake || !strings.Contains(err.Error(), c.says) || !strings.Contains(f.Hint, c.hint) || (c.hint == "") != (f.Hint == "") {
			t.Errorf("exit code %d, %q: got %v, %+v", c.code, c.answers, err, f)
		}
		if errors.As(err, &script) {
			t.Errorf("exit code %d counts as that of the job's script", c.code)
		}
	}
}
