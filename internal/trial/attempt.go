package trial

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// driverConfig is what a driver may print in its config stage. A key that is there but empty overrides config.toml with nothing.
//
// Source: https://docs.gitlab.com/runner/executors/custom/#config
type driverConfig struct {
	Driver *struct {
		Name    *string `json:"name"`
		Version *string `json:"version"`
	} `json:"driver"`
	Hostname          *string            `json:"hostname"`
	BuildsDir         *string            `json:"builds_dir"`
	CacheDir          *string            `json:"cache_dir"`
	BuildsDirIsShared *bool              `json:"builds_dir_is_shared"`
	JobEnv            *map[string]string `json:"job_env"`
	Shell             *string            `json:"shell"`
}

// attempt is one Prepare attempt and, if it succeeds, the rest of the job: one temporary directory, one configuration.
type attempt struct {
	t      *Trial
	b      *build
	number int

	tempDir, responseFile, exitCodeFile string
	jobEnv                              map[string]string
	buildsDir, cacheDir, shell          string
	shared                              bool
}

func (t *Trial) newAttempt(b *build, number int) *attempt {
	return &attempt{t: t, b: b, number: number, buildsDir: t.opts.BuildsDir, cacheDir: t.opts.CacheDir, shell: t.opts.Shell}
}

// prepare does all that comes before the first script.
func (a *attempt) prepare(ctx context.Context) error {
	if err := a.makeTempDir(); err != nil {
		return err
	}
	file := filepath.Join(a.tempDir, "response.json")
	if err := a.writeResponse(file); err != nil {
		return err
	}
	a.responseFile = file
	a.exitCodeFile = filepath.Join(a.tempDir, "build_exit_code")
	using, err := a.configure(ctx)
	if err != nil {
		return err
	}
	a.t.log.Print(using)
	if err := a.b.start(a.buildsDir, a.cacheDir, a.shared); err != nil {
		return err
	}
	if err := a.chooseShell(); err != nil {
		return err
	}
	if a.t.opts.Driver.Prepare.Path == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, a.t.opts.PrepareTimeout)
	defer cancel()
	out, errs := a.t.log.Stream(), a.t.log.Stream()
	defer out.Close()
	defer errs.Close()
	return a.exec(ctx, call{stage: StagePrepare, exec: a.t.opts.Driver.Prepare, stdout: out, stderr: errs})
}

// chooseShell takes the shell whose scripts the driver wants.
func (a *attempt) chooseShell() error {
	switch a.shell {
	case "":
		a.b.shell = "bash"
	case "bash", "sh":
		a.b.shell = a.shell
	case "pwsh", "powershell":
		return &jobError{inner: fmt.Errorf("scripts for shell %q can't be written here, only those for bash and sh", a.shell), reason: ConfigurationError}
	default:
		return fmt.Errorf("shell %s not found", a.shell)
	}
	return nil
}

// configure runs the config stage and takes over what it says. It returns GitLab Runner's line about the driver.
func (a *attempt) configure(ctx context.Context) (using string, err error) {
	using = "Using Custom executor..."
	if a.t.opts.Driver.Config.Path == "" {
		return using, nil
	}
	ctx, cancel := context.WithTimeout(ctx, a.t.opts.ConfigTimeout)
	defer cancel()
	a.b.refresh()
	var out bytes.Buffer
	errs := a.t.log.Stream()
	defer errs.Close()
	if err := a.exec(ctx, call{stage: StageConfig, exec: a.t.opts.Driver.Config, stdout: &out, stderr: errs}); err != nil {
		return "", err
	}
	if out.Len() == 0 {
		return using, nil
	}
	var config driverConfig
	if err := json.Unmarshal(out.Bytes(), &config); err != nil {
		return "", fmt.Errorf("error while parsing JSON output: %w", err)
	}
	a.adopt(&config)
	if d := config.Driver; d != nil && d.Name != nil {
		using = fmt.Sprintf("Using Custom executor with driver %s...", *d.Name)
		if d.Version != nil {
			using = fmt.Sprintf("Using Custom executor with driver %s %s...", *d.Name, *d.Version)
		}
	}
	return using, nil
}

func (a *attempt) adopt(c *driverConfig) {
	for to, from := range map[*string]*string{&a.b.hostname: c.Hostname, &a.buildsDir: c.BuildsDir, &a.cacheDir: c.CacheDir, &a.shell: c.Shell} {
		if from != nil {
			*to = *from
		}
	}
	if c.BuildsDirIsShared != nil {
		a.shared = *c.BuildsDirIsShared
	}
	if c.JobEnv != nil {
		a.jobEnv = *c.JobEnv
	}
}

// runScript gives one script to the driver.
func (a *attempt) runScript(ctx context.Context, stage, text string) error {
	dir, err := os.MkdirTemp(a.tempDir, "script")
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "script")
	if err := os.WriteFile(file, []byte(text), 0o700); err != nil {
		return err
	}
	run := a.t.opts.Driver.Run
	run.Args = append(append([]string(nil), run.Args...), file, stage)
	out, errs := a.t.log.Stream(), a.t.log.Stream()
	defer out.Close()
	defer errs.Close()
	return a.exec(ctx, call{stage: stage, exec: run, stdout: out, stderr: errs, script: text})
}

// cleanup runs the cleanup stage, which nothing but its own timeout ends, and removes the temporary directory.
func (a *attempt) cleanup() {
	defer func() {
		if a.tempDir != "" {
			if err := os.RemoveAll(a.tempDir); err != nil {
				a.t.warn(fmt.Sprintf("temporary directory: %v", err))
			}
		}
	}()
	if a.t.opts.Driver.Cleanup.Path == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(a.t.base), a.t.opts.CleanupTimeout)
	defer cancel()
	err := a.exec(ctx, call{stage: StageCleanup, exec: a.t.opts.Driver.Cleanup, stdout: a.t.stderr(), stderr: a.t.stderr()})
	if err != nil {
		a.t.warn(fmt.Sprintf("Cleanup script failed: %v", err))
	}
}

// call is one process to run.
type call struct {
	stage          string
	exec           Exec
	stdout, stderr io.Writer
	script         string
}

// exec runs one process of the driver and records what it did.
func (a *attempt) exec(ctx context.Context, c call) error {
	env := a.environ()
	r := StageResult{Name: c.stage, Attempt: a.number, Argv: append([]string{c.exec.Path}, c.exec.Args...), TempDir: a.tempDir, Started: time.Now()}
	out, errs := a.tap(c.stage, Stdout, c.stdout), a.tap(c.stage, Stderr, c.stderr)
	p := &process{
		exec: c.exec, dir: a.tempDir, env: env, stdout: out, stderr: errs, warn: a.t.warn,
		graceful: a.t.opts.GracefulKillTimeout, forced: a.t.opts.ForceKillTimeout,
		started: func(pid int) {
			r.PID = pid
			if a.t.opts.Hooks.Started != nil {
				a.t.opts.Hooks.Started(a.t, Process{Stage: c.stage, Attempt: a.number, Argv: r.Argv, PID: pid, TempDir: a.tempDir})
			}
		},
	}
	err := p.run(ctx)
	r.ExitCode = exitCode(err)
	var abandoned *abandonedError
	if errors.As(err, &abandoned) {
		a.t.keepLeft(p)
	}
	r.Err = interpret(err, a.exitCodeFile)
	r.Duration = time.Since(r.Started)
	if a.t.opts.Capture {
		r.Environ, r.Script = env, []byte(c.script)
	}
	r.Stdout, r.Stderr = out.seal(), errs.seal()
	a.t.record(r)
	return r.Err
}
