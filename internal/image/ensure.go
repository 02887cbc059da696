package image

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"gitlab-runner-tart-driver/internal/crash"
	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/tart"
	"gitlab-runner-tart-driver/internal/wait"
)

// Puller brings images onto the host.
type Puller struct {
	Tart *tart.Client
	// Login finds the registry login for the image when one is needed, and what could not be used as a warning. It may be nil.
	Login func(context.Context) (login *Login, warning string)
	// Turn waits until nobody else on this host pulls the image, and keeps others from it until release is called. lock goes to tart, so that
	// its pull keeps others waiting even if this process is killed. It may be nil.
	Turn func(context.Context) (lock *os.File, release func(), err error)
	// Came tells, after the turn came, whether who had it before has brought the image; it is asked where the image is not seen in tart's cache. It may be nil.
	Came func(context.Context) bool
	// Room refuses where the disk is too full for a pull; Full tells of it while the pull goes on, and ends it. They may be nil.
	Room, Full func() error
	// Percent shows progress on a terminal, instead of lines. It may be nil.
	Percent func(percent int)
	// Insecure and Concurrency are as in tart.PullOptions.
	Insecure    bool
	Concurrency int
	// Say writes a line to the job log.
	Say func(format string, args ...any)
	// RetryPause is the pause before the second attempt; it doubles from there.
	RetryPause time.Duration
}

// What Ensure says of an image that it has pulled, and of one that was there already and is still what the registry has.
const (
	Pulled   = "pulled"
	UpToDate = "up to date"
)

// pullAttempts is for failures of network and registry. Tart itself tries each layer five times.
const pullAttempts = 3

// Ensure makes sure that the image is on the host, where it may be already, trying the policies one after the other as GitLab's Docker executor
// does. It returns what was done, for the job log.
func (p *Puller) Ensure(ctx context.Context, ref Reference, policies []string, here bool) (done string, err error) {
	if ref.Local() {
		if !here {
			return "", job.Mistake(fmt.Errorf("image %q: no VM of this name on the host", ref.Name),
				"a name without a slash is a local VM; `tart list` on the host shows them. An image in a registry is written HOST/PATH:TAG")
		}
		return "local VM", nil
	}
	if len(policies) == 0 {
		policies = []string{"if-not-present"}
	}
	for i, policy := range policies {
		done, err = p.apply(ctx, ref, policy, here)
		if err == nil || ctx.Err() != nil {
			return done, err
		}
		if i+1 < len(policies) {
			p.Say("pull policy %s: %v; trying pull policy %s", policy, err, policies[i+1])
		}
	}
	return "", err
}

func (p *Puller) apply(ctx context.Context, ref Reference, policy string, here bool) (string, error) {
	switch {
	case policy == "never" && !here:
		return "", job.Mistake(fmt.Errorf("image %q is not on the host, and its pull policy is never", ref.Name),
			"pull it on the host, or let TART_PULL_POLICY or image:pull_policy be if-not-present")
	case policy != "always" && here:
		return "cached", nil
	}
	return p.pullInTurn(ctx, ref, policy)
}

// pullInTurn pulls when nobody else on this host pulls the same image. Who was waiting for another's pull finds the image there; only always
// asks the registry once more, with the job's own login: an image that another job may pull is not for everybody.
func (p *Puller) pullInTurn(ctx context.Context, ref Reference, policy string) (string, error) {
	client := p.Tart
	if p.Turn != nil {
		lock, release, err := p.Turn(ctx)
		if err != nil {
			return "", job.Infrastructure(err, "")
		}
		defer release()
		client = client.Inheriting(lock)
	}
	crash.Point("image: turn to pull")
	before, here := client.Cached(ref.Name)
	if policy != "always" && (here || p.Came != nil && p.Came(ctx)) {
		return "pulled meanwhile by another job", nil
	}
	if p.Room != nil {
		if err := p.Room(); err != nil {
			return "", err
		}
	}
	if err := p.pull(ctx, client, ref); err != nil {
		return "", err
	}
	crash.Point("image: pulled")
	if after, _ := client.Cached(ref.Name); before != "" && after == before {
		return UpToDate, nil
	}
	return Pulled, nil
}

// pull pulls, and tries again where that can help.
func (p *Puller) pull(ctx context.Context, client *tart.Client, ref Reference) error {
	var login *Login
	if p.Login != nil {
		var warning string
		if login, warning = p.Login(ctx); warning != "" {
			p.Say("warning: %s", warning)
		}
	}
	opt := tart.PullOptions{Insecure: p.Insecure, Concurrency: p.Concurrency}
	if login != nil {
		opt.Credentials = &login.Credentials
		p.Say("pulling %s as user %q (%s)", ref.Name, login.Username, login.Origin)
	} else {
		p.Say("pulling %s", ref.Name)
	}
	pause := p.RetryPause
	for attempt := 1; ; attempt++ {
		show := newThrottle(p.Say)
		show.bar, show.ref = p.Percent, ref
		opt.Line = show.line
		full, err := p.watched(ctx, func(ctx context.Context) error { return client.Pull(ctx, ref.Name, opt) })
		if err == nil || ctx.Err() != nil {
			return err
		}
		if full != nil {
			return full
		}
		if mistake := mistakeOf(ref, login, err); mistake != nil {
			return mistake
		}
		if attempt == pullAttempts || tart.KindOf(err) == tart.KindNoSpace || tart.KindOf(err) == tart.KindCannotRun {
			return job.Infrastructure(fmt.Errorf("pull image %q: %w", ref.Name, err), "%s", pullHint(err))
		}
		// No other tart in between: all but pull and clone delete what was downloaded so far.
		p.Say("pull failed (%v); trying again in %s", err, pause)
		if err := wait.For(ctx, pause); err != nil {
			return err
		}
		pause *= 2
	}
}

// fullInterval is how often the disk is looked at during a pull.
const fullInterval = time.Second

// watched pulls, and ends that when the disk gets too full; full then says so.
func (p *Puller) watched(ctx context.Context, pull func(context.Context) error) (full, err error) {
	if p.Full == nil {
		return nil, pull(ctx)
	}
	pctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var watching sync.WaitGroup
	watching.Go(func() {
		tick := time.NewTicker(fullInterval)
		defer tick.Stop()
		for {
			select {
			case <-pctx.Done():
				return
			case <-tick.C:
			}
			if full = p.Full(); full != nil {
				cancel(fmt.Errorf("%w: %w", tart.ErrDiscard, full))
				return
			}
		}
	})
	err = pull(pctx)
	cancel(nil)
	watching.Wait()
	return full, err
}

// mistakeOf tells failures that no other attempt mends.
func mistakeOf(ref Reference, login *Login, err error) error {
	switch tart.KindOf(err) {
	case tart.KindAuth:
		if login == nil {
			return job.Mistake(fmt.Errorf("pull image %q: registry %s wants a login, and the job has none for it: %w", ref.Name, ref.Host, err),
				"set TART_REGISTRY, TART_REGISTRY_USERNAME and TART_REGISTRY_PASSWORD, or DOCKER_AUTH_CONFIG")
		}
		return job.Mistake(fmt.Errorf("pull image %q: registry %s refuses user %q (%s): %w", ref.Name, ref.Host, login.Username, login.Origin, err),
			"check user name, password and their right to read the image")
	case tart.KindImageNotFound:
		return job.Mistake(fmt.Errorf("image %q does not exist: %w", ref.Name, err), "check its name and tag; some registries also say so where a login is missing")
	case tart.KindBadName:
		return job.Mistake(fmt.Errorf("image %q: %w", ref.Name, err), "expected HOST/PATH:TAG")
	case tart.KindUsage:
		return job.Mistake(fmt.Errorf("pull image %q: this version of tart does not take a setting: %w", ref.Name, err), "update tart on the host")
	default:
		return nil
	}
}

func pullHint(err error) string {
	if tart.KindOf(err) == tart.KindNoSpace {
		return "the host's disk is full: `gitlab-runner-tart-driver images list` shows what takes room, `images prune` removes what was not used for long"
	}
	return "is the registry reachable from the host? What was downloaded is kept for the next attempt"
}
