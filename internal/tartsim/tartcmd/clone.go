package tartcmd

import (
	"gitlab-runner-tart-driver/internal/tartsim/simconf"
	"gitlab-runner-tart-driver/internal/tartsim/tarthome"
)

// clone copies a VM or a cached image. An existing VM of the new name is replaced without a question, even a running one.
func (a *app) clone() error {
	source := a.args.Arg("source-name")
	if remote, err := tarthome.ParseRemoteName(source); err == nil && !a.home.OCI().Has(remote) {
		if err := a.pullImage(remote); err != nil {
			return err
		}
	}
	vm, err := a.home.OpenAny(source)
	if err != nil {
		return err
	}
	if a.args.Has("stacked") {
		return tarthome.System("stacked disks require DiskImageKit on macOS 27 or newer")
	}
	dir, lock, err := a.home.TempDir(tarthome.UUID())
	if err != nil {
		return err
	}
	defer lock.Close()
	a.cancelWith(func() { _ = tarthome.RemoveTree(dir) })
	if a.cloneFault(simconf.CloneGCRace, source) != nil {
		_ = tarthome.RemoveTree(dir)
		return tarthome.System("Failed(\"failed to lock file://%s/: Bad file descriptor\")", dir)
	}
	return a.copyClone(vm, dir)
}

// cloneFault looks for a fault of the source or of the new VM.
func (a *app) cloneFault(name, source string) *simconf.Fault {
	if fault := a.fault(name); fault != nil {
		return fault
	}
	image := simconf.Image{}
	if vm, err := a.home.OpenAny(source); err == nil {
		if loaded, err := vm.Image(); err == nil {
			image = loaded
		}
	}
	fault, err := simconf.Faults{Home: a.home.Dir, Image: image.Faults}.Take(name, source, a.command.Name)
	if err != nil {
		a.setupFailure(err)
	}
	return fault
}

// copyClone copies under the host-wide lock and moves the result to its name.
func (a *app) copyClone(vm *tarthome.VM, dir string) error {
	global, err := a.home.Global()
	if err != nil {
		return err
	}
	defer global.Close()
	newMAC, err := a.needsNewMAC(vm)
	if err != nil {
		return err
	}
	image, err := vm.Image()
	if err != nil {
		return tarthome.System("%v", err)
	}
	wait(image.Clone.D())
	if fault := a.cloneFault(simconf.SlowClone, vm.Name); fault != nil {
		wait(fault.After.D())
	}
	if a.cloneFault(simconf.CloneENOSPC, vm.Name) != nil {
		_ = tarthome.RemoveTree(dir)
		return tarthome.System("The file “%s” couldn’t be copied because there isn’t enough space.", tarthome.DiskName)
	}
	if err := tarthome.CopyVM(vm.Dir, dir); err != nil {
		return err
	}
	if newMAC {
		clone := &tarthome.VM{Dir: dir}
		if err := clone.RegenerateMAC(); err != nil {
			return err
		}
	}
	return a.home.Place(dir, a.args.Arg("new-name"))
}

// needsNewMAC tells whether a clone gets its own address: only when a local VM has the source's, and never when the source is suspended.
func (a *app) needsNewMAC(source *tarthome.VM) (bool, error) {
	config, err := source.Config()
	if err != nil {
		return false, err
	}
	state, err := source.State()
	if err != nil || state == tarthome.Suspended {
		return false, err
	}
	vms, err := a.home.ListVMs()
	if err != nil {
		return false, err
	}
	for _, vm := range vms {
		other, err := vm.Config()
		if err != nil {
			return false, err
		}
		if other.MAC == config.MAC {
			return true, nil
		}
	}
	return false, nil
}
