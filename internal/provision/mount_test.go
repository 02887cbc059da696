package provision

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	macShares   = "/Volumes/My Shared Files"
	linuxShares = "/mnt/grtd-shares"
)

// mount runs a plan with the shares in a Mac's guest; their targets are within the sandbox.
func (s *sandbox) mount(shell string, mounts ...Mount) ended {
	s.t.Helper()
	for i := range mounts {
		mounts[i].Target = s.path(mounts[i].Target)
	}
	return s.run(shell, s.moved(Plan{Mounts: mounts, ShareWait: time.Second}.Script(), macShares))
}

// leadsTo checks a link.
func (s *sandbox) leadsTo(target, share string) {
	s.t.Helper()
	if got, err := os.Readlink(s.path(target)); err != nil || got != filepath.Join(s.root, macShares, share) {
		s.t.Errorf("%s leads to %q, %v, want the share %s", target, got, err, share)
	}
}

func TestASharePutsWhatStoodThereAside(t *testing.T) {
	for name, c := range map[string]struct {
		before func(s *sandbox)
		after  map[string]string // files and what they hold
	}{
		"nothing": {before: func(*sandbox) {}},
		"an empty directory": {
			before: func(s *sandbox) { s.dir("opt/data") },
		},
		"a directory with files": {
			before: func(s *sandbox) { s.write("opt/data/old", "precious") },
			after:  map[string]string{"opt/data.before-share/old": "precious"},
		},
		"a file": {
			before: func(s *sandbox) { s.write("opt/data", "precious") },
			after:  map[string]string{"opt/data.before-share": "precious"},
		},
		"a link": {
			before: func(s *sandbox) {
				s.write("elsewhere/old", "precious")
				s.dir("opt")
				if err := os.Symlink(s.path("elsewhere"), s.path("opt/data")); err != nil {
					s.t.Fatal(err)
				}
			},
			after: map[string]string{"elsewhere/old": "precious"},
		},
		"a link that leads nowhere": {
			before: func(s *sandbox) {
				s.dir("opt")
				if err := os.Symlink("/no/such/place", s.path("opt/data")); err != nil {
					s.t.Fatal(err)
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachShell(t, func(t *testing.T, shell string) {
				s := newSandbox(t, "Darwin")
				s.write("Volumes/My Shared Files/opt__data/file", "shared")
				c.before(s)
				if got := s.mount(shell, Mount{Name: "opt__data", Target: "opt/data", Title: "volume"}); got.code != 0 || len(got.answers) > 0 {
					t.Fatalf("got %+v", got)
				}
				s.leadsTo("opt/data", "opt__data")
				if got := s.read("opt/data/file"); got != "shared" {
					t.Errorf("the share's file holds %q", got)
				}
				for file, want := range c.after {
					if got := s.read(file); got != want {
						t.Errorf("%s holds %q, want %q", file, got, want)
					}
				}
				entries, err := os.ReadDir(s.path("Volumes/My Shared Files/opt__data"))
				if err != nil || len(entries) != 1 {
					t.Errorf("the share holds %v, %v: a probe is left, or something was linked into it", entries, err)
				}
				if got := s.read("sudo"); strings.Contains(got, "mv ") || strings.Contains(got, "ln ") {
					t.Errorf("sudo was used without need: %q", got)
				}
			})
		})
	}
}

func TestSharesWithHostileNames(t *testing.T) {
	for _, text := range []string{"it's", "a b", `\"$HOME`, "$(touch owned)", "`touch owned`", "; touch owned;", "x\ny", "*", "-n", "!é%s"} {
		eachShell(t, func(t *testing.T, shell string) {
			s := newSandbox(t, "Darwin")
			s.dir(filepath.Join("Volumes/My Shared Files", text))
			got := s.mount(shell, Mount{Name: text, Target: "opt/" + text, Title: text})
			if got.code != 0 || len(got.answers) > 0 {
				t.Errorf("%q: got %+v", text, got)
			}
			s.leadsTo("opt/"+text, text)
			if _, err := os.Lstat(s.path("owned")); err == nil {
				t.Errorf("%q was run as script", text)
			}
		})
	}
}

func TestAShareMayAppearLateOrNever(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string) {
		s := newSandbox(t, "Darwin")
		s.tool("sleep", `echo >> "$ROOT/sleep"; [ "$(wc -l < "$ROOT/sleep")" -lt 3 ] || mkdir -p "$ROOT/Volumes/My Shared Files/late"`)
		s.link("wc", "wc")
		if got := s.mount(shell, Mount{Name: "late", Target: "late", Title: "volume"}); got.code != 0 || s.read("sleep") != "\n\n\n" {
			t.Errorf("got %+v after %q", got, s.read("sleep"))
		}
		s = newSandbox(t, "Darwin")
		got := s.mount(shell, Mount{Name: "never", Target: "never", Title: `volume "/a:/b"`})
		if got.code != ExitMount || len(got.answers) != 1 || !strings.HasPrefix(got.answers[0], `volume "/a:/b": the share does not appear at `) {
			t.Errorf("got %+v", got)
		}
		if _, err := os.Lstat(s.path("never")); err == nil {
			t.Error("there is a link that leads nowhere")
		}
	})
}

func TestSharesAreReadAndWritten(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string) {
		for _, readOnly := range []bool{false, true} {
			s := newSandbox(t, "Darwin")
			s.dir("Volumes/My Shared Files/share")
			s.tool("cat", "echo something else") // what was written does not come back
			got := s.mount(shell, Mount{Name: "share", Target: "place", Title: "the volume", ReadOnly: readOnly})
			if readOnly && got.code != 0 {
				t.Errorf("a read-only share is written to: %+v", got)
			}
			if !readOnly && (got.code != ExitMount || len(got.answers) != 1 || !strings.HasPrefix(got.answers[0], "the volume: cannot be written at ")) {
				t.Errorf("got %+v", got)
			}
			if entries, err := os.ReadDir(s.path("place")); err != nil || len(entries) > 0 {
				t.Errorf("left behind: %v, %v", entries, err)
			}
		}
		s := newSandbox(t, "Darwin")
		s.dir("Volumes/My Shared Files/share")
		s.tool("ls", "echo 'ls: Operation not permitted' >&2; exit 1")
		got := s.mount(shell, Mount{Name: "share", Target: "place", Title: "the volume", ReadOnly: true})
		if got.code != ExitMount || len(got.answers) != 1 || !strings.HasPrefix(got.answers[0], "the volume: cannot be read at ") {
			t.Errorf("got %+v", got)
		}
	})
}

func TestSharesUseSudoWhereTheyMust(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string) {
		s := newSandbox(t, "Darwin")
		s.dir("Volumes/My Shared Files/share")
		s.write("opt/data/old", "precious")
		for _, name := range []string{"mkdir", "ln", "mv", "rmdir"} {
			s.onlyRoot(name)
		}
		if got := s.mount(shell, Mount{Name: "share", Target: "opt/data", Title: "volume"}); got.code != 0 {
			t.Errorf("got %+v", got)
		}
		s.leadsTo("opt/data", "share")
		if s.read("opt/data.before-share/old") != "precious" || s.read("mv") == "" {
			t.Error("the directory was not moved aside by sudo")
		}
		s = newSandbox(t, "Darwin")
		s.dir("Volumes/My Shared Files/share")
		s.onlyRoot("ln")
		s.tool("sudo", "echo 'sudo: a password is required' >&2; exit 1")
		got := s.mount(shell, Mount{Name: "share", Target: "opt/data", Title: "the volume"})
		if got.code != ExitMount || len(got.answers) != 1 || !strings.HasPrefix(got.answers[0], "the volume: no link can be made at ") {
			t.Errorf("without sudo: got %+v", got)
		}
	})
}

func TestLinuxMountsTheSharesItself(t *testing.T) {
	for name, c := range map[string]struct {
		mounted, mountable bool
		code               int
		mounts             string
	}{
		"not yet mounted": {mountable: true, mounts: "-t virtiofs com.apple.virtio-fs.automount "},
		"mounted":         {mounted: true},
		"cannot":          {code: ExitMount, mounts: "-t virtiofs com.apple.virtio-fs.automount "},
	} {
		t.Run(name, func(t *testing.T) {
			eachShell(t, func(t *testing.T, shell string) {
				s := newSandbox(t, "Linux")
				share := s.path(linuxShares) + "/share"
				s.tool("mountpoint", map[bool]string{true: "exit 0", false: "exit 1"}[c.mounted])
				s.tool("mount", `[ -n "$AS_ROOT" ] || exit 1; echo "$*" >> "$ROOT/mount"; `+map[bool]string{true: "mkdir '" + share + "'", false: "exit 32"}[c.mountable])
				if c.mounted {
					s.dir(linuxShares + "/share")
				}
				plan := Plan{Mounts: []Mount{{Name: "share", Target: s.path("place"), Title: "volume"}}, ShareWait: time.Second}
				got := s.run(shell, s.moved(plan.Script(), linuxShares))
				if got.code != c.code {
					t.Errorf("got %+v, want exit code %d", got, c.code)
				}
				want := c.mounts
				if want != "" {
					want += s.path(linuxShares) + "\n"
				}
				if mounts := s.read("mount"); mounts != want {
					t.Errorf("mounted %q, want %q", mounts, want)
				}
				if c.code == 0 {
					if to, err := os.Readlink(s.path("place")); err != nil || to != share {
						t.Errorf("leads to %q, %v", to, err)
					}
				} else if len(got.answers) != 1 || !strings.Contains(got.answers[0], "virtiofs") {
					t.Errorf("answers %q", got.answers)
				}
			})
		})
	}
}
