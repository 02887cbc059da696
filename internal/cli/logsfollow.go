package cli

import (
	"context"
	"slices"
	"time"

	"gitlab-runner-tart-driver/internal/history"
	"gitlab-runner-tart-driver/internal/host"
)

// followInterval is how often a living VM's logs are looked at.
const followInterval = 200 * time.Millisecond

// looksAfter is how often they are looked at after the record has gone: what is noted of that comes a moment later.
const looksAfter = 2

// followVM writes the logs of a living VM, and what comes, until its record is gone. The open files stay good when the logs move to the history.
func (s *subject) followVM(ctx context.Context, state *host.State, v loggedVM, out logOutput) error {
	if err := s.heading(v, out); err != nil {
		return err
	}
	type source struct {
		name string
		tail *history.Tail
	}
	var sources []source
	defer func() {
		for _, src := range sources {
			src.tail.Close()
		}
	}()
	tick := time.NewTicker(followInterval)
	defer tick.Stop()
	for left := looksAfter; left > 0; {
		if !state.HasRecord(v.vm) {
			left--
		}
		for _, log := range v.logs(state) {
			if !slices.ContainsFunc(sources, func(src source) bool { return src.name == log.Source }) {
				sources = append(sources, source{log.Source, &history.Tail{Path: log.Path}})
			}
		}
		for _, src := range sources {
			if err := src.tail.Lines(s.writer(v, src.name, out)); err != nil {
				return unreadable(err)
			}
		}
		events, err := s.newEvents()
		if err != nil {
			return err
		}
		for _, e := range events {
			if err := out.event(e); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
	return nil
}
