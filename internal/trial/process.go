package trial

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// process is one program of the driver, run the way GitLab Runner runs it: in a process group of its own, with /dev/null as its
// input and its output through two pipes.
type process struct {
	exec             Exec
	dir              string
	env              []string
	stdout, stderr   io.Writer
	graceful, forced time.Duration
	warn             func(text string)
	started          func(pid int)

	cmd   *exec.Cmd
	pipes []io.ReadCloser
	ended chan error
}

// run starts the program and waits for its end. When ctx ends, the process group gets SIGTERM, then SIGKILL; the result is then still
// how the process ended. A process that survives even that is abandoned.
//
// The end of a process is its exit and the end of both pipes: something it left behind that still holds a pipe keeps the stage going.
//
// Source: https://docs.gitlab.com/runner/executors/custom/#terminating-and-killing-executables
func (p *process) run(ctx context.Context) error {
	if err := p.start(); err != nil {
		return fmt.Errorf("failed to start command: %w", err)
	}
	p.started(p.cmd.Process.Pid)
	p.attend()
	select {
	case err := <-p.ended:
		return err
	case <-ctx.Done():
		return p.kill()
	}
}

func (p *process) start() error {
	p.cmd = exec.Command(p.exec.Path, p.exec.Args...)
	p.cmd.Dir, p.cmd.Env = p.dir, p.env
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	p.pipes = []io.ReadCloser{stdout, stderr}
	return nil
}

// attend takes the output of the process up to its end. It comes after the word that the process has been started: who is told of output knows whose it is.
func (p *process) attend() {
	p.ended = make(chan error, 1)
	var copies sync.WaitGroup
	for i, to := range []io.Writer{p.stdout, p.stderr} {
		copies.Go(func() { io.Copy(to, p.pipes[i]) })
	}
	go func() {
		// Only then is the process reaped: until its pipes are closed its number stays taken, so that signals to its group can't reach
		// anybody else's.
		copies.Wait()
		p.ended <- p.cmd.Wait()
	}()
}

// kill ends the process group.
func (p *process) kill() error {
	p.signal(syscall.SIGTERM)
	timer := time.NewTimer(p.graceful)
	defer timer.Stop()
	select {
	case err := <-p.ended:
		return err
	case <-timer.C:
	}
	p.signal(syscall.SIGKILL)
	timer.Reset(p.forced)
	select {
	case err := <-p.ended:
		return err
	case <-timer.C:
		return &abandonedError{pid: p.cmd.Process.Pid, process: p}
	}
}

func (p *process) signal(sig syscall.Signal) {
	if err := syscall.Kill(-p.cmd.Process.Pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		p.warn(fmt.Sprintf("could not send %v to process group %d: %v", sig, p.cmd.Process.Pid, err))
	}
}

// release closes the pipes of an abandoned process, as the end of GitLab Runner would.
func (p *process) release() {
	for _, pipe := range p.pipes {
		pipe.Close()
	}
}

// abandonedError says that a process is still there after SIGKILL, or that something else holds its output open.
type abandonedError struct {
	pid     int
	process *process
}

func (e *abandonedError) Error() string {
	return fmt.Sprintf("failed to kill process PID=%d, likely process is dormant", e.pid)
}

// exitCode is the exit status of a finished process, or -1.
func exitCode(err error) int {
	if err == nil {
		return 0
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return -1
}

// environ puts the environment of a stage together; of several entries for one variable the last counts.
//
// Source: https://docs.gitlab.com/runner/executors/custom/#stages
func (a *attempt) environ() []string {
	env := append([]string(nil), a.t.opts.Environ...)
	env = append(env,
		"TMPDIR="+a.tempDir,
		fmt.Sprintf("BUILD_FAILURE_EXIT_CODE=%d", buildFailureExitCode),
		fmt.Sprintf("SYSTEM_FAILURE_EXIT_CODE=%d", systemFailureExitCode),
		"BUILD_EXIT_CODE_FILE="+a.exitCodeFile,
		"JOB_RESPONSE_FILE="+a.responseFile,
	)
	for key, value := range a.jobEnv {
		env = append(env, key+"="+value)
	}
	for _, v := range a.b.variables() {
		env = append(env, "CUSTOM_ENV_"+v.Key+"="+v.Value)
	}
	return append(env, "CUSTOM_ENV_CI_JOB_SERVICES="+a.b.services())
}

// makeTempDir makes the directory of one Prepare attempt.
func (a *attempt) makeTempDir() (err error) {
	a.tempDir, err = os.MkdirTemp(a.t.opts.TempDir, "custom-executor")
	return err
}
