package e2e

import (
	"strings"
	"testing"

	"gitlab-runner-tart-driver/internal/trial"
)

// overTransports runs a test for every way to reach a guest, on a host of its own each: what a user sees must be the same.
func overTransports(t *testing.T, test func(*testing.T, *mac)) {
	t.Parallel()
	for _, transport := range []string{"ssh", "agent"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			test(t, newMac(t, "--transport", transport))
		})
	}
}

// TestAgentNeedsNoNetwork has a guest without an address, whose password nobody knows.
func TestAgentNeedsNoNetwork(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	h.sim("image", "create", "closed", "--password", "nobody knows")
	h.sim("fault", "set", "never-gets-address")
	for _, transport := range []string{"agent", "auto"} {
		j := job("echo it works")
		j.Image.Name = "closed"
		j.Variables = variables("TART_EXECUTOR_TRANSPORT", transport)
		r := h.run(j)
		want(t, r, trial.Success, "", 0)
		says(t, r, "it works")
	}
	h.assertClean("closed")
}

// TestNoAgent names it where it is wanted, and does without it where it may.
func TestNoAgent(t *testing.T) {
	t.Parallel()
	h := newMac(t, "--timeout", "2")
	h.sim("fault", "set", "agent-down")
	r := h.run(job("echo never"), func(o *trial.Options) { o.Driver.Prepare.Args = append(o.Driver.Prepare.Args, "--transport", "agent") })
	want(t, r, trial.Failed, trial.RunnerSystemFailure, 0)
	says(t, r, "the VM's guest agent does not answer within 2s", "hint: does the image have Tart's guest agent")
	r = h.run(job("echo it works"), func(o *trial.Options) {
		o.Driver.Prepare.Args = append(o.Driver.Prepare.Args, "--transport", "auto", "--timeout", "120")
	})
	want(t, r, trial.Success, "", 0)
	says(t, r, "logged in by SSH; the guest agent does not answer yet")
	h.assertClean()
}

// TestNeitherWay names both failures.
func TestNeitherWay(t *testing.T) {
	t.Parallel()
	h := newMac(t, "--timeout", "60", "--transport", "auto")
	h.sim("fault", "set", "agent-down")
	j := job("echo never")
	j.Variables = variables("TART_SSH_PASSWORD", "wrong")
	r := h.run(j)
	want(t, r, trial.Failed, trial.ScriptFailure, 1)
	says(t, r, "login refused", "and the VM's guest agent does not answer", "hint: set TART_SSH_USERNAME")
	if r.PrepareAttempts != 1 {
		t.Errorf("%d attempts: a refused login is final", r.PrepareAttempts)
	}
	h.assertClean()
}

// TestRefusedLoginIsNoMatterToTheAgent has both transports in working order, but for the password.
func TestRefusedLoginIsNoMatterToTheAgent(t *testing.T) {
	t.Parallel()
	h := newMac(t, "--transport", "auto")
	j := job("echo it works")
	j.Variables = variables("TART_SSH_PASSWORD", "wrong")
	r := h.run(j)
	want(t, r, trial.Success, "", 0)
	says(t, r, "it works", "guest agent answers")
	h.assertClean()
}

// TestOlderTartHasNoExec names it where the agent is wanted, and does without it where it may.
func TestOlderTartHasNoExec(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	h.sim("config", "version=2.26.0")
	j := job("echo never")
	j.Variables = variables("TART_EXECUTOR_TRANSPORT", "agent")
	r := h.run(j)
	want(t, r, trial.Failed, trial.ScriptFailure, 1)
	says(t, r, "this version of tart has no `tart exec`", "hint: update tart")
	j = job("echo it works")
	j.Variables = variables("TART_EXECUTOR_TRANSPORT", "auto")
	r = h.run(j)
	want(t, r, trial.Success, "", 0)
	says(t, r, "it works", "logged in by SSH; the guest agent cannot be used")
	h.assertClean()
}

// TestAgentStreamBreaks takes the stream away in the middle of a script. That is no exit status of the script, and the next stage has a stream of
// its own.
func TestAgentStreamBreaks(t *testing.T) {
	t.Parallel()
	h := newMac(t, "--transport", "agent")
	h.sim("fault", "set", "agent-stream-lost", "--after", "15s")
	r := h.run(job("echo started; sleep 300"))
	want(t, r, trial.Failed, trial.RunnerSystemFailure, 0)
	if s := r.Stage("build_script"); s == nil || !strings.Contains(string(s.Stderr), "the guest agent's stream ended early") {
		t.Errorf("build_script: %+v", s)
	}
	if s := r.Stage("cleanup_file_variables"); s == nil || s.ExitCode != 0 {
		t.Errorf("the next stage: %+v", s)
	}
	h.assertClean()
}

// TestAgentWithoutStatus has an agent that ends every stream without an exit status, which tart makes a 0 of. It must not pass for success.
func TestAgentWithoutStatus(t *testing.T) {
	t.Parallel()
	h := newMac(t, "--transport", "agent", "--timeout", "15")
	h.sim("fault", "set", "agent-no-exit")
	r := h.run(job("false"))
	want(t, r, trial.Failed, trial.RunnerSystemFailure, 0)
	says(t, r, "the guest agent's stream ended early (tart exec: exit code 0)")
	h.assertClean()
}

// TestFrozenGuestByAgent is TestFrozenGuest for the agent's heartbeat.
func TestFrozenGuestByAgent(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the heartbeat's half minute")
	}
	t.Parallel()
	h := newMac(t, "--transport", "agent")
	r := h.run(job("echo started; sleep 300"), when("build_script", "started\n", func(tr *trial.Trial, _ trial.Process) { h.sim("freeze", h.theVM()) }),
		func(o *trial.Options) {
			o.Hooks.Ended = func(tr *trial.Trial, s trial.StageResult) {
				if s.Name == "build_script" {
					tr.Abort() // each further stage would wait as long
				}
			}
		})
	if s := stage(t, r, "build_script"); s.ExitCode != 2 || !strings.Contains(string(s.Stderr), "the guest agent gave no answer for 30s") {
		t.Errorf("build_script: exit code %d, %q", s.ExitCode, s.Stderr)
	}
	h.assertClean()
}
