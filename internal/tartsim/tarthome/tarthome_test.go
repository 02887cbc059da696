package tarthome

import (
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestParseRemoteName(t *testing.T) {
	digest := "sha256:" + strings.Repeat("0a", 32)
	for text, want := range map[string]RemoteName{
		"ghcr.io/org/repo":                 {Host: "ghcr.io", Namespace: "org/repo", Tag: "latest"},
		"ghcr.io/org/repo:1.2":             {Host: "ghcr.io", Namespace: "org/repo", Tag: "1.2"},
		"localhost:5000/a-b_c.d/e:x":       {Host: "localhost:5000", Namespace: "a-b_c.d/e", Tag: "x"},
		"foo/bar":                          {Host: "foo", Namespace: "bar", Tag: "latest"},
		"Ghcr.IO/Org/Repo@" + digest:       {Host: "Ghcr.IO", Namespace: "Org/Repo", Digest: digest},
		"registry.gitlab.test/g/s/p/i:a_b": {Host: "registry.gitlab.test", Namespace: "g/s/p/i", Tag: "a_b"},
	} {
		got, err := ParseRemoteName(text)
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, bad := range []string{"", "local", "a//b", "/a", "a/", "a/b:", "a/b@md5:12", "a/b:c:d", "a/ü", "a b/c", "a/b__c", "-a/b", "a/b:x/y"} {
		if got, err := ParseRemoteName(bad); err == nil {
			t.Errorf("%q is accepted: %+v", bad, got)
		}
	}
}

func FuzzParseRemoteName(f *testing.F) {
	for _, seed := range []string{"ghcr.io/org/repo:1", "a/b@sha256:00", "a:1/b", "a/b", "x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		name, err := ParseRemoteName(text)
		if err != nil {
			return
		}
		again, err := ParseRemoteName(name.String())
		if err != nil || again != name {
			t.Fatalf("%q: %+v, written as %q, is read as %+v, %v", text, name, name, again, err)
		}
	})
}

const leaseText = `{
	name=old
	ip_address=192.168.64.2
	hw_address=1,a:b:c:d:e:f
	identifier=1,a:b:c:d:e:f
	lease=0x10
}
{
	name=new
	ip_address=192.168.64.3
	hw_address=1,0a:0b:0c:0d:0e:0f
	identifier=1,a:b:c:d:e:f
	lease=0xffffffff
}
{
	name=other hardware
	ip_address=192.168.64.4
	hw_address=6,0a:0b:0c:0d:0e:0f
	lease=0xffffffff
}
`

func TestLeases(t *testing.T) {
	leases, err := ParseLeases(leaseText)
	if err != nil || len(leases) != 2 {
		t.Fatalf("%+v, %v", leases, err)
	}
	mac, err := ParseMAC("0a:0b:0c:0d:0e:0f")
	if err != nil {
		t.Fatal(err)
	}
	got, found := Lookup(leases, mac, time.Now())
	if !found || got.IP != netip.MustParseAddr("192.168.64.3") {
		t.Errorf("lookup: %+v, %v", got, found)
	}
	if _, found := Lookup(leases[:1], mac, time.Now()); found {
		t.Error("an expired lease is found")
	}
	for text, want := range map[string]string{
		"{\n\tname=x\n":       `Truncated(name: "truncated DHCPD leases file")`,
		"{\n{\n":              `UnexpectedFormat(name: "unexpected DHCPD leases file format", message: "unexpected lease block start ({)", line: 2)`,
		"}\n":                 `message: "unexpected lease block end (})", line: 1)`,
		"{\n}\n":              `message: "unexpected lease block end (})", line: 2)`,
		"{\n\tname\n":         `message: "key-value pair with only a key", line: 2)`,
		leaseText + "{\n\tna": `message: "key-value pair with only a key", line: 22)`,
	} {
		if _, err := ParseLeases(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestLeaseFileKeepsOneLeaseForEachMAC(t *testing.T) {
	file := &LeaseFile{path: filepath.Join(t.TempDir(), "leases")}
	done := make(chan error)
	const writers = 20
	for n := range writers {
		go func() {
			mac := MAC{2, 0, 0, 0, 0, byte(n % 10)}
			done <- file.Change(func(leases []Lease) []Lease {
				return Put(leases, Lease{IP: netip.AddrFrom4([4]byte{192, 168, 64, byte(n)}), MAC: mac, Expires: time.Unix(1<<32, 0)})
			})
		}()
	}
	for range writers {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	leases, err := file.Read()
	if err != nil || len(leases) != writers/2 {
		t.Errorf("%d leases, %v", len(leases), err)
	}
}

func FuzzParseLeases(f *testing.F) {
	f.Add(leaseText)
	f.Add("{\n}\n")
	f.Add("name=x\n}\n")
	f.Fuzz(func(t *testing.T, text string) {
		leases, err := ParseLeases(text)
		if err != nil {
			return
		}
		for i := range leases {
			leases[i].Name = "x"
		}
		again, err := ParseLeases(FormatLeases(leases))
		if err != nil || len(again) != len(leases) {
			t.Fatalf("%q: %d leases, written and read %d, %v", text, len(leases), len(again), err)
		}
		for i := range again {
			if again[i].MAC != leases[i].MAC || again[i].IP != leases[i].IP || !again[i].Expires.Equal(leases[i].Expires) {
				t.Fatalf("%q: %+v became %+v", text, leases[i], again[i])
			}
		}
	})
}

func TestSwiftJSON(t *testing.T) {
	got, err := SwiftJSON(map[string]any{"a:b": []any{1, "x/y: z", map[string]string{"k": "\": \""}}})
	want := "{\n  \"a:b\" : [\n    1,\n    \"x\\/y: z\",\n    {\n      \"k\" : \"\\\": \\\"\"\n    }\n  ]\n}"
	if err != nil || string(got) != want {
		t.Errorf("%s, %v; want %s", got, err, want)
	}
	var back any
	if err := json.Unmarshal(got, &back); err != nil {
		t.Error(err)
	}
}

func TestConfigIsReadBackAndDefaulted(t *testing.T) {
	path := filepath.Join(t.TempDir(), ConfigName)
	config := NewConfig(Darwin, 4, 4<<30)
	if err := config.Save(path); err != nil {
		t.Fatal(err)
	}
	back, err := readConfig(path)
	if err != nil || *back != *config {
		t.Errorf("%+v, %v; want %+v", back, err, config)
	}
	old := `{"version": 1, "cpuCount": 2, "macAddress": "02:00:00:00:00:01"}`
	if err := os.WriteFile(path, []byte(old), 0o644); err != nil {
		t.Fatal(err)
	}
	if back, err = readConfig(path); err != nil || back.OS != Darwin || back.Arch != "arm64" || back.DiskFormat != "raw" {
		t.Errorf("an old file: %+v, %v", back, err)
	}
	for _, bad := range []string{"", "{", `{"macAddress": "nonsense"}`} {
		if err := os.WriteFile(path, []byte(bad), 0o644); err != nil {
			t.Fatal(err)
		}
		if back, err := readConfig(path); err == nil {
			t.Errorf("%q is accepted: %+v", bad, back)
		}
	}
}

func TestCacheCollectsWhatNoTagNeeds(t *testing.T) {
	dir := t.TempDir()
	home := &Home{Dir: dir}
	cache := home.OCI()
	name := RemoteName{Host: "host:5000", Namespace: "a/b", Tag: "latest"}
	add := func(digest string) RemoteName {
		d := name.WithDigest("sha256:" + digest)
		for _, file := range []string{ConfigName, DiskName, NVRAMName} {
			if err := os.MkdirAll(cache.Path(d), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(cache.Path(d), file), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return d
	}
	first, second, explicit := add("01"), add("02"), add("03")
	if err := os.WriteFile(filepath.Join(cache.Path(explicit), ExplicitMark), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := cache.Link(name, first); err != nil {
		t.Fatal(err)
	}
	if !cache.Has(first) || cache.Has(second) || !cache.Has(explicit) || !cache.LinkedTo(name, first) {
		t.Error("after a link to the first image: the second one should be gone, and no other")
	}
	second = add("02")
	if err := cache.Link(name, second); err != nil {
		t.Fatal(err)
	}
	if digest, err := cache.Digest(name); err != nil || digest != "sha256:02" || cache.Has(first) {
		t.Errorf("after moving the tag: %s, %v", digest, err)
	}
	entries, err := cache.List()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name)
	}
	if got := strings.Join(names, " "); got != "host:5000/a/b:latest host:5000/a/b@sha256:02 host:5000/a/b@sha256:03" {
		t.Errorf("list: %s", got)
	}
	if err := cache.Delete(name); err != nil || cache.Has(second) || !cache.Has(explicit) {
		t.Errorf("after deleting the tag: %v", err)
	}
	var missing *RuntimeError
	if err := cache.Delete(name); !errors.As(err, &missing) || missing.Code != 2 {
		t.Errorf("deleting it again: %v", err)
	}
}
