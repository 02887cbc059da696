package keeper

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"gitlab-runner-tart-driver/internal/guest"
	"gitlab-runner-tart-driver/internal/history"
	"gitlab-runner-tart-driver/internal/host"
	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/wait"
)

// outcome is what the keeper has seen of its job, and what is to become of the VM afterwards. Keeper.mu guards it.
type outcome struct {
	// failed are the stages whose last script has failed. GitLab Runner tries some stages again.
	failed map[string]bool
	// ended says that a script was ended from outside: the job was canceled.
	ended bool
	// timedOut says that a script was ended because it took too long.
	timedOut bool
	// told says that the job's log has been told that the VM is to be held.
	told bool
	// byHand is how long somebody wants the VM to be held, however the job ends.
	byHand time.Duration
	// until is when a held VM goes.
	until time.Time
}

// harmless are stages whose failure is not the job's.
// https://docs.gitlab.com/runner/executors/custom/#run
var harmless = []string{"after_script", "cleanup_file_variables", "clear_worktree"}

// judge notes how a script has ended. holdFor is not zero when the job's log should be told how long the VM will be held.
func (k *Keeper) judge(stage string, status guest.Status, err error) (holdFor time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	o := &k.outcome
	switch {
	case errors.Is(err, errTimedOut):
		o.timedOut = true
	case errors.Is(err, guest.ErrEnded) || errors.Is(err, errCanceled):
		o.ended = true
		return 0
	case !slices.Contains(harmless, stage):
		if o.failed == nil {
			o.failed = map[string]bool{}
		}
		o.failed[stage] = err != nil || status.Code != 0
	}
	if (o.ended || !o.failed[stage]) && !o.timedOut || o.told {
		return 0
	}
	o.told = k.p.HoldOnFailure > 0
	return k.p.HoldOnFailure
}

// noteTimeout notes that GitLab Runner says that a script took too long.
func (k *Keeper) noteTimeout() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.outcome.timedOut = true
}

// holdTime is how long the VM is to be held now that its job is over; 0 for not at all.
func (k *Keeper) holdTime() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	if o := k.outcome; o.byHand > 0 {
		return o.byHand
	} else if o.timedOut {
		return k.p.HoldOnFailure
	} else if !o.ended {
		for _, failed := range o.failed {
			if failed {
				return k.p.HoldOnFailure
			}
		}
	}
	return 0
}

// orHold makes the end of a job the beginning of a hold where that is wanted, and where nobody waits for the VM's place.
func (k *Keeper) orHold(at phase, t trigger) trigger {
	ends := []trigger{stopAsked, runnerGone, jobOver, deadlineMet}
	if at != kept || !slices.Contains(ends, t) || k.holdTime() == 0 {
		return t
	}
	if k.state.SlotWanted(k.p.SlotIndex) {
		k.log.Print("not held: another job waits for the place")
		return t
	}
	k.log.Printf("%s: %s", holdBegins, t)
	return holdBegins
}

// hold begins to hold the VM, or does so anew. timer is what ends it, and t why.
func (k *Keeper) hold(timer *time.Timer, t trigger) {
	d := k.holdTime()
	until := time.Now().Add(d)
	timer.Reset(d)
	k.mu.Lock()
	again := !k.outcome.until.IsZero()
	k.outcome.until = until
	k.mu.Unlock()
	if err := k.entry.Update(func(r *host.Record) { r.HeldUntil = until.UTC() }); err != nil {
		k.log.Print(err)
	}
	if err := k.state.MarkHeld(k.p.SlotIndex, k.jobID, until.UTC()); err != nil {
		k.log.Print(err)
	}
	if !again {
		go k.watchQueue()
	}
	k.noteWay(held, t, until.UTC())
	k.answer(ending{heldUntil: until}, stopAsked, holdAsked)
}

// watchQueue gives the VM up when another job needs its place.
func (k *Keeper) watchQueue() {
	tick := time.NewTicker(queueInterval)
	defer tick.Stop()
	for {
		select {
		case <-k.condemned.Done():
			return
		case <-tick.C:
		}
		// A second look: a slot that is only being tried looks taken, and a job that takes another one stands in line for a moment.
		if k.state.SlotWanted(k.p.SlotIndex) && wait.For(k.condemned, queueInterval/4) == nil && k.state.SlotWanted(k.p.SlotIndex) {
			k.triggers <- slotWanted
			return
		}
	}
}

// ending is what becomes of a VM.
type ending struct {
	err       error
	heldUntil time.Time
	holdFor   time.Duration
}

// waiter is somebody who has asked for something, by way of a trigger, and waits for the answer.
type waiter struct {
	asked  trigger
	answer chan ending
}

// atTheEnd is what a waiter is told when the VM has been destroyed, or could not be.
func (w waiter) atTheEnd(err error) ending {
	if w.asked == holdAsked {
		return ending{err: job.Infrastructure(errors.New("the VM has been destroyed meanwhile"), "")}
	}
	return ending{err: err}
}

// ask puts something to the keeper and waits for what becomes of it.
func (k *Keeper) ask(t trigger) ending {
	w := waiter{t, make(chan ending, 1)}
	k.mu.Lock()
	if k.ended {
		defer k.mu.Unlock()
		return w.atTheEnd(k.end)
	}
	k.waiters = append(k.waiters, w)
	k.mu.Unlock()
	select {
	case k.triggers <- t:
		return <-w.answer
	case e := <-w.answer: // the end was there before it
		return e
	}
}

// answer tells those who have asked for one of these.
func (k *Keeper) answer(e ending, asked ...trigger) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.waiters = slices.DeleteFunc(k.waiters, func(w waiter) bool {
		ours := slices.Contains(asked, w.asked)
		if ours {
			w.answer <- e
		}
		return ours
	})
}

// answerWaiters tells all who wait for the VM's end what became of it, and those who will ask yet.
func (k *Keeper) answerWaiters(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ended, k.end = true, err
	for _, w := range k.waiters {
		w.answer <- w.atTheEnd(err)
	}
	k.waiters = nil
}

// decline answers what has not moved the keeper.
func (k *Keeper) decline(at phase, t trigger) {
	k.mu.Lock()
	until, byHand := k.outcome.until, k.outcome.byHand
	k.mu.Unlock()
	switch {
	case t == stopAsked && at == held:
		k.answer(ending{heldUntil: until}, t)
	case t == released && at == dead, t == holdAsked && at == dead:
		k.answer(ending{err: job.Infrastructure(k.lost, "the job's cleanup removes what is left of it")}, t)
	case t == released:
		k.answer(ending{err: job.Mistake(fmt.Errorf("VM %s is not held: its job still runs", k.p.VM),
			"cancel the job in GitLab, or take its VM away with --force")}, t)
	case t == holdAsked:
		k.note(history.Event{Kind: history.VMHoldAsked, ForMS: byHand.Milliseconds()})
		k.answer(ending{holdFor: byHand}, t)
	case at == held:
		k.log.Printf("still held, although %s", t)
	}
}

// askHold notes for how long the VM is to be held, by hand.
func (k *Keeper) askHold(d time.Duration) ending {
	k.mu.Lock()
	k.outcome.byHand = d
	k.mu.Unlock()
	return k.ask(holdAsked)
}
