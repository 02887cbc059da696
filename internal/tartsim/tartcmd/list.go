package tartcmd

import (
	"fmt"
	"sort"
	"time"

	"gitlab-runner-tart-driver/internal/tartsim/simconf"
	"gitlab-runner-tart-driver/internal/tartsim/tarthome"
)

const gigabyte = 1000 * 1000 * 1000

func (a *app) list() error {
	source := a.args.Value("source", "")
	var rows []object
	var names []string
	add := func(label string, vms []*tarthome.VM) error {
		sort.Slice(vms, func(i, j int) bool { return vms[i].Name < vms[j].Name })
		for _, vm := range vms {
			row, err := a.listRow(label, vm)
			if err != nil {
				return err
			}
			rows, names = append(rows, row), append(names, vm.Name)
		}
		return nil
	}
	if source != "oci" {
		vms, err := a.home.ListVMs()
		if err != nil {
			return err
		}
		if err := add("local", vms); err != nil {
			return err
		}
	}
	if source != "local" {
		entries, err := a.home.OCI().List()
		if err != nil {
			return err
		}
		images := make([]*tarthome.VM, len(entries))
		for i, entry := range entries {
			images[i] = entry.VM
		}
		if err := add("OCI", images); err != nil {
			return err
		}
	}
	if fault := a.fault(simconf.ListGarbage); fault != nil {
		a.println("%s", fault.Text)
		return nil
	}
	return a.printList(rows, names)
}

func (a *app) printList(rows []object, names []string) error {
	switch {
	case a.args.Has("quiet"):
		for _, name := range names {
			a.println("%s", name)
		}
	case a.args.Value("format", "text") == "json":
		if rows == nil {
			rows = []object{}
		}
		return a.printJSON(rows)
	default:
		a.println("%s", table(rows))
	}
	return nil
}

func (a *app) listRow(source string, vm *tarthome.VM) (object, error) {
	logical, allocated, err := vm.Sizes()
	if err != nil {
		return nil, err
	}
	accessed, err := vm.Accessed()
	if err != nil {
		return nil, err
	}
	state, err := vm.State()
	if err != nil {
		return nil, err
	}
	text := a.args.Value("format", "text") != "json"
	row := object{{name: "Source", value: source}, {name: "Name", value: vm.Name}}
	row = append(row, field{name: "Disk", value: a.gigabytes(logical, text)}, field{name: "Size", value: a.gigabytes(allocated, text)})
	if a.listFormat() == simconf.ListSizeOnDisk {
		row = append(row, field{name: "SizeOnDisk", value: allocated / gigabyte})
	} else {
		when := accessed.UTC().Format(time.RFC3339)
		if text {
			when = relative(accessed, time.Now())
		}
		row = append(row, field{name: "Accessed", value: when})
	}
	return append(row, field{name: "Running", value: state == tarthome.Running, jsonOnly: true}, field{name: "State", value: state}), nil
}

// listFormat is the configured form of `list`, or that of the version being played.
func (a *app) listFormat() string {
	switch version := a.config.TartVersion(); {
	case a.config.ListFormat != "":
		return a.config.ListFormat
	case !atLeast(version, "2.31.0"):
		return simconf.ListSizeOnDisk
	case version != "SNAPSHOT" && !atLeast(version, unreleased):
		return simconf.ListAccessed
	default:
		return simconf.ListHuman
	}
}

func (a *app) gigabytes(bytes int64, text bool) any {
	if text && a.listFormat() == simconf.ListHuman {
		return fmt.Sprintf("%d GB", bytes/gigabyte)
	}
	return bytes / gigabyte
}

func (a *app) get() error {
	vm, err := a.home.OpenVM(a.args.Arg("name"))
	if err != nil {
		return err
	}
	config, err := vm.Config()
	if err != nil {
		return err
	}
	logical, allocated, err := vm.Sizes()
	if err != nil {
		return err
	}
	state, err := vm.State()
	if err != nil {
		return err
	}
	text := a.args.Value("format", "text") != "json"
	row := object{
		{name: "OS", value: config.OS}, {name: "CPU", value: config.CPU}, {name: "Memory", value: config.Memory >> 20},
		{name: "Disk", value: a.gigabytes(logical, text)}, {name: "DiskFormat", value: config.DiskFormat},
		{name: "Size", value: fmt.Sprintf("%.3f", float32(allocated)/gigabyte)}, {name: "Display", value: config.Display.String()},
		{name: "Running", value: state == tarthome.Running, jsonOnly: true}, {name: "State", value: state},
	}
	first := map[string]string{"OS": "2.8.0", "DiskFormat": "2.28.0"}
	kept := row[:0]
	for _, f := range row {
		if atLeast(a.config.TartVersion(), first[f.name]) {
			kept = append(kept, f)
		}
	}
	if text {
		a.println("%s", table([]object{kept}))
		return nil
	}
	return a.printJSON(kept)
}
