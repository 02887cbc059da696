package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"gitlab-runner-tart-driver/internal/crash"
	"gitlab-runner-tart-driver/internal/host"
	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/keeper"
	"gitlab-runner-tart-driver/internal/tart"
)

const (
	// powerOffLimit is how long an orphaned VM may take to end by SIGINT.
	powerOffLimit = 3 * time.Second
	// claimLimit is how long cleanup waits for whoever still holds the record of its job, before it uses force and after: a prepare
	// that is being ended, or a `tart clone` that outlived its prepare.
	claimLimit = 15 * time.Second
)

// Client gets the tart client, which may not be had: most of what is to be cleared up needs none.
type Client func() (*tart.Client, error)

// Swept is what a sweep did.
type Swept struct {
	// VMs that were removed, by name.
	VMs []string
	// Errors are about what could not be removed; the next sweep tries again.
	Errors []error
}

// Sweep removes what crashes left: VMs whose keeper is gone, and VMs of this state directory that have no record. A record whose lock
// is held is never touched, so living jobs are safe. VMs that were tried in vain just now are left to the next sweep.
func Sweep(ctx context.Context, state *host.State, client Client, inVain ...string) Swept {
	var swept Swept
	names, err := state.Names()
	if err != nil {
		swept.Errors = append(swept.Errors, err)
	}
	// A VM always has its record before it exists: one that is listed here, and has no record after that, is nobody's.
	vms, err := LocalVMs(ctx, client)
	if err != nil && (len(names) > 0 || !errors.Is(err, tart.ErrNotFound)) { // without tart and records nothing was ever made
		swept.Errors = append(swept.Errors, err)
	}
	for _, name := range names {
		if slices.Contains(inVain, name) {
			continue
		}
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
		if slices.Contains(swept.VMs, name) || !Unrecorded(state, client, name) {
			continue
		}
		if err := destroyVM(ctx, client, name); err != nil {
			swept.Errors = append(swept.Errors, fmt.Errorf("remove VM %s, which has no record: %w", name, err))
			continue
		}
		swept.VMs = append(swept.VMs, name)
	}
	state.RemovePartial()
	return swept
}

// Unrecorded tells whether a VM that was listed before is one of this state directory that has no record. One whose job has ended meanwhile is none: its record
// goes after it.
func Unrecorded(state *host.State, client Client, name string) bool {
	if !state.Owns(name) || state.HasRecord(name) {
		return false
	}
	c, err := client()
	return err == nil && !c.VMDirGone(name)
}

// LocalVMs are the names of all local VMs.
func LocalVMs(ctx context.Context, client Client) (names []string, err error) {
	c, err := client()
	if err != nil {
		return nil, err
	}
	if names, ok := c.VMDirs(); ok {
		return names, nil
	}
	vms, err := c.List(ctx)
	for _, vm := range vms {
		names = append(names, vm.Name)
	}
	return names, err
}

func destroyVM(ctx context.Context, client Client, name string) error {
	c, err := client()
	if err != nil {
		return err
	}
	return c.Destroy(ctx, name)
}

// destroyOrphan destroys a VM that nobody answers for, whose record this process has claimed. On failure the record stays.
func destroyOrphan(ctx context.Context, client Client, entry *host.Entry) error {
	crash.Point("sweep: orphan claimed")
	tart.PowerOffOrphan(entry.Record.Run, powerOffLimit)
	crash.Point("sweep: orphan powered off")
	if err := destroyVM(ctx, client, entry.Record.VM); err != nil {
		entry.Release()
		return fmt.Errorf("remove VM %s, whose keeper is gone: %w", entry.Record.VM, err)
	}
	crash.Point("sweep: orphan deleted")
	return entry.Remove()
}

// destroyJob destroys the VM of a record, through its keeper where that lives. timedOut is as in keeper.Stop.
func destroyJob(ctx context.Context, state *host.State, client Client, rec host.Record, timedOut bool) error {
	if entry, ok, err := state.Claim(rec.VM); ok || err != nil {
		if err != nil {
			return err
		}
		return destroyOrphan(ctx, client, entry)
	}
	err := keeper.Stop(ctx, state, rec.VM, rec.JobKey, timedOut)
	if refused := (*job.Failure)(nil); err == nil || errors.As(err, &refused) {
		return err
	}
	// The record is held, yet no keeper answers: there is none yet, or it is stuck. The job is over, so whoever it is may end.
	for _, force := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		rec.Prepare.Signal(force)
		rec.Keeper.Signal(force)
		entry, gone, werr := waitForRecord(ctx, state, rec.VM)
		switch {
		case entry != nil:
			return destroyOrphan(ctx, client, entry)
		case gone || werr != nil:
			return werr
		}
	}
	return fmt.Errorf("the record of VM %s is still held, and no keeper answers: %w", rec.VM, err)
}

// waitForRecord waits until a record can be claimed or is gone, but not for ever.
func waitForRecord(ctx context.Context, state *host.State, vm string) (entry *host.Entry, gone bool, err error) {
	limit := time.NewTimer(claimLimit)
	defer limit.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for state.HasRecord(vm) {
		if entry, ok, err := state.Claim(vm); ok || err != nil {
			return entry, false, err
		}
		select {
		case <-limit.C:
			return nil, false, nil
		case <-ctx.Done():
			return nil, false, context.Cause(ctx)
		case <-tick.C:
		}
	}
	return nil, true, nil
}
