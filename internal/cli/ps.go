package cli

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"gitlab-runner-tart-driver/internal/host"
	"gitlab-runner-tart-driver/internal/job"
)

const psLong = `Lists the jobs of this host with their VMs, and the jobs that wait for a place. It only looks: no job notices.

STATE is what a job is at, as far as that is known: prepare, the script that GitLab Runner has called (such as build_script), between scripts,
cleanup, held, VM has ended, or stale for a VM that nobody answers for any more. CPU and MEMORY are those of the VM's own tart run, by ps.
A terminal that is too narrow shows the ends of long names, and leaves out the columns that matter least; a pipe and --json get all.

Exit codes
  0    all is well, stale VMs included
  1    there is no state directory, or it can't be read
  64   the command line is not understood`

// psReport is what ps --json writes.
type psReport struct {
	Jobs    []psJob     `json:"jobs"`
	Waiting []psWaiting `json:"waiting"`
	// SlotsTaken counts the host's places that are taken.
	SlotsTaken int `json:"slots_taken"`
}

// psJob is a job that has a VM, or is about to.
type psJob struct {
	JobID   string `json:"job,omitempty"`
	Project string `json:"project,omitempty"`
	VM      string `json:"vm,omitempty"`
	// Slot counts from 1; 0 where the VM has none.
	Slot  int    `json:"slot,omitempty"`
	State string `json:"state"`
	// Stale says that nobody answers for the VM: a sweep removes it.
	Stale      bool       `json:"stale"`
	Since      *time.Time `json:"since"`
	AgeSeconds int64      `json:"age_seconds"`
	Image      string     `json:"image,omitempty"`
	Address    string     `json:"address,omitempty"`
	HeldUntil  *time.Time `json:"held_until,omitempty"`
	// PID is the VM's tart run; CPUPercent and MemoryMB are what that takes.
	PID        int      `json:"pid,omitempty"`
	CPUPercent *float64 `json:"cpu_percent"`
	MemoryMB   *float64 `json:"memory_mb"`
}

// psWaiting is a job that waits for a place.
type psWaiting struct {
	Position    int       `json:"position"`
	JobID       string    `json:"job,omitempty"`
	Project     string    `json:"project,omitempty"`
	Image       string    `json:"image,omitempty"`
	PID         int       `json:"pid"`
	Since       time.Time `json:"since"`
	WaitSeconds int64     `json:"wait_seconds"`
}

func newPsCommand(env Env) *cobra.Command {
	var watch, asJSON bool
	cmd, flags := newHostVerb("ps", "List the jobs of this host, and those that wait", psLong, cobra.NoArgs)
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show it again every two seconds, until ^C")
	cmd.Flags().BoolVar(&asJSON, "json", false, "write JSON: an object with jobs, waiting and slots_taken; with --watch, one on each line")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		_, state, err := flags.open(env)
		if err != nil {
			return err
		}
		ctx := cmd.Context()
		show := func() error {
			report, err := surveyJobs(ctx, state, time.Now())
			if err != nil {
				return job.Mistake(err, "be the user that GitLab Runner runs as")
			}
			switch {
			case asJSON && watch:
				return writeJSONLine(env.Stdout, report)
			case asJSON:
				return writeJSON(env.Stdout, report)
			default:
				return newPainter(env).writeJobs(env.Stdout, report)
			}
		}
		if !watch {
			return written(show())
		}
		return written(watchJobs(ctx, env, asJSON, show))
	}
	return cmd
}

// watchInterval is how often ps --watch looks.
const watchInterval = 2 * time.Second

// clearScreen puts the cursor into the first corner and clears what follows.
const clearScreen = "\x1b[H\x1b[2J"

// watchJobs shows the jobs again and again, until ctx ends.
func watchJobs(ctx context.Context, env Env, asJSON bool, show func() error) error {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		switch {
		case asJSON:
		case isTerminal(env.Stdout):
			fmt.Fprint(env.Stdout, clearScreen)
			fallthrough
		default:
			fmt.Fprintln(env.Stdout, time.Now().Format("15:04:05"))
		}
		if err := show(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// writeJobs writes a report for people.
func (p painter) writeJobs(w io.Writer, r psReport) error {
	if len(r.Jobs) == 0 && len(r.Waiting) == 0 {
		_, err := fmt.Fprintln(w, "no job runs here")
		return err
	}
	stale := 0
	if len(r.Jobs) > 0 {
		var rows [][]cell
		for _, j := range r.Jobs {
			state := cell{j.State, cyan}
			if j.Stale {
				stale++
				state.colour = yellow
			}
			rows = append(rows, append(plain(j.JobID, j.Project, j.VM, number(j.Slot)),
				append([]cell{state}, plain(j.age(), j.Image, j.Address, percent(j.CPUPercent), megabytes(j.MemoryMB))...)...))
		}
		columns := []column{{"JOB", 0, 0}, {"PROJECT", 12, 0}, {"VM", 0, 4}, {"SLOT", 0, 2}, {"STATE", 0, 0}, {"AGE", 0, 0}, {"IMAGE", 20, 0}, {"ADDRESS", 0, 3},
			{"CPU", 0, 1}, {"MEMORY", 0, 3}}
		if err := p.writeFitted(w, columns, rows); err != nil {
			return err
		}
	}
	if len(r.Waiting) > 0 {
		var rows [][]cell
		for _, j := range r.Waiting {
			rows = append(rows, plain(number(j.Position), j.JobID, j.Project, j.Image, shortAge(time.Duration(j.WaitSeconds)*time.Second), strconv.Itoa(j.PID)))
		}
		if len(r.Jobs) > 0 {
			fmt.Fprintln(w)
		}
		if err := p.writeFitted(w, []column{{"IN LINE", 0, 0}, {"JOB", 0, 0}, {"PROJECT", 12, 0}, {"IMAGE", 20, 0}, {"WAITS", 0, 0}, {"PID", 0, 1}}, rows); err != nil {
			return err
		}
	}
	if stale > 0 {
		vms := "a VM is stale: nobody answers for it"
		if stale > 1 {
			vms = fmt.Sprintf("%d VMs are stale: nobody answers for them", stale)
		}
		_, err := fmt.Fprintf(w, "\n%s. The next job removes what is stale; at once: gitlab-runner-tart-driver sweep\n", vms)
		return err
	}
	return nil
}

func (j psJob) age() string {
	if j.Since == nil {
		return ""
	}
	return shortAge(time.Duration(j.AgeSeconds) * time.Second)
}

// number is a number that counts from 1, or nothing.
func number(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

func percent(v *float64) string {
	if v == nil {
		return ""
	}
	return fmt.Sprintf("%.0f%%", *v)
}

func megabytes(v *float64) string {
	if v == nil {
		return ""
	}
	return fmt.Sprintf("%.0f MB", *v)
}

// surveyJobs puts together what records, slots, line and events of a state directory say.
func surveyJobs(ctx context.Context, state *host.State, now time.Time) (psReport, error) {
	report := psReport{Jobs: []psJob{}, Waiting: []psWaiting{}}
	names, err := state.Names()
	if err != nil {
		return report, err
	}
	records, err := state.Records()
	if err != nil {
		return report, err
	}
	events, err := state.History().Events()
	if err != nil {
		events = nil // they only add to what is known
	}
	progress := progressOf(events)
	byName := map[string]host.Record{}
	for _, r := range records {
		byName[r.VM] = r
	}
	slots := state.Slots()
	report.SlotsTaken = len(slots)
	for _, name := range names {
		held := state.Held(name)
		if !state.HasRecord(name) {
			continue // its job has ended just now
		}
		r, known := byName[name]
		if !known {
			r = host.Record{VM: name} // damaged; its name is left
		}
		j := newPsJob(r, now)
		j.Stale = !held
		j.State = progress.state(r, held)
		j.Slot = slotOf(slots, r.JobID, r.Project)
		report.Jobs = append(report.Jobs, j)
	}
	line := state.Queue()
	for i, t := range line {
		w := psWaiting{Position: i + 1, PID: t.PID, Since: t.Since.UTC(), WaitSeconds: int64(now.Sub(t.Since).Seconds())}
		if began := progress.preparing(t.PID); began != nil {
			w.JobID, w.Project, w.Image = began.JobID, began.Project, began.Image
		}
		report.Waiting = append(report.Waiting, w)
	}
	report.Jobs = append(report.Jobs, progress.withoutVM(records, line, slots, now)...)
	report.sort()
	report.measure(ctx)
	return report, nil
}

func newPsJob(r host.Record, now time.Time) psJob {
	j := psJob{JobID: r.JobID, Project: r.Project, VM: r.VM, Image: r.Image, PID: r.Run.PID}
	if r.Address.IsValid() {
		j.Address = r.Address.String()
	}
	if !r.Created.IsZero() {
		j.since(r.Created, now)
	}
	if !r.HeldUntil.IsZero() {
		until := r.HeldUntil.UTC()
		j.HeldUntil = &until
	}
	if !r.Run.Alive() {
		j.PID = 0
	}
	return j
}

func (j *psJob) since(at, now time.Time) {
	at = at.UTC()
	j.Since, j.AgeSeconds = &at, max(0, int64(now.Sub(at).Seconds()))
}

// slotOf is the place that a job has, counted from 1, or 0.
func slotOf(slots []host.SlotUse, jobID, project string) int {
	for _, s := range slots {
		if jobID != "" && s.JobID == jobID && s.Project == project {
			return s.Index + 1
		}
	}
	return 0
}
