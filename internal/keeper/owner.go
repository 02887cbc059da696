package keeper

import (
	"errors"
	"io/fs"
	"os"
	"time"

	"gitlab-runner-tart-driver/internal/proc"
)

const (
	// watchInterval is how often the keeper looks whether GitLab Runner still lives.
	watchInterval = 2 * time.Second
	// jobDirMisses is how often in a row the job's directory must be missing.
	jobDirMisses = 2
)

// watchOwner looks whether the GitLab Runner process that started the job still lives, and whether that has done with the job: it may do so without a
// cleanup that works.
func (k *Keeper) watchOwner() {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	missed := 0
	for {
		select {
		case <-k.condemned.Done():
			return
		case <-tick.C:
		}
		k.mu.Lock()
		gone := k.owner != nil && !k.owner.Alive()
		k.mu.Unlock()
		if gone {
			k.triggers <- runnerGone
			return
		}
		if _, err := os.Stat(k.p.JobDir); k.p.JobDir == "" || !errors.Is(err, fs.ErrNotExist) {
			missed = 0
		} else if missed++; missed == jobDirMisses {
			k.triggers <- jobOver
			return
		}
	}
}

// learnOwner finds the process that outlives stages from the parents of a second stage, where config had not told its own.
func (k *Keeper) learnOwner(ancestors []proc.ID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.owner == nil {
		if owner, ok := proc.Common(k.p.PrepareAncestors, ancestors); ok {
			k.owner = &owner
		}
	}
}
