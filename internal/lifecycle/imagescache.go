package lifecycle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"gitlab-runner-tart-driver/internal/host"
	"gitlab-runner-tart-driver/internal/image"
	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/settings"
	"gitlab-runner-tart-driver/internal/tart"
)

// Images looks after the cached images of a host.
type Images struct {
	Settings *settings.Settings
	State    *host.State
	Tart     *tart.Client
}

// pullRetryPause is the pause before a failed pull is tried again.
const pullRetryPause = 2 * time.Second

func (im *Images) list(ctx context.Context) ([]tart.VM, error) {
	rows, err := im.Tart.List(ctx)
	if err != nil {
		return nil, job.Infrastructure(fmt.Errorf("list VMs and images: %w", err), "does `tart list` work on the host, as the user that GitLab Runner runs as?")
	}
	return rows, nil
}

// present tells whether an image is on the host. Where it is seen at once, or is pulled anyway, tart need not be asked; and it must not be where a pull
// was broken off, which can go on as long as no other command has come first.
func (im *Images) present(ctx context.Context, ref image.Reference, policies []string) (bool, error) {
	if ref.Local() && im.Tart.HasVM(ref.Name) {
		return true, nil
	}
	if _, cached := im.Tart.Cached(ref.Name); cached || slices.Equal(policies, []string{"always"}) && !ref.Local() {
		return cached, nil
	}
	if !ref.Local() && !slices.Contains(policies, "never") && im.Tart.PartlyPulled(ref.Name) {
		return false, nil
	}
	rows, err := im.list(ctx)
	return slices.ContainsFunc(rows, func(v tart.VM) bool { return v.Name == ref.Name && v.Local() == ref.Local() }), err
}

// puller makes what pulls an image; who is told to others that wait for the same image.
func (im *Images) puller(ctx context.Context, ref image.Reference, logins image.Logins, who host.Holder, say func(string, ...any)) *image.Puller {
	s, client := im.Settings, im.Tart
	if s.AutoPrune {
		client = client.AutoPruning()
	}
	waited := false
	return &image.Puller{
		Tart: client, Insecure: s.InsecurePull, Concurrency: s.PullConcurrency, RetryPause: pullRetryPause, Say: say,
		Login: func(ctx context.Context) (*image.Login, string) { return logins.Choose(ctx, ref) },
		Turn: func(ctx context.Context) (*os.File, func(), error) {
			lock, err := im.State.TurnToPull(ctx, ref.Name, who, func(other host.Holder) {
				waited = true
				say("waiting: %s pulls image %s just now", describePuller(other), ref.Name)
			})
			if err != nil {
				return nil, nil, err
			}
			return lock.File(), lock.Release, nil
		},
		Came: func(ctx context.Context) bool {
			if !waited {
				return false
			}
			here, err := im.present(ctx, ref, nil)
			return here && err == nil
		},
		Room: func() error { return im.room(ctx, say) }, Full: im.watch(ctx),
	}
}

func describePuller(h host.Holder) string {
	if h.JobID == "" {
		return "another process"
	}
	return h.Describe()
}

// Pull brings an image up to date. percent shows progress on a terminal, and may be nil. The lock that is returned keeps the image from being
// removed.
func (im *Images) Pull(ctx context.Context, ref image.Reference, logins image.Logins, say func(string, ...any), percent func(int)) (done string, hold *host.Lock, err error) {
	if hold, err = im.State.HoldImage(ctx, ref.Name); err != nil {
		return "", nil, job.Infrastructure(err, "")
	}
	defer func() {
		if err != nil {
			hold.Release()
		}
	}()
	puller := im.puller(ctx, ref, logins, host.Holder{Since: time.Now().UTC()}, say)
	puller.Percent = percent
	if done, err = puller.Ensure(ctx, ref, []string{"always"}, false); err != nil {
		return "", nil, err
	}
	if digest, _ := im.Tart.Cached(ref.Name); digest != "" {
		done += ", " + digest
	}
	return done, hold, im.State.NoteImageUse(ref.Name, time.Now())
}

// room refuses where the disk is so full that neither a pull nor a VM should be begun. Where tart makes room by itself, it only warns.
func (im *Images) room(ctx context.Context, say func(string, ...any)) error {
	err := im.full()
	if err == nil {
		return nil
	}
	if im.Settings.AutoPrune {
		say("warning: %v; tart may remove cached images to make room (--auto-prune)", err)
		return nil
	}
	return im.explainFull(ctx, err)
}

// watch is room while a pull goes on; nil where tart makes room by itself.
func (im *Images) watch(ctx context.Context) func() error {
	if im.Settings.AutoPrune || im.Settings.DiskReserveGB == 0 {
		return nil
	}
	return func() error {
		if err := im.full(); err != nil {
			return im.explainFull(ctx, fmt.Errorf("the pull was ended: %w", err))
		}
		return nil
	}
}

// full tells of less free space than the reserve. VMs share their image's blocks, so only that counts.
func (im *Images) full() error {
	reserve := im.Settings.DiskReserveGB
	if reserve == 0 {
		return nil
	}
	free, err := host.FreeBytes(im.Tart.Home())
	if err != nil {
		return job.Infrastructure(err, "--disk-reserve 0 leaves the check out")
	}
	const gb = 1e9 // as tart and macOS count
	if float64(free) >= float64(reserve)*gb {
		return nil
	}
	return fmt.Errorf("the disk of %s is nearly full: %.1f GB are free, and %d GB should be (%s)", im.Tart.Home(), float64(free)/gb, reserve,
		originOf(im.Settings, "disk-reserve"))
}

// explainFull adds what takes room.
func (im *Images) explainFull(ctx context.Context, err error) error {
	if f := (*job.Failure)(nil); errors.As(err, &f) {
		return err
	}
	rows, _ := im.list(ctx)
	return job.Infrastructure(err, "what takes room: %s. `gitlab-runner-tart-driver images prune` removes cached images, --image-budget keeps them in bounds",
		im.takesRoom(rows))
}

// originOf says where a value comes from, that of a default too.
func originOf(s *settings.Settings, name string) string {
	if s.IsDefault(name) {
		return "the default of --" + name
	}
	return string(s.Origin(name))
}

// takesRoom names the largest images and VMs.
func (im *Images) takesRoom(rows []tart.VM) string {
	const most = 5
	type taker struct {
		name string
		gb   float64
	}
	var takers []taker
	for _, c := range image.Group(rows, im.digestOf, nil) {
		takers = append(takers, taker{"image " + c.Name(), c.SizeGB})
	}
	for _, row := range rows {
		if row.Local() {
			takers = append(takers, taker{"VM " + row.Name, float64(row.Size)})
		}
	}
	takers = slices.DeleteFunc(takers, func(t taker) bool { return t.gb == 0 })
	slices.SortStableFunc(takers, func(a, b taker) int { return cmp.Compare(b.gb, a.gb) })
	var names []string
	for i, t := range takers {
		if i == most {
			names = append(names, "…")
			break
		}
		names = append(names, fmt.Sprintf("%s %g GB", t.name, t.gb))
	}
	if len(names) == 0 {
		return "nothing that tart knows of"
	}
	return strings.Join(names, ", ")
}

// digestOf resolves a tag, if that is possible without tart.
func (im *Images) digestOf(reference string) string {
	digest, _ := im.Tart.Cached(reference)
	return digest
}
