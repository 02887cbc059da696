package cli

import (
	"context"
	"errors"
	"fmt"

	"gitlab-runner-tart-driver/internal/gitlab"
	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/runnerconf"
	"gitlab-runner-tart-driver/internal/setup"
)

// verify asks GitLab whether it knows the runner, before anything is written.
func (f *setupFlags) verify(ctx context.Context, runner runnerconf.Runner) error {
	if f.dryRun || f.noVerify {
		f.say("note", "GitLab was not asked whether it knows the runner")
		return nil
	}
	if err := setup.CheckURL(runner.URL); err != nil {
		return job.Mistake(fmt.Errorf("%s: %w", runner.Describe(), err), "give it with --url")
	}
	if runner.Token == "" {
		return job.Mistake(fmt.Errorf("%s has no token", runner.Describe()), "give it with CI_SERVER_TOKEN in the environment, or --token - and the token on standard input")
	}
	id, change, err := setup.PlanSystemID(f.host, f.path)
	if err != nil {
		return job.Infrastructure(err, "")
	}
	if err := setup.Verify(ctx, f.host, runner, id); err != nil {
		return f.unverified(runner, err)
	}
	f.say("note", "GitLab at %s knows the runner", runner.URL)
	if proxy := gitlab.Proxy(runner.URL); proxy != "" {
		f.say("note", "GitLab was asked through the proxy %s; GitLab Runner needs the same variables where it is started", proxy)
	}
	if change != nil {
		f.plan(change, change.File.Path)
	}
	return nil
}

// unverified says what to do about a runner that GitLab doesn't know, or that it could not be asked about.
func (f *setupFlags) unverified(runner runnerconf.Runner, err error) error {
	err = fmt.Errorf("%w; nothing was written", err)
	switch {
	case errors.Is(err, gitlab.ErrRefused):
		return job.Mistake(err, "in GitLab, create the runner anew and take its token (glrt-…); that of a runner that was deleted is refused, too")
	case errors.Is(err, gitlab.ErrMoved):
		return job.Mistake(err, "GitLab Runner does not follow: give that address with --url")
	case errors.Is(err, gitlab.ErrNotGitLab):
		return job.Mistake(err, "--url is the address of GitLab itself, such as https://gitlab.com, without a group or project")
	case errors.Is(err, gitlab.ErrAuthority):
		return job.Mistake(err, "--tls-ca-file names the authority that vouches for %s, in PEM", runner.URL)
	}
	return job.Infrastructure(err, "is the address right, and does this host need a proxy (HTTPS_PROXY)? --no-verify writes without asking GitLab")
}
