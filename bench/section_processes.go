package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"gitlab-runner-tart-driver/bench/report"
	"gitlab-runner-tart-driver/bench/spawned"
	"gitlab-runner-tart-driver/internal/trial"
)

// oneJobVerb makes this program play GitLab Runner for one job and nothing else, so that all that it starts can be counted.
const oneJobVerb = "one-job"

// jobSpec is what oneJob reads from its file.
type jobSpec struct {
	Job  *trial.Job
	Opts struct {
		Driver              trial.Driver
		Environ             []string
		TempDir             string
		BuildsDir, CacheDir string
	}
}

// oneJob runs the job of a file.
func oneJob(ctx context.Context, path string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var spec jobSpec
	if err := json.Unmarshal(raw, &spec); err != nil {
		return err
	}
	o := spec.Opts
	result, err := trial.Run(ctx, spec.Job, trial.Options{Driver: o.Driver, Environ: o.Environ, TempDir: o.TempDir, BuildsDir: o.BuildsDir, CacheDir: o.CacheDir, Capture: true})
	if err != nil {
		return err
	}
	return failure(&driver{name: filepath.Base(o.Driver.Run.Path)}, result)
}

// measureProcesses counts the programs that a job starts on the host. What tart starts is tart's.
func (b *bench) measureProcesses(ctx context.Context) error {
	f := b.figure("processes", "programs that a job starts", report.Count, "")
	for range min(b.opts.runs, 3) {
		for _, d := range b.drivers {
			programs, err := b.countPrograms(ctx, d)
			if err != nil {
				return err
			}
			f.Add(d.column, float64(len(programs)))
			if d == b.own() {
				f.Note = b.describe(d, programs)
			}
		}
	}
	return nil
}

func (b *bench) countPrograms(ctx context.Context, d *driver) ([]spawned.Program, error) {
	spec := jobSpec{Job: d.job(imageName(bootDelays()[0]))}
	opts := b.trialOptions(d)
	spec.Opts.Driver, spec.Opts.Environ, spec.Opts.TempDir = opts.Driver, opts.Environ, opts.TempDir
	spec.Opts.BuildsDir, spec.Opts.CacheDir = opts.BuildsDir, opts.CacheDir
	raw, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(b.host.dir, "job.json")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, oneJobVerb, file)
	cmd.Stderr = os.Stderr
	return spawned.Run(cmd, func(argv []string) bool { return b.isTart(argv) })
}

func (b *bench) isTart(argv []string) bool {
	return len(argv) > 0 && (argv[0] == b.host.tart() || argv[0] == "tart")
}

// describe says which programs they were.
func (b *bench) describe(d *driver, programs []spawned.Program) string {
	counts := map[string]int{}
	for _, p := range programs {
		name := "?"
		switch {
		case b.isTart(p.Argv):
			name = "tart"
		case len(p.Argv) > 0 && p.Argv[0] == d.path:
			name = "the driver"
		case len(p.Argv) > 0:
			name = filepath.Base(p.Argv[0])
		}
		counts[name]++
	}
	var parts []string
	for name, n := range counts {
		parts = append(parts, fmt.Sprintf("%s %d", name, n))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}
