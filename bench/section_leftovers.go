package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"gitlab-runner-tart-driver/bench/report"
	statedir "gitlab-runner-tart-driver/internal/host"
	"gitlab-runner-tart-driver/internal/trial"
)

// stageFigures are the main rows about a job.
type stageFigures struct{ config, prepare, script, cleanup, total, attempts *report.Figure }

func (b *bench) stageFigures(section, what, yardstick string) stageFigures {
	row := func(name string) *report.Figure {
		return b.figure(section, name+what, report.Milliseconds, yardstick)
	}
	return stageFigures{config: row("`config`"), prepare: row("`prepare`"), script: row("`run`"), cleanup: row("`cleanup`"), total: row("whole job"),
		attempts: b.figure(section, "attempts at `prepare`"+what, report.Count, yardstick)}
}

func (f *stageFigures) add(column report.Column, s *jobSample) {
	f.total.AddTime(column, s.total)
	f.attempts.Add(column, float64(s.attempts))
	for _, st := range s.stages {
		switch st.name {
		case trial.StageConfig:
			f.config.AddTime(column, st.wall())
		case trial.StagePrepare:
			f.prepare.AddTime(column, st.wall())
		case trial.StageCleanup:
			f.cleanup.AddTime(column, st.wall())
		default:
			f.script.AddTime(column, st.wall())
		}
	}
}

// measureLeftovers runs jobs on a host with a past, in turns with jobs on one without. What jobs leave behind, for as long as the host lives, are
// notes and locks of the images that they used. Only this project's driver is asked: another's past is not known here.
func (b *bench) measureLeftovers(ctx context.Context) error {
	f := b.stageFigures("leftovers", fmt.Sprintf(", %d images used before", b.opts.leftovers), "none")
	if err := b.host.tartDo(ctx, "pull", registryImage); err != nil {
		return err
	}
	images := filepath.Join(b.host.state(), "images")
	aside := filepath.Join(b.host.dir, "images-aside")
	if err := b.leaveNotes(ctx); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(images) }() // other sections want none
	for range b.opts.runs {
		for _, column := range []report.Column{report.Driver, report.Yardstick} {
			s, err := b.meteredJob(ctx, b.own(), registryImage, nil)
			if err != nil {
				return err
			}
			f.add(column, s)
			if column == report.Driver {
				err = os.Rename(images, aside)
			} else {
				err = errors.Join(os.RemoveAll(images), os.Rename(aside, images))
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// leaveNotes leaves what jobs with many different images would.
func (b *bench) leaveNotes(ctx context.Context) error {
	state, err := statedir.Open(b.host.state())
	if err != nil {
		return err
	}
	began := time.Now()
	for i := range b.opts.leftovers {
		image := fmt.Sprintf("registry.test/macos/past:%d", i)
		if err := state.NoteImageUse(image, began.Add(-time.Duration(i)*time.Minute)); err != nil {
			return err
		}
		lock, err := state.HoldImage(ctx, image)
		if err != nil {
			return err
		}
		lock.Release()
	}
	return nil
}
