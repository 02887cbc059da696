package tartcmd

import (
	"gitlab-runner-tart-driver/internal/tartsim/simconf"
	"gitlab-runner-tart-driver/internal/tartsim/tarthome"
)

// vmName is the VM a command is about, as far as its first argument tells.
func (a *app) vmName() string {
	for _, name := range []string{"name", "new-name", "local-name", "remote-name", "host"} {
		if value := a.args.Arg(name); value != "" {
			return value
		}
	}
	return ""
}

// fault returns the fault of that name if it happens now, to the VM this call is about.
func (a *app) fault(name string) *simconf.Fault { return a.faultOf(name, a.vmName()) }

func (a *app) faultOf(name, vm string) *simconf.Fault {
	faults := simconf.Faults{Home: a.home.Dir, Host: a.config.Faults}
	if vm != "" {
		// A VM that isn't there, or whose file is unreadable, has no faults of its own.
		if image, err := a.home.VM(vm).Image(); err == nil {
			faults.Image = image.Faults
		}
	}
	fault, err := faults.Take(name, vm, a.command.Name)
	if err != nil {
		a.setupFailure(err)
		return nil
	}
	return fault
}

// commandFaults plays the faults that concern any command. It returns the exit status and whether the call ends with it.
func (a *app) commandFaults() (int, bool) {
	if a.fault(simconf.TartHangs) != nil {
		return a.hang(), true
	}
	if fault := a.fault(simconf.TartSlow); fault != nil {
		wait(fault.After.D())
	}
	if fault := a.fault(simconf.TartExits); fault != nil {
		if fault.Text != "" {
			a.complain(fault.Text + "\n")
		}
		if fault.Code == 0 {
			return exitFailure, true
		}
		return fault.Code, true
	}
	return 0, false
}

// hang waits for SIGINT, which `run` doesn't hear before its VM has started.
func (a *app) hang() int {
	for range a.sigint {
		if a.command.Name != "run" {
			break
		}
	}
	return a.report(tarthome.System("CancellationError()"))
}
