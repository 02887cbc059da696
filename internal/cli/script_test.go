package cli

import (
	"os"
	"os/exec"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets the test binary be the driver, too, so that scenarios run it as a program.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"gitlab-runner-tart-driver": func() {
			self, err := exec.LookPath(os.Args[0])
			if err != nil {
				self = os.Args[0]
			}
			os.Exit(Main(Env{
				Args: os.Args[1:], Environ: os.Environ(), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Executable: self, Version: "1.2.3",
			}))
		},
	})
}

// TestScenarios runs what a person would type; see testdata/script.
func TestScenarios(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script", RequireExplicitExec: true})
}
