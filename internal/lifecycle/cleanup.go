package lifecycle

import (
	"context"
	"errors"
	"fmt"

	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/keeper"
)

// Cleanup destroys the job's VM with all that belongs to it, and then sweeps. A keeper that is to hold the VM for a while keeps it. Without a VM
// it has nothing to do and says nothing. It tolerates that most of what a stage has is missing, tart included: it is called whatever happened
// before, and a living keeper has a tart of its own.
func (s *Stage) Cleanup(ctx context.Context, client Client) (err error) {
	s.recogniseJob()
	ended := s.noteCleanup()
	defer func() { ended(err) }()
	inVain, err := s.destroyOwn(ctx, client)
	swept := Sweep(ctx, s.State, client, inVain...)
	NoteSwept(s.State, swept)
	for _, vm := range swept.VMs {
		s.Log.Linef("removed VM %s, which an earlier crash had left", vm)
	}
	if err = errors.Join(append([]error{err}, swept.Errors...)...); err != nil {
		return job.Infrastructure(err, "the next prepare or cleanup on this host tries again")
	}
	return nil
}

// recogniseJob finds out which job is over where JOB_RESPONSE_FILE is broken or gone. The record of the VM that config named has the job's key, and that
// name comes by job_env, which no job can set: what a job says of itself in variables can be another's, and is believed only where there is nothing else.
func (s *Stage) recogniseJob() {
	if s.Job.Trusted || s.Handover.VM == "" {
		return
	}
	records, err := s.State.Records()
	if err != nil {
		return // destroyOwn tells
	}
	for _, rec := range records {
		if rec.VM == s.Handover.VM {
			known := *s.Job
			known.ID, known.Key, known.Project = rec.JobID, rec.JobKey, rec.Project
			s.Job = &known
		}
	}
}

// destroyOwn destroys all VMs that have the job's key; there is more than one only if a prepare was killed and tried again. inVain are those that are
// still there, and are not held.
func (s *Stage) destroyOwn(ctx context.Context, client Client) (inVain []string, err error) {
	records, err := s.State.RecordsOf(s.Job.ID, s.Job.Key)
	if err != nil {
		return nil, err
	}
	for _, rec := range records {
		derr := destroyJob(ctx, s.State, client, rec, s.Job.TimedOut())
		if held := (*keeper.HeldError)(nil); errors.As(derr, &held) {
			s.tellHeld(rec, held.Until)
		} else if derr != nil {
			inVain = append(inVain, rec.VM)
			err = errors.Join(err, fmt.Errorf("VM %s of %s: %w", rec.VM, rec.Describe(), derr))
		}
	}
	return inVain, err
}
