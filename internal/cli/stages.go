package cli

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"gitlab-runner-tart-driver/internal/lifecycle"
	"gitlab-runner-tart-driver/internal/proc"
	"gitlab-runner-tart-driver/internal/settings"
	"gitlab-runner-tart-driver/internal/tart"
)

// What stages say of themselves. GitLab Runner's own words for them: https://docs.gitlab.com/runner/executors/custom/
const (
	configLong = `GitLab Runner calls this at the start of a job. It prints, as JSON, what the job gets to know: the directories in the VM, the shell that scripts are
written for, and the name of the VM that is to be made, which GitLab Runner hands to the stages that follow.`
	prepareLong = `GitLab Runner calls this before the scripts of a job. It makes sure of the image, waits for a place on the host, makes the VM, starts it, and waits
until commands run in it. From then on a process of its own, the keeper, has the VM.

What a job's variables set comes before what flags say, and that before what the file of --config says.`
	runLong = `GitLab Runner calls this for each script of a job. It runs the file SCRIPT in the job's VM and ends with its exit code. STAGE is GitLab Runner's name of
the script, such as build_script. Where GitLab Runner ends it, the script gets SIGTERM, and ten seconds later SIGKILL; the VM stays.`
	cleanupLong = `GitLab Runner calls this when a job is over, however it has ended. It destroys the VM, whatever is wrong with the arguments, unless the VM is to be held
for a while, and removes what crashes have left.`
)

func newConfigCommand(env Env) *cobra.Command {
	return newStageCommand(env, settings.StageConfig, "config", configLong, "Config stage: print the job's configuration as JSON", cobra.NoArgs,
		func(_ *cobra.Command, _ []string, s *lifecycle.Stage) error {
			hostname, err := os.Hostname()
			if err != nil {
				hostname = ""
			}
			return json.NewEncoder(env.Stdout).Encode(s.Config(hostname, proc.Ancestors(os.Getpid())))
		})
}

func newPrepareCommand(env Env) *cobra.Command {
	return newStageCommand(env, settings.StagePrepare, "prepare", prepareLong, "Prepare stage: make the job's VM and start it", cobra.NoArgs,
		func(cmd *cobra.Command, _ []string, s *lifecycle.Stage) error {
			if !s.Job.Trusted {
				s.Log.Linef("warning: GitLab Runner gives no JOB_RESPONSE_FILE (it does since 14.1); the job is taken from variables that it can set itself")
			}
			if len(s.Job.Services) > 0 {
				s.Log.Linef("warning: services are not started (%s): the Custom executor has none; let the script start what the job needs", strings.Join(s.Job.Services, ", "))
			}
			if s.Job.Entrypoint {
				s.Log.Linef("warning: image:entrypoint has no effect: a VM boots its own system")
			}
			for _, text := range settings.Unknown(s.Job.Variables) {
				s.Log.Linef("warning: %s", text)
			}
			client, err := newTart(s)
			if err != nil {
				return err
			}
			return s.Prepare(cmd.Context(), client)
		})
}

func newRunCommand(env Env) *cobra.Command {
	return newStageCommand(env, settings.StageRun, "run SCRIPT STAGE", runLong, "Run stage: run a script in the job's VM", cobra.ExactArgs(2),
		func(cmd *cobra.Command, args []string, s *lifecycle.Stage) error {
			stdout, ok1 := env.Stdout.(*os.File)
			stderr, ok2 := env.Stderr.(*os.File)
			if !ok1 || !ok2 {
				return errors.New("run hands its output files to another process, and so needs real ones")
			}
			return s.Run(cmd.Context(), args[0], args[1], stdout, stderr)
		})
}

func newCleanupCommand(env Env) *cobra.Command {
	return newStageCommand(env, settings.StageCleanup, "cleanup", cleanupLong, "Cleanup stage: destroy the job's VM, and what crashes left", cobra.NoArgs,
		func(cmd *cobra.Command, _ []string, s *lifecycle.Stage) error {
			return s.Cleanup(cmd.Context(), sync.OnceValues(func() (*tart.Client, error) { return newTart(s) }))
		})
}
