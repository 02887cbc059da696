// Package runnerconf reads and edits GitLab Runner's config.toml. What it does not change stays as it is, byte for byte: comments, order and
// whatever else the file says that this driver does not know.
//
// It knows the file's form and what of it concerns a Custom-executor driver. What values are good is decided elsewhere. Nothing here runs
// programs, and no token leaves it but in the file itself: differences are shown with secrets masked.
package runnerconf

import (
	"errors"
	"fmt"

	"github.com/pelletier/go-toml/v2"
)

// Config is the part of config.toml that concerns this driver.
// https://docs.gitlab.com/runner/configuration/advanced-configuration/
type Config struct {
	// Concurrent is how many jobs GitLab Runner runs at once, over all its runners.
	Concurrent int `toml:"concurrent"`
	// ShutdownTimeout is in seconds; 0 stands for 30.
	ShutdownTimeout int      `toml:"shutdown_timeout"`
	Runners         []Runner `toml:"runners"`
}

// Runner is one of the [[runners]].
type Runner struct {
	Name     string `toml:"name"`
	URL      string `toml:"url"`
	Token    string `toml:"token"`
	Executor string `toml:"executor"`
	Shell    string `toml:"shell"`
	// TLSCAFile, TLSCertFile and TLSKeyFile are paths of files in PEM: whom to trust beside the system's authorities, and the client's own.
	TLSCAFile   string `toml:"tls-ca-file"`
	TLSCertFile string `toml:"tls-cert-file"`
	TLSKeyFile  string `toml:"tls-key-file"`
	// BuildsDir and CacheDir are paths in the guest.
	BuildsDir string `toml:"builds_dir"`
	CacheDir  string `toml:"cache_dir"`
	// Limit is how many jobs the runner runs at once; 0 sets no limit.
	Limit int `toml:"limit"`
	// RequestConcurrency is how many requests for jobs may be open at once; 0 stands for 1.
	RequestConcurrency int `toml:"request_concurrency"`
	// Environment has variables for all jobs, as NAME=VALUE.
	Environment []string `toml:"environment"`
	Custom      Custom   `toml:"custom"`
}

// Describe names the runner for a person.
func (r Runner) Describe() string {
	if r.Name == "" {
		return "a runner without a name"
	}
	return fmt.Sprintf("runner %q", r.Name)
}

// Custom is [runners.custom]. Times are in seconds; what is not set, or not above 0, has GitLab Runner's default.
// https://docs.gitlab.com/runner/configuration/advanced-configuration/#the-runnerscustom-section
type Custom struct {
	ConfigExec         string   `toml:"config_exec"`
	ConfigArgs         []string `toml:"config_args"`
	ConfigExecTimeout  int      `toml:"config_exec_timeout"`
	PrepareExec        string   `toml:"prepare_exec"`
	PrepareArgs        []string `toml:"prepare_args"`
	PrepareExecTimeout int      `toml:"prepare_exec_timeout"`
	RunExec            string   `toml:"run_exec"`
	RunArgs            []string `toml:"run_args"`
	CleanupExec        string   `toml:"cleanup_exec"`
	CleanupArgs        []string `toml:"cleanup_args"`
	CleanupExecTimeout int      `toml:"cleanup_exec_timeout"`
	// GracefulKillTimeout is the time between SIGTERM and SIGKILL; its default is 600.
	GracefulKillTimeout int `toml:"graceful_kill_timeout"`
}

// Defaults of GitLab Runner, in seconds. https://docs.gitlab.com/runner/executors/custom/
const (
	DefaultExecTimeout         = 3600
	DefaultGracefulKillTimeout = 600
	DefaultShutdownTimeout     = 30
)

// Stage is how config.toml calls one stage.
type Stage struct {
	// Verb is config, prepare, run or cleanup.
	Verb string
	// Exec is the program, empty where the stage is not set, and Args are its arguments.
	Exec string
	Args []string
	// Timeout is in seconds, with the default where none is set; 0 for run, which has none.
	Timeout int
}

// Stages are the four stages of a runner.
func (c Custom) Stages() []Stage {
	timeout := func(set int) int {
		if set > 0 {
			return set
		}
		return DefaultExecTimeout
	}
	return []Stage{
		{"config", c.ConfigExec, c.ConfigArgs, timeout(c.ConfigExecTimeout)},
		{"prepare", c.PrepareExec, c.PrepareArgs, timeout(c.PrepareExecTimeout)},
		{"run", c.RunExec, c.RunArgs, 0},
		{"cleanup", c.CleanupExec, c.CleanupArgs, timeout(c.CleanupExecTimeout)},
	}
}

// SyntaxError is a config.toml that is no TOML, or has a value of the wrong kind.
type SyntaxError struct {
	// Line and Column count from 1; 0 where they are not known.
	Line, Column int
	Err          error
}

func (e *SyntaxError) Error() string {
	if e.Line == 0 {
		return e.Err.Error()
	}
	return fmt.Sprintf("line %d, column %d: %v", e.Line, e.Column, e.Err)
}

func (e *SyntaxError) Unwrap() error { return e.Err }

// decode reads the values, and refuses what GitLab Runner would refuse.
func decode(raw []byte) (Config, error) {
	var c Config
	err := toml.Unmarshal(raw, &c)
	if where := (*toml.DecodeError)(nil); errors.As(err, &where) {
		line, column := where.Position()
		return c, &SyntaxError{Line: line, Column: column, Err: err}
	}
	if err != nil {
		return c, &SyntaxError{Err: err}
	}
	return c, nil
}
