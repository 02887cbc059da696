package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"gitlab-runner-tart-driver/internal/crash"
	"gitlab-runner-tart-driver/internal/guest"
	"gitlab-runner-tart-driver/internal/host"
	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/proc"
	"gitlab-runner-tart-driver/internal/tart"
	"gitlab-runner-tart-driver/internal/wait"
)

// climb starts the VM and climbs from rung to rung until the guest runs commands.
func (k *Keeper) climb(ctx context.Context) (guest.Info, error) {
	began := time.Now()
	dropped := false
	for {
		info, err := k.climbOnce(ctx)
		if tart.KindOf(err) == tart.KindRestore && !dropped && ctx.Err() == nil {
			k.tell(Event{Note: fmt.Sprintf("the suspended guest cannot go on (%v); the VM boots instead", err)})
			dropped = true
			if err := k.tart.Stop(ctx, k.p.VM, 0); err != nil { // drops the state
				return info, job.Infrastructure(fmt.Errorf("drop the suspended state: %w", err), "")
			}
			continue
		}
		if tart.KindOf(err) == tart.KindUsage && !k.p.Run.Plain && ctx.Err() == nil {
			k.tell(Event{Note: fmt.Sprintf("this version of tart does not take all options (%v); starting the VM without those that can be spared", err)})
			k.p.Run.Plain = true
			continue
		}
		if tart.KindOf(err) != tart.KindVMLimit || time.Since(began) > k.p.LimitPatience || ctx.Err() != nil {
			return info, err
		}
		k.tell(Event{Note: fmt.Sprintf("the host runs as many macOS VMs as Apple allows (%v); trying again", err)})
		if err := wait.For(ctx, min(5*time.Second, 250*time.Millisecond+time.Since(began)/4)); err != nil {
			return guest.Info{}, err
		}
	}
}

// climbOnce is climb for one `tart run`.
func (k *Keeper) climbOnce(ctx context.Context) (guest.Info, error) {
	began := time.Now()
	suspended := k.tart.Suspended(k.p.VM)
	run, err := k.startRun()
	if err != nil {
		return guest.Info{}, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() { // the end of `tart run` ends every wait at once
		select {
		case <-run.Ended():
			cancel(k.startFailure(run))
		case <-ctx.Done():
		}
	}()
	crash.Point("keeper: VM started")
	if suspended {
		if err := k.awaitUse(ctx); err != nil {
			return guest.Info{}, err
		}
	}
	k.step(&began, "VM started")
	l, info, err := k.contact(ctx, &began)
	if err != nil {
		return guest.Info{}, err
	}
	crash.Point("keeper: guest reached")
	if k.p.SSHKey {
		locked, err := k.lock(ctx, l)
		if err != nil {
			l.guest.Close()
			return guest.Info{}, err
		}
		l = locked
		k.step(&began, "nobody else can log in by SSH")
	}
	k.mu.Lock()
	k.guest, k.info = l, info
	k.mu.Unlock()
	k.step(&began, fmt.Sprintf("guest is %s %s on %s, scripts run with %s", info.OS, info.Version, info.Arch, info.Shell))
	return info, nil
}

// step tells prepare of a step that has just been finished.
func (k *Keeper) step(began *time.Time, text string) {
	now := time.Now()
	k.log.Printf("%s (%s)", text, now.Sub(*began))
	k.tell(Event{Step: text, Took: now.Sub(*began)})
	*began = now
}

func (k *Keeper) startRun() (*tart.Run, error) {
	run, err := k.tart.StartRun(k.p.VM, k.p.Run, []*os.File{k.slot.File()}, func(id proc.ID) error {
		return k.entry.Update(func(r *host.Record) { r.Run = id })
	})
	if err != nil {
		return nil, job.Infrastructure(fmt.Errorf("start the VM: %w", err), "")
	}
	k.mu.Lock()
	k.run = run
	k.mu.Unlock()
	return run, nil
}

// awaitUse waits until tart has settled which MAC address the clone of a suspended VM has: at first it is that of all such clones, and the address that
// belongs to it may be another VM's.
func (k *Keeper) awaitUse(ctx context.Context) error {
	limit := k.p.Timeout
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("`tart run` has not begun to run the VM within %s", limit))
	defer cancel()
	if err := k.tart.AwaitUse(ctx, k.p.VM); err != nil {
		return asFailure(err, "another tart may keep it waiting, such as one that clones or downloads; a slow host may need a higher --timeout or TART_EXECUTOR_TIMEOUT")
	}
	return nil
}

// startFailure explains a `tart run` that ended before the guest was ready.
func (k *Keeper) startFailure(run *tart.Run) error {
	reason := run.Reason()
	hint := "`tart run` of this image by hand on the host shows more"
	switch reason.Kind {
	case tart.KindVMLimit:
		hint = "Apple allows two running macOS VMs on a host; `tart list` shows those of this user. If none runs, only a reboot of the host frees the places"
	case tart.KindKeychain:
		hint = "since macOS 15 a VM needs an unlocked login keychain: log in once on the host's screen, or run `security unlock-keychain login.keychain`; see https://tart.run/faq/"
	}
	reason.Text = reasonText(reason)
	return job.Infrastructure(fmt.Errorf("the VM ended while it started: %w", reason), "%s", hint)
}

// survey is the last rung: the guest runs commands.
func (k *Keeper) survey(ctx context.Context, g guest.Guest) (guest.Info, error) {
	limit := k.p.Timeout
	sctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %s", limit))
	defer cancel()
	info, err := g.Survey(sctx, k.p.Shell, k.p.Dirs...)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return guest.Info{}, asFailure(fmt.Errorf("run a first command in the VM: %w", err),
			"the login works, but no command; look at the user's shell and its startup files in the image")
	}
	return info, k.usable(info)
}

// usable refuses a guest that no job could work in.
func (k *Keeper) usable(info guest.Info) error {
	if len(info.Unwritable) == 0 {
		return nil
	}
	return job.Mistake(
		fmt.Errorf("user %q of the VM can neither write to %s nor make it with sudo", info.User, strings.Join(info.Unwritable, " and ")),
		"let the image's user use sudo without a password, or choose other directories with --guest-builds-dir and --guest-cache-dir")
}

// asFailure keeps a failure as it is, and takes anything else for the infrastructure's.
func asFailure(err error, hint string) error {
	if f := (*job.Failure)(nil); errors.As(err, &f) {
		return &job.Failure{Job: f.Job, Err: err, Hint: f.Hint}
	}
	return job.Infrastructure(err, "%s", hint)
}
