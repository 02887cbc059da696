package e2e

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gitlab-runner-tart-driver/internal/trial"
)

// TestSuspendedImage has a local VM whose guest was suspended: its clones go on where it stopped, if they may keep its hardware.
func TestSuspendedImage(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	tart := func(args ...string) *exec.Cmd {
		cmd := exec.Command(h.tart, args...)
		cmd.Env = h.environ()
		return cmd
	}
	suspend := func(name string, flags ...string) {
		if out, err := tart("clone", "base", name).CombinedOutput(); err != nil {
			t.Fatalf("clone: %v: %s", err, out)
		}
		run := tart(append([]string{"run", name, "--no-graphics", "--suspendable"}, flags...)...)
		if err := run.Start(); err != nil {
			t.Fatal(err)
		}
		h.eventually("the VM runs", func() bool { return tart("ip", name).Run() == nil })
		if out, err := tart("suspend", name).CombinedOutput(); err != nil {
			t.Errorf("suspend: %v: %s", err, out)
		}
		_ = run.Wait()
		if saved, _ := filepath.Glob(filepath.Join(h.tartHome(), "vms", name, "state.vzvmsave")); len(saved) != 1 {
			t.Fatalf("the VM is not suspended: %v", saved)
		}
	}
	suspend("alike", "--no-audio", "--no-clipboard")
	suspend("different")
	for _, c := range []struct {
		image string
		flags []string
		says  string
		set   bool
	}{
		{"alike", nil, "goes on with its own hardware", false},
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
