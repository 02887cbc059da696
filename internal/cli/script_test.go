package cli

import (
	"os"
	"os/exec"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"gitlab-runner-tart-driver/internal/gitlab/gitlabtest"
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

// TestScenarios runs what a person would type; see testdata/script. $GITLAB is the address of a GitLab that knows the runner with the token
// glrt-abcdefghijklmnop.
func TestScenarios(t *testing.T) {
	server := gitlabtest.New("glrt-abcdefghijklmnop")
	t.Cleanup(server.Close) // once all scenarios are done
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("GITLAB", server.URL)
			return nil
		},
	})
}
