package tartcmd

import (
	"strconv"
	"strings"

	"gitlab-runner-tart-driver/internal/tartsim/argspec"
)

// unreleased is the version from which flags exist that no release has yet; only "SNAPSHOT" is as new.
const unreleased = "2.36.0"

// since is the first release with a command or flag, where it is not as old as the tool. Key: "command" or "command --flag".
func since() map[string]string {
	return map[string]string{
		"suspend": "1.8.0", "fqn": "2.6.0", "exec": "2.27.0", "export": "0.37.0", "import": "0.37.0",
		"clone --concurrency": "2.0.0", "clone --deduplicate": "2.19.0", "clone --prune-limit": "2.28.5", "clone --stacked": unreleased,
		"pull --deduplicate": "2.19.0", "create --disk-format": "2.28.0", "stop --timeout": "0.34.0",
		"ip --resolver": "1.1.0", "login --no-validate": "1.10.0",
		"set --display-refit": "2.21.0", "set --random-serial": "2.10.0", "set --disk": "2.13.0",
		"run --serial": "1.1.0", "run --serial-path": "1.1.0", "run --no-audio": "2.6.0", "run --no-clipboard": "2.10.0",
		"run --no-trackpad": "2.25.0", "run --no-pointer": "2.29.0", "run --no-keyboard": "2.29.0", "run --capture-system-keys": "2.3.0",
		"run --nested": "2.20.0", "run --suspendable": "1.8.0", "run --root-disk-opts": "2.16.0", "run --graphics": "0.29.0",
		"run --net-host": "2.7.0", "run --net-softnet-allow": "2.7.1", "run --net-softnet-block": "2.30.0",
		"run --net-softnet-expose": "2.23.0", "run --net-softnet-control-fd": "2.34.0", "run --provisioning-opts": "2.33.0",
	}
}

// commandTable is Tart's command line at a version.
func commandTable(version string) []argspec.Command {
	first := since()
	var table []argspec.Command
	for _, command := range allCommands() {
		if !atLeast(version, first[command.Name]) {
			continue
		}
		options := command.Options
		command.Options = nil
		for _, option := range options {
			if atLeast(version, first[command.Name+" --"+option.Long]) {
				command.Options = append(command.Options, option)
			}
		}
		table = append(table, command)
	}
	return table
}

// atLeast compares versions; a development build is newer than any, and what has no first version always was.
func atLeast(version, first string) bool {
	if first == "" || version == "SNAPSHOT" {
		return true
	}
	have, want := strings.Split(version, "."), strings.Split(first, ".")
	for i := range want {
		if i >= len(have) {
			return false
		}
		a, errA := strconv.Atoi(have[i])
		b, errB := strconv.Atoi(want[i])
		if errA != nil || errB != nil {
			return errA != nil
		}
		if a != b {
			return a > b
		}
	}
	return true
}

func vmArg() []argspec.Positional { return []argspec.Positional{{Name: "name", Help: "VM name"}} }

func formatOption() argspec.Option {
	return argspec.Option{Long: "format", Kind: argspec.Value, Values: []string{"text", "json"}, Help: "Output format: text or json"}
}

func networkOptions() []argspec.Option {
	return []argspec.Option{
		{Long: "insecure", Help: "use plain HTTP for the registry"},
		{Long: "concurrency", Kind: argspec.Value, Bits: 64, Help: "number of simultaneous network transfers"},
	}
}

func allCommands() []argspec.Command {
	commands := []argspec.Command{createCommand(), cloneCommand(), runCommand(), setCommand()}
	commands = append(commands, stateCommands()...)
	return append(commands, registryCommands()...)
}

func createCommand() argspec.Command {
	return argspec.Command{Name: "create", Abstract: "Create a VM", Args: vmArg(), Options: []argspec.Option{
		{Long: "from-ipsw", Kind: argspec.Value, ValueName: "path", Help: "create a macOS VM from a path or URL of an IPSW, or \"latest\""},
		{Long: "linux", Help: "create a Linux VM"},
		{Long: "disk-size", Kind: argspec.Value, Bits: 16, Help: "disk size in GB"},
		{Long: "disk-format", Kind: argspec.Value, Values: []string{"raw", "asif"}, Help: "disk image format"},
	}}
}

func cloneCommand() argspec.Command {
	return argspec.Command{
		Name: "clone", Abstract: "Clone a VM",
		Args: []argspec.Positional{{Name: "source-name", Help: "source VM name"}, {Name: "new-name", Help: "new VM name"}},
		Options: append(networkOptions(),
			argspec.Option{Long: "deduplicate", Hidden: true},
			argspec.Option{Long: "stacked", Help: "use the source as an immutable base of a stacked disk"},
			argspec.Option{Long: "prune-limit", Kind: argspec.Value, ValueName: "n", Bits: 64, Help: "limit automatic pruning to n gigabytes"}),
	}
}

func runCommand() argspec.Command {
	flags := []string{
		"no-graphics", "serial", "no-audio", "no-clipboard", "recovery", "vnc", "vnc-experimental", "nested", "net-softnet", "net-host",
		"suspendable", "capture-system-keys", "no-trackpad", "no-pointer", "no-keyboard",
	}
	values := []argspec.Option{
		{Long: "serial-path", Help: "attach an existing serial console"},
		{Long: "disk", Kind: argspec.Repeated, ValueName: "path[:options]", Help: "attach another disk"},
		{Long: "rosetta", ValueName: "tag", Help: "attach a Rosetta share with this tag"},
		{Long: "dir", Kind: argspec.Repeated, ValueName: "[name:]path[:options]", Help: "share a directory"},
		{Long: "net-bridged", Kind: argspec.Repeated, ValueName: "interface name", Help: "bridge to an interface"},
		{Long: "net-softnet-allow", ValueName: "comma-separated CIDRs", Help: "destinations Softnet lets through"},
		{Long: "net-softnet-block", ValueName: "comma-separated CIDRs", Help: "destinations Softnet blocks"},
		{Long: "net-softnet-control-fd", ValueName: "file descriptor", Bits: 31, Help: "socket for changing Softnet's lists"},
		{Long: "net-softnet-expose", ValueName: "comma-separated port specifications", Help: "ports that Softnet exposes"},
		{Long: "root-disk-opts", ValueName: "options", Help: "options of the root disk"},
		{Long: "provisioning-opts", ValueName: "key=value,...", Help: "first-boot setup of a macOS guest"},
	}
	command := argspec.Command{Name: "run", Abstract: "Run a VM", Args: vmArg()}
	for _, flag := range flags {
		command.Options = append(command.Options, argspec.Option{Long: flag, Help: strings.ReplaceAll(flag, "-", " ")})
	}
	command.Options = append(command.Options, argspec.Option{Long: "graphics", Hidden: true})
	for _, option := range values {
		if option.Kind == argspec.Flag {
			option.Kind = argspec.Value
		}
		command.Options = append(command.Options, option)
	}
	return command
}

func setCommand() argspec.Command {
	return argspec.Command{Name: "set", Abstract: "Modify VM's configuration", Args: vmArg(), Options: []argspec.Option{
		{Long: "cpu", Kind: argspec.Value, Bits: 16, Help: "Number of VM CPUs"},
		{Long: "memory", Kind: argspec.Value, Bits: 64, Help: "VM memory size in megabytes"},
		{Long: "display", Kind: argspec.Value, Help: "display resolution, WIDTHxHEIGHT[pt|px]"},
		{Long: "display-refit", Kind: argspec.Inverted, Help: "fit the display to the window"},
		{Long: "random-mac", Help: "Generate a new random MAC address for the VM."},
		{Long: "random-serial", Help: "Generate a new random serial number for the macOS VM."},
		{Long: "disk", Kind: argspec.Value, ValueName: "path", Help: "replace the disk with the one at path"},
		{Long: "disk-size", Kind: argspec.Value, Bits: 16, Help: "grow the disk to this size in GB"},
	}}
}

func stateCommands() []argspec.Command {
	return []argspec.Command{
		{Name: "get", Abstract: "Get a VM's configuration", Args: vmArg(), Options: []argspec.Option{formatOption()}},
		{Name: "list", Abstract: "List created VMs", Options: []argspec.Option{
			{Long: "source", Kind: argspec.Value, Help: "show only this source: local or oci"}, formatOption(),
			{Long: "quiet", Short: "q", Help: "Only display VM names."},
		}},
		{Name: "ip", Abstract: "Get VM's IP address", Args: vmArg(), Options: []argspec.Option{
			{Long: "wait", Kind: argspec.Value, Bits: 16, Help: "Number of seconds to wait for a potential VM booting"},
			{Long: "resolver", Kind: argspec.Value, Values: []string{"dhcp", "arp", "agent"}, Help: "how to find the address"},
		}},
		{
			Name: "exec", Abstract: "Execute a command in a running VM",
			Args: append(vmArg(), argspec.Positional{Name: "command", Help: "Command to execute", Passthrough: true}),
			Options: []argspec.Option{
				{Short: "i", Help: "pass standard input to the command"},
				{Short: "t", Help: "allocate a terminal for the command"},
			},
		},
		{Name: "prune", Abstract: "Prune OCI and IPSW caches or local VMs", Options: []argspec.Option{
			{Long: "entries", Kind: argspec.Value, Help: "what to prune: caches or vms"},
			{Long: "older-than", Kind: argspec.Value, ValueName: "n", Bits: 64, Help: "remove what was not used for n days"},
			{Long: "cache-budget", Kind: argspec.Value, Bits: 64, Hidden: true},
			{Long: "space-budget", Kind: argspec.Value, ValueName: "n", Bits: 64, Help: "remove what exceeds n gigabytes"},
			{Long: "gc", Hidden: true},
		}},
		{Name: "rename", Abstract: "Rename a local VM", Args: append(vmArg(), argspec.Positional{Name: "new-name", Help: "new VM name"})},
		{Name: "stop", Abstract: "Stop a VM", Args: vmArg(), Options: []argspec.Option{
			{Long: "timeout", Short: "t", Kind: argspec.Value, Bits: 64, Help: "seconds until the VM is killed"},
		}},
		{Name: "delete", Abstract: "Delete a VM", Args: []argspec.Positional{{Name: "name", Help: "VM name", Repeated: true}}},
		{Name: "suspend", Abstract: "Suspend a VM", Args: vmArg()},
	}
}

func registryCommands() []argspec.Command {
	return []argspec.Command{
		{Name: "login", Abstract: "Login to a registry", Args: []argspec.Positional{{Name: "host", Help: "host"}}, Options: []argspec.Option{
			{Long: "username", Kind: argspec.Value, Help: "username"}, {Long: "password-stdin", Help: "read the password from standard input"},
			{Long: "insecure", Help: "use plain HTTP for the registry"}, {Long: "no-validate", Help: "don't try the credentials first"},
		}},
		{Name: "logout", Abstract: "Logout from a registry", Args: []argspec.Positional{{Name: "host", Help: "host"}}},
		{
			Name: "pull", Abstract: "Pull a VM from a registry", Args: []argspec.Positional{{Name: "remote-name", Help: "remote VM name"}},
			Options: append(networkOptions(), argspec.Option{Long: "deduplicate", Hidden: true}),
		},
		{
			Name: "push", Abstract: "Push a VM to a registry",
			Args: []argspec.Positional{{Name: "local-name", Help: "local or remote VM name"}, {Name: "remote-names", Help: "remote VM name(s)", Repeated: true}},
			Options: append(networkOptions(),
				argspec.Option{Long: "chunk-size", Kind: argspec.Value, Bits: 31, Help: "chunk size in MB"},
				argspec.Option{Long: "label", Kind: argspec.Repeated, Help: "key=value for the image's configuration"},
				argspec.Option{Long: "populate-cache", Help: "cache pushed images locally"}),
		},
		{Name: "import", Abstract: "Import VM from a compressed .tvm file", Args: []argspec.Positional{{Name: "path", Help: "path to the file"}, {Name: "name", Help: "new VM name"}}},
		{Name: "export", Abstract: "Export VM to a compressed .tvm file", Args: append(vmArg(), argspec.Positional{Name: "path", Help: "path of the file", Optional: true})},
		{Name: "fqn", Abstract: "Get a fully-qualified VM name", Hidden: true, Args: vmArg()},
	}
}
