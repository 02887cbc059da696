package image

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"gitlab-runner-tart-driver/internal/tart"
)

func day(n int) time.Time { return time.Date(2026, 3, n, 0, 0, 0, 0, time.UTC) }

func row(source, name string, gb float64, accessed int) tart.VM {
	return tart.VM{Source: source, Name: name, Size: tart.Gigabytes(gb), Accessed: tart.Time{Time: day(accessed)}}
}

func TestGroup(t *testing.T) {
	const a, b, x = "sha256:aa", "sha256:bb", "sha256:xx"
	rows := []tart.VM{
		row("local", "base", 99, 1),
		row("OCI", "r.example/o/m:15", 20, 5), row("OCI", "r.example/o/m:latest", 20, 6), row("OCI", "r.example/o/m@"+a, 20, 7),
		row("OCI", "r.example:5000/p@"+b, 30, 4), // pulled by digest
		row("OCI", "r.example/q:1", 40, 9), row("OCI", "r.example/q@"+a, 40, 2),
		row("OCI", "r.example/lost:1", 5, 3), row("OCI", "r.example/lost@"+x, 5, 3), // what its tag points at is not known
	}
	digests := map[string]string{"r.example/o/m:15": a, "r.example/o/m:latest": a, "r.example/q:1": a}
	uses := map[string]time.Time{"r.example/o/m:15": day(2), "r.example/o/m:latest": day(1), "r.example:5000/p@" + b: day(20), "base": day(30)}
	got := Group(rows, func(name string) string { return digests[name] }, uses)
	want := []Cached{
		{Tags: []string{"r.example/o/m:15", "r.example/o/m:latest"}, Digest: "r.example/o/m@" + a, SizeGB: 20, Used: day(2)}, // our own time counts, not tart's
		{Tags: []string{"r.example/lost:1"}, SizeGB: 5, Used: day(3)},
		{Digest: "r.example/lost@" + x, SizeGB: 5, Used: day(3)},
		{Tags: []string{"r.example/q:1"}, Digest: "r.example/q@" + a, SizeGB: 40, Used: day(9)},
		{Digest: "r.example:5000/p@" + b, SizeGB: 30, Used: day(20)},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
	if total := TotalGB(got); total != 100 {
		t.Errorf("together %g GB", total)
	}
	if got[0].DigestHex() != a || got[1].DigestHex() != "" || got[2].Name() != "r.example/lost@"+x {
		t.Errorf("digests %q, %q; name %q", got[0].DigestHex(), got[1].DigestHex(), got[2].Name())
	}
}

// FuzzGroup checks that every row of a registry's image is in exactly one group, and no local VM is in any.
func FuzzGroup(f *testing.F) {
	f.Add("r/a:1 r/a@d base r/a:2")
	f.Add("r/a r/a: @ /@ r:1/a@ r:1/a")
	f.Fuzz(func(t *testing.T, names string) {
		var rows []tart.VM
		var remote []string
		for i, name := range strings.Fields(names) {
			source := []string{"OCI", "OCI", "local"}[i%3]
			if slices.ContainsFunc(rows, func(r tart.VM) bool { return r.Name == name }) {
				continue
			}
			rows = append(rows, tart.VM{Source: source, Name: name, Size: 1})
			if source == "OCI" && strings.Contains(name, "/") {
				remote = append(remote, name)
			}
		}
		var grouped []string
		for _, c := range Group(rows, func(string) string { return "" }, nil) {
			grouped = append(grouped, c.Names()...)
		}
		slices.Sort(grouped)
		slices.Sort(remote)
		if !slices.Equal(grouped, remote) {
			t.Errorf("%q: grouped %q", names, grouped)
		}
	})
}
