package trial

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"gitlab-runner-tart-driver/internal/trial/civar"
)

// Defaults of GitLab Runner, except for GracefulKillTimeout, which is 10 minutes there: a person does not want to wait as long.
//
// Source: https://docs.gitlab.com/runner/configuration/advanced-configuration/#the-runnerscustom-section
const (
	DefaultTimeout             = time.Hour
	DefaultExecTimeout         = time.Hour
	DefaultGracefulKillTimeout = time.Minute
	DefaultForceKillTimeout    = 10 * time.Second
	DefaultRetryDelay          = 3 * time.Second
	DefaultStageRetryDelay     = 5 * time.Second
	maxStageRetryDelay         = 5 * time.Minute
	afterScriptTimeout         = 5 * time.Minute
	finishTimeout              = 5 * time.Minute
	prepareAttempts            = 3
)

// Exec is one of the four programs of a driver, as config.toml names them.
type Exec struct {
	// Path is the program; one without a slash is searched in PATH. An empty path leaves the stage out.
	Path string
	// Args are its arguments. For run, the path of the script and the name of the stage are appended.
	Args []string
}

// Driver are the programs of a driver.
type Driver struct{ Config, Prepare, Run, Cleanup Exec }

// SelfDriver returns the programs of a driver that is one binary with a verb for each stage.
func SelfDriver(path string) Driver {
	verb := func(name string) Exec { return Exec{Path: path, Args: []string{name}} }
	return Driver{Config: verb("config"), Prepare: verb("prepare"), Run: verb("run"), Cleanup: verb("cleanup")}
}

// Options say how a job is run. The zero value of a field means GitLab Runner's default unless it says otherwise.
type Options struct {
	// Driver is what is tried. Run is required.
	Driver Driver
	// Environ is the environment of the GitLab Runner process, in the form of os.Environ. It is passed on to every stage.
	Environ []string
	// TempDir is where the temporary directory of each Prepare attempt is made; "" means the system's.
	TempDir string
	// Stdout receives the job's log, Stderr what GitLab Runner would write into its own log. nil discards.
	Stdout, Stderr io.Writer
	// RawLog keeps the markers of collapsible sections in the log.
	RawLog bool
	// Capture keeps output, scripts and environments in the result.
	Capture bool
	// BuildsDir, CacheDir and Shell are those of config.toml; the driver's config stage overrides them.
	BuildsDir, CacheDir, Shell string
	// RunnerToken is the short token of the runner, which is part of paths when builds_dir_is_shared.
	RunnerToken string
	// ConcurrentID and ConcurrentProjectID are CI_CONCURRENT_ID and CI_CONCURRENT_PROJECT_ID.
	ConcurrentID, ConcurrentProjectID int
	// JobID and Token replace the random ones.
	JobID int64
	Token string
	// GracefulKillTimeout is the time between SIGTERM and SIGKILL, ForceKillTimeout the time after which the process is given up.
	GracefulKillTimeout, ForceKillTimeout time.Duration
	// ConfigTimeout, PrepareTimeout and CleanupTimeout are the *_exec_timeout of config.toml.
	ConfigTimeout, PrepareTimeout, CleanupTimeout time.Duration
	// RetryDelay is the pause between Prepare attempts, StageRetryDelay the first pause between attempts of a stage.
	RetryDelay, StageRetryDelay time.Duration
	// FinishTimeout is how long an abort waits for the running stage before cleanup starts beside it.
	FinishTimeout time.Duration
	// EditResponse may change the job response, decoded with json.Number, before it is written for an attempt.
	EditResponse func(response map[string]any)
	// Hooks observe the job.
	Hooks Hooks
}

// Hooks observe a job. Each may be nil. They are called in the goroutine that runs the stage (Output: in those that read its output), so
// they hold it up while they run. They may call the methods of the Trial, except Wait.
type Hooks struct {
	// Started is called when the process of a stage has been started, and returns before any of its output is read.
	Started func(t *Trial, p Process)
	// Output is called with every piece of output of a stage, before anything is filtered out. data must not be kept.
	Output func(t *Trial, stage string, stream Stream, data []byte)
	// Ended is called when a stage is over.
	Ended func(t *Trial, s StageResult)
}

// Stream is one of the two outputs of a stage.
type Stream int

// The outputs of a stage.
const (
	Stdout Stream = 1
	Stderr Stream = 2
)

// Process is a stage that has just been started.
type Process struct {
	// Stage is "config", "prepare", "cleanup", or the name that was given to run.
	Stage string
	// Attempt is the number of the Prepare attempt, counted from 1.
	Attempt int
	// Argv is the command, PID the process and its process group, TempDir its TMPDIR.
	Argv    []string
	PID     int
	TempDir string
}

// Names of the stages that are not run through a script.
const (
	StageConfig  = "config"
	StagePrepare = "prepare"
	StageCleanup = "cleanup"
)

func (o Options) withDefaults() (Options, error) {
	if o.Driver.Run.Path == "" {
		return o, errors.New("no program for the run stage")
	}
	for _, exec := range []*Exec{&o.Driver.Config, &o.Driver.Prepare, &o.Driver.Run, &o.Driver.Cleanup} {
		// the stages run in another directory
		if strings.Contains(exec.Path, "/") {
			abs, err := filepath.Abs(exec.Path)
			if err != nil {
				return o, fmt.Errorf("driver %q: %w", exec.Path, err)
			}
			exec.Path = abs
		}
	}
	if o.TempDir == "" {
		o.TempDir = os.TempDir()
	}
	temp, err := filepath.Abs(o.TempDir)
	if err != nil {
		return o, fmt.Errorf("temporary directory %q: %w", o.TempDir, err)
	}
	o.TempDir = temp
	if o.Stdout == nil {
		o.Stdout = io.Discard
	}
	if o.Stderr == nil {
		o.Stderr = io.Discard
	}
	if o.RunnerToken == "" {
		o.RunnerToken = "try-local"
	}
	for value, otherwise := range map[*time.Duration]time.Duration{
		&o.GracefulKillTimeout: DefaultGracefulKillTimeout, &o.ForceKillTimeout: DefaultForceKillTimeout,
		&o.ConfigTimeout: DefaultExecTimeout, &o.PrepareTimeout: DefaultExecTimeout, &o.CleanupTimeout: DefaultExecTimeout,
		&o.RetryDelay: DefaultRetryDelay, &o.StageRetryDelay: DefaultStageRetryDelay, &o.FinishTimeout: finishTimeout,
	} {
		if *value <= 0 {
			*value = otherwise
		}
	}
	return o, nil
}

// checkJob refuses what no shell and no environment can hold.
func (t *Trial) checkJob() error {
	if len(t.job.Script) == 0 {
		return errors.New("the job has no script")
	}
	hasNUL := func(s string) bool { return strings.ContainsRune(s, 0) }
	for _, v := range t.job.Variables {
		if v.Key == "" || strings.ContainsAny(v.Key, "=\x00") || hasNUL(v.Value) {
			return fmt.Errorf("variable %q: an environment can't hold its name or a NUL byte in its value", v.Key)
		}
	}
	for _, list := range [][]string{t.job.Script, t.job.AfterScript, t.job.PreGetSources, t.job.PostGetSources} {
		for _, line := range list {
			if hasNUL(line) {
				return fmt.Errorf("script line %q: a shell can't read a NUL byte", line)
			}
		}
	}
	return nil
}

// maskSecrets collects what must not appear in the log.
func (t *Trial) maskSecrets() {
	t.masked = append(t.predef.Expand().Masked(), t.token)
	if password := urlPassword(t.job.Source.URL); password != "" {
		t.masked = append(t.masked, password)
	}
	for _, c := range t.job.Credentials {
		t.masked = append(t.masked, c.Password)
	}
}

// timeout is the job's timeout in whole seconds, as GitLab sends it.
func (t *Trial) timeout() time.Duration {
	if t.job.Timeout < time.Second {
		return DefaultTimeout
	}
	return t.job.Timeout.Truncate(time.Second)
}

// variable makes a public variable; it is short because there are many.
func variable(key, value string) civar.Variable { return civar.Public(key, value) }
