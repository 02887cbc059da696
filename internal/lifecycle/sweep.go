package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"gitlab-runner-tart-driver/internal/host"
	"gitlab-runner-tart-driver/internal/keeper"
	"gitlab-runner-tart-driver/internal/tart"
)

const (
	// powerOffLimit is how long an orphaned VM may take to end by SIGINT.
	powerOffLimit = 3 * time.Second
	// claimLimit is how long cleanup waits for whoever still holds the record of its job: a prepare that is being ended, or a
	// `tart clone` that outlived its prepare.
	claimLimit = 30 * time.Second
)

// Swept is what a sweep did.
type Swept struct {
	// VMs that were removed, by name.
	VMs []string
	// Errors are about what could not be removed; the next sweep tries again.
	Errors []error
}

// Sweep removes what crashes left: VMs whose keeper is gone, and VMs of this state directory that have no record. A record whose lock
// is held is never touched, so living jobs are safe.
func Sweep(ctx context.Context, state *host.State, client *tart.Client) Swept {
	var swept Swept
	names, err := state.Names()
	if err != nil {
		swept.Errors = append(swept.Errors, err)
	}
	// VMs first, records second: a VM always has its record before it exists.
	vms, ok := client.VMDirs()
	if !ok {
		vms = nil
		listed, err := client.List(ctx)
		if err != nil {
			swept.Errors = append(swept.Errors, err)
		}
		for _, vm := range listed {
			vms = append(vms, vm.Name)
		}
	}
	for _, name := range names {
		entry, ok, err := state.Claim(name)
		if err == nil && ok {
			err = destroyOrphan(ctx, client, entry)
		}
		if err != nil {
			swept.Errors = append(swept.Errors, err)
		} else if ok {
			swept.VMs = append(swept.VMs, name)
		}
	}
	for _, name := range vms {
		if !state.Owns(name) || state.HasRecord(name) {
			continue
		}
		if err := client.Destroy(ctx, name); err != nil {
			swept.Errors = append(swept.Errors, fmt.Errorf("remove VM %s, which has no record: %w", name, err))
			continue
		}
		swept.VMs = append(swept.VMs, name)
	}
	state.RemovePartial()
	return swept
}

// destroyOrphan destroys a VM that nobody answers for, whose record this process has claimed. On failure the record stays.
func destroyOrphan(ctx context.Context, client *tart.Client, entry *host.Entry) error {
	tart.PowerOffOrphan(entry.Record.Run, powerOffLimit)
	if err := client.Destroy(ctx, entry.Record.VM); err != nil {
		entry.Release()
		return fmt.Errorf("remove VM %s, whose keeper is gone: %w", entry.Record.VM, err)
	}
	return entry.Remove()
}

// destroyJob destroys the VM of a record, through its keeper where that lives.
func destroyJob(ctx context.Context, state *host.State, client *tart.Client, rec host.Record) error {
	if entry, ok, err := state.Claim(rec.VM); ok || err != nil {
		if err != nil {
			return err
		}
		return destroyOrphan(ctx, client, entry)
	}
	err := keeper.Stop(ctx, state, rec.VM, rec.JobKey)
	if err == nil || !errors.Is(err, keeper.ErrNoKeeper) {
		return err
	}
	// Nobody answers, yet the record is held: a prepare that has no keeper yet. The job is over, so it may end.
	rec.Prepare.Signal(syscall.SIGTERM)
	ctx, cancel := context.WithTimeoutCause(ctx, claimLimit, fmt.Errorf("the record of VM %s is still held after %s", rec.VM, claimLimit))
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for state.HasRecord(rec.VM) {
		entry, ok, err := state.Claim(rec.VM)
		if err != nil {
			return err
		}
		if ok {
			return destroyOrphan(ctx, client, entry)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	return nil
}
