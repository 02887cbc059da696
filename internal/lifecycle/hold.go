package lifecycle

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"gitlab-runner-tart-driver/internal/host"
	"gitlab-runner-tart-driver/internal/job"
)

// stateDirName is the state directory's in a home directory, where no flag names another.
const stateDirName = ".gitlab-runner-tart-driver"

// tellHold says in the job's log that its VM will be held, and how to get in. GitLab Runner puts what cleanup says into its own log only.
func (s *Stage) tellHold(d time.Duration) {
	where := ""
	if name, err := os.Hostname(); err == nil {
		where = ", on host " + name
	}
	s.Log.Linef("if the job ends so, its VM is held for %s afterwards, unless another job needs its place; to get in%s: %s", d, where, s.sshLine(s.Job.ID))
}

// tellHeld says that a VM is held, and how to get in.
func (s *Stage) tellHeld(rec host.Record, until time.Time) {
	s.Log.Linef("VM %s of %s is held until %s, unless another job needs its place; to get in: %s", rec.VM, rec.Describe(), until.Local().Format(time.DateTime),
		s.sshLine(rec.JobID))
}

// sshLine is the command by which a person gets into a job's VM.
func (s *Stage) sshLine(jobID string) string {
	line := "gitlab-runner-tart-driver ssh " + jobID
	if dir := s.State.Dir(); dir != filepath.Join(job.Environ(s.Environ).Get("HOME"), stateDirName) {
		line += " --state-dir " + quoteShell(dir)
	}
	return line
}

// quoteShell puts a path in quotes where a shell would see more in it.
func quoteShell(path string) string {
	if strings.ContainsFunc(path, func(r rune) bool {
		return !strings.ContainsRune("/._-+@", r) && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}) {
		return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
	}
	return path
}
