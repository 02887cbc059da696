// Command tartsim is a stand-in for Tart on Linux. Called as `tart` it is Tart; called as `tartsim` it prepares and steers the stand-in.
// See docs/tartsim.md.
package main

import (
	"fmt"
	"os"

	"gitlab-runner-tart-driver/internal/tartsim"
)

func main() {
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, "tartsim: find my own file:", err)
		os.Exit(1)
	}
	os.Exit(tartsim.Main(tartsim.Process{
		Args: os.Args, Environ: os.Environ(), Self: self, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
	}))
}
