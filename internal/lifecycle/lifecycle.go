// Package lifecycle is what each stage of the Custom executor does, as sequences of steps: config, prepare, run, cleanup, and the
// sweep that makes good what crashes left.
//
// It puts the other rooms' parts together. It reads no environment and parses no flags.
package lifecycle

import (
	"gitlab-runner-tart-driver/internal/host"
	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/proc"
	"gitlab-runner-tart-driver/internal/settings"
)

// Stage is what every stage has to work with.
type Stage struct {
	Settings *settings.Settings
	State    *host.State
	Job      *job.Job
	Log      *job.Log
	// Handover is what config left for the later stages.
	Handover job.Handover
	// Environ is the stage's environment; only an allow-listed part of it is passed on to other programs.
	Environ []string
	// Executable is this program, for starting keepers.
	Executable string
	// Version is this program's.
	Version string
}

// Config makes what the config stage prints.
func (s *Stage) Config(hostname string, ancestors []proc.ID) job.Config {
	handover := job.Handover{
		VM:        s.State.NewName(s.Job.ID),
		StateDir:  s.State.Dir(),
		BuildsDir: s.Settings.GuestBuildsDir,
		CacheDir:  s.Settings.GuestCacheDir,
		Ancestors: ancestors,
	}
	return job.Config{
		BuildsDir: handover.BuildsDir,
		CacheDir:  handover.CacheDir,
		Hostname:  hostname,
		Driver:    job.DriverInfo{Name: "gitlab-runner-tart-driver", Version: s.Version},
		JobEnv:    handover.JobEnv(),
		Shell:     "bash",
	}
}

// findRecord finds the job's own record: the newest that has the job's key. The name that config handed on is not needed: a prepare without a config stage,
// or the second with the same name, makes up one of its own.
func (s *Stage) findRecord() (host.Record, bool, error) {
	records, err := s.State.RecordsOf(s.Job.ID, s.Job.Key)
	if err != nil {
		return host.Record{}, false, job.Infrastructure(err, "")
	}
	if len(records) == 0 {
		return host.Record{}, false, nil
	}
	return records[0], true, nil
}
