package keeper

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"gitlab-runner-tart-driver/internal/host"
)

// TestTwoVMsWithOneAddress must not both take it: scripts of the one would run in the other.
func TestTwoVMsWithOneAddress(t *testing.T) {
	state, err := host.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	keeperOf := func(job string) *Keeper {
		entry, err := state.Create(host.Record{VM: state.NewName(job), JobID: job, Created: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(entry.Release)
		return &Keeper{state: state, entry: entry, p: Params{StateDir: state.Dir(), VM: entry.Record.VM}}
	}
	address := netip.MustParseAddr("192.168.64.7")
	first, second := keeperOf("1"), keeperOf("2")
	if err := second.claimAddress(t.Context(), address); err != nil {
		t.Errorf("the one that is reached first: %v", err)
	}
	for range 2 {
		if err := first.claimAddress(t.Context(), address); !errors.Is(err, errAddressTaken) || !strings.Contains(err.Error(), second.p.VM) {
			t.Errorf("the other, though it was there before: %v", err)
		}
	}
	if err := second.claimAddress(t.Context(), address); err != nil {
		t.Errorf("the same once more, after a connection that broke: %v", err)
	}
	if err := first.claimAddress(t.Context(), netip.MustParseAddr("192.168.64.8")); err != nil {
		t.Errorf("another address: %v", err)
	}
	second.entry.Release() // nobody answers for it any more
	if err := first.claimAddress(t.Context(), address); err != nil {
		t.Errorf("the other is gone: %v", err)
	}
}
