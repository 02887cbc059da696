package proctest

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestProgramsCanBeStarted writes and starts programs while others do the same.
func TestProgramsCanBeStarted(t *testing.T) {
	dir := t.TempDir()
	for i := range 8 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			for j := range 20 {
				program := filepath.Join(dir, fmt.Sprintf("%d-%d", i, j))
				if err := WriteProgram(program, []byte("#!/bin/sh\n"), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := exec.Command(program).Run(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
