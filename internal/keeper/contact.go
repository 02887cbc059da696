package keeper

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gitlab-runner-tart-driver/internal/guest"
	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/tart"
)

// Transports.
const (
	transportSSH   = "ssh"
	transportAgent = "agent"
)

const (
	// agentTry bounds one question to an agent that may not be there: `tart exec` waits about ten seconds for it.
	agentTry = 15 * time.Second
	// agentGrace is what the agent gets when the SSH server has refused the login for good.
	agentGrace = 2 * time.Second
)

// contacted is a guest that runs commands.
type contacted struct {
	link *link
	info guest.Info
	err  error
}

// contact gets to a guest that runs commands, by the transport that is asked for. With both, the first that is ready serves the job: the other
// may never be.
func (k *Keeper) contact(ctx context.Context, began *time.Time) (*link, guest.Info, error) {
	switch k.p.Transport {
	case transportAgent:
		c := k.byAgent(ctx)
		if c.err == nil {
			k.step(began, "guest agent answers")
		}
		return c.link, c.info, c.err
	case transportSSH, "":
		c := k.bySSH(ctx, func(r rung, l *link) { k.step(began, rungs[r].done(k, l)) })
		return c.link, c.info, c.err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	agent, overSSH := make(chan contacted, 1), make(chan contacted, 1)
	go func() { agent <- k.byAgent(ctx) }()
	go func() { overSSH <- k.bySSH(ctx, func(rung, *link) {}) }()
	first, way, other := contacted{}, "", agent
	select {
	case first = <-agent:
		way, other = "the guest agent answers first", overSSH
	case first = <-overSSH:
		way = "logged in as " + k.p.Login.User + " by SSH first"
	}
	if first.err != nil { // then the other way decides
		if errors.Is(first.err, guest.ErrAuth) {
			grace := time.AfterFunc(agentGrace, func() { cancel(first.err) })
			defer grace.Stop()
		}
		second := <-other
		if second.err != nil {
			return nil, guest.Info{}, asFailure(fmt.Errorf("%w; and %w", first.err, second.err), "")
		}
		first, way = second, "one way works, the other does not: "+first.err.Error()
	}
	k.step(began, way)
	return first.link, first.info, nil
}

// bySSH climbs the ladder to an SSH login, and runs a first command.
func (k *Keeper) bySSH(ctx context.Context, passed func(rung, *link)) contacted {
	l, err := k.reach(ctx, &link{}, passed)
	if err != nil {
		return contacted{err: err}
	}
	info, err := k.survey(ctx, l.guest)
	return contacted{l, info, err}
}

// byAgent waits for the guest agent. Its first answer is that to the survey.
func (k *Keeper) byAgent(ctx context.Context) contacted {
	a := k.agent()
	until := time.Now().Add(k.p.Timeout)
	for began := time.Now(); ; {
		tctx, cancel := context.WithTimeout(ctx, min(agentTry, max(time.Until(until), time.Second)))
		info, err := a.Survey(tctx, k.p.Shell, k.p.Dirs...)
		cancel()
		switch {
		case ctx.Err() != nil:
			return contacted{err: asFailure(context.Cause(ctx), "")}
		case err == nil:
			return contacted{&link{guest: a}, info, k.usable(info)}
		case tart.KindOf(err) == tart.KindUsage:
			return contacted{err: job.Mistake(fmt.Errorf("this version of tart has no `tart exec`: %w", err), "update tart on the host, or use --transport ssh")}
		case time.Now().After(until):
			return contacted{err: job.Infrastructure(fmt.Errorf("the VM's guest agent does not answer within %s: %w", k.p.Timeout, err),
				"does the image have Tart's guest agent, and is its user logged in automatically? See https://github.com/openai/tart-guest-agent; "+
					"--transport ssh does without it")}
		}
		if err := pause(ctx, pace(time.Since(began))); err != nil {
			return contacted{err: asFailure(err, "")}
		}
	}
}

// agent is the guest by way of its agent.
func (k *Keeper) agent() *guest.Agent {
	return guest.NewAgent(func(ctx context.Context, argv []string, streams guest.Streams) (int, error) {
		return k.tart.Exec(ctx, k.p.VM, argv, tart.ExecStreams(streams))
	})
}
