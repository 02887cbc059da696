package lifecycle

import (
	"path/filepath"
	"strings"
	"testing"

	"gitlab-runner-tart-driver/internal/job"
)

func TestParseVolume(t *testing.T) {
	for text, want := range map[string]hostShare{
		"/a:/b":              {host: "/a", guest: "/b", name: "b"},
		"/a/:/b/c/":          {host: "/a", guest: "/b/c", name: "b__c"},
		"/a:/b:ro":           {host: "/a", guest: "/b", name: "b", readOnly: true},
		"/a:/b:rw":           {host: "/a", guest: "/b", name: "b"},
		"~:/b":               {host: "/home/ci", guest: "/b", name: "b"},
		"~/x y:/b c":         {host: "/home/ci/x y", guest: "/b c", name: "b_c"},
		"/a/../c:/opt/./d,e": {host: "/c", guest: "/opt/d,e", name: "opt__d_e"},
	} {
		want.title = `volume "` + text + `"`
		got, err := parseVolume(text, "/home/ci")
		if err != nil || got != want {
			t.Errorf("%q: %+v (%v), want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "/a", ":", "a:/b", "/a:b", "/a:/", "/a:/b:x", "/a:/b:ro:ro", "~x:/b", "/a:/..", ":/b", "/a:"} {
		if got, err := parseVolume(text, "/home/ci"); err == nil {
			t.Errorf("%q is taken: %+v", text, got)
		}
	}
}

func FuzzParseVolume(f *testing.F) {
	for _, seed := range []string{"/a:/b:ro", "~/x:/y z", "::", "/a:/../b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseVolume(text, "/home/ci")
		if err != nil {
			return
		}
		if !filepath.IsAbs(s.host) || !filepath.IsAbs(s.guest) || s.guest == "/" || s.name == "" || strings.ContainsAny(s.name, ":/, ") {
			t.Errorf("%q: %+v", text, s)
		}
	})
}

// TestProjectDirStaysInside gives hostile URLs to what becomes a path on the host.
func TestProjectDirStaysInside(t *testing.T) {
	for _, url := range []string{"", "https://gitlab.example/g/p.git", "https://../../etc/passwd", "https://..%2f..%2fetc/x", "file:///etc", "ssh://git@a:22/x", "https://a b/c", "\x00", "https://[::1]/x"} {
		dir := projectDir(&job.Job{RepoURL: url, ProjectID: 7})
		if parts := strings.Split(dir, "/"); !filepath.IsLocal(dir) || len(parts) != 2 || parts[1] != "project-7" || strings.HasPrefix(parts[0], ".") {
			t.Errorf("%q: %q", url, dir)
		}
	}
}

func TestVersionFits(t *testing.T) {
	for _, c := range []struct {
		wanted, host string
		fits         bool
	}{{"", "18.5.0", true}, {"18.5.0", "18.5.0", true}, {"v18.5.0", "18.5.0", true}, {"18.6.0", "18.5.0", false}, {"latest", "18.5.0", false}, {"18.5.0", "", false}} {
		if got := versionFits(c.wanted, c.host); got != c.fits {
			t.Errorf("%q on a host with %q: %v", c.wanted, c.host, got)
		}
	}
}
