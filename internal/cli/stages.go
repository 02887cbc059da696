package cli

import (
	"encoding/json"
	"errors"
	"os"
	"sync"

	"github.com/spf13/cobra"

	"gitlab-runner-tart-driver/internal/lifecycle"
	"gitlab-runner-tart-driver/internal/proc"
	"gitlab-runner-tart-driver/internal/settings"
	"gitlab-runner-tart-driver/internal/tart"
)

func newConfigCommand(env Env) *cobra.Command {
	return newStageCommand(env, settings.StageConfig, "config", "Config stage: print the job's configuration as JSON", cobra.NoArgs,
		func(_ *cobra.Command, _ []string, s *lifecycle.Stage) error {
			hostname, err := os.Hostname()
			if err != nil {
				hostname = ""
			}
			return json.NewEncoder(env.Stdout).Encode(s.Config(hostname, proc.Ancestors(os.Getpid())))
		})
}

func newPrepareCommand(env Env) *cobra.Command {
	return newStageCommand(env, settings.StagePrepare, "prepare", "Prepare stage: make the job's VM and start it", cobra.NoArgs,
		func(cmd *cobra.Command, _ []string, s *lifecycle.Stage) error {
			if !s.Job.Trusted {
				s.Log.Linef("warning: GitLab Runner gives no JOB_RESPONSE_FILE (it does since 14.1); the job is taken from variables that it can set itself")
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
	return newStageCommand(env, settings.StageRun, "run SCRIPT STAGE", "Run stage: run a script in the job's VM", cobra.ExactArgs(2),
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
	return newStageCommand(env, settings.StageCleanup, "cleanup", "Cleanup stage: destroy the job's VM, and what crashes left", cobra.NoArgs,
		func(cmd *cobra.Command, _ []string, s *lifecycle.Stage) error {
			return s.Cleanup(cmd.Context(), sync.OnceValues(func() (*tart.Client, error) { return newTart(s) }))
		})
}
