package main

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"gitlab-runner-tart-driver/bench/report"
	"gitlab-runner-tart-driver/internal/trial/script"
)

// logBytes is the size of the big job log.
const logBytes = 100_000_000

// bigLog writes lines of a usual length.
func bigLog(size int) string {
	return fmt.Sprintf("yes 'a line of a job log, as long as most: 0123456789 abcdefghijklmnopqrstuvwxyz' | head -c %d\n", size)
}

// outputFigures are the rows about output.
type outputFigures struct{ rate, cpu, first *report.Figure }

// measureOutput lets scripts write much, and little, in turns with OpenSSH's client.
func (b *bench) measureOutput(ctx context.Context) error {
	f := outputFigures{
		rate:  b.figure("output", fmt.Sprintf("job log of %d MB", logBytes/1_000_000), report.Rate, "ssh", report.RatioAtLeast(1.2)),
		cpu:   b.figure("output", "CPU of the client's processes for it", report.Milliseconds, "ssh", report.RatioAtMost(1)),
		first: b.figure("output", "first byte, from the script to the job log", report.Milliseconds, "ssh, open ControlMaster", report.AtMost(5)),
	}
	return b.holdAll(ctx, script.Prepare, func(ctx context.Context, all []*held) error {
		own, remove, err := b.sshClient(all[0].guest)
		if err != nil {
			return err
		}
		defer remove()
		if err := f.measureRate(ctx, b.opts.runs, all, own); err != nil {
			return err
		}
		shared, end, err := own.open(ctx)
		if err != nil {
			return err
		}
		defer end()
		return f.measureFirst(ctx, b.opts.repeat(4), all, shared)
	})
}

// measureRate measures from the first byte's arrival to the last's, so that the time to connect does not count.
func (f *outputFigures) measureRate(ctx context.Context, times int, all []*held, own *sshClient) error {
	add := func(column report.Column, o output) error {
		if o.bytes != logBytes {
			return fmt.Errorf("%s: %d bytes arrived of %d", column, o.bytes, logBytes)
		}
		f.rate.Add(column, float64(o.bytes)/1e6/o.last.Sub(o.first).Seconds())
		f.cpu.AddTime(column, o.cpu)
		return nil
	}
	for range times {
		for _, h := range all {
			o, err := h.observeScript(ctx, bigLog(logBytes))
			if err == nil {
				err = add(h.d.column, o)
			}
			if err != nil {
				return err
			}
		}
		o, err := observe(withScript(own.command(ctx, loginShell()), bigLog(logBytes)))
		if err == nil {
			err = add(report.Yardstick, o)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// measureFirst measures from the moment that a script prints to its arrival. Guest and host have the same clock.
func (f *outputFigures) measureFirst(ctx context.Context, times int, all []*held, shared *sshClient) error {
	const now = "date +%s%N\n"
	add := func(column report.Column, o output) error {
		printed, err := timeIn(o.head)
		if err != nil {
			return fmt.Errorf("%s: %w", column, err)
		}
		f.first.AddTime(column, o.first.Sub(printed))
		return nil
	}
	for range times {
		for _, h := range all {
			o, err := h.observeScript(ctx, now)
			if err == nil {
				err = add(h.d.column, o)
			}
			if err != nil {
				return err
			}
		}
		o, err := observe(withScript(shared.command(ctx, loginShell()), now))
		if err == nil {
			err = add(report.Yardstick, o)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

var nanoseconds = regexp.MustCompile(`\b\d{19}\b`)

// timeIn finds a time in nanoseconds in what a script printed.
func timeIn(text []byte) (time.Time, error) {
	ns, err := strconv.ParseInt(string(nanoseconds.Find(text)), 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("no time in nanoseconds in the first piece of output %q", text)
	}
	return time.Unix(0, ns), nil
}

// observeScript calls the run stage and reads its output.
func (h *held) observeScript(ctx context.Context, text string) (output, error) {
	cmd, err := h.stage(ctx, text)
	if err != nil {
		return output{}, err
	}
	var o output
	err = h.withKeepers(&o.usage, func() (err error) {
		o, err = observe(cmd)
		return err
	})
	return o, err
}
