// Command gitlab-runner-tart-driver runs each GitLab CI job in a fresh Tart VM, as the driver of GitLab Runner's Custom executor.
package main

import (
	"fmt"
	"os"

	"gitlab-runner-tart-driver/internal/cli"
)

// version and commit are set by the linker; see LDFLAGS in the Makefile.
var version, commit string

func main() {
	executable, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, "error: where is this program?", err)
		os.Exit(2)
	}
	os.Exit(cli.Main(cli.Env{
		Args: os.Args[1:], Environ: os.Environ(), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Executable: executable, Version: version, Commit: commit,
	}))
}
