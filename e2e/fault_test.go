package e2e

import (
	"strings"
	"syscall"
	"testing"

	"gitlab-runner-tart-driver/internal/trial"
)

// TestVMDies lets the VM end in the middle of a script, in every way there is. The script is not to blame, the cause is named, and every stage
// behind it fails at once.
func TestVMDies(t *testing.T) { overTransports(t, testVMDies) }

func testVMDies(t *testing.T, h *mac) {
	for how, cause := range map[string]string{
		"kill": "SIGKILL", "poweroff": "guest has stopped the virtual machine", "crash": "guest has stopped the virtual machine due to error",
		"disconnect": "network attachment",
	} {
		j := job("echo started; sleep 300")
		j.AfterScript = []string{"echo never"}
		r := h.run(j, when("build_script", "started\n", func(_ *trial.Trial, _ trial.Process) { h.sim(how, h.theVM()) }))
		want(t, r, trial.Failed, trial.RunnerSystemFailure, 0)
		build, after := stage(t, r, "build_script"), stage(t, r, "after_script")
		if !strings.Contains(string(build.Stderr), cause) {
			t.Errorf("%s: build_script says %q, want %q", how, build.Stderr, cause)
		}
		if after.ExitCode != 2 || !strings.Contains(string(after.Stderr), cause) {
			t.Errorf("%s: after_script: %+v", how, after)
		}
	}
	h.assertClean()
}

// TestEverythingBeforeTheEndIsLogged reads what a script wrote just before its VM died.
func TestEverythingBeforeTheEndIsLogged(t *testing.T) {
	overTransports(t, testEverythingBeforeTheEndIsLogged)
}

func testEverythingBeforeTheEndIsLogged(t *testing.T, h *mac) {
	r := h.run(job("seq 1 100000; echo complete; sleep 300"), when("build_script", "\ncomplete\n", func(_ *trial.Trial, _ trial.Process) { h.sim("kill", h.theVM()) }))
	want(t, r, trial.Failed, trial.RunnerSystemFailure, 0)
	if n := strings.Count(string(stage(t, r, "build_script").Stdout), "\n100000\n"); n != 1 {
		t.Errorf("the last line is there %d times", n)
	}
	h.assertClean()
}

// TestKeeperKilled takes the keeper away, and leaves `tart run` behind.
func TestKeeperKilled(t *testing.T) { overTransports(t, testKeeperKilled) }

func testKeeperKilled(t *testing.T, h *mac) {
	j := job("echo started; sleep 300")
	j.AfterScript = []string{"echo never"}
	r := h.run(j, when("build_script", "started\n", func(_ *trial.Trial, _ trial.Process) { h.killKeeper() }))
	want(t, r, trial.Failed, trial.RunnerSystemFailure, 0)
	if s := r.Stage("after_script"); s == nil || s.ExitCode != 2 || !strings.Contains(string(s.Stderr), "keeper") {
		t.Errorf("after_script: %+v", s)
	}
	h.assertClean()
}

// TestKeeperStuck stops the keeper: nobody answers, but all locks are held.
func TestKeeperStuck(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a minute")
	}
	t.Parallel()
	h := newMac(t)
	r := h.run(job("echo started"), func(o *trial.Options) {
		o.Hooks.Ended = func(_ *trial.Trial, s trial.StageResult) {
			if s.Name == "cleanup_file_variables" { // before cleanup can ask it
				h.signalKeeper(syscall.SIGSTOP)
			}
		}
	})
	want(t, r, trial.Success, "", 0)
	h.assertClean()
}

// TestWrongPassword fails at once, with the user's name, once: trying again can't help.
func TestWrongPassword(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	j := job("echo never")
	j.Variables = variables("TART_SSH_USERNAME", "admin", "TART_SSH_PASSWORD", "s3cret-of-the-wrong")
	r := h.run(j)
	want(t, r, trial.Failed, trial.ScriptFailure, 1)
	if r.PrepareAttempts != 1 {
		t.Errorf("%d attempts", r.PrepareAttempts)
	}
	log := string(stage(t, r, "prepare").Stderr)
	if n := strings.Count(log, `login refused as user "admin"`); n != 1 || strings.Contains(log, secret) || !strings.Contains(log, "variable TART_SSH_PASSWORD") {
		t.Errorf("prepare says it %d times: %s", n, log)
	}
	h.assertClean()
}

// TestFrozenGuest stops everything in the guest: no answer and no goodbye. Only the keepalive notices.
func TestFrozenGuest(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the keepalive's half minute")
	}
	t.Parallel()
	h := newMac(t, "--timeout", "20") // the next stages try to connect again
	r := h.run(job("echo started; sleep 300"), when("build_script", "started\n", func(_ *trial.Trial, _ trial.Process) { h.sim("freeze", h.theVM()) }))
	want(t, r, trial.Failed, trial.RunnerSystemFailure, 0)
	says(t, r, "connection to the VM lost: no answer for 30s")
	h.assertClean()
}

// TestOlderTart has a tart that does not know the options which make a throw-away VM fast and private.
func TestOlderTart(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	h.sim("config", "version=2.5.0")
	r := h.run(job("echo it works"))
	want(t, r, trial.Success, "", 0)
	says(t, r, "it works", "does not take all options")
	h.assertClean()
}
