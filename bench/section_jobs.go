package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"gitlab-runner-tart-driver/bench/report"
	"gitlab-runner-tart-driver/bench/stats"
	"gitlab-runner-tart-driver/bench/timeline"
	"gitlab-runner-tart-driver/internal/trial"
)

// bootFigures are the rows for one boot delay.
type bootFigures struct{ total, share, prepare, beyond, after, tart *report.Figure }

// jobFigures are the rows about jobs of any boot delay.
type jobFigures struct {
	config, configCPU, prepareCPU, script, scriptCPU, cleanup, cleanupCPU *report.Figure
	beyond, connections, logins, memory, memoryWithTart                   *report.Figure
}

// measureJobs runs whole jobs, one at a time, with drivers in turns.
func (b *bench) measureJobs(ctx context.Context) error {
	startUp, err := b.tartStartUp(ctx)
	if err != nil {
		return err
	}
	boot := map[time.Duration]bootFigures{}
	for _, delay := range bootDelays() {
		boot[delay] = b.bootFigures(delay)
	}
	all := b.jobFigures()
	var byHand []float64
	for _, delay := range bootDelays() {
		calls := map[string][]float64{}
		for range b.opts.runs {
			for _, d := range b.drivers {
				s, err := b.observedJob(ctx, d, imageName(delay))
				if err != nil {
					return err
				}
				boot[delay].add(d, s, startUp)
				all.add(d, s)
				if d == b.own() {
					for command, n := range timeline.Count(s.calls) {
						calls[command] = append(calls[command], float64(n))
					}
				}
			}
			if delay == bootDelays()[0] {
				hand, err := b.endByHand(ctx)
				if err != nil {
					return err
				}
				byHand = append(byHand, stats.Milliseconds(hand))
			}
		}
		boot[delay].tart.Note = describeCalls(calls, b.opts.runs)
	}
	all.compareCleanup(byHand)
	return nil
}

func (b *bench) bootFigures(delay time.Duration) bootFigures {
	row := func(name string, unit report.Unit, targets ...report.Limit) *report.Figure {
		return b.figure("jobs", fmt.Sprintf("%s, boot delay %g s", name, delay.Seconds()), unit, "", targets...)
	}
	share := row("driver's share of a whole job", report.Milliseconds, report.RatioAtMost(0.25))
	if b.report.Peer != "" {
		share.Yardstick = b.report.Peer
	}
	return bootFigures{
		share:   share,
		total:   row("whole job", report.Milliseconds),
		prepare: row("`prepare`", report.Milliseconds),
		beyond:  row("`prepare` beyond tart and boot", report.Milliseconds, report.AtMost(100)),
		after:   row("guest ready until `prepare` returns", report.Milliseconds, report.AtMost(50)),
		tart:    row("processes of tart in a job", report.Count, report.AtMost(6)),
	}
}

func (f bootFigures) add(d *driver, s *jobSample, startUp time.Duration) {
	prepare := s.stage(trial.StagePrepare)
	f.total.AddTime(d.column, s.total)
	f.prepare.AddTime(d.column, prepare.wall())
	f.beyond.AddTime(d.column, timeline.Beyond(prepare.span, s.calls, s.ready, startUp))
	f.after.AddTime(d.column, prepare.span.To.Sub(s.ready))
	var share time.Duration
	for _, st := range s.stages {
		share += timeline.Beyond(st.span, s.calls, s.ready, startUp)
	}
	f.share.AddTime(d.column, share)
	if d.column == report.Peer {
		f.share.AddTime(report.Yardstick, share)
	}
	f.tart.Add(d.column, float64(len(s.calls)))
}

func (b *bench) jobFigures() jobFigures {
	row := func(name string, unit report.Unit, targets ...report.Limit) *report.Figure {
		return b.figure("jobs", name, unit, "", targets...)
	}
	return jobFigures{
		config: row("`config`", report.Milliseconds), configCPU: row("`config`, CPU", report.Milliseconds),
		prepareCPU: row("`prepare`, CPU with that of tart", report.Milliseconds),
		script:     row("`run`, each of four scripts", report.Milliseconds), scriptCPU: row("`run`, CPU", report.Milliseconds),
		cleanup: row("`cleanup`", report.Milliseconds), cleanupCPU: row("`cleanup`, CPU", report.Milliseconds),
		beyond:         row("`cleanup` beyond tart", report.Milliseconds, report.AtMost(30)),
		connections:    row("TCP connections to the guest's SSH server", report.Count),
		logins:         row("SSH handshakes", report.Count, report.AtMost(1)),
		memory:         row("peak memory of `config` and `run`", report.Megabytes, report.AtMost(20)),
		memoryWithTart: row("peak memory of `prepare` and `cleanup`, or of a tart in them", report.Megabytes),
	}
}

func (f *jobFigures) add(d *driver, s *jobSample) {
	for _, st := range s.stages {
		wall, cpu, memory := f.script, f.scriptCPU, f.memory
		switch st.name {
		case trial.StageConfig:
			wall, cpu = f.config, f.configCPU
		case trial.StagePrepare:
			wall, cpu, memory = nil, f.prepareCPU, f.memoryWithTart
		case trial.StageCleanup:
			wall, cpu, memory = f.cleanup, f.cleanupCPU, f.memoryWithTart
		}
		if wall != nil {
			wall.AddTime(d.column, st.wall())
		}
		cpu.AddTime(d.column, st.cpu)
		memory.Add(d.column, float64(st.maxRSS)/1e6)
	}
	if s.ssh.known {
		f.connections.Add(d.column, float64(s.ssh.connections))
		f.logins.Add(d.column, float64(s.ssh.logins))
	}
}

// compareCleanup fills in what cleanup takes beyond `tart stop` and `tart delete` by hand.
func (f *jobFigures) compareCleanup(byHand []float64) {
	f.cleanup.Yardstick = "`tart stop` and `tart delete` by hand"
	for _, v := range byHand {
		f.cleanup.Add(report.Yardstick, v)
	}
	for _, column := range []report.Column{report.Driver, report.Peer} {
		for _, v := range f.cleanup.Samples[column] {
			f.beyond.Add(column, v-stats.Median(byHand))
		}
	}
}

// describeCalls says how often each command of tart was called in a job.
func describeCalls(calls map[string][]float64, jobs int) string {
	var parts []string
	for command, counts := range calls {
		for len(counts) < jobs { // jobs without such a call
			counts = append(counts, 0)
		}
		parts = append(parts, fmt.Sprintf("%s %g", command, stats.Median(counts)))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}
