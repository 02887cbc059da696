package doctor

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// play makes a directory that plays a host, from a text in the txtar form; what is in a bin directory can be run.
func play(t *testing.T, files string) *System {
	t.Helper()
	root := t.TempDir()
	for _, f := range txtar.Parse([]byte(files)).Files {
		path := filepath.Join(root, f.Name)
		mode := os.FileMode(0o600)
		if filepath.Base(filepath.Dir(path)) == "bin" {
			mode = 0o755
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, f.Data, mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, noon, noon); err != nil {
			t.Fatal(err)
		}
	}
	return &System{
		User: 501, Environ: []string{"HOME=/Users/ci", "USER=ci", "PATH=/usr/bin:/bin", "SECRET=hush", "HTTPS_PROXY=http://proxy"}, Root: root,
		Time: func() time.Time { return noon },
	}
}

func TestProgramsGetLittle(t *testing.T) {
	host := play(t, `
-- bin/say --
#!/bin/sh
echo "$*"
env
echo warned >&2
-- bin/refuse --
#!/bin/sh
echo no >&2
exit 3
-- bin/leave --
#!/bin/sh
sleep 10 &
echo left
-- bin/hang --
#!/bin/sh
exec sleep 60
`)
	out, err := host.Run(t.Context(), time.Minute, "say", "a b", "c")
	if err != nil || !strings.HasPrefix(out.Stdout, "a b c\n") || out.Stderr != "warned\n" {
		t.Fatalf("%+v %v", out, err)
	}
	for _, want := range []string{"HOME=" + host.Root + "/Users/ci\n", "LC_ALL=C\n", "HTTPS_PROXY=http://proxy\n"} {
		if !strings.Contains(out.Stdout, want) {
			t.Errorf("no %q in %q", want, out.Stdout)
		}
	}
	if strings.Contains(out.Stdout, "hush") {
		t.Error("secrets are handed on")
	}
	if out, err := host.Run(t.Context(), time.Minute, "refuse"); !isExit(err) || out.Stderr != "no\n" {
		t.Errorf("%+v %v", out, err)
	}
	if out, err := host.Run(t.Context(), time.Minute, "leave"); err != nil || out.Stdout != "left\n" {
		t.Errorf("leave: %+v %v", out, err)
	}
	if _, err := host.Run(t.Context(), 50*time.Millisecond, "hang"); err == nil || err.Error() != "hang: no answer within 50ms" {
		t.Errorf("hang: %v", err)
	}
	for _, name := range []string{"nowhere", "/bin/nowhere", "./say", "cat"} {
		if _, err := host.Run(t.Context(), time.Minute, name); !errors.Is(err, ErrNoProgram) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFilesOfTheHost(t *testing.T) {
	host := play(t, `
-- etc/a.plist --
text
-- opt/bin/tool --
#!/bin/sh
`)
	if err := os.Symlink("bin/tool", filepath.Join(host.Root, "opt/link")); err != nil {
		t.Fatal(err)
	}
	info, err := host.Stat("/opt/link")
	if err != nil || info.Target != "/opt/bin/tool" || !info.Executable() || info.UID != 501 {
		t.Errorf("%+v %v", info, err)
	}
	if got := host.Glob("/etc/*.plist"); len(got) != 1 || got[0] != "/etc/a.plist" {
		t.Errorf("%v", got)
	}
	if head := host.Head("/etc/a.plist"); string(head) != "text\n" {
		t.Errorf("%q", head)
	}
	if head := host.Head("/nowhere"); head != nil {
		t.Errorf("%q", head)
	}
	if err := host.Writable("/etc"); err != nil {
		t.Error(err)
	}
	if err := host.Writable("/etc/a.plist"); err == nil {
		t.Error("a file can be written into")
	}
	if host.OS() != "linux" {
		t.Error("a host without sw_vers is no Mac")
	}
	system := &System{GOOS: "darwin", Environ: []string{"PATH=relative:/bin"}}
	if path, ok := system.Find("sh"); !ok || path != "/bin/sh" || system.OS() != "darwin" || system.Real("/a") != "/a" {
		t.Errorf("%s %v", path, ok)
	}
}
