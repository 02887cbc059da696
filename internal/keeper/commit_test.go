package keeper

import (
	"context"
	"errors"
	"strings"
	"testing"

	"gitlab-runner-tart-driver/internal/host"
)

// TestCommit is the last word between prepare and keeper: prepare may say that the job has a VM only when that is so.
func TestCommit(t *testing.T) {
	for name, c := range map[string]struct {
		settle func(k *Keeper) // what has become of the VM when the commit comes to its turn
		fails  string          // empty where the VM is the job's
	}{
		"kept": {settle: func(k *Keeper) { close(k.taken) }},
		"dead": {
			settle: func(k *Keeper) { k.lost = errors.New("the VM has ended: power is gone"); close(k.vmGone) },
			fails:  "hand the VM over to its keeper: the VM has ended: power is gone",
		},
		"condemned": {
			settle: func(k *Keeper) { k.condemn(errors.New(string(signaled))) },
			fails:  "hand the VM over to its keeper: the VM is being destroyed: the keeper was asked to end by a signal",
		},
	} {
		state, err := host.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		prepares, keepers := pair(t)
		k := &Keeper{control: keepers, state: state, triggers: make(chan trigger, 16), taken: make(chan struct{}), vmGone: make(chan struct{})}
		k.condemned, k.condemn = context.WithCancelCause(t.Context())
		watched := make(chan struct{})
		go func() {
			k.watchControl(&receiver{conn: keepers})
			close(watched)
		}()
		committing := make(chan error)
		go func() { committing <- (&Started{conn: prepares, in: &receiver{conn: prepares}}).Commit() }()
		if got := <-k.triggers; got != committed {
			t.Fatalf("%s: the commit is the trigger %q", name, got)
		}
		c.settle(k)
		err = <-committing
		if (err == nil) != (c.fails == "") || err != nil && !strings.HasPrefix(err.Error(), c.fails) {
			t.Errorf("%s: commit says %v, want %q", name, err, c.fails)
		}
		if <-watched; c.fails != "" {
			if got := <-k.triggers; got != prepareGone {
				t.Errorf("%s: a VM that prepare is refused is left with %q", name, got)
			}
		}
	}
}
