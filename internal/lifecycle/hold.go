package lifecycle

import (
	"os"
	"strings"
	"time"

	"gitlab-runner-tart-driver/internal/guest"
	"gitlab-runner-tart-driver/internal/host"
	"gitlab-runner-tart-driver/internal/job"
)

// timeoutSlack is how long before a job's timeout, as this driver counts it, a script that is ended may have been ended by it. GitLab Runner's clock begins
// before it tells what the job is; it fetches the job's secrets in between, for one.
const timeoutSlack = 15 * time.Second

// timesOut is from when on a script that is ended from outside is one that has taken too long: to the driver, a job's timeout looks like a cancel. A job that
// is canceled in its last seconds is mistaken for one that timed out, and one whose prepare had to be tried again for one that was canceled.
func timesOut(j *job.Job) time.Time {
	if j.Described.IsZero() {
		return time.Time{}
	}
	return j.Described.Add(j.Timeout - min(timeoutSlack, j.Timeout/4))
}

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
	if dir := s.State.Dir(); dir != host.DefaultDir(job.Environ(s.Environ).Get("HOME")) {
		line += " --state-dir " + quoteShell(dir)
	}
	return line
}

// quoteShell puts a path in quotes where a shell would see more in it.
func quoteShell(path string) string {
	if strings.ContainsFunc(path, func(r rune) bool {
		return !strings.ContainsRune("/._-+@", r) && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}) {
		return guest.Quote(path)
	}
	return path
}
