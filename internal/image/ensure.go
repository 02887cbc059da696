package image

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/tart"
)

// Puller brings images onto the host.
type Puller struct {
	Tart  *tart.Client
	Login *Login
	// Insecure and Concurrency are as in tart.PullOptions.
	Insecure    bool
	Concurrency int
	// Say writes a line to the job log.
	Say func(format string, args ...any)
	// RetryPause is the pause before the second attempt; it doubles from there.
	RetryPause time.Duration
}

// pullAttempts is for failures of network and registry. Tart itself tries each layer five times.
const pullAttempts = 3

// Ensure makes sure that the image is on the host, trying the policies one after the other as GitLab's Docker executor does. It returns
// what was done, for the job log.
func (p *Puller) Ensure(ctx context.Context, ref Reference, policies []string, present []tart.VM) (done string, err error) {
	here := slices.ContainsFunc(present, func(v tart.VM) bool { return v.Name == ref.Name && v.Local() == ref.Local() })
	if ref.Local() {
		if !here {
			return "", job.Mistake(fmt.Errorf("image %q: no VM of this name on the host", ref.Name),
				"a name without a slash is a local VM; `tart list` on the host shows them. An image in a registry is written HOST/PATH:TAG")
		}
		return "local VM", nil
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
	if err := p.pull(ctx, ref); err != nil {
		return "", err
	}
	return "pulled", nil
}

// pull pulls, and tries again where that can help.
func (p *Puller) pull(ctx context.Context, ref Reference) error {
	var creds *tart.Credentials
	if p.Login != nil {
		creds = &p.Login.Credentials
		p.Say("pulling %s as user %q (%s)", ref.Name, p.Login.Username, p.Login.Origin)
	} else {
		p.Say("pulling %s", ref.Name)
	}
	wait := p.RetryPause
	for attempt := 1; ; attempt++ {
		show := newThrottle(p.Say)
		err := p.Tart.Pull(ctx, ref.Name, tart.PullOptions{Credentials: creds, Insecure: p.Insecure, Concurrency: p.Concurrency, Line: show.line})
		if err == nil || ctx.Err() != nil {
			return err
		}
		if mistake := p.mistake(ref, err); mistake != nil {
			return mistake
		}
		if attempt == pullAttempts || tart.KindOf(err) == tart.KindNoSpace || tart.KindOf(err) == tart.KindCannotRun {
			return job.Infrastructure(fmt.Errorf("pull image %q: %w", ref.Name, err), "%s", pullHint(err))
		}
		p.Say("pull failed (%v); trying again in %s", err, wait)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
		wait *= 2
	}
}

// mistake tells failures that no other attempt mends.
func (p *Puller) mistake(ref Reference, err error) error {
	switch tart.KindOf(err) {
	case tart.KindAuth:
		if p.Login == nil {
			return job.Mistake(fmt.Errorf("pull image %q: registry %s wants a login, and the job has none for it: %w", ref.Name, ref.Host, err),
				"set TART_REGISTRY, TART_REGISTRY_USERNAME and TART_REGISTRY_PASSWORD, or DOCKER_AUTH_CONFIG")
		}
		return job.Mistake(fmt.Errorf("pull image %q: registry %s refuses user %q (%s): %w", ref.Name, ref.Host, p.Login.Username, p.Login.Origin, err),
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
		return "the host's disk is full: `tart list --source oci` shows cached images, `tart prune` removes those unused for long"
	}
	return "is the registry reachable from the host? What was downloaded is kept for the next attempt"
}

// throttle lets through what a person wants to see of tart's progress: words, and every tenth percent.
type throttle struct {
	say  func(string, ...any)
	next int
}

func newThrottle(say func(string, ...any)) *throttle { return &throttle{say: say, next: 10} }

func (t *throttle) line(line string) {
	percent, err := strconv.Atoi(strings.TrimSuffix(line, "%"))
	if err != nil || !strings.HasSuffix(line, "%") {
		t.say("  %s", line)
		return
	}
	if percent < t.next {
		if percent < t.next-10 {
			t.next = 10 // tart starts over, with the next disk
		}
		return
	}
	t.say("  %d%%", percent)
	t.next = percent/10*10 + 10
}
