package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"gitlab-runner-tart-driver/bench/stats"
	"gitlab-runner-tart-driver/internal/tartsim/simconf"
)

// tartDo calls tart.
func (h *host) tartDo(ctx context.Context, args ...string) error {
	_, err := h.output(ctx, h.tart(), args...)
	return err
}

// tartStartUp is what a call of tart takes beyond the time that it records itself, from the start of its work to its end.
func (b *bench) tartStartUp(ctx context.Context) (time.Duration, error) {
	var beyond []float64
	for range b.opts.repeat(2) {
		if err := b.host.forgetCalls(); err != nil {
			return 0, err
		}
		began := time.Now()
		if err := b.host.tartDo(ctx, "get", "base", "--format", "json"); err != nil {
			return 0, err
		}
		took := time.Since(began)
		calls, err := simconf.ReadCalls(b.host.tartHome())
		if err != nil {
			return 0, err
		}
		if len(calls) != 1 || calls[0].End == nil {
			return 0, fmt.Errorf("one call of tart, and its record is %+v", calls)
		}
		beyond = append(beyond, float64(took-calls[0].End.Sub(calls[0].Start)))
	}
	return time.Duration(stats.Median(beyond)), nil
}

// endByHand makes a VM as a job would have it, and returns how long `tart stop` and `tart delete` take for it.
func (b *bench) endByHand(ctx context.Context) (took time.Duration, err error) {
	const name = "by-hand"
	wctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	ready := b.host.watchReady(wctx, b.host.vms())
	if err := b.host.tartDo(ctx, "clone", imageName(bootDelays()[0]), name); err != nil {
		return 0, err
	}
	vm := exec.CommandContext(ctx, b.host.tart(), "run", name, "--no-graphics")
	vm.Cancel = func() error { return vm.Process.Signal(os.Interrupt) }
	vm.Env = b.host.environ()
	if err := vm.Start(); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, vm.Wait()) }()
	if at := <-ready; at.IsZero() {
		return 0, errors.Join(errors.New("a VM that was started by hand does not boot"), vm.Cancel())
	}
	began := time.Now()
	if err := b.host.tartDo(ctx, "stop", name); err != nil {
		return 0, errors.Join(err, vm.Cancel())
	}
	if err := b.host.tartDo(ctx, "delete", name); err != nil {
		return 0, err
	}
	return time.Since(began), nil
}
