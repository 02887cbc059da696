package keeper

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gitlab-runner-tart-driver/internal/guest"
	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/tart"
	"gitlab-runner-tart-driver/internal/wait"
)

// way is a transport that is ready, or fails, after a while.
type way struct {
	after time.Duration
	err   error
}

// attempt is way as a function of eitherWay's; its guest is in made.
func (w way) attempt(made *guest.Guest) func(context.Context) contacted {
	return func(ctx context.Context) contacted {
		if err := wait.For(ctx, w.after); err != nil {
			return contacted{err: asFailure(err, "")}
		}
		if w.err != nil {
			return contacted{err: w.err}
		}
		*made = guest.NewAgent(nil)
		return contacted{link: &link{guest: *made}}
	}
}

func TestEitherWay(t *testing.T) {
	refused := job.Mistake(fmt.Errorf("%w as user %q", guest.ErrAuth, "admin"), "set TART_SSH_PASSWORD")
	noAddress := job.Infrastructure(errors.New("no address"), "")
	noAgent := job.Infrastructure(errors.New("no agent"), "")
	old := job.Mistake(errors.New("no tart exec"), "")
	const never = 10 * time.Minute
	for name, c := range map[string]struct {
		agent, ssh way
		byAgent    bool
		how        string
		took       time.Duration
	}{
		"the agent is first":               {agent: way{after: time.Second}, ssh: way{after: 2 * time.Second}, byAgent: true, how: "guest agent answers", took: time.Second},
		"the agent is nearly as fast":      {agent: way{after: 2*time.Second + agentPreference/2}, ssh: way{after: 2 * time.Second}, byAgent: true, how: "guest agent answers", took: 2*time.Second + agentPreference/2},
		"SSH is first":                     {agent: way{after: never}, ssh: way{after: 2 * time.Second}, how: "logged in by SSH", took: 2*time.Second + agentPreference},
		"tart is too old":                  {agent: way{after: time.Second, err: old}, ssh: way{after: 3 * time.Second}, how: "no tart exec", took: 3 * time.Second},
		"no agent within the time":         {agent: way{after: time.Minute, err: noAgent}, ssh: way{after: 2 * time.Minute}, how: "no agent", took: 2 * time.Minute},
		"the login is refused":             {agent: way{after: 2*time.Second + agentGrace/2}, ssh: way{after: 2 * time.Second, err: refused}, byAgent: true, how: "login refused", took: 2*time.Second + agentGrace/2},
		"no address within the time":       {agent: way{after: 2 * time.Minute}, ssh: way{after: time.Minute, err: noAddress}, byAgent: true, how: "no address", took: 2 * time.Minute},
		"SSH does not work, but the agent": {agent: way{after: time.Second}, ssh: way{after: time.Second / 2, err: noAddress}, byAgent: true, how: "no address", took: time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			var agent, ssh guest.Guest
			got, how := eitherWay(t.Context(), c.agent.attempt(&agent), c.ssh.attempt(&ssh))
			took := time.Since(began)
			synctest.Wait()
			want, other := ssh, agent
			if c.byAgent {
				want, other = agent, ssh
			}
			if got.err != nil || want == nil || got.link.guest != want || want.Cause() != nil || !strings.Contains(how, c.how) || took != c.took {
				t.Errorf("%s: got %+v, %q after %s", name, got, how, took)
			}
			time.Sleep(never)
			if other != nil && other.Cause() == nil && c.byAgent {
				t.Errorf("%s: the other connection stays open", name)
			}
		})
	}
	for name, c := range map[string]struct {
		agent, ssh way
		says       []string
		mistake    bool
		took       time.Duration
	}{
		"refused, and no agent": {way{after: never}, way{after: 2 * time.Second, err: refused}, []string{"login refused", "agent does not answer"}, true, 2*time.Second + agentGrace},
		"neither in time":       {way{time.Minute, noAgent}, way{2 * time.Minute, noAddress}, []string{"no address", "no agent"}, false, 2 * time.Minute},
		"neither, SSH first":    {way{time.Minute, noAgent}, way{time.Second, noAddress}, []string{"no address", "no agent"}, false, time.Minute},
		"refused after no exec": {way{time.Second, old}, way{2 * time.Second, refused}, []string{"login refused", "no tart exec"}, true, 2 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			var agent, ssh guest.Guest
			got, _ := eitherWay(t.Context(), c.agent.attempt(&agent), c.ssh.attempt(&ssh))
			f := (*job.Failure)(nil)
			if took := time.Since(began); !errors.As(got.err, &f) || f.Job != c.mistake || took != c.took || errors.Is(got.err, errNotInTime) {
				t.Fatalf("%s: got %#v after %s", name, got.err, took)
			}
			for _, text := range c.says {
				if strings.Count(got.err.Error(), text) != 1 {
					t.Errorf("%s: got %q, want %q once", name, got.err, text)
				}
			}
		})
	}
}

// TestTheVMsEndIsToldOnce has a VM that ends while both ways are waited for.
func TestTheVMsEndIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := job.Infrastructure(&tart.Error{Kind: tart.KindVMLimit, Command: "run", Text: "too many"}, "reboot")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(ended) })
		var agent, ssh guest.Guest
		w := way{after: time.Hour}
		got, _ := eitherWay(ctx, w.attempt(&agent), w.attempt(&ssh))
		if tart.KindOf(got.err) != tart.KindVMLimit || got.err.Error() != ended.Error() {
			t.Errorf("got %v", got.err)
		}
	})
}

func TestWhatIsFinalAboutAnAgent(t *testing.T) {
	lost := func(kind tart.Kind) error {
		return fmt.Errorf("%w: %w", guest.ErrLost, &tart.Error{Kind: kind, Command: "exec"})
	}
	for name, c := range map[string]struct {
		err     error
		final   bool
		mistake bool
	}{
		"it answers":         {nil, false, false},
		"not there yet":      {lost(tart.KindNoAgent), false, false},
		"VM not running yet": {lost(tart.KindNotRunning), false, false},
		"the stream breaks":  {fmt.Errorf("%w: exit code 1", guest.ErrLost), false, false},
		"tart has no exec":   {lost(tart.KindUsage), true, true},
		"no command works":   {errors.New("exit status 127"), true, false},
		"a full disk":        {guest.ErrNoStatus, true, false},
	} {
		err := agentFinal(t.Context(), c.err)
		f := (*job.Failure)(nil)
		if (err != nil) != c.final || c.final && (!errors.As(err, &f) || f.Job != c.mistake || f.Hint == "" || !errors.Is(err, c.err)) {
			t.Errorf("%s: got %#v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := agentFinal(ctx, errors.New("ended")); err != nil {
		t.Errorf("after the end: %v", err)
	}
}

// TestWaitsAreTold has a VM that gets an address after 40 seconds, and a login 10 seconds later.
func TestWaitsAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var told []string
		what := atomic.Value{}
		what.Store(rungs[rungAddress].waiting)
		stop := tellWaits(func(e Event) { told = append(told, fmt.Sprint(time.Since(began), " ", e.Note)) }, func() string { return what.Load().(string) })
		time.Sleep(40 * time.Second)
		what.Store(rungs[rungPort].waiting)
		time.Sleep(10 * time.Second)
		stop()
		time.Sleep(time.Hour)
		want := []string{
			"15s waiting for 15s: the VM got no IP address so far", "30s waiting for 30s: the VM got no IP address so far",
			"45s waiting for 45s: the VM has an address, but its SSH port cannot be reached so far",
		}
		if !slices.Equal(told, want) {
			t.Errorf("told was %q, want %q", told, want)
		}
	})
}
