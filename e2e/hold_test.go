package e2e

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"gitlab-runner-tart-driver/internal/trial"
)

// person runs a verb of the driver as somebody at the host does.
func (h *mac) person(stdin io.Reader, args ...string) (stdout, stderr string, code int) {
	h.t.Helper()
	cmd := exec.CommandContext(h.t.Context(), h.bin, args...)
	cmd.Env = h.environ()
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &errs
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		h.t.Errorf("%v: %v", args, err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// expect runs a verb and checks how it ends and what it prints.
func (h *mac) expect(code int, text string, args ...string) {
	h.t.Helper()
	out, errs, got := h.person(nil, args...)
	if got != code || !strings.Contains(out+errs, text) {
		h.t.Errorf("%v ends with %d and prints %q, %q; want %d and %q", args, got, out, errs, code, text)
	}
}

// id is the number of a job.
func id(r *trial.Result) string { return strconv.FormatInt(r.JobID, 10) }

// failing is a job that fails and whose VM is held.
func failing(hold string) *trial.Job {
	j := job("echo evidence > ~/left-behind; exit 3")
	j.Variables = variables("TART_HOLD_ON_FAILURE", hold)
	return j
}

func TestHoldFailedJob(t *testing.T) { overTransports(t, testHoldFailedJob) }

func testHoldFailedJob(t *testing.T, h *mac) {
	r := h.run(failing("30m"))
	want(t, r, trial.Failed, trial.ScriptFailure, 3)
	says(t, r, "its VM is held for 30m0s afterwards", "gitlab-runner-tart-driver ssh "+id(r))
	cleanup := stage(t, r, "cleanup")
	if cleanup.ExitCode != 0 || len(cleanup.Stderr) > 0 || !strings.Contains(string(cleanup.Stdout), "gitlab-runner-tart-driver ssh "+id(r)) {
		t.Errorf("cleanup ends with %d and says %q, %q", cleanup.ExitCode, cleanup.Stdout, cleanup.Stderr)
	}
	vm := h.theVM()
	if t.Failed() {
		return
	}
	h.expect(0, "evidence\n", "ssh", id(r), "--", "cat ~/left-behind")
	h.expect(0, "evidence\n", "ssh", vm, "--", "cat", "left-behind")
	h.expect(0, "it's $HOME\n", "ssh", id(r), "--", "echo", "it's $HOME")
	h.expect(42, "", "ssh", id(r), "--", "exit 42")
	if out, errs, code := h.person(strings.NewReader("echo out; echo err >&2; exit 7\n"), "ssh", id(r)); !strings.HasSuffix(out, "out\n") || !strings.HasSuffix(errs, "err\n") || code != 7 {
		t.Errorf("a shell without a terminal ends with %d and prints %q, %q", code, out, errs)
	}
	big := strings.Repeat("0123456789abcdef", 1<<16)
	if out, _, code := h.person(strings.NewReader(big), "ssh", id(r), "--", "cat"); out != big || code != 0 {
		t.Errorf("of %d bytes to the VM and back, %d arrive, exit code %d", len(big), len(out), code)
	}
	h.expect(0, "is held until ", "hold", id(r), "--for", "20m")
	h.testCopies(id(r))
	h.expect(1, "has no VNC", "vnc", id(r))

	h.eventually("the keeper has noticed that the job's directory is gone", func() bool { return h.notes(vm, "still held, although GitLab Runner has removed") })
	h.expect(0, "still here\n", "ssh", id(r), "--", "echo still here")

	h.expect(0, "is gone", "release", id(r))
	h.assertClean()
	h.expect(1, "there is no VM of a job", "ssh", id(r))
}

// notes tells whether a VM's keeper has written something into its log.
func (h *mac) notes(vm, text string) bool {
	raw, err := os.ReadFile(filepath.Join(h.state(), "vms", vm, "keeper.log"))
	return err == nil && bytes.Contains(raw, []byte(text))
}

// testCopies copies into a VM and out of it again.
func (h *mac) testCopies(id string) {
	h.t.Helper()
	here := filepath.Join(h.dir, "copies")
	tree := filepath.Join(here, "tree")
	for name, content := range map[string]string{"a file": "one\n", "sub/--b": "two\n", "sub/empty": ""} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(tree, name)), 0o755); err != nil {
			h.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(tree, name), []byte(content), 0o750); err != nil {
			h.t.Fatal(err)
		}
	}
	if err := os.Symlink("sub/--b", filepath.Join(tree, "link")); err != nil {
		h.t.Fatal(err)
	}
	h.expect(0, "", "cp", tree, id+":copy")
	h.expect(0, "one\ntwo\nsub/--b\n750\n", "ssh", id, "--", `cd copy && cat "a file" sub/--b && readlink link && stat -c %a sub/--b`)
	h.expect(0, "", "cp", tree, id+":copy") // there is a directory now, and so it comes into that
	h.expect(0, "", "cp", filepath.Join(tree, "a file"), id+":~/copy/tree/renamed")
	h.expect(0, "one\n", "ssh", id, "--", "cat copy/tree/renamed && rm -r copy/tree")

	back := filepath.Join(here, "back")
	h.expect(0, "", "cp", id+":copy", back)
	h.expect(0, "", "cp", id+":copy", here)
	for _, dir := range []string{back, filepath.Join(here, "copy")} {
		if out, err := exec.Command("diff", "-r", "--no-dereference", tree, dir).CombinedOutput(); err != nil {
			h.t.Errorf("%s: %v: %s", dir, err, out)
		}
	}
	h.expect(0, "", "cp", id+":copy/sub/--b", filepath.Join(here, "one-file"))
	if raw, err := os.ReadFile(filepath.Join(here, "one-file")); err != nil || string(raw) != "two\n" {
		h.t.Errorf("the file that was copied back: %q, %v", raw, err)
	}
	h.expect(1, "no such file or directory in the VM", "cp", id+":nowhere", here)
	h.expect(1, "no such file", "cp", filepath.Join(here, "nowhere"), id+":x")
}

func TestHoldEndsWithItsTime(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	r := h.run(failing("2s"))
	want(t, r, trial.Failed, trial.ScriptFailure, 3)
	if cleanup := stage(t, r, "cleanup"); !strings.Contains(string(cleanup.Stdout), "is held until") {
		t.Errorf("not held: %s", cleanup.Stdout)
	}
	h.eventually("the VM is gone", func() bool { return len(h.vms()) == 0 })
	h.assertClean()
}

func TestHoldGivesWay(t *testing.T) {
	t.Parallel()
	h := newMac(t, "--max-vm-count", "1", "--hold-on-failure", "1h")
	r := h.run(job("exit 3"))
	vm := h.theVM()
	next := h.run(job("echo my turn"))
	want(t, next, trial.Success, "", 0)
	says(t, next, "my turn", "job "+id(r)+" of try/job, which is over and whose VM is held")
	if h.theVMs()[vm] {
		t.Errorf("VM %s is still there", vm)
	}
	h.assertClean()
}

// theVMs are the VMs that there are.
func (h *mac) theVMs() map[string]bool {
	all := map[string]bool{}
	for _, vm := range h.vms() {
		all[vm] = true
	}
	return all
}

// TestHoldKeepsFreePlaces lets a held VM stay where a job finds another place.
func TestHoldKeepsFreePlaces(t *testing.T) {
	t.Parallel()
	h := newMac(t, "--max-vm-count", "2")
	r := h.run(failing("1h"))
	vm := h.theVM()
	want(t, h.run(job("echo fine")), trial.Success, "", 0)
	if h.theVM() != vm {
		t.Error("the held VM has gone")
	}
	h.expect(0, "is gone", "release", id(r))
	h.assertClean()
}

func TestHoldOnlyFailedJobs(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	hold := variables("TART_HOLD_ON_FAILURE", "30m")
	good := job("echo fine")
	good.Variables = hold
	good.AfterScript = []string{"exit 1"} // does not make a job fail
	want(t, h.run(good), trial.Success, "", 0)
	h.assertClean()

	canceled := job("echo started; sleep 300")
	canceled.Variables = hold
	r := h.run(canceled, when("build_script", "started\n", func(tr *trial.Trial, _ trial.Process) { tr.Cancel() }))
	want(t, r, trial.Canceled, trial.JobCanceled, 0)
	h.assertClean()

	late := job("echo started; sleep 300")
	late.Variables = hold
	r = h.run(late, when("build_script", "started\n", func(tr *trial.Trial, _ trial.Process) { tr.Expire() }))
	want(t, r, trial.Failed, trial.JobExecutionTimeout, 0) // by GitLab Runner's clock alone: the job response has a timeout of an hour
	h.assertClean()
}

// TestHoldJobThatTimesOut has a job whose timeout is over, the whole job's or the script's.
func TestHoldJobThatTimesOut(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	hold := variables("TART_HOLD_ON_FAILURE", "30m")
	for name, c := range map[string]struct {
		job   *trial.Job
		start func(*trial.Options)
	}{
		"job": {job("sleep 1; echo started; sleep 300"), func(o *trial.Options) {
			o.EditResponse = func(response map[string]any) { response["runner_info"] = map[string]any{"timeout": 1} }
			when("build_script", "started\n", func(tr *trial.Trial, _ trial.Process) { tr.Expire() })(o)
		}},
		"script": {job("sleep 300"), func(*trial.Options) {}},
	} {
		t.Run(name, func(t *testing.T) {
			h := h.as(t)
			c.job.Variables = hold
			if name == "script" {
				c.job.Variables = append(hold, variables("RUNNER_SCRIPT_TIMEOUT", "2s")...)
			}
			r := h.run(c.job, c.start)
			want(t, r, trial.Failed, trial.JobExecutionTimeout, 0)
			says(t, r, "its VM is held for 30m0s afterwards")
			h.expect(0, "still here\n", "ssh", id(r), "--", "echo still here")
			h.expect(0, "is gone", "release", id(r))
			h.assertClean()
		})
	}
}

func TestHoldIsBounded(t *testing.T) {
	t.Parallel()
	h := newMac(t, "--max-hold", "10m")
	r := h.run(failing("11m"))
	want(t, r, trial.Failed, trial.ScriptFailure, 1)
	says(t, r, `"11m" is not allowed on this runner: at most 10m (flag --max-hold)`)
	h.assertClean()
}

// TestHoldByHand holds the VM of a job that is canceled.
func TestHoldByHand(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	started := make(chan struct{})
	tr := h.start(job("echo started; sleep 300"), when("build_script", "started\n", func(*trial.Trial, trial.Process) { close(started) }))
	await(t, tr, "the script starts", started)
	number := strconv.FormatInt(tr.JobID(), 10)
	h.expect(1, "its job still runs", "release", number)
	h.expect(0, "will be held for 30m0s when the job is over", "hold", number)
	h.expect(64, "--for", "hold", number, "--for", "0s")
	tr.Cancel()
	want(t, tr.Wait(), trial.Canceled, trial.JobCanceled, 0)
	h.expect(0, "still here\n", "ssh", number, "--", "echo still here")
	h.expect(0, "is gone", "release", number)
	contains(t, "events", h.must("events"), "is to be held for 30m0s when the job is over: somebody asks for it", "is held until ", "is being destroyed: somebody gives the held VM back")
	h.assertClean()
}

// TestHoldOutlivesRunner kills GitLab Runner, which so never calls cleanup.
func TestHoldOutlivesRunner(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	runner := h.startRunner()
	vm := h.theVM()
	h.expect(0, "will be held", "hold", vm)
	if err := runner.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = runner.Wait()
	h.eventually("the VM is held", func() bool { return h.notes(vm, "kept -> held") })
	h.expect(0, "still here\n", "ssh", vm, "--", "echo still here")
	h.expect(0, "is gone", "release", vm)
	os.RemoveAll(h.temp()) // GitLab Runner's, which it could not remove
	h.assertClean()
}

// TestShellInLiveJob uses the VM of a job that runs, which takes no notice of it.
func TestShellInLiveJob(t *testing.T) { overTransports(t, testShellInLiveJob) }

func testShellInLiveJob(t *testing.T, h *mac) {
	gate := make(chan struct{})
	tr := h.start(job("echo started; until [ -e /tmp/go ]; do sleep 0.1; done; echo finished"),
		when("build_script", "started\n", func(*trial.Trial, trial.Process) { close(gate) }))
	await(t, tr, "the script starts", gate)
	number := strconv.FormatInt(tr.JobID(), 10)
	// A shell that is open when the job ends goes with the VM.
	var errs bytes.Buffer
	open := h.openShell(number, "echo ready; sleep 300", &errs)
	h.expect(0, "", "ssh", number, "--", "touch /tmp/go")
	r := tr.Wait()
	want(t, r, trial.Success, "", 0)
	says(t, r, "finished")
	_ = open.Wait()
	if code := open.ProcessState.ExitCode(); code != 2 || !strings.Contains(errs.String(), "error: the VM is being destroyed: cleanup asks for it") {
		t.Errorf("the open shell ends with %d: %s", code, errs.String())
	}
	h.assertClean()
}

// openShell is an `ssh` to a job's VM whose command has said that it is ready. It has an input that does not end.
func (h *mac) openShell(job, command string, stderr io.Writer) *exec.Cmd {
	h.t.Helper()
	cmd := exec.Command(h.bin, "ssh", job, "--", command)
	cmd.Env, cmd.Stderr = h.environ(), stderr
	in, err := cmd.StdinPipe()
	ready := &waitFor{text: "ready\n"}
	if err == nil {
		err = ready.startWith(cmd, false)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { in.Close() })
	awaitBefore(h.t, ready.ended, "the command in the VM is ready", ready.found)
	return cmd
}

func TestShellIsLimited(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	r := h.run(failing("30m"))
	const most = 6
	var open []*exec.Cmd
	for range most {
		open = append(open, h.openShell(id(r), "echo ready; read -r x", nil))
	}
	h.expect(2, "the VM has 6 sessions already", "ssh", id(r), "--", "true")
	if err := open[0].Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = open[0].Wait()
	h.eventually("there is room again", func() bool { _, _, code := h.person(nil, "ssh", id(r), "--", "true"); return code == 0 })
	h.expect(0, "is gone", "release", id(r))
	for _, cmd := range open[1:] {
		if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != 2 {
			t.Errorf("a shell whose VM is gone ends with %d", cmd.ProcessState.ExitCode())
		}
	}
	h.assertClean()
}

// TestHoldScreen finds the address of a VM that was started with --vnc.
func TestHoldScreen(t *testing.T) {
	t.Parallel()
	h := newMac(t, "--vnc")
	r := h.run(failing("30m"))
	h.eventually("there is an address", func() bool {
		out, _, code := h.person(nil, "vnc", id(r))
		return code == 0 && strings.HasPrefix(out, "vnc://1")
	})
	h.expect(0, "is gone", "release", id(r))
	h.assertClean()
}
