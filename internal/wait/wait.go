// Package wait lets time pass, but no longer than somebody wants it to.
package wait

import (
	"context"
	"time"
)

// For waits for d. When ctx ends before, it returns why.
func For(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
