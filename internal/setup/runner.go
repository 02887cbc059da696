package setup

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"gitlab-runner-tart-driver/internal/doctor"
	"gitlab-runner-tart-driver/internal/runnerconf"
	"gitlab-runner-tart-driver/internal/settings"
)

// RunnerOptions say what runner there is to be.
type RunnerOptions struct {
	// URL and Token are GitLab's; a runner that is there keeps its own where they are empty.
	URL, Token string
	// TLSCAFile is the path of GitLab's authority, in PEM; empty for one that the host trusts.
	TLSCAFile string
	// Name of the runner; DefaultName is for a new one that is given none.
	Name, DefaultName string
	// Given are settings to write, by name, and SettingsFile the value of --config.
	Given        map[string]string
	SettingsFile string
	// Driver is the path of this driver's program.
	Driver string
	// Host is where it is to run, and Parse takes the arguments of a stage apart, as the stage would.
	Host  doctor.Host
	Parse doctor.ArgParser
}

// MissingError is something that a new runner needs and that was not given.
type MissingError struct {
	// What is "url" or "token".
	What string
}

func (e *MissingError) Error() string { return "a new runner needs a " + e.What }

// Numbers that are written, in seconds where they are times.
const (
	appleLimit     = 2
	shutdownGood   = 120
	shutdownLeast  = 90
	gracefulGood   = 60
	gracefulLeast  = 45
	abortLimit     = 300
	prepareLeast   = 900
	prepareBeyond  = 900
	whyConcurrent  = "Apple allows two macOS VMs on a host"
	whyShutdown    = "30 s, the default, is too short for VMs to be destroyed when GitLab Runner is stopped"
	whyLimit       = "as many jobs as VMs: one more would wait here, though another Mac may be idle"
	whyRequests    = "or else a second job waits for the answer to the request before it"
	whyGraceful    = "300 s after a job is aborted GitLab Runner goes on to cleanup; a script that is ended may take 45 s"
	whyPrepareTime = "a wait for a free place, up to an hour (--slot-timeout), and then the pull of an image"
)

// PlanRunner works out a config.toml that has a runner with this driver. runner is its index in there.
func PlanRunner(file *runnerconf.File, opt RunnerOptions) (change *Change, runner int, err error) {
	doc, err := runnerconf.Parse(file.Content)
	if err != nil {
		return nil, 0, fmt.Errorf("%s is not valid: %w", file.Path, err)
	}
	if runner, err = opt.choose(doc.Config()); err != nil {
		return nil, 0, err
	}
	if runner == len(doc.Config().Runners) {
		if doc, err = opt.added(file.Content); err != nil {
			return nil, 0, err
		}
	}
	if err := opt.fill(doc, runner); err != nil {
		return nil, 0, err
	}
	content, err := doc.Bytes()
	if err != nil {
		return nil, 0, err
	}
	return &Change{File: file, Content: content, Mode: configMode}, runner, nil
}

// choose finds the runner that is meant; the number of runners stands for a new one.
func (opt RunnerOptions) choose(config runnerconf.Config) (int, error) {
	usable := func(r runnerconf.Runner) error {
		if r.Executor != "custom" {
			return fmt.Errorf("%s has the executor %q; take another token, or another name", r.Describe(), r.Executor)
		}
		for _, stage := range r.Custom.Stages() {
			switch driver := stage.Call(opt.Host.Head).Driver; driver {
			case runnerconf.DriverPython, runnerconf.DriverTartExecutor:
				return fmt.Errorf("%s uses %s: `gitlab-runner-tart-driver migrate` turns it into one of this driver", r.Describe(), driver)
			case runnerconf.DriverOther:
				return fmt.Errorf("%s calls %s, which is not this driver; take another token, or another name", r.Describe(), stage.Exec)
			}
		}
		return nil
	}
	for _, is := range []func(runnerconf.Runner) bool{
		func(r runnerconf.Runner) bool { return opt.Token != "" && r.Token == opt.Token },
		func(r runnerconf.Runner) bool { return opt.Name != "" && r.Name == opt.Name },
		// where neither says which: one that calls this driver, or else one that was registered and calls nothing yet
		func(r runnerconf.Runner) bool {
			return opt.Token+opt.Name == "" && r.Custom.RunExec != "" && r.Executor == "custom" && usable(r) == nil
		},
		func(r runnerconf.Runner) bool {
			return opt.Token+opt.Name == "" && r.Token != "" && r.Executor == "custom" && usable(r) == nil
		},
	} {
		if i := slices.IndexFunc(config.Runners, is); i >= 0 {
			return i, usable(config.Runners[i])
		}
	}
	switch {
	case opt.URL == "":
		return 0, &MissingError{"url"}
	case opt.Token == "":
		return 0, &MissingError{"token"}
	}
	return len(config.Runners), nil
}

// added is the file with a runner at its end that has nothing but what says which it is.
func (opt RunnerOptions) added(content []byte) (*runnerconf.Document, error) {
	var b strings.Builder
	b.Write(content)
	if len(content) > 0 && !strings.HasSuffix(b.String(), "\n") {
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "\n[[runners]]\n  name = %s\n  url = %s\n  token = %s\n  executor = \"custom\"\n",
		runnerconf.Quote(cmp.Or(opt.Name, opt.DefaultName)), runnerconf.Quote(opt.URL), runnerconf.Quote(opt.Token))
	doc, err := runnerconf.Parse([]byte(b.String()))
	if err != nil {
		return nil, fmt.Errorf("no runner can be added to the file as it is written: %w", err)
	}
	return doc, nil
}

// setter makes changes until one fails.
type setter struct {
	doc *runnerconf.Document
	err error
}

func (s *setter) set(runner int, path string, value any, why string) {
	if s.err == nil {
		s.err = s.doc.Set(runner, strings.Split(path, "."), value, why)
	}
}

// fill gives the runner all that this driver needs. What is there and fits stays.
func (opt RunnerOptions) fill(doc *runnerconf.Document, runner int) error {
	config := doc.Config()
	r := config.Runners[runner]
	s := &setter{doc: doc}
	for _, own := range []struct{ key, value string }{{"name", opt.Name}, {"url", opt.URL}, {"token", opt.Token}, {"tls-ca-file", opt.TLSCAFile}} {
		if own.value != "" {
			s.set(runner, own.key, own.value, "")
		}
	}
	resolved, err := opt.programs(s, runner, r)
	if err != nil {
		return err
	}
	slots, slotWait := resolved.Slots(), int(resolved.SlotTimeout.Seconds())
	if config.Concurrent < slots {
		s.set(runnerconf.Global, "concurrent", slots, whyConcurrent)
	}
	if config.ShutdownTimeout < shutdownLeast {
		s.set(runnerconf.Global, "shutdown_timeout", shutdownGood, whyShutdown)
	}
	if r.Limit < 1 || r.Limit > slots {
		s.set(runner, "limit", slots, whyLimit)
		r.Limit = slots
	}
	if max(r.RequestConcurrency, 1) < r.Limit {
		s.set(runner, "request_concurrency", r.Limit, whyRequests)
	}
	timeout := r.Custom.PrepareExecTimeout
	switch {
	case timeout <= 0 && r.Custom.PrepareExec != "" && slotWait <= runnerconf.DefaultExecTimeout: // the default does
	case timeout < prepareLeast || timeout < slotWait:
		s.set(runner, "custom.prepare_exec_timeout", slotWait+prepareBeyond, whyPrepareTime)
	}
	if kill := r.Custom.GracefulKillTimeout; kill < gracefulLeast || kill >= abortLimit {
		s.set(runner, "custom.graceful_kill_timeout", gracefulGood, whyGraceful)
	}
	return s.err
}

// programs sets the stages' programs and arguments, and returns what settings they amount to.
func (opt RunnerOptions) programs(s *setter, runner int, r runnerconf.Runner) (*settings.Settings, error) {
	var inFile map[string]string
	if opt.SettingsFile != "" {
		var err error
		if inFile, err = settings.ReadFile(opt.Host.Real(opt.SettingsFile)); err != nil {
			return nil, err
		}
	}
	var prepare []string
	for _, stage := range r.Custom.Stages() {
		call := stage.Call(opt.Host.Head)
		args, given := call.Args, map[string]string{}
		maps.Copy(given, opt.Given)
		if call.Driver == runnerconf.DriverNone {
			args = []string{stage.Verb}
			if opt.isNew("concurrency", inFile) && stage.Verb == settings.StagePrepare {
				given["concurrency"] = cmp.Or(given["max-vm-count"], inFile["max-vm-count"], strconv.Itoa(appleLimit))
			}
			s.set(runner, "custom."+stage.Verb+"_exec", opt.Driver, "")
		}
		args = withSettings(args, stage.Verb, given)
		if opt.SettingsFile != "" {
			args = withSettingsFile(args, opt.SettingsFile)
		}
		all := args
		if len(call.Before) > 0 { // it stands behind sudo, or the like
			all = slices.Concat(call.Before[1:], []string{call.Program}, args)
		}
		s.set(runner, "custom."+stage.Verb+"_args", all, "")
		if stage.Verb == settings.StagePrepare {
			prepare = args
		}
	}
	return opt.resolve(prepare)
}

// isNew tells whether nobody has said what a setting is to be.
func (opt RunnerOptions) isNew(name string, inFile map[string]string) bool {
	_, given := opt.Given[name]
	_, filed := inFile[name]
	return !given && !filed
}

// resolve works out prepare's settings from its arguments.
func (opt RunnerOptions) resolve(args []string) (*settings.Settings, error) {
	parsed, err := opt.Parse(args)
	if err != nil {
		return nil, fmt.Errorf("prepare_args: %w", err)
	}
	src := settings.Sources{Flags: parsed.Flags, FilePath: parsed.File, Defaults: map[string]string{"state-dir": "/"}}
	if parsed.File != "" {
		if src.File, err = settings.ReadFile(opt.Host.Real(parsed.File)); err != nil {
			return nil, err
		}
	}
	resolved, errs := settings.Resolve(src)
	return resolved, errors.Join(errs...)
}

// withSettingsFile are arguments with --config.
func withSettingsFile(args []string, file string) []string {
	var kept []string
	for _, a := range takeApart(args) {
		if a.name == "config" && a.value == file {
			return args
		}
		if a.name != "config" {
			kept = append(kept, a.words...)
		}
	}
	return append(kept, "--config", file)
}

// CheckURL refuses what is no address of a GitLab.
func CheckURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return fmt.Errorf("%q is not the address of a GitLab, such as https://gitlab.com", text)
	}
	if u.User != nil {
		return errors.New("the address of GitLab must not hold a password")
	}
	return nil
}

// CheckToken refuses what is no runner's token. The token itself is not in the error.
// https://docs.gitlab.com/security/tokens/#runner-authentication-tokens
func CheckToken(token string) error {
	switch {
	case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		return errors.New("the token has characters that no token has: was more than the token copied?")
	case strings.HasPrefix(token, "GR1348941"):
		return errors.New("this is a registration token, which is not a runner's own: in GitLab, create a runner and take its token (glrt-…)")
	case strings.HasPrefix(token, "glpat-"):
		return errors.New("this is a person's access token, not a runner's: in GitLab, create a runner and take its token (glrt-…)")
	}
	return nil
}
