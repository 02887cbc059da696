package lifecycle

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gitlab-runner-tart-driver/internal/proc/proctest"
	"gitlab-runner-tart-driver/internal/tart"
)

// TestSweepLeavesEndingJobsAlone: a VM that was there at first, and has no record after that, may have ended with its job.
func TestSweepLeavesEndingJobsAlone(t *testing.T) {
	s := newStage(t, nil)
	home := t.TempDir()
	calls := filepath.Join(home, "calls")
	program := filepath.Join(home, "tart")
	text := fmt.Sprintf("#!/bin/sh\necho \"$1 $2\" >> '%s'\nrm -r \"$TART_HOME/vms/$2\"\n", calls)
	if err := proctest.WriteProgram(program, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	c, err := tart.New(program, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "TART_HOME=" + home})
	if err != nil {
		t.Fatal(err)
	}
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
	if raw, err := os.ReadFile(calls); err != nil || strings.TrimSpace(string(raw)) != "delete "+orphan {
		t.Errorf("tart was called so (%v):\n%s", err, raw)
	}
}

// TestSweepAsksTartForVMsElsewhere: a wrapper around tart may have set TART_HOME.
func TestSweepAsksTartForVMsElsewhere(t *testing.T) {
	s := newStage(t, nil)
	home := t.TempDir()
	calls := filepath.Join(home, "calls")
	program := filepath.Join(home, "tart")
	orphan := s.State.NewName("1")
	text := fmt.Sprintf("#!/bin/sh\necho \"$1 $2\" >> '%s'\n[ \"$1\" != list ] || echo '[{\"Source\":\"local\",\"Name\":\"%s\"}]'\n", calls, orphan)
	if err := os.WriteFile(program, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	c, err := tart.New(program, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home})
	if err != nil {
		t.Fatal(err)
	}
	swept := Sweep(t.Context(), s.State, func() (*tart.Client, error) { return c, nil })
	if !slices.Equal(swept.VMs, []string{orphan}) || len(swept.Errors) > 0 {
		t.Errorf("swept %+v, want %s", swept, orphan)
	}
	if raw, err := os.ReadFile(calls); err != nil || string(raw) != "list --format\ndelete "+orphan+"\n" {
		t.Errorf("tart was called so (%v):\n%s", err, raw)
	}
}
