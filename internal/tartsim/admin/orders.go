package admin

import (
	"encoding/json"
	"errors"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"gitlab-runner-tart-driver/internal/tartsim/simconf"
	"gitlab-runner-tart-driver/internal/tartsim/tartcmd"
	"gitlab-runner-tart-driver/internal/tartsim/tarthome"
)

// orderCommands are what can be done to a running VM. Each returns when it is done.
func (t *tool) orderCommands() []*cobra.Command {
	help := map[string]string{
		"poweroff":   "Let the guest switch itself off at once; `tart run` ends with 0",
		"shutdown":   "Let the guest's system shut down by itself",
		"crash":      "Let the guest end with an error; `tart run` ends with 0",
		"disconnect": "Let the VM's network attachment break, which ends `tart run` with 0",
		"kill":       "Kill `tart run`, and the guest with it",
		"powercut":   "Take the guest's network down silently and kill `tart run` (network: netns)",
		"freeze":     "Stop all processes of the guest",
		"thaw":       "Let a frozen guest go on",
		"unplug":     "Take the guest's network down silently (network: netns)",
		"plug":       "Take the guest's network up again (network: netns)",
	}
	var commands []*cobra.Command
	for _, verb := range tartcmd.Verbs() {
		commands = append(commands, &cobra.Command{
			Use: verb + " NAME", Short: help[verb], Args: cobra.ExactArgs(1),
			RunE: func(_ *cobra.Command, args []string) error {
				home, err := t.home()
				if err != nil {
					return err
				}
				return tartcmd.Order(home.VM(args[0]), verb)
			},
		})
	}
	return commands
}

// vmRow is a VM in `tartsim vms --json`.
type vmRow struct {
	Name  string             `json:"name"`
	OS    string             `json:"os"`
	State string             `json:"state"`
	MAC   string             `json:"mac"`
	PID   int                `json:"pid,omitempty"`
	Run   *tartcmd.RunRecord `json:"run,omitempty"` // of the last run
}

func (t *tool) vmsCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "vms", Short: "List local VMs with what the stand-in knows about their last run", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			home, err := t.home()
			if err != nil {
				return err
			}
			rows, err := vmRows(home)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd, rows)
			}
			for _, row := range rows {
				address := ""
				if row.Run != nil && row.PID != 0 {
					address = row.Run.Address + " isolation " + row.Run.Isolation
				}
				cmd.Printf("%-40s %-7s %-9s %s %s\n", row.Name, row.OS, row.State, row.MAC, address)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func vmRows(home *tarthome.Home) ([]vmRow, error) {
	vms, err := home.ListVMs()
	if err != nil {
		return nil, err
	}
	rows := []vmRow{}
	for _, vm := range vms {
		config, err := vm.Config()
		if err != nil {
			return nil, err
		}
		state, err := vm.State()
		if err != nil {
			return nil, err
		}
		pid, err := vm.RunPID()
		if err != nil {
			return nil, err
		}
		row := vmRow{Name: vm.Name, OS: config.OS, State: state, MAC: config.MAC, PID: pid}
		record, err := tartcmd.LoadRunRecord(vm)
		switch {
		case err == nil:
			row.Run = &record
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func printJSON(cmd *cobra.Command, value any) error {
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	cmd.Println(string(data))
	return nil
}

func (t *tool) callsCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "calls", Short: "Show the recorded calls of tart", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			home, err := t.home()
			if err != nil {
				return err
			}
			calls, err := simconf.ReadCalls(home.Dir)
			if err != nil {
				return err
			}
			if asJSON {
				if calls == nil {
					calls = []simconf.Call{}
				}
				return printJSON(cmd, calls)
			}
			for _, call := range calls {
				end := "killed or running"
				if call.Exit != nil {
					end = "exit " + itoa(*call.Exit) + " after " + call.End.Sub(call.Start).Round(time.Millisecond).String()
				}
				cmd.Printf("%s  %-7d %-28s %q\n", call.Start.Format("15:04:05.000"), call.PID, end, call.Argv)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
