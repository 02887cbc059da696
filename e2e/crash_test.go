package e2e

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"gitlab-runner-tart-driver/internal/trial"
)

var buildCrashing = sync.OnceValue(func() error {
	cmd := exec.Command("go", "build", "-buildvcs=false", "-tags", "crashpoints", "-o", built.crashing, "../cmd/gitlab-runner-tart-driver")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
})

// newCrashing makes a host whose driver dies where it is told to, see internal/crash.
func newCrashing(t *testing.T, flags ...string) *mac {
	t.Helper()
	if err := buildCrashing(); err != nil {
		t.Fatal(err)
	}
	h := newMac(t, flags...)
	h.bin = filepath.Join(h.dir, "driver")
	if err := os.Link(built.crashing, h.bin); err != nil {
		t.Fatal(err)
	}
	return h
}

// crashAt has the next process that gets to a point die there, or run a command.
func (h *mac) crashAt(point, command string) {
	h.t.Helper()
	os.Remove(h.bin + ".crashed")
	if err := os.WriteFile(h.bin+".crash", []byte(point+"\n"+command), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// crashed tells whether it happened, and waits for the process's end.
func (h *mac) crashed() bool {
	os.Remove(h.bin + ".crash")
	raw, err := os.ReadFile(h.bin + ".crashed")
	if err != nil {
		return false
	}
	if pid, err := strconv.Atoi(strings.TrimSpace(string(raw))); err == nil {
		h.eventually("the process is dead", func() bool { return syscall.Kill(pid, 0) != nil })
	}
	return true
}

// crashScenario is a job that is disturbed.
type crashScenario struct {
	name string
	// pulls has the image pulled each time.
	pulls bool
	// orphan kills the keeper in the middle, so that others have to clear up.
	orphan    bool
	transport string
}

// crashScenarios between them pass all points.
var crashScenarios = []crashScenario{
	{name: "a job", transport: "ssh"},
	{name: "a job that pulls", transport: "ssh", pulls: true},
	{name: "a job that loses its keeper", transport: "ssh", orphan: true},
	{name: "a job by the agent", transport: "agent"},
}

// crashJob runs a job of a scenario.
func (h *mac) crashJob(s crashScenario) *trial.Result {
	h.t.Helper()
	j := job("echo started; sleep 0.1; echo it works")
	j.Variables = variables("TART_EXECUTOR_TRANSPORT", s.transport)
	if s.pulls {
		j.Image.Name = public
		cmd := exec.Command(h.tart, "delete", public)
		cmd.Env = h.environ()
		_ = cmd.Run() // there may be none
	}
	return h.run(j, func(o *trial.Options) {
		if s.orphan {
			when("build_script", "started\n", func(tr *trial.Trial, _ trial.Process) {
				for _, vm := range h.vms() {
					if strings.Contains(vm, "-"+strconv.FormatInt(tr.JobID(), 10)+"-") {
						h.signalKeeperOf(vm, syscall.SIGKILL)
					}
				}
			})(o)
		}
	})
}

// points lists what a job passes, in order, without repetition.
func (h *mac) points(s crashScenario) []string {
	h.t.Helper()
	file := h.bin + ".points"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		h.t.Fatal(err)
	}
	h.crashJob(s)
	h.eventually("no process is left", func() bool { return len(h.processes()) == 0 })
	raw, err := os.ReadFile(file)
	if err != nil {
		h.t.Fatal(err)
	}
	os.Remove(file)
	var points []string
	for line := range strings.Lines(string(raw)) {
		if p := strings.TrimSpace(line); !slices.Contains(points, p) {
			points = append(points, p)
		}
	}
	return points
}

// TestCrashAtEveryPoint kills each process of the driver at each point between two effects, while another job runs on the host. The job's status
// must be right, the other job must not notice, and one sweep later nothing may be left.
func TestCrashAtEveryPoint(t *testing.T) {
	t.Parallel()
	h := newCrashing(t)
	var seen []string
	for _, s := range crashScenarios {
		fresh := slices.DeleteFunc(h.points(s), func(p string) bool { return slices.Contains(seen, p) })
		seen = append(seen, fresh...)
		for half := range slices.Chunk(fresh, max(1, (len(fresh)+1)/2)) {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				newCrashing(t, "--max-vm-count", "2").disturb(s, half, "")
			})
		}
	}
	assertAllPoints(t, seen)
}

// TestDiskFullAtEveryPoint fills the disk that has the state directory at each point.
func TestDiskFullAtEveryPoint(t *testing.T) {
	if !fullChaos() {
		t.Skip("part of CHAOS=full")
	}
	t.Parallel()
	for _, s := range crashScenarios {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			h := newCrashing(t, "--max-vm-count", "2")
			h.smallDisk()
			h.disturb(s, h.points(s), "cat /dev/zero > "+h.state()+"/filler")
		})
	}
}

// disturb runs a job for each point that is disturbed there, by a command or by SIGKILL, beside one that must live.
func (h *mac) disturb(s crashScenario, points []string, command string) {
	t := h.t
	t.Helper()
	began := make(chan struct{})
	var once sync.Once
	other := h.start(job("echo started; sleep 1000"), when("build_script", "started\n", func(*trial.Trial, trial.Process) { once.Do(func() { close(began) }) }))
	await(t, other, "the other job's script starts", began)
	living := h.theVM()
	done := 0
	for _, point := range points {
		what := fmt.Sprintf("%s, disturbed at %q", s.name, point)
		h.crashAt(point, command)
		r := h.crashJob(s)
		if h.crashed() {
			done++
		} else if command == "" { // a full disk may end a job in ways of its own
			t.Errorf("%s: that was not passed", what)
		}
		os.Remove(filepath.Join(h.state(), "filler"))
		if err := rightAfterCrash(s, point, command, r); err != nil {
			t.Errorf("%s: %v\n%s", what, err, r.Log)
		}
		sweep := exec.Command(h.bin, append([]string{"cleanup"}, h.flags...)...)
		sweep.Env = h.environ()
		if out, err := sweep.CombinedOutput(); err != nil {
			t.Errorf("%s: cleanup: %v: %s", what, err, out)
		}
		h.eventually("nothing is left but the other job", func() bool {
			return slices.Equal(h.vms(), []string{living}) && len(h.stray(living)) == 0
		})
		for _, path := range h.stray(living) {
			t.Errorf("%s: left: %s", what, path)
		}
		if t.Failed() {
			break
		}
	}
	other.Abort()
	if r := other.Wait(); r.Status != trial.Canceled {
		t.Errorf("%s: the other job ended with %s (%s): %s", s.name, r.Status, r.FailureReason, r.Log)
	}
	h.assertClean()
	t.Logf("%d points, disturbed at %d of them", len(points), done)
}

// TestScriptLearnsOfItsVMsEnd takes the VM away from under a script, whose stage gets its answer only when everything of the VM is gone.
func TestScriptLearnsOfItsVMsEnd(t *testing.T) {
	t.Parallel()
	h := newCrashing(t)
	r := h.run(job(started), when("build_script", "started\n", func(tr *trial.Trial, _ trial.Process) {
		h.crashAt("keeper: script has ended", "while [ -e "+filepath.Join(h.state(), "vms", h.theVM())+" ]; do sleep 0.01; done")
		h.expect(0, "is gone", "release", "--force", strconv.FormatInt(tr.JobID(), 10))
	}))
	want(t, r, trial.Failed, trial.RunnerSystemFailure, 0)
	says(t, r, "the VM is being destroyed: somebody gives the VM back, whatever its job does")
	h.assertClean()
}

// fullChaos tells whether the long forms of tests are wanted.
func fullChaos() bool { return os.Getenv("CHAOS") == "full" }

// rightAfterCrash checks a job's status. A crash is nobody's fault but the host's: it may cost an attempt at prepare, or the job, but is never taken
// for the script's failure.
func rightAfterCrash(s crashScenario, point, command string, r *trial.Result) error {
	lost := s.orphan || command != ""
	switch point {
	case "run: begun", "run: about to ask", "run: answered", "keeper: took over", "keeper: script in hand", "keeper: script has ended":
		lost = true
	}
	switch {
	case r.Status == trial.Failed && r.FailureReason != trial.RunnerSystemFailure:
		return fmt.Errorf("it failed with %s", r.FailureReason)
	case r.Status != trial.Success && !lost:
		return fmt.Errorf("it ended with %s", r.Status)
	case r.Status == trial.Success && !strings.Contains(string(r.Log), "it works"):
		return fmt.Errorf("it succeeded without running")
	default:
		return nil
	}
}

// stray are files of the state directory that belong to no living VM.
func (h *mac) stray(living ...string) []string {
	var found []string
	_ = filepath.WalkDir(h.state(), func(path string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(h.state(), path)
		parts := strings.Split(rel, "/")
		switch {
		case err != nil || rel == ".":
		case len(parts) > 1 && parts[0] == "vms" && slices.Contains(living, parts[1]):
		case len(parts) > 1 && (parts[0] == "vms" || parts[0] == "queue") || strings.HasPrefix(d.Name(), "."):
			found = append(found, rel)
		}
		return nil
	})
	return found
}

// assertAllPoints checks that the scenarios pass every point there is.
func assertAllPoints(t *testing.T, seen []string) {
	t.Helper()
	out, err := exec.Command("grep", "-rhoE", `crash\.Point\([^)]*\)`, "--include=*.go", "../internal").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		name := strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(line), "crash.Point("), ")")
		switch {
		case strings.HasPrefix(name, `stage +`):
			for _, stage := range []string{"config", "prepare", "run", "cleanup"} {
				if !slices.Contains(seen, stage+": begun") {
					t.Errorf("%s: begun was never passed", stage)
				}
			}
		case !slices.Contains(seen, strings.Trim(name, `"`)):
			t.Errorf("%s was never passed", name)
		}
	}
}
