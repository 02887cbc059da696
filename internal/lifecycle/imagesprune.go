package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"gitlab-runner-tart-driver/internal/host"
	"gitlab-runner-tart-driver/internal/image"
	"gitlab-runner-tart-driver/internal/job"
)

// Pruned is what a prune did.
type Pruned struct {
	// Removed are the images that were removed, or would be.
	Removed []image.Cached
	// LeftGB is what the others take.
	LeftGB float64
}

// Prune removes cached images, least recently used first, until the rest takes no more than budgetGB. It never removes what a job uses
// or waits for, and never a local VM. With dryRun it only says what it would remove.
func (im *Images) Prune(ctx context.Context, budgetGB int, dryRun bool) (Pruned, error) {
	turn, err := im.State.TurnToPrune(ctx)
	if err != nil {
		return Pruned{}, job.Infrastructure(err, "")
	}
	defer turn.Release()
	cached, err := im.grouped(ctx)
	if err != nil {
		return Pruned{}, err
	}
	pruned := Pruned{LeftGB: image.TotalGB(cached)}
	var errs []error
	for _, c := range cached {
		if pruned.LeftGB <= float64(budgetGB) || ctx.Err() != nil {
			break
		}
		switch ok, err := im.removeUnused(ctx, c, dryRun); {
		case err != nil:
			errs = append(errs, fmt.Errorf("remove image %s: %w", c.Name(), err))
		case ok:
			pruned.Removed = append(pruned.Removed, c)
			pruned.LeftGB -= c.SizeGB
		}
	}
	if err := errors.Join(errs...); err != nil {
		return pruned, job.Infrastructure(err, "")
	}
	return pruned, context.Cause(ctx)
}

// grouped are the cached images, least recently used first. Unlike a job, it has the time to ask tart what a tag points at.
func (im *Images) grouped(ctx context.Context) ([]image.Cached, error) {
	rows, err := im.list(ctx)
	if err != nil {
		return nil, err
	}
	return image.Group(rows, func(reference string) string {
		if digest := im.digestOf(reference); digest != "" {
			return digest
		}
		full, err := im.Tart.FQN(ctx, reference)
		if err != nil {
			return ""
		}
		_, digest, _ := strings.Cut(full, "@")
		return digest
	}, im.State.ImageUses()), nil
}

// removeUnused removes an image unless a job uses it or waits for it. A job holds its image until it has a record, and so what is not held
// here, and then not on record, is not used.
func (im *Images) removeUnused(ctx context.Context, c image.Cached, dryRun bool) (bool, error) {
	release, ok, err := im.State.TakeImage(c.Names()...)
	if !ok || err != nil {
		return false, err
	}
	defer release()
	records, err := im.State.Records()
	if err != nil {
		return false, err
	}
	if len(usersOf(c, records)) > 0 {
		return false, nil
	}
	if dryRun {
		return true, nil
	}
	for _, tag := range c.Tags {
		if err := im.Tart.DeleteImage(ctx, tag); err != nil {
			return false, err
		}
	}
	// With its last tag tart drops an image, unless it was also pulled by its digest.
	if _, left := im.Tart.Cached(c.Digest); left || len(c.Tags) == 0 {
		if err := im.Tart.DeleteImage(ctx, c.Digest); err != nil {
			return false, err
		}
	}
	for _, name := range c.Names() {
		im.State.ForgetImage(name)
	}
	return true, nil
}

func usersOf(c image.Cached, records []host.Record) []host.Record {
	var users []host.Record
	for _, r := range records {
		if slices.Contains(c.Names(), r.Image) {
			users = append(users, r)
		}
	}
	return users
}

// ImageInfo is a cached image, and who uses it.
type ImageInfo struct {
	image.Cached
	// Jobs have a VM of the image.
	Jobs []host.Record
	// Held says that a job is about to clone the image, or that it is being pulled.
	Held bool
}

// Info lists the cached images, most recently used first.
func (im *Images) Info(ctx context.Context) ([]ImageInfo, error) {
	cached, err := im.grouped(ctx)
	if err != nil {
		return nil, err
	}
	records, err := im.State.Records()
	if err != nil {
		return nil, job.Infrastructure(err, "")
	}
	var infos []ImageInfo
	for _, c := range slices.Backward(cached) {
		infos = append(infos, ImageInfo{Cached: c, Jobs: usersOf(c, records), Held: slices.ContainsFunc(c.Names(), im.State.ImageHeld)})
	}
	return infos, nil
}
