package admin

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gitlab-runner-tart-driver/internal/tartsim/simconf"
	"gitlab-runner-tart-driver/internal/tartsim/tarthome"
)

func itoa(n int) string { return strconv.Itoa(n) }

// faultTarget is where a fault is kept: in the host's configuration or in a local VM's file.
type faultTarget struct {
	home  *tarthome.Home
	image string
}

// change edits the list of faults.
func (t faultTarget) change(edit func([]simconf.Fault) ([]simconf.Fault, error)) error {
	if t.image == "" {
		config, err := simconf.LoadConfig(t.home.Dir)
		if err != nil {
			return err
		}
		if config.Faults, err = edit(config.Faults); err != nil {
			return err
		}
		return config.Save(t.home.Dir)
	}
	vm := t.home.VM(t.image)
	if !vm.Complete() {
		return tarthome.NotExist(t.image)
	}
	image, err := vm.Image()
	if err != nil {
		return err
	}
	if image.Faults, err = edit(image.Faults); err != nil {
		return err
	}
	return image.Save(vm.Dir)
}

func (t *tool) faultCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "fault", Short: "Set, clear and list faults", Long: "Faults:\n" + faultHelp()}
	cmd.AddCommand(t.faultSet(), t.faultClear(), t.faultList())
	return cmd
}

func faultHelp() string {
	var b strings.Builder
	for _, info := range simconf.Catalogue() {
		needs := ""
		if len(info.Needs) > 0 {
			needs = " " + strings.ToUpper(strings.Join(info.Needs, " "))
		}
		if len(info.Also) > 0 {
			needs += " [" + strings.ToUpper(strings.Join(info.Also, "] [")) + "]"
		}
		fmt.Fprintf(&b, "  %s%s\n      %s\n", info.Name, needs, info.Help)
	}
	return b.String()
}

func (t *tool) faultSet() *cobra.Command {
	var fault simconf.Fault
	var after time.Duration
	target := faultTarget{}
	cmd := &cobra.Command{
		Use: "set FAULT [ARGS...]", Short: "Set a fault for the host, an image or VMs by name", Args: cobra.MinimumNArgs(1),
		Long: "Set a fault. What a fault needs can be given as arguments or by flags:\n  tartsim fault set slow clone 2s\n  tartsim fault set dies-after --after 1s --how error --vm 'job-*'\n\nFaults:\n" + faultHelp(),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if target.home, err = t.home(); err != nil {
				return err
			}
			fault.Name, fault.After = args[0], simconf.Duration(after)
			if err := takeArgs(&fault, args[1:]); err != nil {
				return err
			}
			if err := fault.Validate(); err != nil {
				return err
			}
			return target.change(func(faults []simconf.Fault) ([]simconf.Fault, error) {
				fault.ID = simconf.NextID(faults)
				if target.image != "" {
					fault.ID = target.image + "-" + fault.ID
				}
				cmd.Println(fault.ID)
				return append(faults, fault), simconf.ResetCounters(target.home.Dir, fault)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&target.image, "image", "", "of this local VM and of every clone made of it later, instead of the host")
	f.StringVar(&fault.VM, "vm", "", "only for VMs whose name matches this pattern")
	f.StringVar(&fault.Command, "command", "", "tart's command, for tart-hangs, slow and exits")
	f.DurationVar(&after, "after", 0, "a time, see the fault")
	f.StringVar(&fault.How, "how", "", "for dies-after: poweroff, error, network or killed")
	f.StringVar(&fault.Text, "text", "", "what is printed, see the fault")
	f.IntVar(&fault.Code, "code", 0, "exit status, for exits")
	f.IntVar(&fault.Times, "times", 0, "how often it happens (0: always)")
	f.IntVar(&fault.Skip, "skip", 0, "how often it is passed by before")
	return cmd
}

// takeArgs fills in what a fault needs from the words after its name.
func takeArgs(fault *simconf.Fault, args []string) error {
	for _, info := range simconf.Catalogue() {
		if info.Name != fault.Name {
			continue
		}
		fields := slices.Concat(info.Needs, info.Also)
		if len(args) > len(fields) {
			return fmt.Errorf("fault %s takes %d arguments, not %q", fault.Name, len(fields), args)
		}
		for i, arg := range args {
			if err := fault.SetField(fields[i], arg); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *tool) faultClear() *cobra.Command {
	target := faultTarget{}
	var counters bool
	cmd := &cobra.Command{
		Use: "clear [FAULT-OR-ID...]", Short: "Clear faults by name or id; without any, all", Args: cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			var err error
			if target.home, err = t.home(); err != nil {
				return err
			}
			if counters {
				return simconf.ResetCounters(target.home.Dir)
			}
			return target.change(func(faults []simconf.Fault) ([]simconf.Fault, error) {
				kept := []simconf.Fault{}
				for _, fault := range faults {
					cleared := len(args) == 0
					for _, arg := range args {
						cleared = cleared || arg == fault.Name || arg == fault.ID
					}
					if !cleared {
						kept = append(kept, fault)
					}
				}
				return kept, nil
			})
		},
	}
	cmd.Flags().StringVar(&target.image, "image", "", "of this local VM instead of the host")
	cmd.Flags().BoolVar(&counters, "counters", false, "keep the faults, but forget how often they and the registry's failures happened")
	return cmd
}

func (t *tool) faultList() *cobra.Command {
	target := faultTarget{}
	cmd := &cobra.Command{
		Use: "list", Short: "List the faults that are set, one JSON object a line", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if target.home, err = t.home(); err != nil {
				return err
			}
			return target.change(func(faults []simconf.Fault) ([]simconf.Fault, error) {
				for _, fault := range faults {
					line, err := json.Marshal(fault)
					if err != nil {
						return nil, err
					}
					cmd.Println(string(line))
				}
				return faults, nil
			})
		},
	}
	cmd.Flags().StringVar(&target.image, "image", "", "of this local VM instead of the host")
	return cmd
}
