package main

import (
	"context"
	"fmt"
	"time"

	"gitlab-runner-tart-driver/bench/report"
	"gitlab-runner-tart-driver/internal/trial/script"
)

// idleWindow is how long a driver is watched at a time. It is the interval of SSH keepalives.
const idleWindow = 5 * time.Second

// measureKeeper watches the driver's processes between two stages, and after a stage with much output.
func (b *bench) measureKeeper(ctx context.Context) error {
	idle := b.figure("keeper", "CPU of what stays between stages", report.Percent, "", report.Below(0.1))
	idle.Note = "of one CPU"
	memory := b.figure("keeper", "memory of what stays, after prepare", report.Megabytes, "", report.AtMost(20))
	after := b.figure("keeper", fmt.Sprintf("the same after a job log of %d MB", logBytes/1_000_000), report.Megabytes, "", report.AtMost(20))
	windows := min(max(b.opts.runs/2, 1), 5)
	return b.holdAll(ctx, script.Prepare, func(ctx context.Context, all []*held) error {
		for range windows {
			if err := watchIdle(ctx, all, idle); err != nil {
				return err
			}
			if err := addMemory(all, memory); err != nil {
				return err
			}
		}
		for _, h := range all {
			if _, err := h.observeScript(ctx, bigLog(logBytes)); err != nil {
				return err
			}
		}
		return addMemory(all, after)
	})
}

// watchIdle measures the share of a CPU that each driver takes during a window.
func watchIdle(ctx context.Context, all []*held, f *report.Figure) error {
	before := make([]time.Duration, len(all))
	began := make([]time.Time, len(all))
	for i, h := range all {
		var err error
		if before[i], err = cpuTime(h.d.residents()); err != nil {
			return err
		}
		began[i] = time.Now()
	}
	timer := time.NewTimer(idleWindow)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	for i, h := range all {
		now, err := cpuTime(h.d.residents())
		if err != nil {
			return err
		}
		f.Add(h.d.column, 100*float64(now-before[i])/float64(time.Since(began[i])))
	}
	return nil
}

func addMemory(all []*held, f *report.Figure) error {
	for _, h := range all {
		pids, err := h.keepers()
		if err != nil {
			return err
		}
		bytes, err := residentMemory(pids)
		if err != nil {
			return err
		}
		f.Add(h.d.column, float64(bytes)/1e6)
	}
	return nil
}
