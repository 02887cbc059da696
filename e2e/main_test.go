// Package e2e runs whole jobs: the built driver, called as GitLab Runner calls it, over the built stand-in for tart, whose guests have a
// real OpenSSH server where the machine allows it.
package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// built are the programs under test, the same for all tests.
var built struct{ driver, crashing, tartsim, runner string }

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "e2e-bin-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	// Guests run as other users, and must be able to start what is theirs.
	if err := os.Chmod(dir, 0o755); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	args := []string{"build", "-buildvcs=false", "-o", dir + "/"}
	if os.Getenv("E2E_RACE") != "" {
		args = append(args, "-race")
	}
	build := exec.Command("go", append(args, "../cmd/...")...)
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		return 1
	}
	built.runner = filepath.Join(dir, "runner", "gitlab-runner")
	stand := exec.Command("go", "build", "-buildvcs=false", "-o", built.runner, "./testdata/runner")
	stand.Stdout, stand.Stderr = os.Stderr, os.Stderr
	stand.Env = append(os.Environ(), "CGO_ENABLED=0")
	if err := stand.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		return 1
	}
	// `tart run --net-softnet` looks for it, and the stand-in for more than that it is there does not.
	if err := os.WriteFile(filepath.Join(filepath.Dir(built.runner), "softnet"), []byte("#!/bin/sh\nexit 0\n"), 0o755); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	built.driver = filepath.Join(dir, "gitlab-runner-tart-driver")
	built.crashing = filepath.Join(dir, "crashing", "driver") // made when a test wants it
	built.tartsim = filepath.Join(dir, "tartsim")
	return m.Run()
}
