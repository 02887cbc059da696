package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// programs are the paths of what is built for a run.
type programs struct{ driver, tartsim, meter, empty string }

// build builds the driver and what it is measured with into dir, the driver as the Makefile does.
func build(ctx context.Context, dir string) (programs, error) {
	p := programs{
		driver: filepath.Join(dir, "gitlab-runner-tart-driver"), tartsim: filepath.Join(dir, "tartsim"),
		meter: filepath.Join(dir, "meter"), empty: filepath.Join(dir, "empty"),
	}
	source := filepath.Join(dir, "empty.go")
	if err := os.WriteFile(source, []byte("package main\n\nfunc main() {}\n"), 0o644); err != nil {
		return p, err
	}
	for out, what := range map[string]string{dir + "/": "./cmd/...", p.meter: "./bench/meter", p.empty: source} {
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X main.version=bench", "-o", out, what)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		if err := cmd.Run(); err != nil {
			return p, fmt.Errorf("build %s: %w (the benchmark runs in the repository's directory)", what, err)
		}
	}
	return p, nil
}
