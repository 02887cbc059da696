package keeper

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"gitlab-runner-tart-driver/internal/host"
	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/tart"
	"gitlab-runner-tart-driver/internal/wait"
)

// answer is what `tart ip` said.
type answer struct {
	addr netip.Addr
	err  error
}

const (
	// lookInterval is between two looks at the DHCP server's table, and lookAgain while nothing answers at the address.
	lookInterval = 10 * time.Millisecond
	lookAgain    = 100 * time.Millisecond
	// `tart ip` looks once a second; where the table can't be read, several of them start a fraction of that apart, until the first answer.
	askers     = 2
	askStagger = time.Second / askers
	// askLater is when tart is asked although the table can be read: it may know of what is not there.
	askLater = 3 * time.Second
	// askWait is how long one `tart ip` waits. It ends with the context anyway.
	askWait = 60 * time.Second
	// askAgain is the pause before the address is looked up again, while nothing answers at it.
	askAgain = 3 * time.Second
)

// lookUpAddress finds the VM's address until ctx ends, and hands on every answer that is taken off its hands.
func (k *Keeper) lookUpAddress(ctx context.Context) <-chan answer {
	answers := make(chan answer)
	hand := func(a answer) {
		select {
		case answers <- a:
		case <-ctx.Done():
		}
	}
	var table *tart.Leases
	if k.p.Resolver == "" { // tart's own way is that table
		table = k.tart.Leases(k.p.VM)
	}
	go func() {
		first := k.firstAddress(ctx, table, hand)
		again := askAgain
		if table != nil && table.Readable() {
			again = lookAgain
		}
		for hand(answer{addr: first}); wait.For(ctx, again) == nil; {
			if again == lookAgain {
				if addr := table.Look(time.Now()); addr.IsValid() {
					hand(answer{addr: addr})
				}
			} else if addr, err := k.tart.IP(ctx, k.p.VM, 0, k.p.Resolver); err == nil {
				hand(answer{addr: addr})
			}
		}
	}()
	return answers
}

// firstAddress returns the first address that the table or tart tells, or none when ctx ends. Errors that are more than "not yet" are handed on.
func (k *Keeper) firstAddress(ctx context.Context, table *tart.Leases, hand func(answer)) netip.Addr {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	found := make(chan netip.Addr, askers+1)
	first, n := time.Duration(0), askers
	if table != nil {
		if table.Readable() {
			first, n = askLater, 1
		}
		go func() {
			for wait.For(ctx, lookInterval) == nil {
				if addr := table.Look(time.Now()); addr.IsValid() {
					found <- addr
					return
				}
			}
		}()
	}
	for i := range n {
		go func() {
			for gap := first + time.Duration(i)*askStagger; wait.For(ctx, gap) == nil; gap = time.Second {
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

// errAddressTaken means that another VM has been reached at the address.
var errAddressTaken = errors.New("the address is another VM's")

// addressFree fails where another living VM was reached at the address already: what answers there is that VM, and its host key says nothing, for clones
// of one image have the same.
func (k *Keeper) addressFree(addr netip.Addr) error {
	records, err := k.state.Records()
	if err != nil {
		return job.Infrastructure(err, "")
	}
	for _, other := range records {
		if other.VM != k.p.VM && other.Address == addr && k.state.Held(other.VM) {
			return fmt.Errorf("%w: VM %s of %s has %s", errAddressTaken, other.VM, other.Describe(), addr)
		}
	}
	return nil
}

// claimAddress writes down at which address the VM was reached, unless another one was reached there before.
func (k *Keeper) claimAddress(ctx context.Context, addr netip.Addr) error {
	turn, err := k.state.TurnToClaim(ctx)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	if err != nil {
		return job.Infrastructure(err, "")
	}
	defer turn.Release()
	if err := k.addressFree(addr); err != nil {
		return err
	}
	if err := k.entry.Update(func(r *host.Record) { r.Address = addr }); err != nil {
		return job.Infrastructure(err, "is the disk of %s full?", k.p.StateDir)
	}
	return nil
}
