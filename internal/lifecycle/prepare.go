package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"gitlab-runner-tart-driver/internal/crash"
	"gitlab-runner-tart-driver/internal/guest"
	"gitlab-runner-tart-driver/internal/history"
	"gitlab-runner-tart-driver/internal/host"
	"gitlab-runner-tart-driver/internal/image"
	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/keeper"
	"gitlab-runner-tart-driver/internal/proc"
	"gitlab-runner-tart-driver/internal/tart"
)

const (
	// deadlineMargin is what a VM gets beyond its job's timeout: for the stages that follow an aborted script, and GitLab Runner's
	// own waits. It only matters where the runner can't be watched.
	deadlineMargin = 30 * time.Minute
	// tidyLimit bounds the clearing up after a prepare that failed.
	tidyLimit = 90 * time.Second
)

// preparation is a prepare under way.
type preparation struct {
	*Stage
	tart  *tart.Client
	began time.Time
	slot  *host.Slot
	entry *host.Entry
	// vm is the VM's name once it has a record.
	vm string
	// steps are those that are done.
	steps []history.Step
	// image is what the steps about the image (images.go) hand on.
	image imageWork
	// ancestors are prepare's parents when it began. GitLab Runner may be gone, and not be among them any more, once an image is pulled or a place is free.
	ancestors []proc.ID
}

// Prepare makes the job's VM and leaves it ready for scripts, owned by its keeper. If it fails, or ctx ends, nothing of it is left.
func (s *Stage) Prepare(ctx context.Context, client *tart.Client) (err error) {
	if s.Job.Key == "" {
		return job.Infrastructure(errors.New("there is no job: neither JOB_RESPONSE_FILE nor CUSTOM_ENV_CI_JOB_ID says which"),
			"prepare is called by GitLab Runner; to run a job by hand, use `gitlab-runner-tart-driver try`")
	}
	p := &preparation{Stage: s, tart: client, began: time.Now(), ancestors: proc.Ancestors(os.Getpid())}
	ctx, stop := whileWanted(ctx, waitsFor(p.ancestors, s.Handover.Ancestors), wantedInterval)
	defer stop()
	p.noteBegan()
	defer func() {
		if err != nil {
			p.tidy()
			p.pruneHistory()
		}
		if cause := context.Cause(ctx); cause != nil && err != nil {
			err = job.Infrastructure(cause, "")
		}
		p.noteEnded(err)
	}()
	ref, err := p.chooseImage()
	if err != nil {
		return err
	}
	p.sweep(ctx)
	if err := p.ensureImage(ctx, ref); err != nil {
		return err
	}
	crash.Point("prepare: image held")
	if err := p.takeSlot(ctx, ref); err != nil {
		return err
	}
	if err := p.makeVM(ctx, ref); err != nil {
		return err
	}
	return p.boot(ctx)
}

// client is p.tart as a Client.
func (p *preparation) client() (*tart.Client, error) { return p.tart, nil }

// step writes a line about a finished step.
func (p *preparation) step(began time.Time, format string, args ...any) {
	what, took := fmt.Sprintf(format, args...), time.Since(began)
	p.stepLine(what, took)
	p.noteStep(what, took)
}

// stepLine writes the line, with times below one another.
func (p *preparation) stepLine(what string, took time.Duration) {
	p.Log.Linef("  %-58s %s", what, job.Took(took))
}

// sweep removes what earlier crashes left, and earlier VMs of this very job: GitLab Runner tries prepare three times.
func (p *preparation) sweep(ctx context.Context) {
	inVain, err := p.destroyOwn(ctx, p.client)
	if err != nil {
		p.Log.Linef("warning: %v", err)
	}
	swept := Sweep(ctx, p.State, p.client, inVain...)
	NoteSwept(p.State, swept)
	if p.historyLimits().None() || !p.State.History().Roomy() {
		p.pruneHistory()
	}
	for _, vm := range swept.VMs {
		p.Log.Linef("removed VM %s, which an earlier crash had left", vm)
	}
	for _, err := range swept.Errors {
		p.Log.Linef("warning: %v", err)
	}
}

// takeSlot waits for a place on the host. An image may be gone by the end of a long wait, and tart would pull it without a word.
func (p *preparation) takeSlot(ctx context.Context, ref image.Reference) error {
	began := time.Now()
	limit := p.Settings.SlotTimeout
	wctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no place for a VM became free within %s", limit))
	defer cancel()
	waited := false
	slot, err := p.State.TakeSlot(wctx, p.Settings.Slots(), host.Holder{JobID: p.Job.ID, Project: p.Job.Project, Since: began.UTC()},
		func(w host.Waiting) {
			waited = true
			holders := make([]string, len(w.Holders))
			for i, h := range w.Holders {
				holders[i] = h.Describe()
			}
			p.Log.Linef("waiting for a place for the VM, number %d in line; running: %s", w.Position, strings.Join(some(holders), ", "))
			p.noteWaiting(w, holders)
		})
	if err != nil {
		return job.Infrastructure(fmt.Errorf("wait for a place for the VM: %w", err),
			"the host runs up to %d VMs at once (--max-vm-count); `concurrent` in config.toml should not be higher", p.Settings.Slots())
	}
	p.slot = slot
	p.step(began, "place %d of %d on this host", slot.Index+1, p.Settings.Slots())
	if waited {
		return p.ensureImage(ctx, ref)
	}
	return nil
}

// some is a list of which a person reads all.
func some(all []string) []string {
	const most = 6
	if len(all) <= most {
		return all
	}
	return append(slices.Clone(all[:most-1]), fmt.Sprintf("and %d more", len(all)-most+1))
}

// makeVM writes the record, and then makes the VM. The record's lock goes to every tart that works on the VM: one that outlives us
// keeps sweeps from believing that the VM is abandoned.
func (p *preparation) makeVM(ctx context.Context, ref image.Reference) error {
	began := time.Now()
	name := p.Handover.VM
	if !p.State.Owns(name) || p.State.HasRecord(name) || slices.Contains(vmDirs(p.tart), name) {
		name = p.State.NewName(p.Job.ID) // no config stage, or the same handover a second time
	}
	self, err := proc.Of(os.Getpid())
	if err != nil {
		return job.Infrastructure(err, "")
	}
	p.entry, err = p.State.Create(host.Record{
		VM: name, JobKey: p.Job.Key, JobID: p.Job.ID, Project: p.Job.Project, Image: ref.Name, Created: p.began.UTC(), Prepare: self,
	})
	if err != nil {
		return job.Infrastructure(err, "is the disk of %s full?", p.State.Dir())
	}
	client := p.tart.Inheriting(p.entry.LockFile())
	if err := p.cloneImage(ctx, client, ref, name); err != nil {
		return err
	}
	p.vm = name
	p.step(began, "VM %s cloned", name)
	crash.Point("prepare: cloned")
	err = p.setHardware(ctx, client, name)
	crash.Point("prepare: hardware set")
	return err
}

func vmDirs(client *tart.Client) []string {
	names, _ := client.VMDirs()
	return names
}

// boot starts the VM's keeper, waits for the guest, sets it up, and leaves both to the job.
func (p *preparation) boot(ctx context.Context) error {
	shares, err := p.workOutShares()
	if err != nil {
		return err
	}
	k, err := keeper.Start(p.Executable, p.Environ, p.keeperParams(shares), p.entry.LockFile(), p.slot.File(), p.State.KeeperLog(p.vm))
	if err != nil {
		return job.Infrastructure(err, "")
	}
	crash.Point("prepare: keeper started")
	// Record and slot are the keeper's from here on: what must go if it fails goes with it.
	p.entry.Release()
	p.slot.Release()
	p.entry, p.slot = nil, nil
	info, err := k.Await(ctx, func(e keeper.Event) {
		if e.Note != "" {
			p.Log.Linef("%s", e.Note)
			return
		}
		p.stepLine(e.Step, e.Took)
		p.noteStep(e.Step, e.Took)
	})
	if err != nil {
		return err
	}
	crash.Point("prepare: guest ready")
	if s := p.Settings; s.Shell != info.Shell {
		p.Log.Linef("warning: the VM has no %s (%s); scripts run with %s", s.Shell, s.Origin("shell"), info.Shell)
		if path.Base(info.Shell) == "sh" { // https://docs.gitlab.com/runner/configuration/feature-flags/
			p.Log.Linef("warning: GitLab Runner writes scripts for bash; where %s is none, such as dash, set FF_POSIXLY_CORRECT_ESCAPES to true among the job's variables", info.Shell)
		}
	}
	if err := p.provision(ctx, info, shares.mounts); err != nil {
		return err
	}
	crash.Point("prepare: guest set up")
	if err := k.Commit(); err != nil {
		return err
	}
	crash.Point("prepare: handed over")
	if ctx.Err() != nil { // GitLab Runner takes a prepare that ends well for a job that may go on
		return context.Cause(ctx)
	}
	p.Log.Linef("VM %s is ready after %s", p.vm, job.Took(time.Since(p.began)))
	return nil
}

// keeperParams is what the keeper has to know.
func (p *preparation) keeperParams(shares shares) keeper.Params {
	s := p.Settings
	builds, cache := p.guestDirs()
	dirs := []string{builds, cache}
	for _, m := range shares.mounts { // a share comes with its place
		dirs = slices.DeleteFunc(dirs, func(d string) bool { return d == m.Target })
	}
	return keeper.Params{
		StateDir: p.State.Dir(), VM: p.vm, SlotIndex: p.slot.Index, Tart: p.tart.Path(),
		Run: tart.RunOptions{
			Graphics: !s.Headless, VNC: s.VNC, Nested: s.Nested, Softnet: s.Softnet, SoftnetAllow: s.SoftnetAllow, Bridged: s.Bridged,
			RootDiskOpts: s.RootDiskOpts, Disks: s.Disks, Dirs: shares.dirs, Env: runEnv(s.TartRunEnv, p.Environ), LogPath: p.State.RunLog(p.vm),
		},
		Login:       guest.Login{User: s.SSHUsername, Password: s.SSHPassword},
		LoginOrigin: fmt.Sprintf("user name from %s, password from %s", s.Origin("default-ssh-user"), s.Origin("default-ssh-password")),
		SSHKey:      s.SSHKey, Port: s.SSHPort, Shell: s.Shell, Dirs: dirs, Transport: s.Transport, Resolver: resolverOf(s),
		Timeout: s.Timeout, LimitPatience: s.SlotTimeout, JobDir: job.Environ(p.Environ).JobDir(), Deadline: time.Now().Add(p.Job.Timeout + deadlineMargin),
		TimesOut: timesOut(p.Job), HoldOnFailure: s.HoldOnFailure, History: p.historyLimits(),
		PrepareAncestors: p.ancestors, ConfigAncestors: p.Handover.Ancestors,
	}
}

// runEnv are the variables that the operator wants `tart run` to have; a bare name stands for the runner's own value.
func runEnv(wanted, environ []string) []string {
	var env []string
	for _, kv := range wanted {
		if name, _, ok := strings.Cut(kv, "="); !ok {
			kv = name + "=" + job.Environ(environ).Get(name)
		}
		env = append(env, kv)
	}
	return env
}

// tidy removes what a failed prepare has made so far, whatever ended it.
func (p *preparation) tidy() {
	ctx, cancel := context.WithTimeout(context.Background(), tidyLimit)
	defer cancel()
	var err error
	switch {
	case p.entry != nil:
		err = destroyOrphan(ctx, p.client, p.entry)
	case p.vm != "" && p.State.HasRecord(p.vm):
		err = destroyJob(ctx, p.State, p.client, host.Record{VM: p.vm, JobKey: p.Job.Key}, false)
	}
	if err != nil {
		p.Log.Linef("warning: %v", err)
	}
	if p.slot != nil {
		p.slot.Release()
	}
}
