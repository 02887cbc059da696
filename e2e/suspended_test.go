package e2e

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gitlab-runner-tart-driver/internal/trial"
)

// suspend makes a local VM whose guest is suspended.
func (h *mac) suspend(name string, flags ...string) {
	h.t.Helper()
	h.tartDo("clone", "base", name)
	run := h.tartCommand(append([]string{"run", name, "--no-graphics", "--suspendable"}, flags...)...)
	if err := run.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.eventually("the VM runs", func() bool { return h.tartCommand("ip", name).Run() == nil })
	h.tartDo("suspend", name)
	_ = run.Wait()
	if saved, _ := filepath.Glob(filepath.Join(h.tartHome(), "vms", name, "state.vzvmsave")); len(saved) != 1 {
		h.t.Fatalf("the VM is not suspended: %v", saved)
	}
}

// TestSuspendedImage has a local VM whose guest was suspended: its clones go on where it stopped, if they may keep its hardware.
func TestSuspendedImage(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	h.suspend("alike", "--no-audio", "--no-clipboard")
	h.suspend("different")
	for _, c := range []struct {
		image string
		flags []string
		says  string
		set   bool
	}{
		{"alike", nil, "goes on with its own hardware", false},
		{"alike", []string{"--cpu", "auto", "--memory", "auto"}, "goes on with its own hardware", false},
		{"alike", []string{"--cpu", "5"}, "the VM boots, for it is to have other hardware", true},
		{"different", nil, "the suspended guest cannot go on", false},
	} {
		before := len(h.calls())
		j := job("echo it works")
		j.Image.Name = c.image
		r := h.run(j, func(o *trial.Options) { o.Driver.Prepare.Args = append(o.Driver.Prepare.Args, c.flags...) })
		want(t, r, trial.Success, "", 0)
		says(t, r, "it works", c.says)
		if strings.Contains(string(r.Log), "cannot go on") != (c.image == "different") || r.PrepareAttempts != 1 {
			t.Errorf("%+v: %d attempts", c, r.PrepareAttempts)
		}
		if set := slices.ContainsFunc(h.calls()[before:], func(argv []string) bool { return argv[0] == "set" }); set != c.set {
			t.Errorf("%+v: tart set was called: %v", c, set)
		}
	}
	h.assertClean("alike", "different")
}

// TestClonesOfOneSuspendedImage has VMs that begin with one MAC address, and so with one IP address. No job may end up in another's VM, nor in a person's.
func TestClonesOfOneSuspendedImage(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	h.suspend("golden", "--no-audio", "--no-clipboard")
	alone := func() *trial.Job {
		j := job("touch /tmp/mine-$CI_JOB_ID; ls -d /tmp/mine-* | wc -l | sed 's/^ */jobs here: /'")
		j.Image.Name = "golden"
		return j
	}
	for range 3 {
		for _, r := range []*trial.Trial{h.start(alone()), h.start(alone())} {
			r := r.Wait()
			want(t, r, trial.Success, "", 0)
			says(t, r, "jobs here: 1\n")
		}
	}

	h.tartDo("clone", "golden", "debug")
	run := h.tartCommand("run", "debug", "--no-graphics", "--suspendable", "--no-audio", "--no-clipboard")
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	h.eventually("the VM of a person runs", func() bool { return h.tartCommand("exec", "debug", "true").Run() == nil })
	r := h.run(alone())
	want(t, r, trial.Success, "", 0)
	says(t, r, "jobs here: 1\n")
	contains(t, "the VM of a person", h.tartDo("exec", "debug", "sh", "-c", "echo files: /tmp/mine-*"), "files: /tmp/mine-*\n")
	h.tartDo("stop", "debug")
	_ = run.Wait()
	h.assertClean("debug", "golden")
}
