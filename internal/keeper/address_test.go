package keeper

import (
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
	keeperOf := func(job string, created time.Time) *Keeper {
		entry, err := state.Create(host.Record{VM: state.NewName(job), JobID: job, Created: created})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(entry.Release)
		return &Keeper{state: state, entry: entry, p: Params{StateDir: state.Dir()}}
	}
	address := netip.MustParseAddr("192.168.64.7")
	now := time.Now().UTC()
	first, second, third := keeperOf("1", now), keeperOf("2", now.Add(time.Second)), keeperOf("3", now.Add(-time.Second))
	if err := first.claimAddress(address); err != nil {
		t.Errorf("the first: %v", err)
	}
	if err := second.claimAddress(address); err == nil || !strings.Contains(err.Error(), first.entry.Record.VM) {
		t.Errorf("the second: %v", err)
	}
	if err := second.claimAddress(netip.MustParseAddr("192.168.64.8")); err != nil {
		t.Errorf("another address: %v", err)
	}
	if err := third.claimAddress(address); err != nil {
		t.Errorf("one that came before: %v", err)
	}
	if err := first.claimAddress(address); err == nil {
		t.Error("the first is not refused though an earlier one has its address")
	}
	third.entry.Release() // nobody answers for it any more
	if err := first.claimAddress(address); err != nil {
		t.Errorf("the other is gone: %v", err)
	}
	if err := second.claimAddress(netip.Addr{}); err != nil {
		t.Errorf("no address: %v", err)
	}
}
