package keeper

import (
	"context"
	"net/netip"
	"time"

	"gitlab-runner-tart-driver/internal/tart"
)

// answer is what `tart ip` said.
type answer struct {
	addr netip.Addr
	err  error
}

const (
	// `tart ip` looks once a second, so several of them start a fraction of that apart, until the first answer.
	askers     = 4
	askStagger = time.Second / askers
	// askWait is how long one `tart ip` waits. It ends with the context anyway.
	askWait = 60 * time.Second
	// askAgain is the pause before the address is looked up again, while nothing answers at it.
	askAgain = 3 * time.Second
)

// lookUpAddress asks tart for the VM's address until ctx ends, and hands on every answer that is taken off its hands.
func (k *Keeper) lookUpAddress(ctx context.Context) <-chan answer {
	answers := make(chan answer)
	hand := func(a answer) {
		select {
		case answers <- a:
		case <-ctx.Done():
		}
	}
	go func() {
		first := k.firstAddress(ctx, hand)
		for hand(answer{addr: first}); pause(ctx, askAgain) == nil; {
			if addr, err := k.tart.IP(ctx, k.p.VM, 0, k.p.Resolver); err == nil {
				hand(answer{addr: addr})
			}
		}
	}()
	return answers
}

// firstAddress returns the first address that tart tells, or none when ctx ends. Errors that are more than "not yet" are handed on.
func (k *Keeper) firstAddress(ctx context.Context, hand func(answer)) netip.Addr {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	found := make(chan netip.Addr, askers)
	for i := range askers {
		go func() {
			for wait := time.Duration(i) * askStagger; pause(ctx, wait) == nil; wait = time.Second {
				addr, err := k.tart.IP(ctx, k.p.VM, askWait, k.p.Resolver)
				if err == nil {
					found <- addr
					return
				}
				if ctx.Err() == nil && tart.KindOf(err) != tart.KindNoAddress {
					hand(answer{err: err})
				}
			}
		}()
	}
	select {
	case addr := <-found:
		return addr
	case <-ctx.Done():
		return netip.Addr{}
	}
}
