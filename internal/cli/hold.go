package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gitlab-runner-tart-driver/internal/host"
	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/keeper"
)

const holdLong = `Keeps the VM of a job that runs when the job is over, however it ends, so that ssh, cp and vnc get in. GitLab Runner does not wait for it.
A VM that is held already is held for so long from now.

A held VM goes when its time is over, on release, when the host restarts, or when another job needs its place. Jobs have their VMs held
when they fail, by the variable TART_HOLD_ON_FAILURE.

Exit codes
  0    the VM is held, or will be
  1    there is no such job
  2    the VM has ended
  64   the command line is not understood`

const releaseLong = `Destroys a VM that is held, and so gives its place back.

Exit codes
  0    the VM is gone
  1    there is no such job, or it still runs
  2    the VM could not be destroyed
  64   the command line is not understood`

// defaultHold is what hold takes where nobody says how long.
const defaultHold = 30 * time.Minute

func newHoldCommand(env Env) *cobra.Command {
	cmd, flags := newHostVerb("hold JOB|VM [--for DURATION]", "Keep the VM of a job for a while when the job is over", holdLong, cobra.ExactArgs(1))
	length := cmd.Flags().Duration("for", defaultHold, "how long, such as 30m or 2h")
	cmd.ValidArgsFunction = completeLiveJobs(env, flags)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *length <= 0 {
			return &usageError{fmt.Errorf("--for %s: a VM is held for a length of time such as 30m", *length)}
		}
		state, rec, err := flags.job(env, args[0])
		if err != nil {
			return err
		}
		until, err := keeper.Hold(cmd.Context(), state, rec.VM, rec.JobKey, *length)
		if err != nil {
			return gone(rec, err)
		}
		if until.IsZero() {
			fmt.Fprintf(env.Stdout, "VM %s of %s will be held for %s when the job is over\n", rec.VM, job.Printable(rec.Describe()), *length)
		} else {
			fmt.Fprintf(env.Stdout, "VM %s of %s is held until %s\n", rec.VM, job.Printable(rec.Describe()), until.Local().Format(time.DateTime))
		}
		return nil
	}
	return cmd
}

func newReleaseCommand(env Env) *cobra.Command {
	cmd, flags := newHostVerb("release JOB|VM", "Destroy a VM that is held", releaseLong, cobra.ExactArgs(1))
	force := cmd.Flags().Bool("force", false, "also if its job still runs, which then fails")
	cmd.ValidArgsFunction = completeLiveJobs(env, flags)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		state, rec, err := flags.job(env, args[0])
		if err != nil {
			return err
		}
		if err := keeper.Release(cmd.Context(), state, rec.VM, rec.JobKey, *force); err != nil {
			return gone(rec, err)
		}
		fmt.Fprintf(env.Stdout, "VM %s of %s is gone\n", rec.VM, job.Printable(rec.Describe()))
		return nil
	}
	return cmd
}

// job finds the VM of a job that runs, or is held, by the job's number or the VM's name.
func (f *hostFlags) job(env Env, name string) (*host.State, host.Record, error) {
	_, state, err := f.open(env)
	if err != nil {
		return nil, host.Record{}, err
	}
	records, err := state.Records() // newest first
	if err != nil {
		return nil, host.Record{}, job.Infrastructure(err, "")
	}
	records = slices.DeleteFunc(records, func(r host.Record) bool { return r.VM != name && r.JobID != name })
	var others []string
	for _, r := range records {
		if r.JobKey != records[0].JobKey {
			others = append(others, r.VM+" ("+r.Describe()+")")
		}
	}
	switch {
	case len(others) > 0: // of other GitLab instances
		return nil, host.Record{}, job.Mistake(fmt.Errorf("several jobs have the number %s: %s (%s), %s", name, records[0].VM, records[0].Describe(), strings.Join(others, ", ")),
			"name the VM instead of the job")
	case len(records) > 0:
		return state, records[0], nil
	case host.IsJobVM(name) && !state.Owns(name):
		return nil, host.Record{}, job.Mistake(fmt.Errorf("VM %s is not of the state directory %s", name, state.Dir()), "say which it is of with --state-dir")
	}
	return nil, host.Record{}, job.Mistake(fmt.Errorf("there is no VM of a job %q in the state directory %s", name, state.Dir()),
		"a VM goes with its job, and a held one when its time is over or another job needs its place; `gitlab-runner-tart-driver ps` lists those that there are, "+
			"and TART_HOLD_ON_FAILURE=30m as a variable of the job has its VM held when it fails")
}

// gone explains that the VM's keeper has ended before it could answer.
func gone(rec host.Record, err error) error {
	if !errors.Is(err, keeper.ErrNoKeeper) {
		return err
	}
	return job.Infrastructure(fmt.Errorf("VM %s of %s is no more: %w", rec.VM, rec.Describe(), err),
		"it has ended meanwhile, or it just begins; `gitlab-runner-tart-driver ps` lists the jobs that there are")
}
