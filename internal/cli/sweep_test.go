package cli

import (
	"os"
	"testing"

	"gitlab-runner-tart-driver/internal/host"
	"gitlab-runner-tart-driver/internal/tart"
)

// TestDryRunLeavesEndingJobsOut: a VM that was listed, and has no record after that, may have ended with its job.
func TestDryRunLeavesEndingJobsOut(t *testing.T) {
	state, err := host.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	c, err := tart.New("/bin/sh", []string{"HOME=" + home, "TART_HOME=" + home}) // it is not called
	if err != nil {
		t.Fatal(err)
	}
	ending, orphan := state.NewName("1"), state.NewName("2")
	for _, name := range []string{ending, orphan} {
		if err := os.MkdirAll(c.VMDir(name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	asked := 0
	left, err := leftOver(t.Context(), state, func() (*tart.Client, error) {
		if asked++; asked == 2 { // the VMs have been listed
			if err := os.RemoveAll(c.VMDir(ending)); err != nil {
				t.Fatal(err)
			}
		}
		return c, nil
	})
	if err != nil || len(left) != 1 || left[0] != (sweptVM{VM: orphan, Why: noRecord}) {
		t.Errorf("left over are %+v (%v), want %s only", left, err, orphan)
	}
}
