package e2e

import (
	"bytes"
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

// mac is a host of its own for one test: a home directory, a TART_HOME with the image `base`, and a tart.
type mac struct {
	t    *testing.T
	dir  string
	tart string
	bin  string
	// flags are given to every stage.
	flags []string
	// jobDir is the job's directory, for stages that are called by themselves; they have one each where it is empty.
	jobDir string
}

// newMac makes a host, and sees to it that nothing of it is left when the test ends.
func newMac(t *testing.T, flags ...string) *mac {
	t.Helper()
	dir, err := os.MkdirTemp("", "mac-") // t.TempDir is too long for Unix sockets
	if err != nil {
		t.Fatal(err)
	}
	h := &mac{t: t, dir: dir, tart: filepath.Join(dir, "bin", "tart"), bin: built.driver, flags: flags}
	for _, d := range []string{h.home(), h.tartHome(), filepath.Dir(h.tart), h.temp()} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		h.endAll()
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove the host: %v", err)
		}
	})
	h.sim("install", filepath.Dir(h.tart))
	h.sim("init")
	h.flags = append([]string{"-x", h.tart, "--no-auto-resources"}, flags...)
	if port := h.sshPort(); port != "22" {
		h.flags = append(h.flags, "--ssh-port", port)
	}
	if os.Getuid() != 0 { // then a guest has no /opt of its own
		h.flags = append(h.flags, "--guest-builds-dir", "/tmp/builds", "--guest-cache-dir", "/tmp/cache")
	}
	return h
}

func (h *mac) home() string     { return filepath.Join(h.dir, "home") }
func (h *mac) tartHome() string { return filepath.Join(h.dir, "tart") }
func (h *mac) temp() string     { return filepath.Join(h.dir, "tmp") }
func (h *mac) state() string    { return filepath.Join(h.home(), ".gitlab-runner-tart-driver") }

// environ is the environment of the host's GitLab Runner.
func (h *mac) environ() []string {
	return []string{"HOME=" + h.home(), "TART_HOME=" + h.tartHome(), "PATH=/usr/bin:/bin:/usr/sbin:/sbin", "USER=ci", "SECRET_OF_THE_RUNNER=hunter2"}
}

// sim calls the stand-in's administration.
func (h *mac) sim(args ...string) string {
	h.t.Helper()
	cmd := exec.Command(built.tartsim, args...)
	cmd.Env = append(h.environ(), "PATH="+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		h.t.Errorf("tartsim %v: %v\n%s", args, err, out) // not Fatal: hooks call this, too
	}
	return string(out)
}

// sshPort is where guests listen: 22 where this user may have them do so.
func (h *mac) sshPort() string {
	for line := range strings.Lines(h.sim("check")) {
		if _, port, ok := strings.Cut(line, "SSH port of guests"); ok {
			if fields := strings.Fields(port); len(fields) > 0 {
				return fields[0]
			}
		}
	}
	return "22"
}

// options are those of a GitLab Runner on this host.
func (h *mac) options() trial.Options {
	driver := trial.SelfDriver(h.bin)
	for _, e := range []*trial.Exec{&driver.Config, &driver.Prepare, &driver.Run, &driver.Cleanup} {
		e.Args = append(e.Args, h.flags...)
	}
	return trial.Options{
		Driver: driver, Environ: h.environ(), TempDir: h.temp(), Capture: true,
		RetryDelay: 10 * time.Millisecond, StageRetryDelay: 10 * time.Millisecond, GracefulKillTimeout: time.Minute,
	}
}

// job is a job with the image `base`.
func job(script ...string) *trial.Job {
	return &trial.Job{Image: trial.Image{Name: "base"}, Script: script}
}

// run runs a job to its end, and logs it if the test fails.
func (h *mac) run(job *trial.Job, change ...func(*trial.Options)) *trial.Result {
	h.t.Helper()
	return h.start(job, change...).Wait()
}

func (h *mac) start(job *trial.Job, change ...func(*trial.Options)) *trial.Trial {
	h.t.Helper()
	opts := h.options()
	for _, c := range change {
		c(&opts)
	}
	t, err := trial.Start(h.t.Context(), job, opts)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		if !h.t.Failed() {
			return
		}
		log := bytes.ToValidUTF8(t.Wait().Log, []byte("?"))
		h.t.Logf("log of job %d (%v):\n%s", t.JobID(), t.Wait().Err, log[max(0, len(log)-4000):])
	})
	return t
}

// vms are the names of the local VMs, but for images, incomplete ones included. `tart list` would not show those, and fails when a VM goes
// while it looks.
func (h *mac) vms() []string {
	h.t.Helper()
	dirs, err := os.ReadDir(filepath.Join(h.tartHome(), "vms"))
	if err != nil {
		h.t.Errorf("TART_HOME: %v", err)
	}
	var names []string
	for _, d := range dirs {
		if d.Name() != "base" {
			names = append(names, d.Name())
		}
	}
	return names
}

// theVM is the one VM of a job that there is.
func (h *mac) theVM() string {
	h.t.Helper()
	vms := slices.DeleteFunc(h.vms(), func(name string) bool { return !strings.HasPrefix(name, "grtd-") })
	if len(vms) != 1 {
		h.t.Errorf("VMs of jobs: %v, want one", vms)
		return "none"
	}
	return vms[0]
}

// processes are those that belong to this host: its directory is in their arguments or environment.
func (h *mac) processes() map[int]string {
	found := map[int]string{}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		pid, err := strconv.Atoi(filepath.Base(d))
		if err != nil || pid == os.Getpid() {
			continue
		}
		cmdline, _ := os.ReadFile(filepath.Join(d, "cmdline"))
		environ, _ := os.ReadFile(filepath.Join(d, "environ"))
		if bytes.Contains(cmdline, []byte(h.dir+"/")) || bytes.Contains(environ, []byte(h.dir+"/")) {
			found[pid] = string(bytes.ReplaceAll(cmdline, []byte{0}, []byte{' '}))
		}
	}
	return found
}

// endAll kills what a failed test left running.
func (h *mac) endAll() {
	for pid := range h.processes() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	h.eventually("processes are gone", func() bool { return len(h.processes()) == 0 })
}

// eventually waits for a condition that something outside of this process brings about.
func (h *mac) eventually(what string, ok func() bool) {
	h.t.Helper()
	const limit = 2 * time.Minute // which matters only to a test that fails
	deadline := time.Now().Add(limit)
	for !ok() {
		if time.Now().After(deadline) {
			h.t.Errorf("not within %s: %s", limit, what)
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// assertClean checks that no job has left anything. vms are those that may be there.
func (h *mac) assertClean(vms ...string) {
	h.t.Helper()
	// A keeper answers first and exits then.
	h.eventually("no process is left", func() bool { return len(h.processes()) == 0 })
	for pid, cmd := range h.processes() {
		h.t.Errorf("process %d is left: %s", pid, cmd)
	}
	if got := h.vms(); !slices.Equal(got, vms) {
		h.t.Errorf("VMs are left: %v, want %v", got, vms)
	}
	for _, sub := range []string{"vms", "queue"} {
		if left, _ := os.ReadDir(filepath.Join(h.state(), sub)); len(left) > 0 {
			h.t.Errorf("%s of the state directory: %v", sub, left)
		}
	}
	slots, _ := filepath.Glob(filepath.Join(h.state(), "slots", "*"))
	for _, s := range slots {
		f, err := os.Open(s)
		if err != nil {
			h.t.Error(err)
			continue
		}
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			h.t.Errorf("slot %s is still taken: %v", s, err)
		}
		f.Close()
	}
	if left, _ := os.ReadDir(h.temp()); len(left) > 0 {
		h.t.Errorf("temporary files: %v", left)
	}
}

// call is a recorded call of tart.
type call struct {
	Argv []string `json:"argv"`
}

// calls are the arguments of all calls of tart, in order.
func (h *mac) calls() [][]string {
	h.t.Helper()
	raw, err := os.ReadFile(filepath.Join(h.tartHome(), "tartsim-calls.jsonl"))
	if err != nil {
		return nil
	}
	var all [][]string
	for line := range bytes.Lines(raw) {
		var c call
		if json.Unmarshal(line, &c) == nil && len(c.Argv) > 1 {
			all = append(all, c.Argv[1:])
		}
	}
	return all
}

// killGroup sends a signal to the process group of a stage, as GitLab Runner does.
func killGroup(t *testing.T, pid int, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(-pid, sig); err != nil {
		t.Errorf("signal %v to group %d: %v", sig, pid, err)
	}
}

// want checks how a job ended.
func want(t *testing.T, r *trial.Result, status trial.Status, reason trial.FailureReason, code int) {
	t.Helper()
	if r.Status != status || r.FailureReason != reason || r.ScriptExitCode != code {
		t.Errorf("job ended with %s, %q, exit code %d (%v); want %s, %q, %d", r.Status, r.FailureReason, r.ScriptExitCode, r.Err, status, reason, code)
	}
}

// says checks that the job's log has a text.
func says(t *testing.T, r *trial.Result, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(string(r.Log), text) {
			t.Errorf("the job log does not say %q", text)
		}
	}
}

// called counts the calls of a command of tart.
func (h *mac) called(command string) int {
	n := 0
	for _, argv := range h.calls() {
		if argv[0] == command {
			n++
		}
	}
	return n
}

// forgetCalls starts the record of calls anew.
func (h *mac) forgetCalls() {
	if err := os.Truncate(filepath.Join(h.tartHome(), "tartsim-calls.jsonl"), 0); err != nil && !os.IsNotExist(err) {
		h.t.Error(err)
	}
}

// tartCommand is a call of tart.
func (h *mac) tartCommand(args ...string) *exec.Cmd {
	cmd := exec.Command(h.tart, args...)
	cmd.Env = h.environ()
	return cmd
}

// tartDo calls tart.
func (h *mac) tartDo(args ...string) string {
	h.t.Helper()
	out, err := h.tartCommand(args...).CombinedOutput()
	if err != nil {
		h.t.Errorf("tart %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// signalKeeper signals the keeper of the one VM that there is.
func (h *mac) signalKeeper(sig syscall.Signal) { h.signalKeeperOf(h.theVM(), sig) }

func (h *mac) signalKeeperOf(vm string, sig syscall.Signal) {
	h.t.Helper()
	var rec struct{ Keeper struct{ PID int } }
	raw, err := os.ReadFile(filepath.Join(h.state(), "vms", vm, "record.json"))
	if err == nil {
		err = json.Unmarshal(raw, &rec)
	}
	if err == nil && rec.Keeper.PID > 1 {
		err = syscall.Kill(rec.Keeper.PID, sig)
	}
	if err != nil || rec.Keeper.PID <= 1 {
		h.t.Errorf("signal the keeper %d: %v", rec.Keeper.PID, err)
	}
}

func (h *mac) killKeeper() { h.signalKeeper(syscall.SIGKILL) }

// as is the same host for a subtest.
func (h *mac) as(t *testing.T) *mac {
	sub := *h
	sub.t = t
	return &sub
}

// commandLines are all calls of tart, with the job's VM called VM.
func (h *mac) commandLines() string {
	var lines []string
	for _, argv := range h.calls() {
		for i, a := range argv {
			if strings.HasPrefix(a, "grtd-") {
				argv[i] = "VM"
			}
		}
		lines = append(lines, strings.Join(argv, " "))
	}
	return strings.Join(lines, "\n")
}

// runnerDir has a program that passes for the host's GitLab Runner. It must be a real executable: a copy of one, which says what it is
// called to say.
func (h *mac) runnerDir() string {
	h.t.Helper()
	return filepath.Dir(built.runner)
}

// guestCache is the cache directory in guests.
func (h *mac) guestCache() string {
	if os.Getuid() != 0 {
		return "/tmp/cache"
	}
	return "/opt/cache"
}
