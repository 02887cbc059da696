package e2e

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gitlab-runner-tart-driver/internal/trial"
)

// editRecord changes a VM's record.
func (h *mac) editRecord(vm string, change func(map[string]any)) {
	h.t.Helper()
	path := filepath.Join(h.state(), "vms", vm, "record.json")
	raw, err := os.ReadFile(path)
	var rec map[string]any
	if err == nil {
		err = json.Unmarshal(raw, &rec)
	}
	if err == nil {
		change(rec)
		raw, err = json.Marshal(rec)
	}
	if err == nil {
		err = os.WriteFile(path, raw, 0o600)
	}
	if err != nil {
		h.t.Error(err)
	}
}

// TestHostRebooted leaves a record whose processes belong to another boot, and have the numbers of living ones.
func TestHostRebooted(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	var vm string
	lost := h.start(job(started), when("build_script", "started\n", func(tr *trial.Trial, _ trial.Process) {
		vm = h.theVM()
		h.editRecord(vm, func(rec map[string]any) {
			for _, who := range []string{"prepare", "keeper", "run"} {
				id := rec[who].(map[string]any)
				id["boot"] = "another"
				if who != "keeper" {
					id["pid"] = os.Getpid() // must not be signalled
				}
			}
		})
		h.endAll()
	}))
	lost.Wait() // its cleanup has removed the VM already, or the next prepare does
	r := h.run(job("echo it works"))
	want(t, r, trial.Success, "", 0)
	for _, left := range h.vms() {
		t.Errorf("%s is left of %s", left, vm)
	}
	h.assertClean()
}

// TestClockJumps has records and tickets from the future, and from a time before all others.
func TestClockJumps(t *testing.T) {
	t.Parallel()
	h := newMac(t, "--max-vm-count", "1")
	for _, created := range []string{"1970-01-01T00:00:00Z", "2999-01-01T00:00:00Z"} {
		vm := h.abandonLate(created)
		for _, ticket := range []string{"00000000000000000001-1-1", "09999999999999999999-1-1"} {
			if err := os.WriteFile(filepath.Join(h.state(), "queue", ticket), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		r := h.run(job("echo it works"))
		want(t, r, trial.Success, "", 0)
		if left := h.vms(); len(left) > 0 {
			t.Errorf("created %s: %s is left: %v", created, vm, left)
		}
		_ = os.Remove(filepath.Join(h.state(), "queue", "09999999999999999999-1-1")) // behind all others it is in nobody's way
	}
	h.assertClean()
}

// abandonLate leaves a VM without its cleanup, with a record made at some time.
func (h *mac) abandonLate(created string) string {
	h.t.Helper()
	var vm string
	job := h.start(job(started), func(o *trial.Options) {
		o.Driver.Cleanup = trial.Exec{}
		when("build_script", "started\n", func(*trial.Trial, trial.Process) {
			vm = h.theVM()
			h.editRecord(vm, func(rec map[string]any) { rec["created"] = created })
			h.endAll()
		})(o)
	})
	job.Wait()
	return vm
}

// TestStateOfAnotherHost has a state directory into which somebody copied that of another host, while a job runs.
func TestStateOfAnotherHost(t *testing.T) {
	t.Parallel()
	h, other := newMac(t), newMac(t)
	vm := other.abandonLate("2026-01-01T00:00:00Z")
	if err := os.CopyFS(filepath.Join(h.state(), "vms"), only{os.DirFS(filepath.Join(other.state(), "vms"))}); err != nil {
		t.Fatal(err)
	}
	r := h.run(job("echo it works"))
	want(t, r, trial.Success, "", 0)
	if _, err := os.Stat(filepath.Join(other.tartHome(), "vms", vm)); err != nil {
		t.Errorf("the other host's VM: %v", err)
	}
	if left := h.vms(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	want(t, other.run(job("echo it works")), trial.Success, "", 0)
	other.assertClean()
	if err := os.RemoveAll(filepath.Join(h.state(), "vms", vm)); err != nil {
		t.Error(err)
	}
	h.assertClean()
}

// only leaves sockets out, which can't be copied.
type only struct{ fs.FS }

func (o only) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(o.FS, name)
	kept := entries[:0]
	for _, e := range entries {
		if e.IsDir() || e.Type().IsRegular() {
			kept = append(kept, e)
		}
	}
	return kept, err
}

// fate is what happens to one of many jobs, and how it has to end.
type fate struct {
	name   string
	script string
	once   func(*mac, string, *trial.Trial, trial.Process)
	status trial.Status
	reason trial.FailureReason
}

var fates = []fate{
	{name: "ends well", script: "echo started", status: trial.Success},
	{name: "ends well", script: "echo started; seq 1 20000", status: trial.Success},
	{name: "fails", script: "echo started; exit 7", status: trial.Failed, reason: trial.ScriptFailure},
	{name: "is canceled", script: started, once: func(_ *mac, _ string, tr *trial.Trial, _ trial.Process) { tr.Cancel() }, status: trial.Canceled, reason: trial.JobCanceled},
	{name: "is aborted", script: started, once: func(_ *mac, _ string, tr *trial.Trial, _ trial.Process) { tr.Abort() }, status: trial.Canceled, reason: trial.JobCanceled},
	{name: "loses its VM", script: started, once: func(h *mac, vm string, _ *trial.Trial, _ trial.Process) { h.sim("kill", vm) }, status: trial.Failed, reason: trial.RunnerSystemFailure},
	{name: "loses its keeper", script: started, once: func(h *mac, vm string, _ *trial.Trial, _ trial.Process) { h.signalKeeperOf(vm, syscall.SIGKILL) }, status: trial.Failed, reason: trial.RunnerSystemFailure},
	{name: "loses its stage", script: started, once: func(_ *mac, _ string, _ *trial.Trial, p trial.Process) { _ = syscall.Kill(p.PID, syscall.SIGKILL) }, status: trial.Failed, reason: trial.RunnerSystemFailure},
}

// meet runs a job to its fate.
func (h *mac) meet(f fate) {
	h.t.Helper()
	r := h.run(job(f.script), func(o *trial.Options) {
		if f.once == nil {
			return
		}
		when("build_script", "started\n", func(tr *trial.Trial, p trial.Process) {
			for _, vm := range h.vms() {
				if strings.Contains(vm, fmt.Sprintf("-%d-", tr.JobID())) {
					f.once(h, vm, tr, p)
				}
			}
		})(o)
	})
	if r.Status != f.status || r.FailureReason != f.reason {
		h.t.Errorf("a job that %s ended with %s, %q (%v)", f.name, r.Status, r.FailureReason, r.Err)
	}
}

// TestManyJobs runs jobs one after another, and then many at once that fight for two places, each with a fate of its own. Nothing may pile up.
func TestManyJobs(t *testing.T) {
	t.Parallel()
	inTurn, atOnce := 8, 8
	if fullChaos() {
		inTurn, atOnce = 2000, 200
	}
	h := newMac(t, "--max-vm-count", "2", "--slot-timeout", "3600", "--timeout", "300")
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	began := time.Now()
	var files int
	for i := range inTurn {
		h.meet(fates[(i+random.IntN(2))%len(fates)])
		if i == len(fates) {
			files = h.stateFiles()
		}
		if t.Failed() {
			t.Fatalf("at job %d", i+1)
		}
	}
	var wg sync.WaitGroup
	for range atOnce {
		f := fates[random.IntN(len(fates))]
		wg.Go(func() { h.meet(f) })
	}
	wg.Wait()
	h.assertClean()
	if now := h.stateFiles(); files > 0 && now > files+2 { // one slot more, at most
		t.Errorf("the state directory has %d files, and had %d", now, files)
	}
	t.Logf("%d jobs in turn and %d at once took %s; %d files stay in the state directory", inTurn, atOnce, time.Since(began).Round(time.Second), h.stateFiles())
}

// stateFiles counts what the state directory holds, but for the logs that are kept for some days.
func (h *mac) stateFiles() int {
	n := 0
	_ = filepath.WalkDir(h.state(), func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() && path == filepath.Join(h.state(), "logs") {
			return fs.SkipDir
		}
		n++
		return nil
	})
	return n
}
