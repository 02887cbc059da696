package keeper

import (
	"context"
	"sync"
)

// turn is a lock that nobody waits for longer than a context. The zero turn is free.
type turn struct {
	once sync.Once
	free chan struct{}
}

// take waits for the turn. On an error, which is the context's cause, it is not taken.
func (t *turn) take(ctx context.Context) (end func(), err error) {
	t.once.Do(func() { t.free = make(chan struct{}, 1); t.free <- struct{}{} })
	select {
	case <-t.free:
		return func() { t.free <- struct{}{} }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
