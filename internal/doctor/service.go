package doctor

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
)

// Service is a launchd job that runs GitLab Runner. https://www.manpagez.com/man/5/launchd.plist/
type Service struct {
	Path string
	// Daemon says that it belongs to the system and not to a user who is logged in.
	Daemon bool
	label  string
	// user is whom a daemon runs as; empty for root.
	user    string
	args    []string
	environ map[string]string
	// logs are the files that launchd writes the output to.
	logs []string
	// Err is why it could not be read; then nothing else is known.
	Err error
}

// LaunchdPath is the PATH of launchd's jobs that set none.
const LaunchdPath = "/usr/bin:/bin:/usr/sbin:/sbin"

// SearchPath is the PATH that GitLab Runner gets.
func (s Service) SearchPath() []string {
	if path := s.environ["PATH"]; path != "" {
		return filepath.SplitList(path)
	}
	return filepath.SplitList(LaunchdPath)
}

// option is the value of one of GitLab Runner's own flags.
func (s Service) option(name string) string {
	for i, arg := range s.args {
		if value, ok := strings.CutPrefix(arg, name+"="); ok {
			return value
		}
		if arg == name && i+1 < len(s.args) {
			return s.args[i+1]
		}
	}
	return ""
}

// FindServices looks where launchd does. `gitlab-runner install` and Homebrew give their files different names.
func FindServices(ctx context.Context, host Host) []Service {
	var services []Service
	for _, dir := range []string{filepath.Join("/", host.Getenv("HOME"), "Library/LaunchAgents"), "/Library/LaunchAgents", "/Library/LaunchDaemons"} {
		for _, path := range host.Glob(filepath.Join(dir, "*.plist")) {
			if !strings.Contains(filepath.Base(path), "gitlab-runner") && !strings.Contains(filepath.Base(path), "gitlab.runner") {
				continue
			}
			found := readService(ctx, host, path)
			if found.Path, found.Daemon = path, strings.HasSuffix(dir, "LaunchDaemons"); found.Err != nil || slices.ContainsFunc(found.args, isGitLabRunner) {
				services = append(services, found)
			}
		}
	}
	return services
}

// isGitLabRunner tells whether an argument is GitLab Runner's program, which has a longer name as it is downloaded.
func isGitLabRunner(arg string) bool {
	name := filepath.Base(arg)
	return name == "gitlab-runner" || strings.HasPrefix(name, "gitlab-runner-darwin")
}

func readService(ctx context.Context, host Host, path string) Service {
	raw, err := host.ReadFile(path)
	if err != nil {
		return Service{Err: reason(err)}
	}
	if bytes.HasPrefix(raw, []byte("bplist")) {
		out, err := host.Run(ctx, briefly, "plutil", "-convert", "xml1", "-o", "-", host.Real(path))
		if err != nil {
			return Service{Err: err}
		}
		raw = []byte(out.Stdout)
	}
	return parseService(raw)
}

// parseService reads a launchd job.
func parseService(raw []byte) Service {
	value, err := ParsePlist(raw)
	fields, ok := value.(map[string]any)
	if err == nil && !ok {
		err = errors.New("not a launchd job")
	}
	if err != nil {
		return Service{Err: err}
	}
	text := func(key string) string {
		s, _ := fields[key].(string)
		return s
	}
	found := Service{label: text("Label"), user: text("UserName"), environ: map[string]string{}}
	if program := text("Program"); program != "" {
		found.args = []string{program}
	}
	if args, ok := fields["ProgramArguments"].([]any); ok {
		found.args = nil
		for _, arg := range args {
			text, _ := arg.(string)
			found.args = append(found.args, text)
		}
	}
	if environ, ok := fields["EnvironmentVariables"].(map[string]any); ok {
		for name, value := range environ {
			found.environ[name], _ = value.(string)
		}
	}
	for _, key := range []string{"StandardOutPath", "StandardErrorPath"} {
		if path := text(key); path != "" && !slices.Contains(found.logs, path) {
			found.logs = append(found.logs, path)
		}
	}
	return found
}
