package cli

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"gitlab-runner-tart-driver/internal/history"
	"gitlab-runner-tart-driver/internal/host"
	"gitlab-runner-tart-driver/internal/proc"
)

func TestParseUsage(t *testing.T) {
	got := parseUsage([]byte("  123   0.0   1000\n45678 199.5 2097152\n\nnonsense\n 1 a b\n"))
	if len(got) != 2 || got[123] != (usage{0, 1.024}) || got[45678].cpu != 199.5 || got[45678].memory < 2147 || got[45678].memory > 2148 {
		t.Errorf("parsed: %+v", got)
	}
}

// TestUsageArgs asks for each field by an option of its own, without a header.
func TestUsageArgs(t *testing.T) {
	args := usageArgs([]string{strconv.Itoa(os.Getpid()), "1"})
	for _, arg := range args {
		if _, header, ok := strings.Cut(arg, "="); ok && header != "" {
			t.Errorf("%q has the header %q", arg, header)
		}
	}
	out, err := exec.Command("ps", args...).Output()
	if got := parseUsage(out); err != nil || len(got) != 2 || got[os.Getpid()].memory <= 0 {
		t.Errorf("ps said %q (%v), which is read as %+v", out, err, got)
	}
}

// TestStateOfAJob tells what a job is at from its record and events. The process of the events is this one, or one that is gone.
func TestStateOfAJob(t *testing.T) {
	self, err := proc.Of(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	gone := proc.ID{PID: self.PID, Start: self.Start + 1, Boot: self.Boot}
	event := func(kind history.Kind, id proc.ID, stage string) history.Event {
		return history.Event{Kind: kind, JobID: "42", Project: "g/p", PID: id.PID, Start: id.Start, Stage: stage}
	}
	record := host.Record{JobID: "42", Project: "g/p", Prepare: gone, Run: self}
	for want, c := range map[string]struct {
		record host.Record
		events []history.Event
		free   bool
	}{
		"stale":           {record: record, free: true},
		"between scripts": {record: record, events: []history.Event{event(history.ScriptBegan, self, "get_sources"), event(history.ScriptEnded, self, "get_sources")}},
		"build_script":    {record: record, events: []history.Event{event(history.PrepareBegan, gone, ""), event(history.ScriptBegan, self, "build_script")}},
		"script":          {record: record, events: []history.Event{event(history.ScriptBegan, self, "")}},
		"prepare":         {record: host.Record{JobID: "42", Project: "g/p", Prepare: self}},
		"cleanup":         {record: record, events: []history.Event{event(history.ScriptBegan, gone, "build_script"), event(history.CleanupBegan, self, "")}},
		"VM has ended":    {record: host.Record{JobID: "42", Project: "g/p", Prepare: gone, Run: gone}, events: []history.Event{event(history.ScriptBegan, gone, "build_script")}},
	} {
		if got := progressOf(c.events).state(c.record, !c.free); got != want {
			t.Errorf("state %q, want %q", got, want)
		}
	}
	until := time.Date(2026, 2, 23, 12, 30, 0, 0, time.Local)
	record.HeldUntil = until
	if got := progressOf(nil).state(record, true); got != "held until 12:30" {
		t.Errorf("state %q", got)
	}
}

func TestJobsWithoutAVM(t *testing.T) {
	self, err := proc.Of(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	began := history.Event{Kind: history.PrepareBegan, Time: now.Add(-time.Minute), JobID: "42", Project: "g/p", Image: "base", PID: self.PID, Start: self.Start}
	p := progressOf([]history.Event{began})
	if jobs := p.withoutVM(nil, nil, nil, now); len(jobs) != 1 || jobs[0].State != "prepare" || jobs[0].Image != "base" || jobs[0].AgeSeconds != 60 {
		t.Errorf("listed: %+v", jobs)
	}
	for what, jobs := range map[string][]psJob{
		"it has a VM":          p.withoutVM([]host.Record{{JobID: "42", Project: "g/p"}}, nil, nil, now),
		"it waits":             p.withoutVM(nil, []host.Ticket{{PID: self.PID}}, nil, now),
		"its process is gone":  progressOf([]history.Event{{Kind: history.PrepareBegan, JobID: "42", PID: self.PID, Start: self.Start + 1}}).withoutVM(nil, nil, nil, now),
		"its prepare is over":  progressOf([]history.Event{began, {Kind: history.PrepareEnded, JobID: "42", Project: "g/p", PID: self.PID}}).withoutVM(nil, nil, nil, now),
		"there are no events":  progressOf(nil).withoutVM(nil, nil, nil, now),
		"another job's events": progressOf([]history.Event{{Kind: history.ScriptBegan, JobID: "43", PID: self.PID, Start: self.Start}}).withoutVM(nil, nil, nil, now),
	} {
		if len(jobs) > 0 {
			t.Errorf("%s, and yet it is listed: %+v", what, jobs)
		}
	}
}

func TestShortAge(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 59 * time.Second: "59s", 200 * time.Second: "3m20s", 2*time.Hour + 5*time.Minute: "2h5m", 76 * time.Hour: "3d4h",
	} {
		if got := shortAge(d); got != want {
			t.Errorf("%s is %q, want %q", d, got, want)
		}
	}
}

// TestNobodyReads writes to a pipe that nobody reads from, which is no error of a verb.
func TestNobodyReads(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r.Close()
	err = painter{}.writeTable(w, []string{"JOB"}, [][]cell{plain("42")})
	if err == nil || written(err) != nil {
		t.Errorf("error %v, of which %v is left", err, written(err))
	}
	if _, err := os.Stdin.WriteAt(nil, -1); written(err) == nil {
		t.Error("another error is left out")
	}
}
