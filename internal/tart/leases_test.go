package tart

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func lease(ip, mac string, expires int64) string {
	return fmt.Sprintf("{\n\tname=vm\n\tip_address=%s\n\thw_address=%s\n\tidentifier=%s\n\tlease=0x%x\n}\n", ip, mac, mac, expires)
}

func TestLeaseOf(t *testing.T) {
	const now = 1_700_000_000
	ours := lease("192.168.64.7", "1,a:b:cc:0:1:2", now+60)
	for name, c := range map[string]struct{ table, want string }{
		"only one":              {ours, "192.168.64.7"},
		"zeros in front":        {lease("192.168.64.8", "1,0a:0b:cc:00:01:02", now+60), "192.168.64.8"},
		"capitals":              {lease("192.168.64.8", "1,A:B:CC:0:1:2", now+60), "192.168.64.8"},
		"among others":          {lease("192.168.64.6", "1,a:b:cc:0:1:3", now+90) + ours + lease("192.168.64.9", "1,0:b:cc:0:1:2", now+90), "192.168.64.7"},
		"the latest":            {lease("192.168.64.5", "1,a:b:cc:0:1:2", now+30) + ours + lease("192.168.64.6", "1,a:b:cc:0:1:2", now+59), "192.168.64.7"},
		"expired":               {lease("192.168.64.5", "1,a:b:cc:0:1:2", now), ""},
		"another kind":          {lease("192.168.64.5", "ff,a:b:cc:0:1:2", now+60), ""},
		"no address":            {lease("nonsense", "1,a:b:cc:0:1:2", now+60), ""},
		"IPv6":                  {lease("fe80::1", "1,a:b:cc:0:1:2", now+60), ""},
		"half written":          {ours[:len(ours)-3], ""},
		"half written behind":   {ours + "{\n\tip_addr", "192.168.64.7"},
		"nothing":               {"", ""},
		"fields of another one": {"{\n\tip_address=192.168.64.5\n}\n{\n\thw_address=1,a:b:cc:0:1:2\n\tlease=0x7fffffff\n}\n", ""},
	} {
		got := leaseOf([]byte(c.table), "0a:0b:cc:00:01:02", time.Unix(now, 0))
		if got.IsValid() != (c.want != "") || got.IsValid() && got.String() != c.want {
			t.Errorf("%s: got %v, want %q", name, got, c.want)
		}
	}
}

func TestLeasesAreLookedAtWhenTheyChange(t *testing.T) {
	t.Parallel()
	c := newFake(t, "").client()
	dir := c.VMDir("vm")
	write := func(path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	table := leasesPath(c.home)
	if !strings.HasPrefix(table, c.home) {
		t.Skip("the table is the host's own")
	}
	config := func(mac string) { write(filepath.Join(dir, "config.json"), fmt.Sprintf(`{"macAddress":%q}`, mac)) }
	now := time.Now()
	if c.Leases("vm").Readable() {
		t.Error("there is neither a table nor a VM")
	}
	write(table, "")
	if c.Leases("vm").Readable() {
		t.Error("there is no VM")
	}
	config("nonsense")
	if c.Leases("vm").Readable() {
		t.Error("the VM has no MAC address")
	}
	config("0a:0b:cc:00:01:02")
	l := c.Leases("vm")
	if !l.Readable() || l.Look(now).IsValid() {
		t.Errorf("an empty table: %v", l.Readable())
	}
	want := netip.MustParseAddr("192.168.64.7")
	write(table, lease(want.String(), "1,a:b:cc:0:1:2", now.Unix()+60)+lease("192.168.64.8", "1,a:b:cc:0:1:3", now.Unix()+60))
	if got := l.Look(now); got != want {
		t.Errorf("got %v", got)
	}
	if got := l.Look(now); got.IsValid() {
		t.Errorf("nothing has changed: got %v", got)
	}
	config("0a:0b:cc:00:01:03") // tart gave it another, for a running VM has the first
	if got := l.Look(now); got != netip.MustParseAddr("192.168.64.8") {
		t.Errorf("with another MAC address: got %v", got)
	}
	if err := os.Remove(table); err != nil {
		t.Fatal(err)
	}
	if got := l.Look(now); got.IsValid() {
		t.Errorf("without a table: got %v", got)
	}
}

func FuzzLeaseOf(f *testing.F) {
	f.Add(lease("192.168.64.7", "1,a:b:cc:0:1:2", 1<<40))
	f.Add("{\n}\n=\n{{")
	f.Fuzz(func(t *testing.T, table string) {
		if got := leaseOf([]byte(table), "0a:0b:cc:00:01:02", time.Unix(1, 0)); got.IsValid() && (!got.Is4() || !strings.Contains(table, got.String())) {
			t.Errorf("got %v", got)
		}
		if got := leaseOf([]byte(table), "", time.Unix(1, 0)); got.IsValid() {
			t.Errorf("an address for no MAC address: %v", got)
		}
	})
}
