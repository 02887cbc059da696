// Package admin is `tartsim`, the command line by which a test or a person prepares the stand-in: images, faults, the record of calls,
// and what is done to a running VM from outside.
//
// It changes files below TART_HOME and nothing else; what they mean is the business of the packages that read them.
package admin

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"gitlab-runner-tart-driver/internal/tartsim/tarthome"
)

// Process is what a call of tartsim gets from the system.
type Process struct {
	Args    []string // without the program's name
	Environ []string
	Self    string
	Stdout  *os.File
	Stderr  *os.File
}

// tool is what the commands share.
type tool struct {
	process Process
}

// Main runs tartsim and returns its exit status.
func Main(p Process) int {
	t := &tool{process: p}
	root := &cobra.Command{
		Use:           "tartsim",
		Short:         "A stand-in for Tart on Linux",
		Long:          "tartsim lets programs that call Tart be tested on Linux: put the directory of `tartsim install` first in PATH,\nrun `tartsim init`, and use `tart`. TART_HOME says where everything is kept, as with Tart.",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetArgs(p.Args)
	root.SetOut(p.Stdout)
	root.SetErr(p.Stderr)
	root.AddCommand(t.tartCommand(), t.installCommand(), t.initCommand(), t.imageCommand(), t.faultCommand(), t.configCommand(), t.callsCommand(), t.vmsCommand(), t.checkCommand())
	root.AddCommand(t.orderCommands()...)
	if err := root.Execute(); err != nil {
		_, _ = fmt.Fprintf(p.Stderr, "tartsim: %v\n", err)
		return 1
	}
	return 0
}

func (t *tool) env(name string) string {
	for _, entry := range t.process.Environ {
		if value, found := strings.CutPrefix(entry, name+"="); found {
			return value
		}
	}
	return ""
}

// home opens TART_HOME and creates it if need be.
func (t *tool) home() (*tarthome.Home, error) {
	return tarthome.Open(t.env("TART_HOME"), t.env("HOME"))
}

// tartCommand is here for the help only: the program gives these arguments to tart before cobra sees them.
func (t *tool) tartCommand() *cobra.Command {
	return &cobra.Command{
		Use: "tart ARGS...", Short: "Be tart: the same as a program named tart", DisableFlagParsing: true,
		RunE: func(*cobra.Command, []string) error { return fmt.Errorf("tart: unreachable") },
	}
}
