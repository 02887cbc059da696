package tartcmd

import (
	"encoding/json"
	"os"

	"gitlab-runner-tart-driver/internal/tartsim/simconf"
	"gitlab-runner-tart-driver/internal/tartsim/tarthome"
)

// savedState is the stand-in's state.vzvmsave: the hardware that a resumed VM has to have again. The guest's memory is not in it.
type savedState struct {
	CPU         int              `json:"cpu"`
	Memory      uint64           `json:"memory"`
	MAC         string           `json:"mac"`
	ECID        string           `json:"ecid"`
	Display     tarthome.Display `json:"display"`
	NoClipboard bool             `json:"no_clipboard"`
}

func (r *runner) hardware() savedState {
	c := r.config
	return savedState{CPU: c.CPU, Memory: c.Memory, MAC: c.MAC, ECID: c.ECID, Display: c.Display, NoClipboard: r.args.Has("no-clipboard")}
}

// restore plays the restoring of a saved state. When it fails, the state stays.
func (r *runner) restore() error {
	r.println("restoring VM state from a snapshot...")
	data, err := os.ReadFile(r.vm.Path(tarthome.StateName))
	var saved savedState
	if err == nil {
		err = json.Unmarshal(data, &saved)
	}
	if err != nil || saved != r.hardware() || r.fault(simconf.ResumeFails) != nil {
		return vzError(12, "The virtual machine failed to restore.", "Failed to restore the saved state: invalid argument.")
	}
	if err := os.Remove(r.vm.Path(tarthome.StateName)); err != nil {
		return err
	}
	r.resumed = true
	r.println("resuming VM...")
	// What was up when the VM was saved is up when it goes on.
	r.image.Lease, r.image.SSH, r.image.Agent = 0, 0, 0
	return nil
}

// suspended answers `tart suspend`: the VM's state is saved and `tart run` ends, or fails and takes the VM with it.
func (r *runner) suspended() int {
	fail := func(reason string) int {
		r.println("Failed to suspend the VM: %s", reason)
		return exitFailure
	}
	switch {
	case r.config.OS != tarthome.Darwin || !r.args.Has("suspendable") && !r.resumed:
		r.machine.Kill()
		return fail("Invalid virtual machine configuration. Audio device configurations do not support save and restore.")
	case len(r.shares) > 0 && !r.resumed:
		r.machine.Kill()
		return fail("Invalid virtual machine configuration. Directory sharing devices do not support save and restore.")
	}
	r.println("pausing VM to take a snapshot...")
	r.machine.Freeze()
	r.println("creating a snapshot...")
	if r.fault(simconf.SuspendFails) != nil {
		r.machine.Kill()
		return fail("The virtual machine failed to save its state.")
	}
	data, err := json.Marshal(r.hardware())
	if err == nil {
		err = os.WriteFile(r.vm.Path(tarthome.StateName), data, 0o600)
	}
	if err != nil {
		r.machine.Kill()
		return fail(err.Error())
	}
	r.println("snapshot created successfully! shutting down the VM...")
	r.println("Stopping VM...")
	r.machine.Kill()
	return 0
}
