package e2e

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gitlab-runner-tart-driver/internal/trial"
)

// listed is what `ps --json` says.
type listed struct {
	Jobs []struct {
		Job, Project, VM, State, Image, Address string
		Slot, PID                               int
		Stale                                   bool
		CPU                                     *float64 `json:"cpu_percent"`
		Memory                                  *float64 `json:"memory_mb"`
	}
	Waiting []struct {
		Job, Project string
		Position     int
	}
	SlotsTaken int `json:"slots_taken"`
}

func (h *mac) ps() (l listed) {
	h.t.Helper()
	if err := json.Unmarshal([]byte(h.must("ps", "--json", "--state-dir", h.state())), &l); err != nil {
		h.t.Error(err)
	}
	return l
}

// happened are the kinds of the events of a job, in order.
func (h *mac) happened(jobID string) (kinds []string) {
	h.t.Helper()
	for line := range strings.Lines(h.must("events", "--json")) {
		var e struct{ Event, Job string }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			h.t.Errorf("%v: %s", err, line)
		}
		if e.Job == jobID {
			kinds = append(kinds, e.Event)
		}
	}
	return kinds
}

// contains checks that a text has others in it.
func contains(t *testing.T, what, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%s does not say %q:\n%s", what, part, text)
		}
	}
}

// TestVerbsOfALivingJob looks at one job that runs and one that waits, and at both when they are over.
func TestVerbsOfALivingJob(t *testing.T) {
	t.Parallel()
	h := newMac(t, "--max-vm-count", "1")
	started, waits := make(chan struct{}), make(chan struct{})
	first := h.start(job("echo started; sleep 300"), when("build_script", "started\n", func(*trial.Trial, trial.Process) { close(started) }))
	await(t, first, "the script starts", started)
	second := h.start(job("exit 3"), when("prepare", "waiting for a place", func(*trial.Trial, trial.Process) { close(waits) }))
	await(t, second, "the second job waits", waits)
	id, vm, next := strconv.FormatInt(first.JobID(), 10), h.theVM(), strconv.FormatInt(second.JobID(), 10)

	l := h.ps()
	if len(l.Jobs) != 1 || len(l.Waiting) != 1 || l.SlotsTaken != 1 {
		t.Fatalf("ps lists %+v", l)
	}
	if j := l.Jobs[0]; j.Job != id || j.VM != vm || j.Project != "try/job" || j.State != "build_script" || j.Image != "base" || j.Address == "" || j.Slot != 1 || j.Stale ||
		j.PID == 0 || j.CPU == nil || j.Memory == nil {
		t.Errorf("the job is listed as %+v", j)
	}
	if w := l.Waiting[0]; w.Job != next || w.Position != 1 || w.Project != "try/job" {
		t.Errorf("the job that waits is listed as %+v", w)
	}
	contains(t, "ps", h.must("ps"), id, vm, "build_script", "IN LINE", next)
	contains(t, "logs", h.must("logs", id), "VM "+vm+" of job "+id+" of try/job, image base\n", "stages   | ", "build_script begins", "keeper   | ", "ready -> kept")
	contains(t, "logs", h.must("logs", vm, "--json"), `"source":"keeper"`, `"event":"prepare_ended"`)
	contains(t, "sweep --dry-run", h.must("sweep", "--dry-run"), "nothing is left over")
	contains(t, "sweep", h.must("sweep"), "nothing is left over")
	contains(t, "completion", h.output("__complete", "logs", "--state-dir", h.state(), ""), id+"\ttry/job base\n")
	contains(t, "completion of cp", h.output("__complete", "cp", "--state-dir", h.state(), id[:1]), id+":\ttry/job base\n", ":6\n")
	contains(t, "completion of cp", h.output("__complete", "cp", "--state-dir", h.state(), id+":file", ""), ":0\n")
	responses, _ := filepath.Glob(filepath.Join(h.temp(), "custom-executor*", "response.json"))
	if len(responses) == 0 {
		t.Error("GitLab Runner's job response is not where the help of explain says")
	}
	for _, path := range responses {
		contains(t, "explain", h.must("explain", "--job-response", path), "and job ", "pull-policy")
	}

	tail := h.follow("logs", "-f", id)
	events := h.follow("events", "-f", "--json", "-n", "1")
	events.until(`"job":"`) // the last one before: it has read the file, and goes on from there
	tail.until("ready -> kept")
	first.Cancel()
	first.Wait()
	tail.until("kept -> destroying")
	if err := tail.cmd.Wait(); err != nil {
		t.Errorf("logs -f ends with %v when the job is over", err)
	}
	want(t, second.Wait(), trial.Failed, trial.ScriptFailure, 3)
	events.until(`"job":"` + next + `","project":"try/job","vm":"`)
	if err := events.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Error(err)
	}
	events.drain()
	if err := events.cmd.Wait(); err != nil {
		t.Errorf("events -f ends with %v on ^C", err)
	}
	h.assertClean()
	h.assertVerbsAfterwards(id, vm, next)
}

// assertVerbsAfterwards looks at the jobs of TestVerbsOfALivingJob when they are over.
func (h *mac) assertVerbsAfterwards(id, vm, next string) {
	t := h.t
	t.Helper()
	contains(t, "ps", h.must("ps"), "no job runs here")
	contains(t, "logs", h.must("logs", id), "VM "+vm+" of job "+id, "gone since ", "kept -> destroying: cleanup asks for it", "is removed; its keeper's last words: ")
	contains(t, "logs", h.must("logs", next), "waits for a place, number 1 in line; running: job "+id+" of try/job", "with exit code 3")
	kinds := h.happened(next)
	wanted := []string{"prepare_began", "waiting", "vm_ready", "vm_kept", "prepare_ended", "script_began", "script_ended", "cleanup_began", "vm_destroying", "vm_removed", "cleanup_ended"}
	at := 0
	for _, kind := range kinds {
		if at < len(wanted) && kind == wanted[at] {
			at++
		}
	}
	if at < len(wanted) {
		t.Errorf("events of the second job: %v, want in this order %v", kinds, wanted)
	}
	contains(t, "events", h.must("events"), "job "+next+" of try/job: build_script ended after ", "VM "+vm+" is ready after ")
	h.assertPrivate()
	if _, errs, code := h.driver(nil, "logs", "1"); code != 1 || !strings.Contains(errs, `nothing is known here of a job or VM "1"`) {
		t.Errorf("logs of an unknown job: exit code %d, %s", code, errs)
	}
}

// output is what the driver writes to stdout, whatever it says besides.
func (h *mac) output(args ...string) string {
	h.t.Helper()
	cmd := exec.Command(h.bin, args...)
	cmd.Env = h.environ()
	out, err := cmd.Output()
	if err != nil {
		h.t.Errorf("%v: %v", args, err)
	}
	return string(out)
}

// followed is a verb that goes on.
type followed struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines *bufio.Scanner
}

func (h *mac) follow(args ...string) *followed {
	h.t.Helper()
	cmd := exec.Command(h.bin, args...)
	cmd.Env = h.environ()
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = cmd.Process.Kill() })
	return &followed{h.t, cmd, bufio.NewScanner(out)}
}

// until reads lines up to one with a text in it.
func (f *followed) until(text string) {
	f.t.Helper()
	limit := time.AfterFunc(2*time.Minute, func() { _ = f.cmd.Process.Kill() }) // a verb that says nothing more would go on for ever
	defer limit.Stop()
	for f.lines.Scan() {
		if strings.Contains(f.lines.Text(), text) {
			return
		}
	}
	f.t.Errorf("%v ends before it says %q", f.cmd.Args[1:], text)
}

func (f *followed) drain() {
	for f.lines.Scan() {
	}
}

// TestVerbsAfterACrash has a VM whose keeper is gone, and one that has no record.
func TestVerbsAfterACrash(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	r := h.start(job("echo started; sleep 300"), when("build_script", "started\n", func(tr *trial.Trial, _ trial.Process) {
		h.killKeeper()
		tr.Abort()
	}), func(o *trial.Options) { o.Driver.Cleanup = trial.Exec{Path: "/bin/true"} }).Wait()
	want(t, r, trial.Canceled, trial.JobCanceled, 0)
	crashed := h.theVM()
	orphan := crashed[:strings.LastIndex(crashed, "-")] + "-aaaaaaaa"
	for _, name := range []string{orphan, "my-vm"} {
		h.tartDo("clone", "base", name)
	}
	if l := h.ps(); len(l.Jobs) != 1 || !l.Jobs[0].Stale || l.Jobs[0].State != "stale" || l.Jobs[0].VM != crashed {
		t.Errorf("ps lists %+v", l)
	}
	contains(t, "ps", h.must("ps"), "a VM is stale", "at once: gitlab-runner-tart-driver sweep")
	before := h.vms()
	contains(t, "sweep --dry-run", h.must("sweep", "--dry-run"), "would remove VM "+crashed+" of job ", "would remove VM "+orphan+", which has no record")
	if after := h.vms(); !slices.Equal(before, after) {
		t.Errorf("a dry run has changed the VMs from %v to %v", before, after)
	}
	var report struct {
		VMs    []struct{ VM, Why string }
		Errors []string
	}
	if err := json.Unmarshal([]byte(h.must("sweep", "--json")), &report); err != nil || len(report.VMs) != 2 || report.VMs[0].VM != crashed || report.VMs[0].Why != "no_keeper" ||
		report.VMs[1].VM != orphan || report.VMs[1].Why != "no_record" || report.Errors == nil || len(report.Errors) > 0 {
		t.Errorf("sweep says %+v (%v)", report, err)
	}
	h.assertClean("my-vm")
	contains(t, "sweep", h.must("sweep"), "nothing is left over")
	contains(t, "events", h.must("events"), "a sweep removed "+crashed+", "+orphan, "VM "+crashed+" is removed")
	contains(t, "logs", h.must("logs", crashed), "ready -> kept", "a sweep removed")
}

// TestVerbsTellWhatWentWrong looks at a job whose VM goes away under it, and at one that names no image that there is.
func TestVerbsTellWhatWentWrong(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	tr := h.start(job("echo started; sleep 300"), when("build_script", "started\n", func(*trial.Trial, trial.Process) { h.sim("kill", h.theVM()) }))
	want(t, tr.Wait(), trial.Failed, trial.RunnerSystemFailure, 0)
	lost := strconv.FormatInt(tr.JobID(), 10)
	contains(t, "events", h.must("events"), "job "+lost+" of try/job: build_script was cut off after ", "(not the job's fault): the VM has ended", "has ended: the VM has ended: ")
	contains(t, "logs", h.must("logs", lost), "kept -> dead: the VM ended by itself")
	faulty := job("echo never")
	faulty.Image.Name = "nowhere"
	tr = h.start(faulty)
	tr.Wait()
	contains(t, "logs", h.must("logs", strconv.FormatInt(tr.JobID(), 10)), "prepare failed after ", "(the job's or a setting's fault): ")
	h.assertClean()
}

// TestVerbsKeepNothing has no budget, and a disk without room: jobs run, and nothing stays of them.
func TestVerbsKeepNothing(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]*mac{"no days": newMac(t, "--log-days", "0"), "no budget": newMac(t, "--log-budget", "0"), "small disk": newMac(t)} {
		t.Run(name, func(t *testing.T) {
			h := h.as(t)
			if name == "small disk" {
				h.smallDisk()
			}
			tr := h.start(job("echo it works"))
			want(t, tr.Wait(), trial.Success, "", 0)
			first := strconv.FormatInt(tr.JobID(), 10)
			want(t, h.run(job("echo it works")), trial.Success, "", 0)
			dirs, _ := filepath.Glob(filepath.Join(h.state(), "logs", "*-"+first+"-*"))
			events, _ := os.ReadFile(filepath.Join(h.state(), "events.jsonl"))
			if len(dirs) > 0 || name != "no days" && strings.Contains(string(events), `"job":"`+first+`"`) || name == "small disk" && len(events) > 0 {
				t.Errorf("kept: %v, events:\n%s", dirs, events)
			}
			h.assertClean()
		})
	}
}
