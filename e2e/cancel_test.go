package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gitlab-runner-tart-driver/internal/trial"
)

// TestSoftCancel is "Cancel" in GitLab while the script runs: the script's whole process group ends, and after_script finds a quiet VM.
func TestSoftCancel(t *testing.T) { overTransports(t, testSoftCancel) }

func testSoftCancel(t *testing.T, h *mac) {
	// It is sleep's own process that says so: a shell may lose a signal between fork and exec.
	j := job("trap 'echo last words; exit 1' TERM; (trap '' TERM; sleep 301) & sh -c 'echo started; exec sleep 302'")
	j.AfterScript = []string{`echo "after: $CI_JOB_STATUS"`, "pgrep -fx 'sleep 30[12]' || echo quiet"}
	r := h.run(j, when("build_script", "started\n", func(tr *trial.Trial, _ trial.Process) { tr.Cancel() }))
	want(t, r, trial.Canceled, trial.JobCanceled, 0)
	says(t, r, "after: canceled", "quiet", "\nlast words\n")
	h.assertClean()
}

// TestHardCancel leaves no time for anything but cleanup.
func TestHardCancel(t *testing.T) { overTransports(t, testHardCancel) }

func testHardCancel(t *testing.T, h *mac) {
	j := job("echo started; sleep 300")
	j.AfterScript = []string{"echo after"}
	r := h.run(j, when("build_script", "started\n", func(tr *trial.Trial, _ trial.Process) { tr.Abort() }))
	want(t, r, trial.Canceled, trial.JobCanceled, 0)
	if r.Stage("after_script") != nil {
		t.Error("after_script ran")
	}
	h.assertClean()
}

// TestCancelInPrepare cancels at every line that prepare prints: nothing of the VM may be left before cleanup is even called.
func TestCancelInPrepare(t *testing.T) {
	t.Parallel()
	h := newCrashing(t)
	// After the last line there is nothing left to cancel: prepare may be done when the signal comes. With the others its keeper does not get that far.
	for _, line := range prepareLines[:len(prepareLines)-1] {
		h.crashAt("keeper: guest reached", `while [ "$(ls '`+filepath.Join(h.state(), "vms")+`')" ]; do sleep 0.01; done`)
		var exit int
		r := h.run(job("echo never"), func(o *trial.Options) {
			when("prepare", line, func(tr *trial.Trial, _ trial.Process) { tr.Cancel() })(o)
			o.Hooks.Ended = func(_ *trial.Trial, s trial.StageResult) {
				if s.Name == trial.StagePrepare {
					exit = s.ExitCode
					if vms := h.vms(); len(vms) > 0 {
						t.Errorf("canceled at %q: prepare leaves %v", line, vms)
					}
				}
			}
		})
		want(t, r, trial.Canceled, trial.JobCanceled, 0)
		if exit != 2 {
			t.Errorf("canceled at %q: prepare exits with %d, want 2", line, exit)
		}
		if r.PrepareAttempts != 1 {
			t.Errorf("canceled at %q: %d attempts", line, r.PrepareAttempts)
		}
		h.crashed() // where it was canceled before that
	}
	h.assertClean()
}

// prepareLines are texts of prepare's log, one for each step that a prepare goes through, in order; the last one before it has handed
// its VM over.
var prepareLines = []string{"image base", "place 1 of", "cloned", "hardware: ", "VM started", "address is", "  port ", "SSH server answers",
	"logged in as", "guest is"}

// TestPrepareKilledInTheMiddleOfTart kills prepare while a tart of its begins to work, and lives on. Only the first VM of a host has its address from tart.
func TestPrepareKilledInTheMiddleOfTart(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	h.wrapTart(`if [ "$1" = "$(cat hold 2> /dev/null)" ] && mv hold held 2> /dev/null; then until [ -e gate ]; do sleep 0.01; done; fi`)
	hold, held, gate := filepath.Join(h.dir, "hold"), filepath.Join(h.dir, "held"), filepath.Join(h.dir, "gate")
	for _, command := range []string{"ip", "clone", "set", "run", "delete"} {
		switch command {
		case "delete": // of what the sweep of prepare finds
			h.abandonLate("2026-01-01T00:00:00Z")
		case "ip": // nor does the first VM get along without
			h.sim("fault", "set", "never-gets-address")
		}
		if err := errors.Join(os.RemoveAll(held), os.RemoveAll(gate), os.WriteFile(hold, []byte(command), 0o600)); err != nil {
			t.Fatal(err)
		}
		killed, struck, over, looked := false, false, make(chan struct{}), make(chan struct{})
		r := h.run(job("echo it works"), func(o *trial.Options) {
			o.Hooks.Started = func(tr *trial.Trial, p trial.Process) {
				if p.Stage != trial.StagePrepare || killed {
					return
				}
				killed = true
				go func() {
					defer close(looked)
					for _, err := os.Stat(held); err != nil; _, err = os.Stat(held) {
						select {
						case <-over: // without a call of it
							return
						case <-time.After(5 * time.Millisecond):
						}
					}
					struck = syscall.Kill(p.PID, syscall.SIGKILL) == nil
					h.sim("fault", "clear")
					if err := os.WriteFile(gate, nil, 0o600); err != nil {
						t.Error(err)
					}
				}()
			}
			o.Hooks.Ended = func(_ *trial.Trial, s trial.StageResult) {
				if s.Name != trial.StagePrepare {
					return
				}
				select {
				case <-over:
				default:
					close(over)
					<-looked
				}
			}
		})
		want(t, r, trial.Success, "", 0)
		if !struck {
			t.Errorf("prepare was over before it called tart %s", command)
		}
	}
	h.assertClean()
}

// TestRunKilled kills the run stage with SIGKILL: its script must not go on behind its back.
func TestRunKilled(t *testing.T) { overTransports(t, testRunKilled) }

func testRunKilled(t *testing.T, h *mac) {
	j := job("echo started; sleep 300")
	j.AfterScript = []string{"i=0; while pgrep -fx 'sleep 300' && [ $i -lt 300 ]; do sleep 0.1; i=$((i+1)); done", "pgrep -fx 'sleep 300' || echo quiet"}
	r := h.run(j, when("build_script", "started\n", func(_ *trial.Trial, p trial.Process) {
		if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil {
			t.Error(err)
		}
	}))
	want(t, r, trial.Failed, trial.RunnerSystemFailure, 0)
	says(t, r, "quiet")
	h.assertClean()
}

// TestCancelWithoutAnotherCommand has scripts that are ended although the VM takes no second command for that, or although they have removed what tells it
// whom to end.
func TestCancelWithoutAnotherCommand(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	if !h.isolated() {
		t.Skip("guests share the host's files here")
	}
	h.alteredImage("base", "single", "sed -i '1i MaxSessions 1' /etc/ssh/sshd_config")
	for image, begin := range map[string]string{
		"single": "",
		"base":   "rm -f /tmp/.grtd-*; ",
	} {
		j := job(begin + "sleep 303 & sh -c 'echo started; exec sleep 304'")
		j.Image.Name = image
		j.AfterScript = []string{"pgrep -fx 'sleep 30[34]' || echo quiet"}
		r := h.run(j, when("build_script", "started\n", func(tr *trial.Trial, _ trial.Process) { tr.Cancel() }))
		want(t, r, trial.Canceled, trial.JobCanceled, 0)
		says(t, r, "\nquiet")
		if strings.Contains(string(r.Log), "perhaps not all of it") {
			t.Errorf("%s: the script is said to go on", image)
		}
	}
	h.assertClean("single")
}
