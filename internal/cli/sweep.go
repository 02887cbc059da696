package cli

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/spf13/cobra"

	"gitlab-runner-tart-driver/internal/host"
	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/lifecycle"
	"gitlab-runner-tart-driver/internal/settings"
	"gitlab-runner-tart-driver/internal/tart"
)

const sweepLong = `Removes what crashes left: VMs whose keeper is gone, VMs of this state directory that have no record, and their files. Every job does so
before it begins and when it ends; this does it at once. What belongs to a living job, and every other VM, stays.

Exit codes
  0    nothing is left
  1    there is no state directory, or a setting is to blame
  2    something could not be removed
  64   the command line is not understood`

// sweepReport is what sweep --json writes.
type sweepReport struct {
	DryRun bool      `json:"dry_run"`
	VMs    []sweptVM `json:"vms"`
	Errors []string  `json:"errors"`
}

// sweptVM is a VM that was removed, or would be.
type sweptVM struct {
	VM string `json:"vm"`
	// Why says what is wrong with it: no_keeper or no_record.
	Why     string `json:"why"`
	JobID   string `json:"job,omitempty"`
	Project string `json:"project,omitempty"`
	Image   string `json:"image,omitempty"`
}

const (
	noKeeper = "no_keeper"
	noRecord = "no_record"
)

func (v sweptVM) describe() string {
	if v.Why == noRecord {
		return fmt.Sprintf("VM %s, which has no record", v.VM)
	}
	if v.JobID == "" {
		return fmt.Sprintf("VM %s, whose keeper is gone", v.VM)
	}
	return fmt.Sprintf("VM %s of %s, whose keeper is gone", v.VM, host.Record{JobID: v.JobID, Project: v.Project}.Describe())
}

func newSweepCommand(env Env) *cobra.Command {
	var dryRun, asJSON bool
	cmd, flags := newHostVerb("sweep", "Remove what crashes left", sweepLong, cobra.NoArgs, "tart-executable")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would be removed")
	cmd.Flags().BoolVar(&asJSON, "json", false, "write JSON: an object with dry_run, vms and errors")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, state, err := flags.open(env)
		if err != nil {
			return err
		}
		report, err := sweepHost(cmd.Context(), env, s, state, dryRun)
		if asJSON {
			err = errors.Join(writeJSON(env.Stdout, report), err)
		} else {
			verb := "removed"
			if dryRun {
				verb = "would remove"
			}
			for _, vm := range report.VMs {
				fmt.Fprintf(env.Stdout, "%s %s\n", verb, job.Printable(vm.describe()))
			}
			if len(report.VMs) == 0 && err == nil {
				fmt.Fprintln(env.Stdout, "nothing is left over")
			}
		}
		return err
	}
	return cmd
}

// sweepHost sweeps, or finds out what a sweep would remove.
func sweepHost(ctx context.Context, env Env, s *settings.Settings, state *host.State, dryRun bool) (sweepReport, error) {
	client := sync.OnceValues(func() (*tart.Client, error) {
		client, err := tart.New(s.TartExecutable, env.Environ)
		if err != nil {
			return nil, fmt.Errorf("%w (%s)", err, s.Origin("tart-executable"))
		}
		return client, nil
	})
	report := sweepReport{DryRun: dryRun, VMs: []sweptVM{}, Errors: []string{}}
	found, err := leftOver(ctx, state, client)
	if !dryRun {
		known := map[string]sweptVM{}
		for _, vm := range found {
			known[vm.VM] = vm
		}
		swept := lifecycle.Sweep(ctx, state, client)
		lifecycle.NoteSwept(state, swept)
		found, err = nil, errors.Join(swept.Errors...)
		for _, name := range swept.VMs {
			vm, ok := known[name]
			if !ok { // it was left while we looked
				vm = sweptVM{VM: name, Why: noKeeper}
			}
			found = append(found, vm)
		}
	}
	report.VMs = append(report.VMs, found...)
	if err != nil {
		report.Errors = append(report.Errors, err.Error())
		hint := "the next prepare or cleanup on this host tries again"
		if errors.Is(err, tart.ErrNotFound) {
			hint = "install Tart with `brew install openai/tools/tart`, or say where it is with -x"
		}
		err = job.Infrastructure(err, "%s", hint)
	}
	return report, err
}

// leftOver are the VMs that a sweep would remove. It looks at VMs first and at records second: a VM always has its record before it exists.
func leftOver(ctx context.Context, state *host.State, client lifecycle.Client) ([]sweptVM, error) {
	local, lerr := lifecycle.LocalVMs(ctx, client)
	names, err := state.Names()
	if err != nil {
		return nil, err
	}
	if len(names) == 0 && errors.Is(lerr, tart.ErrNotFound) {
		lerr = nil // without tart and records nothing was ever made
	}
	records, err := state.Records()
	if err != nil {
		return nil, err
	}
	byName := map[string]host.Record{}
	for _, r := range records {
		byName[r.VM] = r
	}
	var left []sweptVM
	for _, name := range names {
		if !state.Held(name) && state.HasRecord(name) {
			r := byName[name]
			left = append(left, sweptVM{VM: name, Why: noKeeper, JobID: r.JobID, Project: r.Project, Image: r.Image})
		}
	}
	for _, name := range local {
		if lifecycle.Unrecorded(state, client, name) {
			left = append(left, sweptVM{VM: name, Why: noRecord})
		}
	}
	return left, lerr
}
