package e2e

import (
	"os"
	"path/filepath"
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
		build, after := r.Stage("build_script"), r.Stage("after_script")
		if !strings.Contains(string(build.Stderr), cause) {
			t.Errorf("%s: build_script says %q, want %q", how, build.Stderr, cause)
		}
		if after == nil || after.ExitCode != 2 || !strings.Contains(string(after.Stderr), cause) {
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
	if n := strings.Count(string(r.Stage("build_script").Stdout), "\n100000\n"); n != 1 {
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
		o.Hooks.Started = func(_ *trial.Trial, p trial.Process) {
			if p.Stage == trial.StageCleanup {
				h.signalKeeper(syscall.SIGSTOP)
			}
		}
	})
	want(t, r, trial.Success, "", 0)
	h.assertClean()
}

func TestGuestNeverAnswers(t *testing.T) {
	t.Parallel()
	for fault, says := range map[string]string{
		"never-gets-address": "the VM got no IP address within 2s",
		"sshd-never":         "its SSH port cannot be reached within 2s",
		"sshd-drops":         "no SSH server answers within 2s",
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			h := newMac(t, "--timeout", "2")
			h.sim("fault", "set", fault)
			r := h.run(job("echo never"))
			want(t, r, trial.Failed, trial.RunnerSystemFailure, 0)
			if r.PrepareAttempts != 3 {
				t.Errorf("%d attempts", r.PrepareAttempts)
			}
			if log := string(r.Stage("prepare").Stderr); !strings.Contains(log, says) || !strings.Contains(log, "hint: ") {
				t.Errorf("prepare says %q, want %q", log, says)
			}
			h.assertClean()
		})
	}
}

func TestVMDoesNotStart(t *testing.T) {
	t.Parallel()
	for fault, says := range map[string][]string{
		"start-failure":   {"VZErrorDomain", "hint: "},
		"keychain-locked": {"hint: since macOS 15 a VM needs an unlocked login keychain"},
		"vm-limit":        {"number of VMs exceeds the system limit", "trying again", "hint: Apple allows two"},
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			h := newMac(t, "--slot-timeout", "1")
			h.sim("fault", "set", fault)
			r := h.run(job("echo never"))
			want(t, r, trial.Failed, trial.RunnerSystemFailure, 0)
			for _, text := range says {
				if log := string(r.Stage("prepare").Stderr); !strings.Contains(log, text) {
					t.Errorf("prepare says %q, want %q", log, text)
				}
			}
			h.assertClean()
		})
	}
}

// TestLimitIsWaitedOut gets over a place that Apple's framework has not freed yet.
func TestLimitIsWaitedOut(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	h.sim("fault", "set", "vm-limit", "--times", "2")
	r := h.run(job("echo it works"))
	want(t, r, trial.Success, "", 0)
	if r.PrepareAttempts != 1 {
		t.Errorf("%d attempts", r.PrepareAttempts)
	}
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
	log := string(r.Stage("prepare").Stderr)
	if n := strings.Count(log, `login refused as user "admin"`); n != 1 || strings.Contains(log, secret) || !strings.Contains(log, "variable TART_SSH_PASSWORD") {
		t.Errorf("prepare says it %d times: %s", n, log)
	}
	h.assertClean()
}

func TestTartMissing(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	h.flags = nil
	r := h.run(job("echo never"))
	want(t, r, trial.Failed, trial.RunnerSystemFailure, 0)
	says(t, r, `tart executable not found: no "tart" in /usr/bin`, "hint: install Tart")
	h.assertClean()
}

func TestMistakesAreFinal(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	for text, c := range map[string]struct {
		image     string
		variables []string
		flags     []string
	}{
		`image "nope": no VM of this name`:                     {image: "nope"},
		`image "registry.test/macos/nope:latest" does not`:     {image: "registry.test/macos/nope"},
		`is not on the host, and its pull policy is never`:     {image: "registry.test/macos/nope", variables: []string{"TART_PULL_POLICY", "never"}},
		`not an image reference`:                               {image: "-x"},
		`the job names no image`:                               {image: ""},
		`variable TART_PULL_POLICY: "sometimes": expected`:     {image: "base", variables: []string{"TART_PULL_POLICY", "sometimes"}},
		`variable TART_EXECUTOR_TIMEOUT: "soon": expected`:     {image: "base", variables: []string{"TART_EXECUTOR_TIMEOUT", "soon"}},
		`variable TART_EXECUTOR_HEADLESS: "perhaps": expected`: {image: "base", variables: []string{"TART_EXECUTOR_HEADLESS", "perhaps"}},
		`flag --cpu: "many": expected a whole number`:          {image: "base", flags: []string{"--cpu", "many"}},
		`unknown flag: --no-such-flag`:                         {image: "base", flags: []string{"--no-such-flag"}},
		`VM should have 4 CPU cores at minimum`:                {image: "base", flags: []string{"--cpu", "1"}},
	} {
		j := job("echo never")
		j.Image.Name = c.image
		j.Variables = variables(c.variables...)
		r := h.run(j, func(o *trial.Options) { o.Driver.Prepare.Args = append(o.Driver.Prepare.Args, c.flags...) })
		want(t, r, trial.Failed, trial.ScriptFailure, 1)
		says(t, r, text)
		if r.PrepareAttempts != 1 {
			t.Errorf("%s: %d attempts", text, r.PrepareAttempts)
		}
	}
	h.assertClean()
}

func TestMisspelledVariable(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	j := job("echo fine")
	j.Variables = variables("TART_EXECUTOR_SHEL", "/bin/bash")
	r := h.run(j)
	want(t, r, trial.Success, "", 0)
	says(t, r, "variable TART_EXECUTOR_SHEL is not a setting", "did you mean TART_EXECUTOR_SHELL?")
	h.assertClean()
}

// TestFrozenGuest stops everything in the guest: no answer and no goodbye. Only the keepalive notices.
func TestFrozenGuest(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the keepalive's half minute")
	}
	t.Parallel()
	h := newMac(t, "--timeout", "2") // the next stages try to connect again
	r := h.run(job("echo started; sleep 300"), when("build_script", "started\n", func(_ *trial.Trial, _ trial.Process) { h.sim("freeze", h.theVM()) }))
	want(t, r, trial.Failed, trial.RunnerSystemFailure, 0)
	says(t, r, "connection to the VM lost: no answer for 30s")
	h.assertClean()
}

// TestStateDirectory tells what is wrong with a state directory that can't be used.
func TestStateDirectory(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	file := filepath.Join(h.dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	h.flags = append(h.flags, "--state-dir", file)
	r := h.run(job("echo never"))
	want(t, r, trial.Failed, trial.RunnerSystemFailure, 0)
	says(t, r, "state directory cannot be used", "--state-dir")
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
