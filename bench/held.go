package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"gitlab-runner-tart-driver/bench/report"
	"gitlab-runner-tart-driver/internal/trial"
)

// held is a job that is stopped after a stage, so that its driver can be called with other scripts.
type held struct {
	d *driver
	// config is the command line of config, run that of a script without its two arguments. environ and dir are those of the stages.
	config, run []string
	environ     []string
	dir         string
	// vm is the job's VM, guest where its SSH server listens; empty before prepare.
	vm    string
	guest netip.AddrPort
	// scripts counts what was called so far.
	scripts int
}

// hold runs a job up to a stage, hands it to use, and ends it.
func (b *bench) hold(ctx context.Context, d *driver, after string, use func(context.Context, *held) error) error {
	errNotReached := errors.New("the job did not get so far")
	usage := errNotReached
	before := b.host.vms()
	opts := b.trialOptions(d)
	opts.Hooks.Ended = func(t *trial.Trial, s trial.StageResult) {
		if s.Name != after || s.Err != nil || usage != errNotReached {
			return
		}
		h := &held{d: d, environ: s.Environ, dir: s.TempDir}
		h.config = append([]string{opts.Driver.Config.Path}, opts.Driver.Config.Args...)
		h.run = append([]string{opts.Driver.Run.Path}, opts.Driver.Run.Args...)
		usage = b.find(h, before)
		if usage == nil {
			usage = use(ctx, h)
		}
		if usage != nil || after == trial.StageConfig {
			t.Abort()
		}
	}
	result, err := trial.Run(ctx, d.job(imageName(bootDelays()[0])), opts)
	switch {
	case err != nil:
		return err
	case usage == errNotReached:
		return errors.Join(usage, failure(d, result))
	case usage == nil && after != trial.StageConfig:
		return failure(d, result)
	default:
		return usage
	}
}

// find fills in the job's VM: the one that was not there before.
func (b *bench) find(h *held, before []string) error {
	for _, name := range b.host.vms() {
		if !slices.Contains(before, name) {
			h.vm = name
		}
	}
	if h.vm == "" {
		return nil
	}
	var err error
	h.guest, err = b.host.guestAt(h.vm)
	return err
}

// holdAll holds a job of every driver at once, so that they can take turns.
func (b *bench) holdAll(ctx context.Context, after string, use func(context.Context, []*held) error) error {
	drivers := b.drivers
	var next func(ctx context.Context, all []*held) error
	next = func(ctx context.Context, all []*held) error {
		if len(all) == len(drivers) {
			return use(ctx, all)
		}
		return b.hold(ctx, drivers[len(all)], after, func(ctx context.Context, h *held) error { return next(ctx, append(all, h)) })
	}
	return next(ctx, nil)
}

// stage is a call of the run stage with a script, as GitLab Runner would make it.
func (h *held) stage(ctx context.Context, script string) (*exec.Cmd, error) {
	h.scripts++
	path := filepath.Join(h.dir, "bench-"+strconv.Itoa(h.scripts))
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		return nil, err
	}
	cmd := h.command(ctx, append(slices.Clone(h.run), path, "build_script"))
	return cmd, nil
}

func (h *held) command(ctx context.Context, argv []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = h.dir, h.environ
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// keepers are the driver's processes between two stages.
func (h *held) keepers() ([]int, error) {
	pids := h.d.residents()
	if len(pids) == 0 && h.d.column == report.Driver {
		return nil, fmt.Errorf("no process of %s is left between the stages", h.d.name)
	}
	return pids, nil
}
