package keeper

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"gitlab-runner-tart-driver/internal/guest"
)

// script is how a script of a stage ended.
type script struct {
	stage string
	code  int
	err   error
}

func TestWhichJobsAreHeld(t *testing.T) {
	lost := fmt.Errorf("while the script ran: %w", guest.ErrLost)
	ended := fmt.Errorf("%w: %w", guest.ErrEnded, errCanceled)
	late := fmt.Errorf("%w: %w", guest.ErrEnded, errTimedOut)
	for name, c := range map[string]struct {
		scripts []script
		byHand  time.Duration
		held    time.Duration
		told    int // how often the job's log is told
	}{
		"no script":                      {},
		"success":                        {scripts: []script{{"prepare_script", 0, nil}, {"build_script", 0, nil}, {"after_script", 0, nil}}},
		"failure":                        {scripts: []script{{"build_script", 1, nil}, {"after_script", 0, nil}, {"upload_artifacts_on_failure", 0, nil}}, held: time.Hour, told: 1},
		"failed after_script":            {scripts: []script{{"build_script", 0, nil}, {"after_script", 1, nil}, {"cleanup_file_variables", 1, nil}}},
		"failed upload":                  {scripts: []script{{"build_script", 0, nil}, {"upload_artifacts_on_success", 1, nil}}, held: time.Hour, told: 1},
		"two failures":                   {scripts: []script{{"build_script", 1, nil}, {"archive_cache_on_failure", 1, nil}}, held: time.Hour, told: 1},
		"connection lost":                {scripts: []script{{"build_script", 0, lost}}, held: time.Hour, told: 1},
		"second attempt succeeds":        {scripts: []script{{"get_sources", 1, nil}, {"clear_worktree", 1, nil}, {"get_sources", 0, nil}, {"build_script", 0, nil}}, told: 1},
		"all attempts fail":              {scripts: []script{{"get_sources", 1, nil}, {"get_sources", 1, nil}}, held: time.Hour, told: 1},
		"canceled":                       {scripts: []script{{"build_script", 0, ended}, {"after_script", 0, nil}, {"upload_artifacts_on_failure", 1, nil}}},
		"canceled after a failure":       {scripts: []script{{"build_script", 1, nil}, {"after_script", 0, ended}}, told: 1},
		"canceled before the connection": {scripts: []script{{"build_script", 0, errCanceled}}},
		"timed out":                      {scripts: []script{{"build_script", 0, late}}, held: time.Hour, told: 1},
		"timed out at the end":           {scripts: []script{{"build_script", 0, nil}, {"after_script", 0, late}}, held: time.Hour, told: 1},
		"timed out after a failure":      {scripts: []script{{"build_script", 1, nil}, {"after_script", 0, late}}, held: time.Hour, told: 1},
		"by hand":                        {byHand: time.Minute, held: time.Minute},
		"by hand, canceled":              {scripts: []script{{"build_script", 0, ended}}, byHand: time.Minute, held: time.Minute},
		"by hand, failure":               {scripts: []script{{"build_script", 1, nil}}, byHand: time.Minute, held: time.Minute, told: 1},
	} {
		k := &Keeper{p: Params{HoldOnFailure: time.Hour}}
		k.outcome.byHand = c.byHand
		told := 0
		for _, s := range c.scripts {
			if k.judge(s.stage, guest.Status{Code: s.code}, s.err) > 0 {
				told++
			}
		}
		if got := k.holdTime(); got != c.held || told != c.told {
			t.Errorf("%s: held for %s, told %d times; want %s, %d", name, got, told, c.held, c.told)
		}
		if c.byHand == 0 {
			k.p.HoldOnFailure = 0
			if got := k.holdTime(); got != 0 {
				t.Errorf("%s: held for %s although nobody wants it", name, got)
			}
		}
	}
}

func TestAnswersGoToThoseWhoAsked(t *testing.T) {
	k := &Keeper{}
	stop, release, hold := make(chan ending, 1), make(chan ending, 1), make(chan ending, 1)
	k.waiters = []waiter{{stopAsked, stop}, {released, release}, {holdAsked, hold}}
	until := time.Now()
	k.answer(ending{heldUntil: until}, stopAsked)
	if e := <-stop; !e.heldUntil.Equal(until) || len(k.waiters) != 2 {
		t.Errorf("cleanup is told %+v; %d wait", e, len(k.waiters))
	}
	broken := errors.New("tart is broken")
	k.answerWaiters(broken)
	if e := <-release; !errors.Is(e.err, broken) {
		t.Errorf("release is told %v", e.err)
	}
	if e := <-hold; e.err == nil {
		t.Error("hold is told that a VM is held which is gone")
	}
}

// TestScriptTimeout has GitLab Runner end a script by RUNNER_SCRIPT_TIMEOUT, which only the stages after it say.
func TestScriptTimeout(t *testing.T) {
	k := &Keeper{p: Params{HoldOnFailure: time.Hour}}
	if told := k.judge("build_script", guest.Status{}, errCanceled); told != 0 {
		t.Error("held before it is known")
	}
	k.noteTimeout()
	if told := k.judge("after_script", guest.Status{}, nil); told != time.Hour {
		t.Errorf("the log is told %s", told)
	}
	if told := k.judge("cleanup_file_variables", guest.Status{}, nil); told != 0 || k.holdTime() != time.Hour {
		t.Errorf("held for %s, the log is told a second time: %s", k.holdTime(), told)
	}
}

func TestWhyCanceled(t *testing.T) {
	at := time.Now()
	for _, c := range []struct {
		timesOut, now time.Time
		want          error
	}{{at, at.Add(-1), errCanceled}, {at, at, errTimedOut}, {at, at.Add(time.Hour), errTimedOut}, {time.Time{}, at, errCanceled}} {
		k := &Keeper{p: Params{TimesOut: c.timesOut}}
		if got := k.whyCanceled(c.now); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
