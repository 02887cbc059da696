package main

import (
	"context"
	"os"
	"os/exec"

	"gitlab-runner-tart-driver/bench/report"
	"gitlab-runner-tart-driver/internal/trial"
)

// measureSize looks at the binaries.
func (b *bench) measureSize(context.Context) error {
	f := b.figure("size", "size of the binary", report.Megabytes, "", report.AtMost(15))
	for _, d := range b.drivers {
		st, err := os.Stat(d.path)
		if err != nil {
			return err
		}
		f.Add(d.column, float64(st.Size())/1e6)
	}
	return nil
}

// configFigures are the rows about the config stage.
type configFigures struct{ wall, cpu *report.Figure }

// measureConfig calls the config stage over and over, in turns with a program that does nothing.
func (b *bench) measureConfig(ctx context.Context) error {
	f := configFigures{
		wall: b.figure("config", "`config`, start to exit", report.Milliseconds, "empty Go program", report.AtMost(10), report.RatioAtMost(2)),
		cpu:  b.figure("config", "`config`, CPU", report.Milliseconds, "empty Go program"),
	}
	return b.callConfig(ctx, b.drivers, f, func(ctx context.Context) (usage, error) {
		return measure(exec.CommandContext(ctx, b.host.programs.empty))
	})
}

// callConfig measures the config stage of drivers, each within a job, and a yardstick as often.
func (b *bench) callConfig(ctx context.Context, drivers []*driver, f configFigures, yardstick func(context.Context) (usage, error)) error {
	for _, d := range drivers {
		if d.noConfig {
			continue
		}
		err := b.hold(ctx, d, trial.StageConfig, func(ctx context.Context, h *held) error {
			for range b.opts.repeat(4) {
				u, err := measure(h.command(ctx, h.config))
				if err != nil {
					return err
				}
				f.wall.AddTime(d.column, u.wall)
				f.cpu.AddTime(d.column, u.cpu)
				if d != b.own() {
					continue
				}
				if u, err = yardstick(ctx); err != nil {
					return err
				}
				f.wall.AddTime(report.Yardstick, u.wall)
				f.cpu.AddTime(report.Yardstick, u.cpu)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
