package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"sync"
	"time"

	"gitlab-runner-tart-driver/bench/report"
)

// measureMany runs jobs at once, and for comparison alone. They share the machine's CPUs, so their times say more of the machine than of the driver; what CPU each takes is the
// driver's.
func (b *bench) measureMany(ctx context.Context) error {
	n := b.opts.jobs
	f := b.stageFigures("many", fmt.Sprintf(", %d jobs at once", n), "one job at a time", nil, sameAsAlone)
	empty := b.figure("many", fmt.Sprintf("empty Go program, CPU, beside %d jobs", n), report.Milliseconds, "beside one job at a time")
	if _, err := b.host.sim(ctx, "config", "max_vms="+strconv.Itoa(n)); err != nil {
		return err
	}
	for range max(b.opts.runs/5, 1) {
		for _, d := range b.drivers {
			if d == b.own() {
				d = d.with("prepare:--max-vm-count=" + strconv.Itoa(n))
			}
			err := b.callEmpty(ctx, empty, d.column, func() error {
				samples, err := b.jobsAtOnce(ctx, d, n)
				if err != nil {
					return err
				}
				return f.add(b.host, d.column, samples...)
			})
			if err != nil {
				return err
			}
		}
		for range 3 {
			err := b.callEmpty(ctx, empty, report.Yardstick, func() error {
				alone, err := b.meteredJob(ctx, b.own(), imageName(bootDelays()[0]), nil)
				if err != nil {
					return err
				}
				return f.add(b.host, report.Yardstick, alone)
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// jobsAtOnce starts n jobs in one instant and waits for all of them.
func (b *bench) jobsAtOnce(ctx context.Context, d *driver, n int) ([]*jobSample, error) {
	samples, errs := make([]*jobSample, n), make([]error, n)
	var jobs sync.WaitGroup
	for i := range n {
		jobs.Go(func() { samples[i], errs[i] = b.meteredJob(ctx, d, imageName(bootDelays()[0]), nil) })
	}
	jobs.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return samples, nil
}

// emptyPause is between two calls of the program that does nothing, so that these are no load.
const emptyPause = 100 * time.Millisecond

// callEmpty calls the program that does nothing now and then, as long as something else takes.
func (b *bench) callEmpty(ctx context.Context, f *report.Figure, column report.Column, while func() error) error {
	done := make(chan error, 1)
	go func() { done <- while() }()
	for {
		select {
		case err := <-done:
			return err
		case <-time.After(emptyPause):
		}
		u, err := measure(exec.CommandContext(ctx, b.host.programs.empty))
		if err != nil {
			return errors.Join(err, <-done)
		}
		f.AddTime(column, u.cpu)
	}
}
