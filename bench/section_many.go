package main

import (
	"context"
	"fmt"
	"strconv"
	"sync"

	"gitlab-runner-tart-driver/bench/report"
)

// measureMany runs jobs at once, and for comparison alone. They share the machine's CPUs, so their times say more of the machine than of the driver; what CPU each takes is the
// driver's.
func (b *bench) measureMany(ctx context.Context) error {
	n := b.opts.jobs
	f := b.stageFigures("many", fmt.Sprintf(", %d jobs at once", n), "one job at a time", nil, sameAsAlone)
	if _, err := b.host.sim(ctx, "config", "max_vms="+strconv.Itoa(n)); err != nil {
		return err
	}
	for range max(b.opts.runs/5, 1) {
		for _, d := range b.drivers {
			if d == b.own() {
				d = d.with("prepare:--max-vm-count=" + strconv.Itoa(n))
			}
			samples, err := b.jobsAtOnce(ctx, d, n)
			if err != nil {
				return err
			}
			for _, s := range samples {
				f.add(d.column, s)
			}
		}
		for range 3 {
			alone, err := b.meteredJob(ctx, b.own(), imageName(bootDelays()[0]), nil)
			if err != nil {
				return err
			}
			f.add(report.Yardstick, alone)
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
