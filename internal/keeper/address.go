package keeper

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"gitlab-runner-tart-driver/internal/host"
	"gitlab-runner-tart-driver/internal/job"
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

// claimAddress writes the VM's address down, and refuses one that an earlier VM has: what answers there may be that VM, and its host key says
// nothing, for clones of one image have the same.
func (k *Keeper) claimAddress(addr netip.Addr) error {
	if !addr.IsValid() {
		return nil
	}
	if err := k.entry.Update(func(r *host.Record) { r.Address = addr }); err != nil {
		return job.Infrastructure(err, "is the disk of %s full?", k.p.StateDir)
	}
	records, err := k.state.Records()
	if err != nil {
		return job.Infrastructure(err, "")
	}
	mine := k.entry.Record
	for _, other := range records {
		earlier := cmp.Or(other.Created.Compare(mine.Created), strings.Compare(other.VM, mine.VM)) < 0
		if other.Address == addr && earlier && k.state.Held(other.VM) {
			return job.Infrastructure(fmt.Errorf("VM %s of %s has the same address, %s", other.VM, other.Describe(), addr),
				"clones that keep their image's MAC address get one address; --mac random, the default, gives each its own")
		}
	}
	return nil
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
