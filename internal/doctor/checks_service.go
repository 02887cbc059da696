package doctor

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

const installService = "gitlab-runner install && gitlab-runner start, at the Mac's own screen or by Screen Sharing"

func lookService(_ context.Context, s *survey) []Finding {
	var findings []Finding
	agents := 0
	for _, found := range s.services {
		switch {
		case found.Err != nil:
			findings = append(findings, warn("", "%s cannot be read: %v", found.Path, found.Err))
			continue
		case found.Daemon:
			user := "root"
			if found.user != "" {
				user = found.user
			}
			fix := "sudo launchctl bootout system " + found.Path + ", take that file away, then " + installService
			findings = append(findings, fail(fix, "%s runs GitLab Runner as a LaunchDaemon (as %s), without a user session: macOS guests get no login keychain", found.Path, user))
			continue
		}
		agents++
		findings = append(findings, s.agent(found)...)
	}
	switch {
	case len(s.services) == 0:
		return []Finding{warn(runSetup, "GitLab Runner is not a service on this host: it runs only while somebody keeps it running")}
	case agents > 1:
		var paths []string
		for _, found := range s.services {
			paths = append(paths, found.Path)
		}
		findings = append(findings, warn("keep one of them", "GitLab Runner is started more than once: %s", strings.Join(paths, ", ")))
	}
	if len(findings) == 0 {
		return []Finding{pass("LaunchAgent %s", s.services[0].Path)}
	}
	return findings
}

// agent looks at a LaunchAgent.
func (s *survey) agent(found Service) []Finding {
	var findings []Finding
	for _, log := range found.logs {
		if dir := filepath.Dir(log); s.existing(dir) != dir {
			findings = append(findings, fail("mkdir -p "+dir+", with sudo where it must be", "%s: launchd cannot write the log %s, since there is no directory for it, and does not start GitLab Runner",
				found.Path, log))
		}
	}
	if path := found.option("--config"); path != "" && path != s.configPath && s.opt.ConfigPath == "" {
		findings = append(findings, warn("gitlab-runner-tart-driver doctor --runner-config "+path, "%s: GitLab Runner reads %s, and this report is about %s", found.Path, path, s.configPath))
	}
	for name := range found.environ {
		if strings.HasPrefix(name, "TART_EXECUTOR_") || strings.HasPrefix(name, "TART_SSH_") || name == "TART_PULL_POLICY" {
			findings = append(findings, warn(fmt.Sprintf("environment = [%q] in [[runners]], or the flag", name+"="+found.environ[name]),
				"%s: %s has no effect there: settings come from flags and from jobs' variables", found.Path, name))
		}
	}
	return findings
}

func lookServicePath(_ context.Context, s *survey) []Finding {
	var findings []Finding
	ok := skip("GitLab Runner is not a service on this host")
	for _, found := range s.services {
		if found.Err != nil {
			continue
		}
		brew := "/opt/homebrew/bin"
		if path := found.SearchPath(); !slices.Contains(path, brew) {
			fix := fmt.Sprintf("%s, or add a PATH to its EnvironmentVariables: %s:/usr/local/bin:%s", runSetup, brew, LaunchdPath)
			findings = append(findings, warn(fix, "%s: GitLab Runner's PATH lacks Homebrew's %s: it is %s", found.Path, brew, strings.Join(path, ":")))
		}
		ok = pass("has %s", brew)
	}
	if len(findings) == 0 {
		return []Finding{ok}
	}
	return findings
}

func lookAutoLogin(ctx context.Context, s *survey) []Finding {
	if out, err := s.host.Run(ctx, briefly, "fdesetup", "status"); err == nil && strings.Contains(out.Stdout, "FileVault is On") {
		return []Finding{warn("sudo fdesetup disable, if the Mac stands where nobody takes it away",
			"FileVault is on: after a restart the Mac waits for a password, and no job runs until then")}
	}
	out, err := s.host.Run(ctx, briefly, "defaults", "read", "/Library/Preferences/com.apple.loginwindow", "autoLoginUser")
	user := strings.TrimSpace(out.Stdout)
	const fix = "System Settings > Users & Groups > Automatically log in as"
	switch me := s.host.Getenv("USER"); {
	case err != nil && !isExit(err):
		return []Finding{warn("", "automatic login is not known: %v", err)}
	case err != nil || user == "":
		return []Finding{warn(fix, "nobody is logged in automatically: after a restart, no job runs until somebody logs in")}
	case me != "" && user != me:
		return []Finding{warn(fix, "%s is logged in automatically, and not %s", user, me)}
	default:
		return []Finding{pass("%s is logged in automatically", user)}
	}
}
