package lifecycle

import (
	"context"
	"errors"
	"time"

	"gitlab-runner-tart-driver/internal/proc"
)

// wantedInterval is how often prepare looks whether somebody still waits for it.
const wantedInterval = 2 * time.Second

// errUnwanted ends a prepare that nobody waits for any more.
var errUnwanted = errors.New("the GitLab Runner process that started the job is gone")

// waitsFor is the process that waits for prepare: GitLab Runner's, which prepare has in common with the config stage, or prepare's own parent where there
// was none. The zero ID is nobody.
func waitsFor(ancestors, ofConfig []proc.ID) proc.ID {
	if runner, ok := proc.Common(ancestors, ofConfig); ok {
		return runner
	}
	if len(ofConfig) == 0 && len(ancestors) > 0 {
		return ancestors[0]
	}
	return proc.ID{}
}

// whileWanted is ctx, which also ends when runner has. GitLab Runner does not always end its stages: killed, it can't, and on SIGTERM it leaves
// a prepare behind after shutdown_timeout. A prepare that went on would pull an image, or stand in line, for nobody.
func whileWanted(ctx context.Context, runner proc.ID, every time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := func() { cancel(nil) }
	if runner == (proc.ID{}) {
		return ctx, stop
	}
	go func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for runner.Alive() {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
		cancel(errUnwanted)
	}()
	return ctx, stop
}
