package tartcmd

import (
	"strings"

	"gitlab-runner-tart-driver/internal/tartsim/tarthome"
)

// validate is the part of a command that Tart does while parsing.
func (a *app) validate() error {
	switch a.command.Name {
	case "clone", "rename":
		if strings.Contains(a.args.Arg("new-name"), "/") {
			return tarthome.Invalid("<new-name> should be a local name")
		}
		return a.validateConcurrency()
	case "pull":
		return a.validateConcurrency()
	case "create":
		if !a.args.Has("from-ipsw") && !a.args.Has("linux") {
			return tarthome.Invalid("Please specify either a --from-ipsw or --linux option!")
		}
	case "list":
		if source := a.args.Value("source", "local"); source != "local" && source != "oci" {
			return tarthome.Invalid("'%s' is not a valid <source>", source)
		}
	case "login":
		if a.args.Has("username") != a.args.Has("password-stdin") {
			return tarthome.Invalid("both --username and --password-stdin are required")
		}
	case "prune":
		return a.validatePrune()
	case "run":
		return a.validateRun()
	}
	return nil
}

func (a *app) validateConcurrency() error {
	if a.args.Has("concurrency") && a.args.Uint("concurrency", 0) < 1 {
		return tarthome.Invalid("network concurrency cannot be less than 1")
	}
	return nil
}

func (a *app) validatePrune() error {
	if a.args.Has("cache-budget") {
		a.complain("--cache-budget is deprecated, please use --space-budget\n")
		if a.args.Has("space-budget") {
			return tarthome.Invalid("--cache-budget is deprecated, please use --space-budget")
		}
	}
	if !a.args.Has("older-than") && !a.args.Has("space-budget") && !a.args.Has("cache-budget") && !a.args.Has("gc") {
		return tarthome.Invalid("at least one pruning criteria must be specified")
	}
	return nil
}

// validateRun checks flags against each other and against the VM, which Tart opens this early: a missing VM is a parse error, exit status 1.
func (a *app) validateRun() error {
	has := a.args.Has
	if has("vnc") && has("vnc-experimental") {
		return tarthome.Invalid("--vnc and --vnc-experimental are mutually exclusive")
	}
	networks := 0
	for _, on := range []bool{has("net-bridged"), a.softnet(), has("net-host")} {
		if on {
			networks++
		}
	}
	if networks > 1 {
		return tarthome.Invalid("--net-bridged, --net-softnet and --net-host are mutually exclusive")
	}
	if has("graphics") && has("no-graphics") {
		return tarthome.Invalid("--graphics and --no-graphics are mutually exclusive")
	}
	if (has("no-graphics") || has("vnc") || has("vnc-experimental")) && has("capture-system-keys") {
		return tarthome.Invalid("--captures-system-keys can only be used with the default VM view")
	}
	vm, err := a.home.OpenVM(a.args.Arg("name"))
	if err != nil {
		return err
	}
	config, err := vm.Config()
	if err != nil {
		return err
	}
	if err := a.validateGuest(vm, config); err != nil {
		return err
	}
	for _, disk := range a.args.Values("disk") {
		if strings.HasSuffix(disk, "-amd64.iso") {
			return tarthome.Invalid("Seems you have a disk targeting x86 architecture (hence amd64 in the name). Please use an 'arm64' version of the disk.")
		}
	}
	return nil
}

func (a *app) validateGuest(vm *tarthome.VM, config *tarthome.Config) error {
	state, err := vm.State()
	if err != nil {
		return err
	}
	if a.args.Has("suspendable") || state == tarthome.Suspended {
		if config.OS != tarthome.Darwin {
			return tarthome.Invalid("You can only suspend macOS VMs")
		}
		for _, flag := range []string{"no-trackpad", "no-keyboard", "no-pointer"} {
			if a.args.Has(flag) {
				return tarthome.Invalid("--%s cannot be used with --suspendable", flag)
			}
		}
	}
	if a.args.Has("no-trackpad") && config.OS != tarthome.Darwin {
		return tarthome.Invalid("--no-trackpad can only be used with macOS VMs")
	}
	if a.args.Has("provisioning-opts") {
		return tarthome.Invalid("--provisioning-opts requires the host to be running macOS 27 (or newer)")
	}
	return nil
}

// softnet reports whether Softnet is asked for, directly or by one of its options.
func (a *app) softnet() bool {
	for _, flag := range []string{"net-softnet", "net-softnet-allow", "net-softnet-block", "net-softnet-expose", "net-softnet-control-fd"} {
		if a.args.Has(flag) {
			return true
		}
	}
	return false
}
