package doctor

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"gitlab-runner-tart-driver/internal/host"
	"gitlab-runner-tart-driver/internal/lifecycle"
	"gitlab-runner-tart-driver/internal/runnerconf"
	"gitlab-runner-tart-driver/internal/tart"
)

// openState opens a state directory that is there and that only its owner can enter; what is amiss otherwise is for the check of the directory.
// Opening one makes what is missing in it, and so others are left alone.
func (s *survey) openState(dir string) (*host.State, bool) {
	info, err := s.host.Stat(filepath.Join(dir, "vms"))
	if err != nil || !info.Mode.IsDir() {
		return nil, false
	}
	info, err = s.host.Stat(dir)
	if err != nil || info.UID != s.host.UID() || info.Mode.Perm()&0o077 != 0 {
		return nil, false
	}
	state, err := host.Open(s.host.Real(dir))
	return state, err == nil
}

func lookLeftovers(ctx context.Context, s *survey) []Finding {
	const fix = "the next job removes them; at once: gitlab-runner-tart-driver doctor --fix"
	var findings []Finding
	// VMs first, records second: a VM always has its record before it exists.
	vms := s.localVMs(ctx)
	var states []*host.State
	for _, dir := range s.stateDirs() {
		state, ok := s.openState(dir)
		if !ok {
			continue
		}
		states = append(states, state)
		names, err := state.Names()
		if err != nil {
			findings = append(findings, warn("", "records in %s: %v", dir, reason(err)))
			continue
		}
		for _, name := range names {
			entry, free, err := state.Claim(name)
			switch {
			case err != nil:
				findings = append(findings, warn("", "record of VM %s: %v", name, reason(err)))
			case free:
				findings = append(findings, warn(fix, "VM %s (%s) has a record, and no keeper", name, entry.Record.Describe()))
				entry.Release()
			}
		}
		for _, name := range vms {
			if lifecycle.Unrecorded(state, s.tartClient(ctx), name) {
				findings = append(findings, warn(fix, "VM %s has no record", name))
			}
		}
	}
	findings = append(findings, s.strangers(vms, states)...)
	if len(findings) == 0 {
		findings = append(findings, pass("none"))
	}
	return findings
}

// tartClient gets the tart of the first runner.
func (s *survey) tartClient(ctx context.Context) lifecycle.Client {
	f := s.tart(ctx, s.tartNames()[0])
	return func() (*tart.Client, error) { return f.client, f.missing }
}

// localVMs are the names of all VMs, those included that tart itself doesn't see for lack of their configuration.
func (s *survey) localVMs(ctx context.Context) []string {
	f := s.tart(ctx, s.tartNames()[0])
	if f.missing != nil {
		return nil
	}
	if names, ok := f.client.VMDirs(); ok {
		return names
	}
	var names []string
	for _, vm := range f.vms {
		if vm.Local() {
			names = append(names, vm.Name)
		}
	}
	return names
}

// otherNames are the forms of the names that other drivers give to VMs.
func otherNames() map[runnerconf.Driver]*regexp.Regexp {
	return map[runnerconf.Driver]*regexp.Regexp{
		runnerconf.DriverTartExecutor: regexp.MustCompile(`^gitlab-\d+$`),
		runnerconf.DriverPython:       regexp.MustCompile(`^grtd-.+-\d+-\d+-\d+$`),
	}
}

// strangers are VMs of other state directories, and of other drivers that no runner uses any more.
func (s *survey) strangers(vms []string, states []*host.State) []Finding {
	inUse := map[runnerconf.Driver]bool{}
	for _, r := range s.config.Runners {
		for _, stage := range r.Custom.Stages() {
			inUse[stage.Call(s.host.Head).Driver] = true
		}
	}
	var findings []Finding
	for _, name := range vms {
		remove := fmt.Sprintf("if nothing uses it: tart stop %s; tart delete %s", name, name)
		if host.IsJobVM(name) {
			owned := false
			for _, state := range states {
				owned = owned || state.Owns(name)
			}
			if !owned {
				findings = append(findings, warn(remove, "VM %s was made by way of another state directory, or by another user", name))
			}
			continue
		}
		for driver, form := range otherNames() {
			if form.MatchString(name) && !inUse[driver] && s.configErr == nil {
				findings = append(findings, warn(remove, "VM %s was made by %s, which no runner uses any more", name, driver))
			}
		}
	}
	return findings
}

// mendLeftovers does what every job does before it begins. Records whose lock somebody holds, and their VMs, are never touched.
func mendLeftovers(ctx context.Context, s *survey) (string, error) {
	client := s.tartClient(ctx)
	if _, err := client(); err != nil {
		return "", err
	}
	var removed []string
	var errs []error
	for _, dir := range s.stateDirs() {
		if state, ok := s.openState(dir); ok {
			swept := lifecycle.Sweep(ctx, state, client)
			removed = append(removed, swept.VMs...)
			errs = append(errs, swept.Errors...)
		}
	}
	if len(removed) == 0 {
		return "", errors.Join(errs...)
	}
	slices.Sort(removed)
	return "removed " + strings.Join(slices.Compact(removed), ", "), errors.Join(errs...)
}
