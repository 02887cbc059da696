package doctor

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"gitlab-runner-tart-driver/internal/settings"
)

// askMacOS asks for the version of macOS.
func (s *survey) askMacOS(ctx context.Context) (version, error) {
	out, err := s.host.Run(ctx, briefly, "sw_vers", "-productVersion")
	if err != nil {
		return nil, fmt.Errorf("the version of macOS is not known: %w", err)
	}
	v, ok := parseVersion(out.Stdout)
	if !ok {
		return nil, fmt.Errorf("the version of macOS is not known: sw_vers says %q", strings.TrimSpace(out.Stdout))
	}
	return v, nil
}

// isExit tells whether a program ran and said no.
func isExit(err error) bool { return errors.As(err, new(*exec.ExitError)) }

func lookMacOS(ctx context.Context, s *survey) []Finding {
	v, err := s.macOS()
	if err != nil {
		return []Finding{warn("", "%v", err)}
	}
	// Asked of the kernel, since uname answers for the process, which may be translated.
	out, err := s.host.Run(ctx, briefly, "sysctl", "-n", "hw.optional.arm64")
	switch {
	case err == nil && strings.TrimSpace(out.Stdout) == "1":
	case err == nil || isExit(err):
		return []Finding{fail("use a Mac with Apple silicon", "macOS %s on a Mac with an Intel processor, on which Tart does not run", v)}
	default:
		return []Finding{warn("", "the processor is not known: %v", err)}
	}
	switch {
	case !v.atLeast(13):
		return []Finding{fail("update to macOS 13 or later", "macOS %s is too old for Tart", v)}
	case !v.atLeast(14) && s.uses(anyAgent):
		return []Finding{fail("update to macOS 14 or later, or set --transport ssh", "macOS %s is too old for the guest agent, which --transport asks for", v)}
	}
	return []Finding{pass("macOS %s on Apple silicon", v)}
}

// uses tells whether some runner has a setting.
func (s *survey) uses(what func(*settings.Settings) bool) bool {
	for _, r := range s.own {
		if what(r.settings) {
			return true
		}
	}
	return false
}

// clockSlack is how far behind a file the clock may be: file systems and time zones are not exact.
const clockSlack = time.Hour

func lookClock(_ context.Context, s *survey) []Finding {
	now := s.host.Now()
	paths := []string{s.configPath, s.opt.Executable}
	for _, r := range s.own {
		for _, call := range r.calls {
			paths = append(paths, call.Program)
		}
	}
	for _, path := range paths {
		if info, err := s.host.Stat(path); err == nil && info.Changed.After(now.Add(clockSlack)) {
			return []Finding{fail("sudo sntp -sS time.apple.com", "the clock says %s, but %s was written later, at %s", stamp(now), path, stamp(info.Changed))}
		}
	}
	return []Finding{pass("%s", stamp(now))}
}

func stamp(t time.Time) string { return t.Local().Format("2006-01-02 15:04") }

// tartNeeds are versions of Tart from which on there is something that settings may ask for.
// https://github.com/openai/tart/releases
func tartNeeds() []struct {
	since version
	what  string
	asked func(*settings.Settings) bool
} {
	return []struct {
		since version
		what  string
		asked func(*settings.Settings) bool
	}{
		{version{2, 28, 0}, "--ip-resolver agent", func(s *settings.Settings) bool { return s.IPResolver == "agent" }},
		{version{2, 27, 0}, "--transport agent", func(s *settings.Settings) bool { return s.Transport == "agent" }},
		{version{2, 20, 0}, "--nested", func(s *settings.Settings) bool { return s.Nested }},
		{version{2, 7, 1}, "--softnet-allow", func(s *settings.Settings) bool { return len(s.SoftnetAllow) > 0 }},
	}
}

const updateTart = "brew upgrade tart"

func lookTart(ctx context.Context, s *survey) []Finding {
	var findings []Finding
	for _, name := range s.tartNames() {
		f := s.tart(ctx, name)
		v, known := parseVersion(f.version)
		switch {
		case f.missing != nil:
			findings = append(findings, fail("brew install openai/tools/tart", "%v", f.missing))
			continue
		case f.failed != nil:
			findings = append(findings, fail("run `"+name+" list` as this user", "%v", f.failed))
			continue
		case !known: // a build of Tart's own developers
		case !v.atLeast(1, 8): // the first to say which VMs are suspended
			findings = append(findings, fail(updateTart, "%s %s is too old", name, v))
			continue
		case !v.atLeast(2, 21):
			findings = append(findings, warn(updateTart, "%s %s lacks options for the root disk, sound and clipboard: VMs are slower and less apart from the host", name, v))
		}
		for _, need := range tartNeeds() {
			if known && !v.atLeast(need.since...) && s.uses(need.asked) {
				findings = append(findings, fail(updateTart, "%s %s does not know what %s needs; that came with %s", name, v, need.what, need.since))
			}
		}
		findings = append(findings, pass("%s %s", name, f.version))
	}
	return findings
}

func lookLicence(ctx context.Context, s *survey) []Finding {
	f := s.tart(ctx, s.tartNames()[0])
	v, ok := parseVersion(f.version)
	switch {
	case !ok:
		return []Finding{skip("the version of tart is not known")}
	case v.atLeast(2, 33):
		return []Finding{pass("tart %s is under the Functional Source Licence (FSL-1.1-ALv2): use in your own organisation and for clients is free, "+
			"a competing product is not; Apache 2.0 two years after the release", v)}
	case v.atLeast(1):
		return []Finding{pass("tart %s is under the Fair Source Licence 0.9: free on up to 100 CPU cores", v)}
	default:
		return []Finding{pass("tart %s is under the GNU Affero General Public Licence 3", v)}
	}
}

func lookGitLabRunner(ctx context.Context, s *survey) []Finding {
	program := "gitlab-runner"
	for _, found := range s.services {
		if found.Err == nil && len(found.args) > 0 {
			program = found.args[0] // the one that runs counts, wherever it is
			break
		}
	}
	out, err := s.host.Run(ctx, briefly, program, "--version")
	if errors.Is(err, ErrNoProgram) {
		return []Finding{fail("brew install gitlab-runner", "%v", err)}
	}
	if err != nil {
		return []Finding{fail("run `"+program+" --version`", "%s --version: %v", program, err)}
	}
	_, text, _ := strings.Cut(out.Stdout, "Version:")
	v, ok := parseVersion(text)
	const update = "brew upgrade gitlab-runner"
	switch {
	case !ok:
		return []Finding{warn("", "%s does not tell its version", program)}
	case !v.atLeast(14, 1):
		return []Finding{fail(update, "GitLab Runner %s does not tell drivers what the job is, other than by variables that the job can set itself", v)}
	case !v.atLeast(17, 9):
		return []Finding{warn(update, "GitLab Runner %s takes every script that fails for one with exit code 1: allow_failure:exit_codes does not work", v)}
	}
	return []Finding{pass("GitLab Runner %s", v)}
}
