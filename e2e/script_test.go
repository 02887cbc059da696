package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"gitlab-runner-tart-driver/internal/trial"
)

func TestSuccess(t *testing.T) { overTransports(t, testSuccess) }

func testSuccess(t *testing.T, h *mac) {
	j := job(`echo "hello from $(whoami) in $CI_JOB_NAME"`, "echo to stderr >&2", `echo "umask $(umask | tail -c 4)"`)
	j.AfterScript = []string{`echo "after: $CI_JOB_STATUS"`}
	r := h.run(j)
	want(t, r, trial.Success, "", 0)
	says(t, r, "hello from admin in try", "to stderr", "after: success", "is ready after", "umask 022")
	if r.PrepareAttempts != 1 {
		t.Errorf("prepare was tried %d times", r.PrepareAttempts)
	}
	build := stage(t, r, "build_script")
	if !bytes.Contains(build.Stdout, []byte("hello from admin")) || bytes.Contains(build.Stdout, []byte("\nto stderr\n")) || string(build.Stderr) != "to stderr\n" {
		t.Errorf("streams are mixed up: stdout %q, stderr %q", build.Stdout, build.Stderr)
	}
	if out := stage(t, r, "cleanup"); len(out.Stdout)+len(out.Stderr) != 0 {
		t.Errorf("cleanup has something to say: %q %q", out.Stdout, out.Stderr)
	}
	h.assertClean()
}

func TestExitCodes(t *testing.T) { overTransports(t, testExitCodes) }

func testExitCodes(t *testing.T, h *mac) {
	r := h.run(job("echo started; sleep 300"), when("build_script", "started\n", func(tr *trial.Trial, p trial.Process) {
		for script, code := range map[string]int{
			"exit 0": 0, "exit 1": 1, "exit 2": 2, "exit 3": 3, "exit 93": 93, "exit 94": 94, "exit 96": 96, "exit 125": 125, "exit 127": 127, "exit 137": 137, "exit 255": 255,
			"true": 0, "false": 1, "no-such-command": 127, "kill -TERM $$": 143, "kill -ALRM $$": 142, "kill -SEGV $$": 139, "kill -KILL 0": 137,
			`echo 'VM "x" is not running' >&2; exit 2`: 2, `echo "Failed to connect using its control socket" >&2; exit 1`: 1,
		} {
			if got, told := h.runByHand(p, script); got != min(code, 1) || told != code {
				t.Errorf("script %q ends with %d and %d in BUILD_EXIT_CODE_FILE, want %d", script, got, told, code)
			}
		}
		tr.Cancel()
	}))
	want(t, r, trial.Canceled, trial.JobCanceled, 0)
	for script, code := range map[string]int{"exit 42": 42, "kill -KILL $$": 137, "kill -TERM $$": 1} {
		r := h.run(job(script))
		want(t, r, trial.Failed, trial.ScriptFailure, code)
		if t.Failed() {
			t.Fatalf("script %q", script)
		}
	}
	h.assertClean()
}

// runByHand runs one more script in the VM of a job whose stage p is running, as GitLab Runner would. It returns the exit code of the stage, and the
// one that it tells of the script, 0 without one.
func (h *mac) runByHand(p trial.Process, script string) (exit, told int) {
	h.t.Helper()
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.PID))
	dir, derr := os.MkdirTemp(h.dir, "by-hand-")
	file, codeFile := filepath.Join(dir, "script"), filepath.Join(dir, "code")
	if err = errors.Join(err, derr, os.WriteFile(file, []byte(script), 0o600)); err != nil {
		h.t.Error(err)
		return -1, -1
	}
	cmd := exec.Command(h.bin, append([]string{"run"}, append(slices.Clone(h.flags), file, "build_script")...)...)
	cmd.Env = append(strings.Split(strings.Trim(string(environ), "\x00"), "\x00"), "BUILD_EXIT_CODE_FILE="+codeFile)
	err = cmd.Run()
	if raw, rerr := os.ReadFile(codeFile); rerr == nil {
		told, err = strconv.Atoi(strings.TrimSpace(string(raw)))
	}
	if exitErr := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exitErr) {
		h.t.Error(err)
	}
	return cmd.ProcessState.ExitCode(), told
}

func TestExitCodeIsNotTheOneOfAnEarlierStage(t *testing.T) {
	overTransports(t, testExitCodeIsNotTheOneOfAnEarlierStage)
}

func testExitCodeIsNotTheOneOfAnEarlierStage(t *testing.T, h *mac) {
	j := job("exit 42")
	j.AfterScript = []string{"exit 7"}
	r := h.run(j)
	want(t, r, trial.Failed, trial.ScriptFailure, 42)
	if s := r.Stage("cleanup_file_variables"); s == nil || s.ExitCode != 0 {
		t.Errorf("the stage behind the failed ones: %+v", s)
	}
	h.assertClean()
}

func TestLargeOutputByteForByte(t *testing.T) { overTransports(t, testLargeOutputByteForByte) }

func testLargeOutputByteForByte(t *testing.T, h *mac) {
	const last = 13_000_000 // seq prints a little more than 100 MB
	r := h.run(job(fmt.Sprintf("seq 1 %d; seq 1 1000000 >&2", last)))
	want(t, r, trial.Success, "", 0)
	s := stage(t, r, "build_script")
	for _, stream := range []struct {
		name string
		got  []byte
		last int
	}{{"stdout", s.Stdout, last}, {"stderr", s.Stderr, 1_000_000}} {
		var expected bytes.Buffer
		for i := range stream.last {
			fmt.Fprintln(&expected, i+1)
		}
		if !bytes.HasSuffix(stream.got, expected.Bytes()) {
			t.Errorf("%s: %d bytes, which do not end in the %d bytes that were written", stream.name, len(stream.got), expected.Len())
		}
	}
	h.assertClean()
}

func TestBinaryOutput(t *testing.T) { overTransports(t, testBinaryOutput) }

func testBinaryOutput(t *testing.T, h *mac) {
	r := h.run(job("head -c 3000000 /dev/urandom > /tmp/bytes", "echo BEGIN; cat /tmp/bytes; echo; echo END", "sha256sum /tmp/bytes >&2"))
	want(t, r, trial.Success, "", 0)
	s := stage(t, r, "build_script")
	_, data, _ := bytes.Cut(s.Stdout, []byte("BEGIN\n"))
	data = data[:max(0, bytes.LastIndex(data, []byte("\nEND\n")))]
	sum := sha256.Sum256(data)
	if !strings.HasPrefix(string(s.Stderr), hex.EncodeToString(sum[:])) {
		t.Errorf("%d bytes arrived with another checksum than %s", len(data), s.Stderr)
	}
	h.assertClean()
}

func TestStdinIsEmpty(t *testing.T) { overTransports(t, testStdinIsEmpty) }

func testStdinIsEmpty(t *testing.T, h *mac) {
	r := h.run(job("wc -c", "cat; read -r x || echo nothing to read", "echo still here"))
	want(t, r, trial.Success, "", 0)
	says(t, r, "nothing to read", "still here")
	h.assertClean()
}

// TestBackgroundProcess leaves a process behind that holds stdout and stderr: neither the stage nor the job waits for it, and nothing that
// the script itself wrote is lost.
func TestBackgroundProcess(t *testing.T) { overTransports(t, testBackgroundProcess) }

func testBackgroundProcess(t *testing.T, h *mac) {
	j := job("sleep 300 & echo started", "seq 1 200000", "exit 5")
	j.AfterScript = []string{"pgrep -x sleep && echo it still runs"}
	r := h.run(j)
	want(t, r, trial.Failed, trial.ScriptFailure, 5)
	says(t, r, "started", "it still runs")
	if !bytes.Contains(stage(t, r, "build_script").Stdout, []byte("\n199999\n200000\n")) {
		t.Error("the script's last words are missing")
	}
	h.assertClean()
}

func TestShells(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	show := `ps -o args= -p $$ | sed 's/^/args: /'`
	for name, c := range map[string]struct{ variable, flag, want string }{
		"default":  {"", "", "args: /bin/zsh -l"},
		"variable": {"/bin/bash", "", "args: /bin/bash -l"},
		"flag":     {"", "/bin/bash", "args: /bin/bash -l"},
		"both":     {"/bin/zsh", "/bin/bash", "args: /bin/zsh -l"},
		"missing":  {"/opt/none/fish", "", "args: /bin/bash -l"},
	} {
		j := job(show)
		if c.variable != "" {
			j.Variables = variables("TART_EXECUTOR_SHELL", c.variable)
		}
		r := h.run(j, func(o *trial.Options) {
			if c.flag != "" {
				o.Driver.Run.Args = append(o.Driver.Run.Args, "--shell", c.flag)
			}
		})
		want(t, r, trial.Success, "", 0)
		says(t, r, c.want)
		if t.Failed() {
			t.Fatal(name)
		}
	}
	h.assertClean()
}

func TestSecretsStayInside(t *testing.T) { overTransports(t, testSecretsStayInside) }

func testSecretsStayInside(t *testing.T, h *mac) {
	h.sim("image", "create", "locked", "--user", "runner", "--password", "s3cret-of-the-guest")
	j := job("echo fine")
	j.Image.Name = "locked"
	j.Variables = variables("TART_SSH_USERNAME", "runner", "TART_SSH_PASSWORD", "s3cret-of-the-guest", "MASKED", "s3cret-of-the-job")
	var vm string
	r := h.run(j, func(o *trial.Options) {
		o.Hooks.Started = func(_ *trial.Trial, p trial.Process) {
			if p.Stage != "build_script" {
				return
			}
			vm = h.theVM()
			for pid, cmd := range h.processes() {
				// The stage itself has all variables, by GitLab Runner's contract.
				if pid == p.PID {
					continue
				}
				assertNoSecret(t, h, pid, cmd)
			}
			assertNoSecretInFiles(t, h.state())
		}
	})
	want(t, r, trial.Success, "", 0)
	if vm == "" {
		t.Error("nothing was looked at")
	}
	h.assertClean("locked")
}

// TestScriptOnSIGTERM is what GitLab Runner does when a job's script is to end: its stage's process group gets SIGTERM. Keeper and VM are
// not in it.
func TestScriptOnSIGTERM(t *testing.T) { overTransports(t, testScriptOnSIGTERM) }

func testScriptOnSIGTERM(t *testing.T, h *mac) {
	r := h.run(job("echo started; sleep 300"), when("build_script", "started\n", func(_ *trial.Trial, p trial.Process) {
		killGroup(t, p.PID, syscall.SIGTERM)
	}))
	want(t, r, trial.Failed, trial.RunnerSystemFailure, 0)
	if s := r.Stage("cleanup_file_variables"); s == nil || s.ExitCode != 0 {
		t.Errorf("the VM did not take the next script: %+v", s)
	}
	h.assertClean()
}
