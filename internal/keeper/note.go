package keeper

import (
	"os"
	"time"

	"gitlab-runner-tart-driver/internal/history"
)

// noteWay notes for people where a trigger has led to; until is for a VM that is held.
func (k *Keeper) noteWay(at phase, t trigger, until time.Time) {
	e := history.Event{Kind: kinds[at], Reason: string(t)}
	if at == held {
		e.Until = &until
	}
	if at == dead {
		e.Error, e.Blame = k.lost.Error(), "host"
	}
	k.note(e)
}

// note notes what has happened to the VM.
func (k *Keeper) note(e history.Event) {
	e.Time, e.JobID, e.Project, e.VM, e.PID, e.Start = time.Now(), k.jobID, k.project, k.p.VM, os.Getpid(), k.self.Start
	k.state.History().Note(e)
}
