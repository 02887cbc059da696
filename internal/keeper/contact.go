package keeper

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"gitlab-runner-tart-driver/internal/guest"
	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/tart"
	"gitlab-runner-tart-driver/internal/wait"
)

// Transports.
const (
	transportSSH   = "ssh"
	transportAgent = "agent"
)

const (
	// agentAskers are so many questions to the agent that may be open at once. Tart waits about ten seconds for an agent that is not there
	// yet, and tries again more and more seldom; the first one that gets through counts.
	agentAskers = 4
	// agentStagger is between the first questions.
	agentStagger = time.Second
	// agentTry bounds one question.
	agentTry = 15 * time.Second
	// agentPreference is what the agent gets when SSH is ready first: it needs no network that a script could break.
	agentPreference = 500 * time.Millisecond
	// agentGrace is what it gets when SSH is no way for good, because the login was refused.
	agentGrace = 2 * time.Second
)

// contacted is a guest that runs commands.
type contacted struct {
	link *link
	info guest.Info
	err  error
}

// contact gets to a guest that runs commands, by the transport that is asked for.
func (k *Keeper) contact(ctx context.Context, began *time.Time) (*link, guest.Info, error) {
	var c contacted
	var at atomic.Int32 // the rung that is next, by SSH
	defer tellWaits(k.tell, func() string {
		if k.p.Transport == transportAgent {
			return agentWaiting
		}
		return rungs[rung(at.Load())].waiting
	})()
	switch k.p.Transport {
	case transportAgent:
		if c = k.byAgent(ctx); c.err == nil {
			k.step(began, "guest agent answers")
		}
	case transportSSH, "":
		c = k.bySSH(ctx, k.p.Login, func(r rung, l *link) {
			at.Store(int32(r) + 1)
			k.step(began, rungs[r].done(k, l))
		})
	default:
		way, login := "", k.p.Login
		if c, way = eitherWay(ctx, k.byAgent, func(ctx context.Context) contacted {
			return k.bySSH(ctx, login, func(r rung, _ *link) { at.Store(int32(r) + 1) })
		}); c.err == nil {
			k.step(began, way)
		}
	}
	return c.link, c.info, c.err
}

// waitTold is how often prepare is told of a wait that goes on.
const waitTold = 15 * time.Second

// agentWaiting is what a wait for the agent is for, as rungs have it for SSH.
const agentWaiting = "the VM's guest agent does not answer"

// tellWaits tells prepare now and then what is still waited for, until stop has returned.
func tellWaits(tell func(Event), what func() string) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		began, tick := time.Now(), time.NewTicker(waitTold)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				tell(Event{Note: fmt.Sprintf("waiting for %s: %s so far", time.Since(began).Round(time.Second), what())})
			}
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}

// eitherWay tries both ways at once. The agent is preferred where it is ready in time; the way that works serves the job where the other one
// does not.
func eitherWay(ctx context.Context, byAgent, bySSH func(context.Context) contacted) (c contacted, how string) {
	outer := ctx
	ctx, cancel := context.WithCancelCause(outer)
	defer cancel(nil)
	agent, overSSH := make(chan contacted, 1), make(chan contacted, 1)
	go func() { agent <- byAgent(ctx) }()
	go func() { overSSH <- bySSH(ctx) }()
	var a, s contacted
	select {
	case a = <-agent:
		if a.err == nil {
			go drop(overSSH)
			return a, "guest agent answers"
		}
		if s = <-overSSH; s.err == nil {
			return s, fmt.Sprintf("logged in by SSH; the guest agent cannot be used: %v", a.err)
		}
	case s = <-overSSH:
		grace := agentPreference
		if s.err != nil {
			grace = agentGrace
		}
		// What the job or the image is to blame for is known early; what was waited for in vain, the agent has been given as long.
		if f := (*job.Failure)(nil); s.err == nil || errors.As(s.err, &f) && f.Job {
			timer := time.AfterFunc(grace, func() { cancel(errNotInTime) })
			defer timer.Stop()
		}
		a = <-agent
		switch {
		case a.err == nil && s.err == nil:
			s.link.guest.Close()
			return a, "guest agent answers"
		case a.err == nil:
			return a, fmt.Sprintf("guest agent answers; SSH cannot be used: %v", s.err)
		case s.err == nil:
			return s, "logged in by SSH; the guest agent does not answer yet"
		}
	}
	if cause := context.Cause(outer); cause != nil {
		return contacted{err: asFailure(cause, "")}, ""
	}
	if errors.Is(a.err, errNotInTime) {
		return contacted{err: asFailure(fmt.Errorf("%w, and the VM's guest agent does not answer", s.err), "")}, ""
	}
	return contacted{err: asFailure(fmt.Errorf("%w; and %w", s.err, a.err), "")}, ""
}

// errNotInTime ends the wait for an agent that SSH can do without, or that is not there.
var errNotInTime = errors.New("not in time")

// drop closes a connection that nobody needs.
func drop(late <-chan contacted) {
	if c := <-late; c.err == nil {
		c.link.guest.Close()
	}
}

// bySSH climbs the ladder to an SSH login, and runs a first command. A guest that is still starting may end a connection that it has taken, as when
// its network or SSH server starts once more: then there is another login, for as long as a first one may take.
func (k *Keeper) bySSH(ctx context.Context, login guest.Login, passed func(rung, *link)) contacted {
	known := &link{login: login}
	var began time.Time
	for {
		l, err := k.reach(ctx, known, passed)
		if err != nil {
			return contacted{err: err}
		}
		if began.IsZero() {
			began = time.Now()
		}
		info, err := k.survey(ctx, l.guest)
		if err == nil {
			return contacted{link: l, info: info}
		}
		l.guest.Close()
		if !errors.Is(err, guest.ErrLost) || time.Since(began) > k.p.Timeout || wait.For(ctx, loginPauses[0]) != nil {
			return contacted{err: err}
		}
		k.log.Printf("logging in again: %v", err)
		known = &link{login: login, addr: l.addr}
		passed = func(rung, *link) {}
	}
}

// byAgent waits for the guest agent. Its first answer is that to the survey.
func (k *Keeper) byAgent(outer context.Context) contacted {
	ctx, cancel := context.WithTimeout(outer, k.p.Timeout)
	defer cancel()
	a := k.agent()
	found, failed := make(chan contacted, agentAskers), make(chan error, 1)
	for i := range agentAskers {
		go func() {
			for gap := time.Duration(i) * agentStagger; wait.For(ctx, gap) == nil; {
				began := time.Now()
				info, err := k.askAgent(ctx, a)
				if final := agentFinal(ctx, err); err == nil || final != nil {
					found <- contacted{&link{guest: a}, info, final}
					return
				}
				select {
				case failed <- err:
				case <-ctx.Done():
				}
				gap = 4 * pace(time.Since(began)) // each is a process
				if i > 0 {                        // the first one watches for the moment from which on tart takes questions at all
					gap = agentStagger
				}
			}
		}()
	}
	var last error
	for {
		select {
		case c := <-found:
			if c.err == nil {
				c.err = k.usable(c.info)
			}
			return c
		case last = <-failed:
		case <-ctx.Done():
			if cause := context.Cause(outer); cause != nil {
				return contacted{err: asFailure(cause, "")}
			}
			return contacted{err: agentStuck(k.p.Timeout, last)}
		}
	}
}

// askAgent asks the agent what the guest is.
func (k *Keeper) askAgent(ctx context.Context, a *guest.Agent) (guest.Info, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, agentTry, fmt.Errorf("%w: no answer for %s", guest.ErrLost, agentTry))
	defer cancel()
	return a.Survey(ctx, k.p.Shell, k.p.Dirs...)
}

// agentFinal is what no other question would change; nil if one might.
func agentFinal(ctx context.Context, err error) error {
	switch {
	case err == nil || ctx.Err() != nil:
		return nil
	case tart.KindOf(err) == tart.KindUsage:
		return job.Mistake(fmt.Errorf("this version of tart has no `tart exec`: %w", err), "update tart on the host, to 2.28.2 at least, or use --transport ssh")
	case errors.Is(err, guest.ErrLost):
		return nil
	default:
		return asFailure(fmt.Errorf("run a first command in the VM: %w", err),
			"the guest agent answers, but no command works; look at the user's environment in the image")
	}
}

// agentStuck explains an agent that did not answer in time.
func agentStuck(limit time.Duration, last error) error {
	err := fmt.Errorf("the VM's guest agent does not answer within %s", limit)
	if last != nil {
		err = fmt.Errorf("%w: %w", err, last)
	}
	return job.Infrastructure(err, "does the image have Tart's guest agent, and is its user logged in automatically? See https://github.com/openai/tart-guest-agent. "+
		"A slow image may need a higher --timeout or TART_EXECUTOR_TIMEOUT; --transport ssh does without the agent")
}

// agent is the guest by way of its agent.
func (k *Keeper) agent() *guest.Agent {
	return guest.NewAgent(func(ctx context.Context, argv []string, streams guest.Streams) (int, error) {
		return k.tart.Exec(ctx, k.p.VM, argv, tart.ExecStreams(streams))
	})
}
