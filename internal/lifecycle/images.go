package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"gitlab-runner-tart-driver/internal/host"
	"gitlab-runner-tart-driver/internal/image"
	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/settings"
	"gitlab-runner-tart-driver/internal/tart"
)

// imageWork is what prepare's steps about the image hand on.
type imageWork struct {
	// policies are the pull policies to try in order.
	policies []string
	// hold keeps the image from being removed until its clone exists.
	hold *host.Lock
	// found says that the image was seen in tart's cache.
	found bool
}

// images are those of the host.
func (p *preparation) images() *Images {
	return &Images{Settings: p.Settings, State: p.State, Tart: p.tart}
}

// chooseImage works out the image, and refuses one that the job may not have.
func (p *preparation) chooseImage() (image.Reference, error) {
	name := p.Job.Image
	if name == "" {
		name = p.Settings.DefaultImage
	}
	if name == "" {
		return image.Reference{}, job.Mistake(errors.New("the job names no image"),
			"write `image: ghcr.io/cirruslabs/macos-sequoia-base:latest`, or the like, into .gitlab-ci.yml, or set --default-image on the host")
	}
	ref, err := image.Parse(name)
	if err != nil {
		return image.Reference{}, job.Mistake(err, "write a registry's image as HOST/PATH:TAG, and a VM of the host by its name")
	}
	if ref.Local() && host.IsJobVM(ref.Name) {
		return image.Reference{}, job.Mistake(fmt.Errorf("image %.100q is the VM of a job", name), "jobs can't have each other's VMs")
	}
	if err := image.NewRules(p.Settings).Check(ref, name); err != nil {
		return image.Reference{}, err
	}
	p.image.policies, err = p.pullPolicies()
	return ref, err
}

// pullPolicies are those of `image: pull_policy:` if the operator allows them all, or else the setting's. Policies that are not allowed are
// refused, not left out: a list must not bring in by its second item what its first one alone would be refused for.
// https://docs.gitlab.com/ci/yaml/#imagepull_policy
func (p *preparation) pullPolicies() ([]string, error) {
	s, asked := p.Settings, p.Job.ImagePullPolicies
	if len(asked) == 0 || slices.Equal(asked, s.PullPolicies) {
		return s.PullPolicies, nil
	}
	refuse := func(policy, format string, args ...any) error {
		return job.Mistake(fmt.Errorf("image:pull_policy: %.100q is not allowed on this runner: %s", policy, fmt.Sprintf(format, args...)),
			"leave pull_policy out of .gitlab-ci.yml, or choose what the operator allows")
	}
	if slices.Contains(s.Lock, "pull-policy") {
		return nil, refuse(strings.Join(asked, ", "), "only the operator sets pull-policy (%s)", s.Origin("lock"))
	}
	for _, policy := range asked {
		if !slices.Contains(settings.PullPolicies, policy) {
			return nil, job.Mistake(fmt.Errorf("image:pull_policy: %.100q is not a pull policy", policy), "expected one of %s", strings.Join(settings.PullPolicies, ", "))
		}
		if allowed := s.AllowedPullPolicies; len(allowed) > 0 && !slices.Contains(allowed, policy) {
			return nil, refuse(policy, "one of %s (%s)", strings.Join(allowed, ", "), s.Origin("allowed-pull-policy"))
		}
	}
	return asked, nil
}

// ensureImage makes sure that the image is on the host.
func (p *preparation) ensureImage(ctx context.Context, ref image.Reference) error {
	began := time.Now()
	if err := p.holdImage(ctx, ref); err != nil {
		return err
	}
	images := p.images()
	here, err := images.present(ctx, ref, p.image.policies)
	if err != nil {
		return err
	}
	endSection := func() {}
	inSection := false
	puller := images.puller(ctx, ref, image.Logins{Settings: p.Settings, Job: p.Job, Helpers: &image.Helpers{Environ: p.Environ}},
		host.Holder{JobID: p.Job.ID, Project: p.Job.Project, Since: began.UTC()},
		func(format string, args ...any) {
			if !inSection {
				inSection = true
				endSection = p.Log.Section("tart_pull", "Pulling image "+ref.Name)
			}
			p.Log.Linef(format, args...)
		})
	done, err := puller.Ensure(ctx, ref, p.image.policies, here)
	endSection()
	if err != nil {
		return err
	}
	pulled := done == image.Pulled
	what, took := fmt.Sprintf("image %s: %s", ref.Name, done), time.Since(began)
	p.stepLine(what, took)
	var digest string
	if digest, p.image.found = p.tart.Cached(ref.Name); digest != "" && !strings.Contains(ref.Name, "@") {
		p.Log.Linef("  %s", digest) // it would push the times out of their column
		what += ", " + digest
	}
	p.noteStep(what, took)
	if pulled {
		p.keepBudget(ctx)
	}
	return nil
}

// holdImage keeps the image from being removed, from before it is looked for until it is cloned.
func (p *preparation) holdImage(ctx context.Context, ref image.Reference) (err error) {
	if p.image.hold != nil || ref.Local() { // local VMs are never removed
		return nil
	}
	if p.image.hold, err = p.State.HoldImage(ctx, ref.Name); err != nil {
		return job.Infrastructure(err, "is the disk of %s full?", p.State.Dir())
	}
	return nil
}

// keepBudget removes images beyond the operator's budget. A job doesn't fail for that.
func (p *preparation) keepBudget(ctx context.Context) {
	budget := p.Settings.ImageBudgetGB
	if budget == 0 {
		return
	}
	pruned, err := p.images().Prune(ctx, budget, false)
	for _, c := range pruned.Removed {
		p.Log.Linef("removed image %s, of %g GB, to stay within %d GB (%s)", c.Name(), c.SizeGB, budget, p.Settings.Origin("image-budget"))
	}
	if err != nil {
		p.Log.Linef("warning: %v", err)
	}
	if pruned.LeftGB > float64(budget) {
		p.Log.Linef("warning: cached images take %g GB, and should take %d GB at most (%s); all that are left are in use", pruned.LeftGB, budget,
			p.Settings.Origin("image-budget"))
	}
}

// cloneImage makes the VM. The image was there when it was last looked for; if it is gone by now, a pull policy that would pull it is applied
// once more. tart itself would pull it whatever the policy.
func (p *preparation) cloneImage(ctx context.Context, client *tart.Client, ref image.Reference, name string) error {
	if err := p.images().room(ctx, p.Log.Linef); err != nil {
		return err
	}
	err := p.tryClone(ctx, client, ref, name)
	if errors.Is(err, tart.ErrNotCached) && !slices.Equal(p.image.policies, []string{"never"}) {
		p.Log.Linef("image %s was removed from the host just now", ref.Name)
		if err := p.ensureImage(ctx, ref); err != nil {
			return err
		}
		err = p.tryClone(ctx, client, ref, name)
	}
	if err == nil {
		if err := p.noteUse(ref); err != nil {
			p.Log.Linef("warning: %v", err)
		}
		p.image.hold.Release() // the record says so from here on
		return nil
	}
	if errors.Is(err, tart.ErrNotCached) || ref.Local() && tart.KindOf(err) == tart.KindNoSuchVM {
		return job.Infrastructure(fmt.Errorf("image %q was on the host when the job came, and was removed before it could be cloned", ref.Name),
			"does somebody else remove images, `tart prune` or another user of %s?", p.tart.Home())
	}
	return job.Infrastructure(fmt.Errorf("clone image %q: %w", ref.Name, err), "%s", cloneHint(err))
}

// tryClone clones, and fails with tart.ErrNotCached where tart would have to pull. The image's lock goes to tart, so that the image stays
// until a clone that outlives us is done.
func (p *preparation) tryClone(ctx context.Context, client *tart.Client, ref image.Reference, name string) error {
	if _, here := p.tart.Cached(ref.Name); p.image.found && !here {
		return tart.ErrNotCached
	}
	if p.image.hold != nil {
		client = client.Inheriting(p.image.hold.File())
	}
	if p.Settings.AutoPrune {
		client = client.AutoPruning()
	}
	return tart.Retry(ctx, func(ctx context.Context) error { return client.Clone(ctx, ref.Name, name) })
}

func (p *preparation) noteUse(ref image.Reference) error {
	if ref.Local() {
		return nil
	}
	return p.State.NoteImageUse(ref.Name, time.Now())
}

func cloneHint(err error) string {
	if tart.KindOf(err) == tart.KindNoSpace {
		return "the host's disk is full: `tart list` shows what takes room"
	}
	return ""
}
