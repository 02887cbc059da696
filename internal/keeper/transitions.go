package keeper

import "gitlab-runner-tart-driver/internal/history"

// phase is where a keeper is in its VM's life.
type phase string

const (
	booting    phase = "booting"    // the VM comes up
	ready      phase = "ready"      // it is up; prepare has not taken it over yet
	kept       phase = "kept"       // it is the job's
	held       phase = "held"       // the job is over, and people may look into its VM for a while
	dead       phase = "dead"       // it ended by itself; stages are told why until cleanup comes
	destroying phase = "destroying" // everything goes
)

// kinds are the events of a keeper's ways, by where they lead.
var kinds = map[phase]history.Kind{ready: history.VMReady, kept: history.VMKept, held: history.VMHeld, dead: history.VMDead, destroying: history.VMDestroying}

// trigger is what moves a keeper on.
type trigger string

const (
	ladderClimbed trigger = "guest is ready"
	ladderFailed  trigger = "guest did not get ready"
	committed     trigger = "prepare handed the VM over"
	prepareGone   trigger = "prepare ended before it handed the VM over"
	vmEnded       trigger = "the VM ended by itself"
	stopAsked     trigger = "cleanup asks for it"
	runnerGone    trigger = "the GitLab Runner process that started the job is gone"
	jobOver       trigger = "GitLab Runner has removed the job's directory, which it does after cleanup"
	deadlineMet   trigger = "the job's deadline has passed"
	signaled      trigger = "the keeper was asked to end by a signal"

	holdBegins  trigger = "the job is over, and its VM is to be held"
	holdAsked   trigger = "somebody asks for the VM to be held"
	holdOver    trigger = "the time for which the VM was to be held is over"
	slotWanted  trigger = "another job waits for the held VM's place"
	released    trigger = "somebody gives the held VM back"
	forciblyEnd trigger = "somebody gives the VM back, whatever its job does"
)

// transitions are all ways through a keeper's life. What is not here does not move it. Destroying is final.
var transitions = map[phase]map[trigger]phase{
	booting: {
		ladderClimbed: ready,
		ladderFailed:  destroying,
		prepareGone:   destroying,
		stopAsked:     destroying,
		runnerGone:    destroying,
		jobOver:       destroying,
		deadlineMet:   destroying,
		signaled:      destroying,
		forciblyEnd:   destroying,
	},
	ready: {
		committed:   kept,
		prepareGone: destroying,
		vmEnded:     dead,
		stopAsked:   destroying,
		runnerGone:  destroying,
		jobOver:     destroying,
		deadlineMet: destroying,
		signaled:    destroying,
		forciblyEnd: destroying,
	},
	kept: {
		holdBegins:  held,
		vmEnded:     dead,
		stopAsked:   destroying,
		runnerGone:  destroying,
		jobOver:     destroying,
		deadlineMet: destroying,
		signaled:    destroying,
		forciblyEnd: destroying,
	},
	held: { // GitLab Runner has done with the job: neither its directory nor its process, nor another cleanup, has a say any more
		holdAsked:   held,
		holdOver:    destroying,
		slotWanted:  destroying,
		released:    destroying,
		forciblyEnd: destroying,
		vmEnded:     destroying,
		signaled:    destroying,
	},
	dead: {
		prepareGone: destroying,
		stopAsked:   destroying,
		runnerGone:  destroying,
		jobOver:     destroying,
		deadlineMet: destroying,
		signaled:    destroying,
		forciblyEnd: destroying,
	},
}

// next is the phase that t leads to from p, and whether it leads anywhere.
func next(p phase, t trigger) (phase, bool) {
	to, ok := transitions[p][t]
	return to, ok
}
