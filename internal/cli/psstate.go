package cli

import (
	"bytes"
	"cmp"
	"context"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"gitlab-runner-tart-driver/internal/history"
	"gitlab-runner-tart-driver/internal/host"
	"gitlab-runner-tart-driver/internal/proc"
)

// progress is what the events say about jobs that are not over.
type progress struct {
	// open are the stages that have begun and not ended, by job, the latest of each job.
	open map[jobName]history.Event
	// prepares are the latest beginnings of prepare, by process.
	prepares map[int]history.Event
}

// jobName tells jobs apart for people.
type jobName struct{ id, project string }

// progressOf goes through events, oldest first.
func progressOf(events []history.Event) progress {
	p := progress{open: map[jobName]history.Event{}, prepares: map[int]history.Event{}}
	for _, e := range events {
		name := jobName{e.JobID, e.Project}
		switch e.Kind {
		case history.PrepareBegan:
			p.prepares[e.PID] = e
			p.open[name] = e
		case history.ScriptBegan, history.CleanupBegan:
			p.open[name] = e
		case history.PrepareEnded, history.ScriptEnded, history.CleanupEnded:
			if began, ok := p.open[name]; ok && began.PID == e.PID {
				delete(p.open, name)
			}
		}
	}
	return p
}

// stage is what GitLab Runner has called for a job that still runs, in words, or empty.
func (p progress) stage(name jobName) string {
	e, ok := p.open[name]
	if !ok || !runs(e) {
		return ""
	}
	switch e.Kind {
	case history.PrepareBegan:
		return "prepare"
	case history.CleanupBegan:
		return "cleanup"
	default:
		return cmp.Or(e.Stage, "script")
	}
}

// runs tells whether the process of an event still does.
func runs(e history.Event) bool {
	now, err := proc.Of(e.PID)
	return err == nil && now.Start == e.Start
}

// state is what a job with a record is at.
func (p progress) state(r host.Record, held bool) string {
	stage := p.stage(jobName{r.JobID, r.Project})
	switch {
	case !held:
		return "stale"
	case !r.HeldUntil.IsZero():
		return "held until " + r.HeldUntil.Local().Format("15:04")
	case stage != "":
		return stage
	case r.Prepare.Alive():
		return "prepare"
	case r.Run.PID != 0 && !r.Run.Alive():
		return "VM has ended"
	default:
		return "between scripts"
	}
}

// preparing is the beginning of a prepare that still runs as a process, or nil.
func (p progress) preparing(pid int) *history.Event {
	if e, ok := p.prepares[pid]; ok && runs(e) {
		return &e
	}
	return nil
}

// withoutVM are the jobs in prepare that have no VM yet and do not wait for a place: they look for their image, or have just got their place.
func (p progress) withoutVM(records []host.Record, line []host.Ticket, slots []host.SlotUse, now time.Time) []psJob {
	var jobs []psJob
	for name, e := range p.open {
		hasVM := slices.ContainsFunc(records, func(r host.Record) bool { return jobName{r.JobID, r.Project} == name })
		waits := slices.ContainsFunc(line, func(t host.Ticket) bool { return t.PID == e.PID })
		if e.Kind != history.PrepareBegan || hasVM || waits || !runs(e) {
			continue
		}
		j := psJob{JobID: e.JobID, Project: e.Project, Image: e.Image, State: "prepare", Slot: slotOf(slots, e.JobID, e.Project)}
		j.since(e.Time, now)
		jobs = append(jobs, j)
	}
	return jobs
}

// sort puts the oldest job first.
func (r *psReport) sort() {
	slices.SortStableFunc(r.Jobs, func(a, b psJob) int {
		if a.Since == nil || b.Since == nil {
			return cmp.Compare(a.VM, b.VM)
		}
		return cmp.Or(a.Since.Compare(*b.Since), cmp.Compare(a.VM, b.VM))
	})
}

// measureLimit bounds how long ps may take.
const measureLimit = 3 * time.Second

// measure asks ps what the VMs' processes take. What it does not tell stays unknown.
func (r *psReport) measure(ctx context.Context) {
	var pids []string
	for _, j := range r.Jobs {
		if j.PID != 0 {
			pids = append(pids, strconv.Itoa(j.PID))
		}
	}
	if len(pids) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, measureLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "ps", usageArgs(pids)...)
	cmd.Env = []string{"PATH=/bin:/usr/bin", "LC_ALL=C"} // or the point in numbers is a comma
	out, err := cmd.Output()
	if err != nil && len(out) == 0 {
		return
	}
	usage := parseUsage(out)
	for i, j := range r.Jobs {
		if u, ok := usage[j.PID]; ok && j.PID != 0 {
			r.Jobs[i].CPUPercent, r.Jobs[i].MemoryMB = &u.cpu, &u.memory
		}
	}
}

// usageArgs ask ps for what parseUsage reads, without a header. Each field has an option of its own: by POSIX, all that
// stands behind the first = of an option is a header, further fields included. Linux's ps knows better, BSD's need not. https://pubs.opengroup.org/onlinepubs/9799919799/utilities/ps.html
func usageArgs(pids []string) []string {
	return []string{"-o", "pid=", "-o", "pcpu=", "-o", "rss=", "-p", strings.Join(pids, ",")}
}

// usage is a process's share of a CPU in percent, and its memory in megabytes.
type usage struct{ cpu, memory float64 }

// parseUsage reads lines of pid, pcpu and rss, which is in units of 1024 bytes.
func parseUsage(out []byte) map[int]usage {
	found := map[int]usage{}
	for line := range bytes.Lines(out) {
		fields := strings.Fields(string(line))
		if len(fields) != 3 {
			continue
		}
		pid, err1 := strconv.Atoi(fields[0])
		cpu, err2 := strconv.ParseFloat(fields[1], 64)
		rss, err3 := strconv.ParseFloat(fields[2], 64)
		if err1 == nil && err2 == nil && err3 == nil {
			found[pid] = usage{cpu, rss * 1024 / 1e6}
		}
	}
	return found
}
