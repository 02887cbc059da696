// Package tartsim is the stand-in for Tart on Linux: one program that is `tart` under that name, its administration tool under another,
// and the first process of its guests under a third. This package only tells which.
package tartsim

import (
	"os"
	"path/filepath"

	"gitlab-runner-tart-driver/internal/tartsim/admin"
	"gitlab-runner-tart-driver/internal/tartsim/guest"
	"gitlab-runner-tart-driver/internal/tartsim/tartcmd"
)

// Process is what the program gets from the system.
type Process struct {
	Args    []string // with the program's name
	Environ []string
	Self    string // path of the program's file
	Stdin   *os.File
	Stdout  *os.File
	Stderr  *os.File
}

// Main runs the program and returns its exit status.
func Main(p Process) int {
	if len(p.Args) == 0 {
		return 1
	}
	args := p.Args[1:]
	switch name := filepath.Base(p.Args[0]); {
	case name == guest.InitName && len(args) == 0:
		return guest.RunInit()
	case name == guest.InitName:
		return guest.Hold(p.Stdin)
	case name == guest.SudoName:
		return guest.RunSudo(args, p.Environ, "", p.Stderr)
	case name == "tart":
		return runTart(p, args)
	case len(args) > 0 && args[0] == guest.ShimVerb:
		return guest.RunShim(args[1:], p.Environ, p.Stdout, p.Stderr)
	case len(args) > 0 && args[0] == "tart":
		// Not by cobra: tart parses its own command line.
		return runTart(p, args[1:])
	default:
		return admin.Main(admin.Process{Args: args, Environ: p.Environ, Self: p.Self, Stdout: p.Stdout, Stderr: p.Stderr})
	}
}

func runTart(p Process, args []string) int {
	return tartcmd.Main(tartcmd.Process{Args: args, Environ: p.Environ, Self: p.Self, Stdin: p.Stdin, Stdout: p.Stdout, Stderr: p.Stderr})
}
