package lifecycle

import (
	"os"
	"slices"
	"testing"

	"gitlab-runner-tart-driver/internal/tart"
)

// TestSweepLeavesEndingJobsAlone: a VM that was there at first, and has no record after that, may have ended with its job.
func TestSweepLeavesEndingJobsAlone(t *testing.T) {
	s := newStage(t, nil)
	c, home := fakeTart(t, `echo "$1 $2" >> calls; rm -r ".tart/vms/$2"`)
	ending, orphan := s.State.NewName("1"), s.State.NewName("2")
	for _, name := range []string{ending, orphan} {
		if err := os.MkdirAll(c.VMDir(name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	asked := 0
	swept := Sweep(t.Context(), s.State, func() (*tart.Client, error) {
		if asked++; asked == 2 { // the VMs have been listed
			if err := os.RemoveAll(c.VMDir(ending)); err != nil {
				t.Fatal(err)
			}
		}
		return c, nil
	})
	if !slices.Equal(swept.VMs, []string{orphan}) || len(swept.Errors) > 0 {
		t.Errorf("swept %+v, want %s only", swept, orphan)
	}
	if calls := callsIn(t, home); calls != "delete "+orphan {
		t.Errorf("tart was called so: %s", calls)
	}
}

// TestSweepAsksTartForVMsElsewhere: a wrapper around tart may have set TART_HOME.
func TestSweepAsksTartForVMsElsewhere(t *testing.T) {
	s := newStage(t, nil)
	orphan := s.State.NewName("1")
	c, home := fakeTart(t, `echo "$1 $2" >> calls; [ "$1" != list ] || echo '[{"Source":"local","Name":"`+orphan+`"}]'`)
	swept := Sweep(t.Context(), s.State, func() (*tart.Client, error) { return c, nil })
	if !slices.Equal(swept.VMs, []string{orphan}) || len(swept.Errors) > 0 {
		t.Errorf("swept %+v, want %s", swept, orphan)
	}
	if calls := callsIn(t, home); calls != "list --format delete "+orphan {
		t.Errorf("tart was called so: %s", calls)
	}
}
