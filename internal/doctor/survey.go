package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"gitlab-runner-tart-driver/internal/host"
	"gitlab-runner-tart-driver/internal/runnerconf"
	"gitlab-runner-tart-driver/internal/settings"
	"gitlab-runner-tart-driver/internal/tart"
)

// StageArgs are the arguments of a stage, taken apart.
type StageArgs struct {
	// Stage is the first argument, which names it.
	Stage string
	// Flags by the setting's name, and File the value of --config.
	Flags map[string]string
	File  string
	// Rest are the arguments that are no flags.
	Rest []string
}

// ArgParser takes the arguments of a stage apart, as the stage would.
type ArgParser func(args []string) (StageArgs, error)

// Limits of the programs that checks run.
const (
	// briefly is for those that only look something up.
	briefly = 10 * time.Second
	// listLimit is for `tart list`, which walks over all VMs and images.
	listLimit = 30 * time.Second
)

// survey is what is known of the machine, looked up once for all checks.
type survey struct {
	host Host
	opt  Options
	home string

	configPath string
	doc        *runnerconf.Document
	config     runnerconf.Config
	configErr  error
	own        []ownRunner

	tarts    map[string]*tartFacts
	services []Service
	macOS    func() (version, error)
}

// ownRunner is a runner that uses this driver.
type ownRunner struct {
	runnerconf.Runner
	index int
	calls map[string]runnerconf.Call
	args  map[string]StageArgs
	// faults are what is wrong with arguments and settings, by stage.
	faults map[string][]error
	// settings are those of prepare, as far as they can be used.
	settings *settings.Settings
}

func newSurvey(ctx context.Context, opt Options) *survey {
	s := &survey{host: opt.Host, opt: opt, home: opt.Host.Getenv("HOME"), configPath: opt.ConfigPath, tarts: map[string]*tartFacts{}}
	if s.configPath == "" {
		s.configPath = DefaultConfigPath(opt.Host)
	}
	s.macOS = sync.OnceValues(func() (version, error) { return s.askMacOS(ctx) })
	s.readConfig()
	s.services = FindServices(ctx, s.host)
	return s
}

// DefaultConfigPath is where GitLab Runner looks for its config.toml.
// https://docs.gitlab.com/runner/configuration/advanced-configuration/
func DefaultConfigPath(host Host) string {
	if host.UID() == 0 {
		return "/etc/gitlab-runner/config.toml"
	}
	return filepath.Join("/", host.Getenv("HOME"), ".gitlab-runner", "config.toml")
}

func (s *survey) readConfig() {
	raw, err := s.host.ReadFile(s.configPath)
	if errors.Is(err, fs.ErrNotExist) {
		s.configErr = fmt.Errorf("there is no %s", s.configPath)
		return
	}
	if err != nil {
		s.configErr = fmt.Errorf("%s cannot be read: %w", s.configPath, reason(err))
		return
	}
	if s.doc, err = runnerconf.Parse(raw); err != nil {
		s.configErr = fmt.Errorf("%s is not valid: %w", s.configPath, err)
		return
	}
	s.config = s.doc.Config()
	for i, r := range s.config.Runners {
		own := ownRunner{Runner: r, index: i, calls: map[string]runnerconf.Call{}, args: map[string]StageArgs{}, faults: map[string][]error{}}
		uses := false
		for _, stage := range r.Custom.Stages() {
			own.calls[stage.Verb] = stage.Call(s.host.Head)
			uses = uses || own.calls[stage.Verb].Driver == runnerconf.DriverOwn
		}
		if uses && r.Executor == "custom" {
			s.misspelt(&own)
			s.resolve(&own)
			s.own = append(s.own, own)
		}
	}
}

// misspelt takes programs that are not there for this driver, where other stages call it.
func (s *survey) misspelt(r *ownRunner) {
	for verb, call := range r.calls {
		if call.Driver != runnerconf.DriverOther {
			continue
		}
		if _, err := s.host.Stat(call.Program); filepath.IsAbs(call.Program) && errors.Is(err, fs.ErrNotExist) {
			call.Driver = runnerconf.DriverOwn
			r.calls[verb] = call
		}
	}
}

// resolve works out the settings of all stages of a runner as these would.
func (s *survey) resolve(r *ownRunner) {
	variables := map[string]string{}
	for _, kv := range r.Environment { // these reach the driver as variables of the job
		if name, value, ok := strings.Cut(kv, "="); ok {
			variables[name] = value
		}
	}
	for _, stage := range r.Custom.Stages() {
		src := settings.Sources{Defaults: map[string]string{"state-dir": host.DefaultDir(s.home)}}
		if call := r.calls[stage.Verb]; call.Driver == runnerconf.DriverOwn {
			args, err := s.opt.Parse(call.Args)
			if err != nil {
				r.faults[stage.Verb] = append(r.faults[stage.Verb], err)
			}
			r.args[stage.Verb] = args
			src.Flags = args.Flags
			if args.File != "" {
				if src.File, err = s.readSettings(args.File); err != nil {
					r.faults[stage.Verb] = append(r.faults[stage.Verb], err)
				}
				src.FilePath = args.File
			}
		}
		if stage.Verb == settings.StagePrepare {
			src.Variables = variables
		}
		resolved, errs := settings.Resolve(src)
		r.faults[stage.Verb] = append(r.faults[stage.Verb], errs...)
		if stage.Verb == settings.StagePrepare {
			r.settings = resolved
		}
	}
}

// readSettings reads a file of --config.
func (s *survey) readSettings(path string) (map[string]string, error) {
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("--config %s: the path must be absolute, since stages run in directories of their own", path)
	}
	values, err := settings.ReadFile(s.host.Real(path))
	if pathErr := (*fs.PathError)(nil); errors.As(err, &pathErr) {
		return nil, fmt.Errorf("--config %s: %w", path, pathErr.Err)
	}
	return values, err
}

// at names a place in config.toml.
func (s *survey) at(r ownRunner, path ...string) string {
	return fmt.Sprintf("%s:%d: %s", s.configPath, s.doc.Line(r.index, path...), r.Describe())
}

// distinct are the different values that the runners have for something, in order.
func distinct(runners []ownRunner, of func(*settings.Settings) string) []string {
	seen := map[string]bool{}
	for _, r := range runners {
		seen[of(r.settings)] = true
	}
	return slices.Sorted(maps.Keys(seen))
}

// stateDirs are the state directories of all runners, or the usual one where there is no runner.
func (s *survey) stateDirs() []string {
	dirs := distinct(s.own, func(set *settings.Settings) string { return set.StateDir })
	if len(dirs) == 0 {
		return []string{host.DefaultDir(s.home)}
	}
	return dirs
}

// tartNames are the tart executables of all runners.
func (s *survey) tartNames() []string {
	names := distinct(s.own, func(set *settings.Settings) string { return set.TartExecutable })
	if len(names) == 0 {
		return []string{"tart"}
	}
	return names
}

// tartFacts is what is known of a tart executable.
type tartFacts struct {
	client  *tart.Client
	version string
	vms     []tart.VM
	// missing is why there is no client; failed is why its version or list could not be had.
	missing, failed error
}

// tart asks a tart executable for its version and list.
func (s *survey) tart(ctx context.Context, name string) *tartFacts {
	if known, ok := s.tarts[name]; ok {
		return known
	}
	f := &tartFacts{}
	s.tarts[name] = f
	if f.client, f.missing = s.host.Tart(name); f.missing != nil {
		return f
	}
	vctx, cancel := context.WithTimeoutCause(ctx, briefly, fmt.Errorf("no answer within %s", briefly))
	defer cancel()
	if f.version, f.failed = f.client.Version(vctx); f.failed != nil {
		return f
	}
	lctx, cancel := context.WithTimeoutCause(ctx, listLimit, fmt.Errorf("no answer within %s", listLimit))
	defer cancel()
	f.vms, f.failed = f.client.List(lctx)
	return f
}

// existing is a path, or the nearest directory above it that exists.
func (s *survey) existing(path string) string {
	for {
		if _, err := s.host.Stat(path); err == nil || path == filepath.Dir(path) {
			return path
		}
		path = filepath.Dir(path)
	}
}
