package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"gitlab-runner-tart-driver/internal/tartsim/tarthome"
	"gitlab-runner-tart-driver/internal/trial"
)

// TestThirdJobWaits runs two jobs at once, and a third that has to wait for a place.
func TestThirdJobWaits(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	var first []*trial.Trial
	for range 2 {
		started := make(chan struct{})
		tr := h.start(job("echo started; sleep 300"), when("build_script", "started\n", func(*trial.Trial, trial.Process) { close(started) }))
		await(t, tr, "the script starts", started)
		first = append(first, tr)
	}
	if vms := h.vms(); len(vms) != 2 {
		t.Errorf("VMs: %v, want two", vms)
	}
	waits := make(chan struct{})
	third := h.start(job("echo my turn"), when("prepare", "waiting for a place", func(*trial.Trial, trial.Process) { close(waits) }))
	await(t, third, "the third job waits", waits)
	first[0].Abort()
	r := third.Wait()
	want(t, r, trial.Success, "", 0)
	says(t, r, "number 1 in line", "job "+strconv.FormatInt(first[0].JobID(), 10)+" of try/job", "job "+strconv.FormatInt(first[1].JobID(), 10)+" of try/job")
	first[1].Abort()
	for _, tr := range first {
		want(t, tr.Wait(), trial.Canceled, trial.JobCanceled, 0)
	}
	h.assertClean()
}

func TestWaitForPlaceHasABound(t *testing.T) {
	t.Parallel()
	h := newMac(t, "--max-vm-count", "1", "--slot-timeout", "1")
	started := make(chan struct{})
	first := h.start(job("echo started; sleep 300"), when("build_script", "started\n", func(*trial.Trial, trial.Process) { close(started) }))
	await(t, first, "the script starts", started)
	r := h.run(job("echo never"))
	want(t, r, trial.Failed, trial.RunnerSystemFailure, 0)
	says(t, r, "no place for a VM became free within 1s", "--max-vm-count")
	first.Abort()
	first.Wait()
	h.assertClean()
}

// TestForeignJobID lets a job claim to be another one, by every variable there is.
func TestForeignJobID(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	started := make(chan struct{})
	victim := h.start(job("echo started; sleep 300"), when("build_script", "started\n", func(*trial.Trial, trial.Process) { close(started) }))
	await(t, victim, "the script starts", started)
	vm := h.theVM()
	evil := job("echo evil")
	evil.Variables = variables("CI_JOB_ID", strconv.FormatInt(victim.JobID(), 10), "TART_DRIVER_VM", vm, "TART_HOME", "/nonexistent", "JOB_RESPONSE_FILE", "/nonexistent",
		"CI_JOB_IMAGE", vm)
	want(t, h.run(evil), trial.Success, "", 0)
	evil.Image.Name = vm
	r := h.run(evil)
	want(t, r, trial.Failed, trial.ScriptFailure, 1)
	says(t, r, "is the VM of a job")
	if got := h.vms(); !slices.Equal(got, []string{vm}) {
		t.Errorf("VMs: %v, want %s only", got, vm)
	}
	victim.Cancel()
	if s := stage(t, victim.Wait(), "cleanup_file_variables"); s.ExitCode != 0 {
		t.Errorf("the other job's VM is not what it was: %s", s.Stderr)
	}
	h.assertClean()
}

// TestSweep removes what crashes left and nothing else.
func TestSweep(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	// A job whose every process is killed but the VM's.
	r := h.start(job("echo started; sleep 300"), when("build_script", "started\n", func(tr *trial.Trial, p trial.Process) {
		h.killKeeper()
		tr.Abort()
	}), func(o *trial.Options) { o.Driver.Cleanup = trial.Exec{Path: "/bin/true"} }).Wait()
	want(t, r, trial.Canceled, trial.JobCanceled, 0)
	crashed := h.theVM()
	// A VM of this state directory that has no record, running.
	prefix := crashed[:strings.LastIndex(crashed, "-")]
	orphan := prefix + "-aaaaaaaa"
	foreign := []string{"gitlab-41", "grtd-app-12-34-0", "grtd-zzzzzz-41-aaaaaaaa", "my-vm"}
	for _, name := range append([]string{orphan}, foreign...) {
		h.tartDo("clone", "base", name)
	}
	run := exec.Command(h.tart, "run", orphan, "--no-graphics")
	run.Env = h.environ()
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = run.Wait() }()
	h.eventually("the orphan runs", func() bool { return h.runs(orphan) })
	living := make(chan struct{})
	other := h.start(job("echo started; sleep 300"), when("build_script", "started\n", func(*trial.Trial, trial.Process) { close(living) }),
		func(o *trial.Options) {
			o.Hooks.Ended = func(_ *trial.Trial, s trial.StageResult) {
				if s.Name == trial.StagePrepare && !strings.Contains(string(s.Stderr), "removed VM "+crashed) {
					t.Errorf("prepare does not tell of its sweep: %s", s.Stderr)
				}
			}
		})
	await(t, other, "the script starts", living)
	left := h.vms()
	slices.Sort(left)
	for _, name := range foreign {
		if !slices.Contains(left, name) {
			t.Errorf("%s, which is not ours, is gone", name)
		}
	}
	if len(left) != len(foreign)+1 || slices.Contains(left, crashed) || slices.Contains(left, orphan) {
		t.Errorf("VMs after the sweep: %v", left)
	}
	other.Abort()
	other.Wait()
	slices.Sort(foreign)
	h.assertClean(foreign...)
}

// runs tells whether tart runs a VM.
func (h *mac) runs(vm string) bool {
	h.t.Helper()
	var list []struct {
		Name    string
		Running bool
	}
	if err := json.Unmarshal([]byte(h.tartDo("list", "--format", "json")), &list); err != nil {
		h.t.Error(err)
	}
	for _, v := range list {
		if v.Name == vm {
			return v.Running
		}
	}
	return false
}

// TestWithoutConfigStage works, since config is optional in config.toml.
func TestWithoutConfigStage(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	r := h.run(job("echo it works"), func(o *trial.Options) {
		o.Driver.Config = trial.Exec{}
		o.BuildsDir, o.CacheDir = "/tmp/builds", "/tmp/cache"
	})
	want(t, r, trial.Success, "", 0)
	says(t, r, "it works")
	h.assertClean()
}

// TestStagesThroughAWrapper calls every stage by way of a script that ends with it, as with sudo: that must not look like the end of GitLab Runner.
func TestStagesThroughAWrapper(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	wrapper := filepath.Join(h.dir, "wrapper")
	h.script(wrapper, "\"$@\"\nexit $?")
	r := h.run(job("sleep 3; echo it works"), func(o *trial.Options) {
		for _, e := range []*trial.Exec{&o.Driver.Config, &o.Driver.Prepare, &o.Driver.Run, &o.Driver.Cleanup} {
			e.Args = append([]string{e.Path}, e.Args...)
			e.Path = wrapper
		}
	})
	want(t, r, trial.Success, "", 0)
	says(t, r, "it works")
	h.assertClean()
}

// TestRunnerKilled ends GitLab Runner itself, which so never calls cleanup: the keeper notices.
func TestRunnerKilled(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	runner := h.startRunner()
	if err := runner.Process.Kill(); err != nil {
		t.Error(err)
	}
	h.eventually("the VM is gone", func() bool { return len(h.vms()) == 0 })
	_ = runner.Wait()
	os.RemoveAll(h.temp()) // GitLab Runner's, which it could not remove
	h.assertClean()
}

// TestRunnerKilledInPrepare kills a GitLab Runner whose job has no VM yet, and nobody that would watch over one.
func TestRunnerKilledInPrepare(t *testing.T) {
	t.Parallel()
	const large = "registry.test/ci/large:1"
	for name, c := range map[string]struct{ image, at string }{
		"pull": {large, "pulling disk"},
		"line": {"base", "waiting for a place"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newMac(t)
			h.sim("image", "create", "large", "--registry", large, "--registry-only", "--pull-duration", "5m")
			holder := h.startRunnerUntil("\nstarted\n", "base", "--max-vm-count", "1")
			runner := h.startRunnerUntil(c.at, c.image, "--max-vm-count", "1")
			if err := runner.Process.Kill(); err != nil {
				t.Error(err)
			}
			_ = runner.Wait()
			h.eventually("prepare ends", func() bool {
				return strings.Contains(h.must("events"), "the GitLab Runner process that started the job is gone")
			})
			if err := holder.Process.Kill(); err != nil {
				t.Error(err)
			}
			_ = holder.Wait()
			h.eventually("the VM is gone", func() bool { return len(h.vms()) == 0 })
			os.RemoveAll(h.temp()) // GitLab Runner's, which it could not remove
			h.assertClean()
		})
	}
}

// TestNoJobResponse is a GitLab Runner before 14.1, or a job response that was lost.
func TestNoJobResponse(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	hide := filepath.Join(h.dir, "old-runner")
	h.script(hide, "unset JOB_RESPONSE_FILE\nexec \"$@\"")
	r := h.run(job("echo it works"), func(o *trial.Options) {
		for _, e := range []*trial.Exec{&o.Driver.Config, &o.Driver.Prepare, &o.Driver.Run, &o.Driver.Cleanup} {
			e.Args = append([]string{e.Path}, e.Args...)
			e.Path = hide
		}
	})
	want(t, r, trial.Success, "", 0)
	says(t, r, "no JOB_RESPONSE_FILE")
	h.assertClean()
}

// sshdLog is the log of the SSH server in the one job's VM that there is.
func (h *mac) sshdLog() string {
	h.t.Helper()
	logs, err := filepath.Glob(filepath.Join(h.tartHome(), "vms", "grtd-*", tarthome.LogName))
	if err != nil || len(logs) != 1 {
		h.t.Errorf("logs of VMs: %q, %v", logs, err)
		return ""
	}
	raw, err := os.ReadFile(logs[0])
	if err != nil {
		h.t.Error(err)
	}
	return string(raw)
}

// TestCallsOfAJob counts what a job costs in calls of tart and in logins. Only a VM that has no address for three seconds is asked for it.
func TestCallsOfAJob(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	want(t, h.run(job("echo it works")), trial.Success, "", 0) // makes the DHCP server's table
	h.forgetCalls()
	logins := ""
	r := h.run(job("echo it works"), func(o *trial.Options) {
		o.Hooks.Ended = func(_ *trial.Trial, s trial.StageResult) {
			if s.Name == "cleanup_file_variables" {
				logins = h.sshdLog()
			}
		}
	})
	want(t, r, trial.Success, "", 0)
	if !strings.Contains(logins, "ssh server openssh") {
		t.Log("the guest's SSH server keeps no log: logins are not counted")
	} else if n := strings.Count(logins, "\nAccepted "); n != 1 {
		t.Errorf("%d logins in one job:\n%s", n, logins)
	}
	took := regexp.MustCompile(`address is \S+ +([0-9.]+) s`).FindSubmatch(r.Log)
	if took == nil {
		t.Fatal("the job log does not tell how long the address took")
	}
	seconds, err := strconv.ParseFloat(string(took[1]), 64)
	if err != nil {
		t.Fatal(err)
	}
	var commands []string
	for _, argv := range h.calls() {
		if argv[0] != "ip" || seconds < 2.9 {
			commands = append(commands, argv[0])
		}
	}
	slices.Sort(commands)
	if got := strings.Join(commands, " "); got != "clone delete run set" {
		t.Errorf("tart is called for: %s", got)
	}
	raw, _ := json.Marshal(h.calls())
	if strings.Contains(string(raw), "password") {
		t.Errorf("calls: %s", raw)
	}
	h.assertClean()
}

// TestDeepStateDirectory has sockets with longer paths than the kernel takes.
func TestDeepStateDirectory(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	deep := filepath.Join(h.dir, strings.Repeat("deep/", 30), "state")
	h.flags = append(h.flags, "--state-dir", deep)
	r := h.run(job("echo it works"))
	want(t, r, trial.Success, "", 0)
	says(t, r, "it works")
	if left, err := os.ReadDir(filepath.Join(deep, "vms")); err != nil || len(left) > 0 {
		t.Errorf("left: %v (%v)", left, err)
	}
	h.assertClean()
}

// TestCleanupWithMistakes destroys the VM whatever is wrong with what cleanup is given, and tells of it.
func TestCleanupWithMistakes(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	for name, c := range map[string]struct {
		args   []string
		before string // a shell script
		says   string
	}{
		"no tart":               {[]string{"-x", "/nowhere/tart"}, "", ""},
		"a flag that is none":   {[]string{"--no-such-flag"}, "", "unknown flag"},
		"a value that is none":  {[]string{"--timeout", "never"}, "", `"never": expected`},
		"no config file":        {[]string{"--config", "/nowhere/config.toml"}, "", "config file: open /nowhere"},
		"a broken job response": {nil, `echo '{"id":' > "$JOB_RESPONSE_FILE"`, "read the job: JOB_RESPONSE_FILE"},
		"no job response, and a job that calls itself another": {nil, `rm "$JOB_RESPONSE_FILE"; export CUSTOM_ENV_CI_JOB_ID=1`, ""},
		"an exit code that can't go":                           {nil, `rm -f "$BUILD_EXIT_CODE_FILE" && mkdir "$BUILD_EXIT_CODE_FILE" && touch "$BUILD_EXIT_CODE_FILE/x"`, "warning: remove the exit code"},
	} {
		wrapper := filepath.Join(h.dir, strings.ReplaceAll(name, " ", "-"))
		h.script(wrapper, c.before+"\n"+`exec "$@"`)
		vm, left := "", true
		r := h.run(job("echo it works"), func(o *trial.Options) {
			o.Driver.Cleanup.Args = slices.Concat([]string{o.Driver.Cleanup.Path}, o.Driver.Cleanup.Args, c.args)
			o.Driver.Cleanup.Path = wrapper
			o.Hooks.Ended = func(_ *trial.Trial, s trial.StageResult) {
				switch s.Name {
				case trial.StagePrepare:
					vm = h.theVM()
				case trial.StageCleanup: // before the job's directory goes, which its keeper notices
					left = slices.Contains(h.vms(), vm)
				}
			}
		})
		want(t, r, trial.Success, "", 0)
		if left {
			t.Errorf("%s: VM %s is left: %s", name, vm, r.Log)
		}
		if said := string(stage(t, r, trial.StageCleanup).Stderr); !strings.Contains(said, c.says) {
			t.Errorf("%s: cleanup says %q, want %q", name, said, c.says)
		}
	}
	h.assertClean()
}
