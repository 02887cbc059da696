package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"gitlab-runner-tart-driver/bench/report"
	statedir "gitlab-runner-tart-driver/internal/host"
	"gitlab-runner-tart-driver/internal/tartsim/simconf"
	"gitlab-runner-tart-driver/internal/trial"
)

// stageFigures are the main rows about a job.
type stageFigures struct {
	total, attempts *report.Figure
	wall, cpu       map[string]*report.Figure // of each stage, cpu without that of tart
}

// sameAsAlone is the target for what must not depend on how much was, or is, on the host.
var sameAsAlone = []report.Limit{report.RatioAtMost(1.1)}

// scripts stands for all stages that run one.
const scripts = "run"

func (b *bench) stageFigures(section, what, yardstick string, wallTarget, cpuTarget []report.Limit) stageFigures {
	row := func(name string, targets []report.Limit) *report.Figure {
		return b.figure(section, name+what, report.Milliseconds, yardstick, targets...)
	}
	f := stageFigures{wall: map[string]*report.Figure{}, cpu: map[string]*report.Figure{}}
	for _, stage := range []string{trial.StageConfig, trial.StagePrepare, scripts, trial.StageCleanup} {
		f.wall[stage] = row("`"+stage+"`", wallTarget)
		f.cpu[stage] = row("`"+stage+"`, CPU without tart's", cpuTarget)
	}
	f.total = row("whole job", wallTarget)
	f.attempts = b.figure(section, "attempts at `prepare`"+what, report.Count, yardstick)
	return f
}

// add adds jobs that have been the host's last ones.
func (f *stageFigures) add(h *host, column report.Column, jobs ...*jobSample) error {
	calls, err := simconf.ReadCalls(h.tartHome())
	if err != nil {
		return err
	}
	byCaller := map[int][]simconf.Call{}
	for _, c := range calls {
		byCaller[c.PPID] = append(byCaller[c.PPID], c)
	}
	for _, job := range jobs {
		f.addJob(column, job, byCaller)
	}
	return h.forgetCalls()
}

// addJob adds a job. The CPU of calls of tart that a stage has waited for is not its own.
func (f *stageFigures) addJob(column report.Column, s *jobSample, byCaller map[int][]simconf.Call) {
	f.total.AddTime(column, s.total)
	f.attempts.Add(column, float64(s.attempts))
	for _, st := range s.stages {
		name := st.name
		if f.wall[name] == nil {
			name = scripts
		}
		f.wall[name].AddTime(column, st.wall())
		for _, c := range byCaller[st.pid] {
			if c.End != nil && c.End.Before(st.span.To) {
				st.cpu -= c.CPU
			}
		}
		f.cpu[name].AddTime(column, st.cpu)
	}
}

// measureLeftovers runs jobs on a host with a past, in turns with jobs on one without. Only this project's driver is asked: another's past is not
// known here.
func (b *bench) measureLeftovers(ctx context.Context) error {
	f := b.stageFigures("leftovers", fmt.Sprintf(", %d jobs before", b.opts.leftovers), "none", sameAsAlone, nil)
	first := b.figure("leftovers", fmt.Sprintf("`prepare` that clears up after %d jobs", b.opts.leftovers), report.Milliseconds, "")
	if err := b.host.tartDo(ctx, "pull", registryImage); err != nil {
		return err
	}
	if err := b.makePast(ctx); err != nil {
		return err
	}
	aside := filepath.Join(b.host.dir, "state-aside")
	defer func() { _ = os.RemoveAll(b.host.state()) }() // other sections want no past
	for i := range b.opts.runs + 1 {
		s, err := b.meteredJob(ctx, b.own(), registryImage, nil)
		if err != nil {
			return err
		}
		if i == 0 {
			first.AddTime(report.Driver, s.stage(trial.StagePrepare).wall())
			continue
		}
		if err := f.add(b.host, report.Driver, s); err != nil {
			return err
		}
		if err := os.Rename(b.host.state(), aside); err != nil {
			return err
		}
		if s, err = b.meteredJob(ctx, b.own(), registryImage, nil); err != nil {
			return err
		}
		if err := f.add(b.host, report.Yardstick, s); err != nil {
			return err
		}
		if err := errors.Join(os.RemoveAll(b.host.state()), os.Rename(aside, b.host.state())); err != nil {
			return err
		}
	}
	return nil
}

// makePast leaves what many jobs leave, each with an image of its own: notes and locks of the images, and what one real job leaves, over and over.
func (b *bench) makePast(ctx context.Context) error {
	if err := os.RemoveAll(b.host.state()); err != nil { // that of other sections
		return err
	}
	if _, err := b.meteredJob(ctx, b.own(), registryImage, nil); err != nil {
		return err
	}
	state, err := statedir.Open(b.host.state())
	if err != nil {
		return err
	}
	began := time.Now()
	var names []string
	for i := range b.opts.leftovers {
		image := fmt.Sprintf("registry.test/macos/past:%d", i)
		if err := state.NoteImageUse(image, began.Add(-time.Duration(i)*time.Second)); err != nil {
			return err
		}
		lock, err := state.HoldImage(ctx, image)
		if err != nil {
			return err
		}
		lock.Release()
		names = append(names, state.NewName(strconv.Itoa(i+1)))
	}
	if err := repeatHistory(ctx, b.host.state(), names); err != nil {
		return err
	}
	// As if nobody had cleared up for a while.
	err = os.Remove(filepath.Join(b.host.state(), "logs", "pruned"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// repeatHistory makes as many jobs' history of one job's as there are names, a second apart.
func repeatHistory(ctx context.Context, state string, names []string) error {
	logs, err := filepath.Glob(filepath.Join(state, "logs", "grtd-*"))
	if err != nil || len(logs) != 1 {
		return fmt.Errorf("one job has left the logs %q (%w)", logs, err)
	}
	path := filepath.Join(state, "events.jsonl")
	once, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	events, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	defer events.Close()
	ended := time.Now()
	for i, name := range names {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		to := filepath.Join(state, "logs", name)
		if err := os.CopyFS(to, os.DirFS(logs[0])); err != nil {
			return err
		}
		then := ended.Add(-time.Duration(i) * time.Second)
		if err := os.Chtimes(to, then, then); err != nil {
			return err
		}
		if _, err := events.Write(bytes.ReplaceAll(once, []byte(filepath.Base(logs[0])), []byte(name))); err != nil {
			return err
		}
	}
	return nil
}
