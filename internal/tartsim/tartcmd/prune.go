package tartcmd

import (
	"sort"
	"time"

	"gitlab-runner-tart-driver/internal/tartsim/tarthome"
)

// gibibyte is prune's gigabyte: the help says gigabytes.
const gibibyte = 1 << 30

type prunable struct {
	vm        *tarthome.VM
	remove    func() error
	accessed  time.Time
	allocated int64
}

func (a *app) prune() error {
	if a.args.Has("gc") {
		if err := a.home.OCI().Collect(); err != nil {
			return err
		}
	}
	entries := a.args.Value("entries", "caches")
	if entries != "caches" && entries != "vms" {
		return tarthome.Invalid("unsupported --entries value, please specify either \"caches\" or \"vms\"")
	}
	if a.args.Has("older-than") {
		limit := time.Now().AddDate(0, 0, -int(a.args.Uint("older-than", 0)))
		if err := a.pruneWhere(entries, func(p prunable) bool { return !p.accessed.After(limit) }); err != nil {
			return err
		}
	}
	if !a.args.Has("space-budget") && !a.args.Has("cache-budget") {
		return nil
	}
	left := int64(a.args.Uint("space-budget", a.args.Uint("cache-budget", 0))) * gibibyte
	return a.pruneWhere(entries, func(p prunable) bool {
		if p.allocated > left {
			return true
		}
		left -= p.allocated
		return false
	})
}

// pruneWhere removes entries, the most recently used first to be asked about.
func (a *app) pruneWhere(entries string, remove func(prunable) bool) error {
	candidates, err := a.prunables(entries)
	if err != nil {
		return err
	}
	sort.Slice(candidates, func(i, j int) bool { return candidates[i].accessed.After(candidates[j].accessed) })
	for _, candidate := range candidates {
		if !remove(candidate) {
			continue
		}
		if err := candidate.remove(); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) prunables(entries string) ([]prunable, error) {
	var found []prunable
	add := func(vm *tarthome.VM, remove func() error) error {
		_, allocated, err := vm.Sizes()
		if err != nil {
			return err
		}
		accessed, err := vm.Accessed()
		if err != nil {
			return err
		}
		found = append(found, prunable{vm: vm, remove: remove, accessed: accessed, allocated: allocated})
		return nil
	}
	if entries == "vms" {
		vms, err := a.home.ListVMs()
		if err != nil {
			return nil, err
		}
		for _, vm := range vms {
			if pid, err := vm.RunPID(); err != nil || pid != 0 {
				continue
			}
			if err := add(vm, vm.Delete); err != nil {
				return nil, err
			}
		}
		return found, nil
	}
	images, err := a.home.OCI().List()
	if err != nil {
		return nil, err
	}
	for _, image := range images {
		if image.Link {
			continue
		}
		remove := func() error {
			if err := tarthome.RemoveTree(image.Dir); err != nil {
				return err
			}
			return a.home.OCI().Collect()
		}
		if err := add(image.VM, remove); err != nil {
			return nil, err
		}
	}
	return found, nil
}
