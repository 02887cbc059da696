package runnerconf

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func assertFile(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	raw, err := os.ReadFile(path)
	st, serr := os.Stat(path)
	if err != nil || serr != nil || string(raw) != content || st.Mode().Perm() != mode {
		t.Errorf("%s: %q %v %v %v, want %q with %v", path, raw, st.Mode(), err, serr, content, mode)
	}
}

func TestReplaceKeepsABackup(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.toml")
	write(t, path, "old")
	f, err := Open(path)
	if err != nil || string(f.Content) != "old" {
		t.Fatal(f, err)
	}
	for i, content := range []string{"new", "newer"} {
		backup, err := f.Replace([]byte(content), 0o600, noon)
		if err != nil {
			t.Fatal(err)
		}
		assertFile(t, path, content, 0o600)
		assertFile(t, backup, []string{"old", "new"}[i], 0o600)
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*"))
	if err != nil || len(left) != 3 {
		t.Errorf("left over: %v %v", left, err)
	}
}

func TestReplaceFollowsLinks(t *testing.T) {
	dir := t.TempDir()
	link, target := filepath.Join(dir, "config.toml"), filepath.Join(dir, "dotfiles", "runner.toml")
	if err := os.Symlink("dotfiles/runner.toml", link); err != nil {
		t.Fatal(err)
	}
	f, err := Open(link)
	if err != nil || f.Exists || f.Target != target {
		t.Fatalf("%+v %v", f, err)
	}
	if backup, err := f.Replace([]byte("new"), 0o600, noon); err != nil || backup != "" {
		t.Fatal(backup, err)
	}
	assertFile(t, target, "new", 0o600)
	if to, err := os.Readlink(link); err != nil || to != "dotfiles/runner.toml" {
		t.Errorf("the link leads to %q, %v", to, err)
	}
}

func TestReplaceRefusesWhatChanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.toml")
	absent, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, "old")
	present, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, "other")
	for _, f := range []*File{absent, present} {
		if _, err := f.Replace([]byte("new"), 0o600, noon); !errors.Is(err, ErrChanged) {
			t.Error(err)
		}
	}
	assertFile(t, path, "other", 0o644)
}

func TestOpenRefusesOthers(t *testing.T) {
	if _, err := Open(t.TempDir()); !errors.Is(err, ErrNotRegular) {
		t.Errorf("a directory: %v", err)
	}
	loop := filepath.Join(t.TempDir(), "loop")
	if err := os.Symlink("loop", loop); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(loop); err == nil {
		t.Error("a loop of links is taken")
	}
}

func TestDiffHidesSecrets(t *testing.T) {
	before := `# was glrt-oldoldoldold once
[[runners]]
  token = "plain-secret"
  environment = ["DEPLOY_TOKEN=abc=def", "LANG=C"]
  [runners.cache.s3]
    SecretKey = "s3-secret"
  [runners.custom]
    prepare_args = ["prepare", "--registry-password", "pw1", "--default-ssh-password=pw2", "--registry-password pw3"]
`
	after := strings.NewReplacer("plain-secret", "another-secret", "LANG=C", "LANG=D", "[\"prepare\"", "[\"prepare\", \"-x\"", "s3-", "s4-").Replace(before)
	got := Diff("config.toml", []byte(before), "config.toml (new)", []byte(after))
	for _, secret := range []string{"oldold", "plain-secret", "another-secret", "abc=def", "s3-secret", "s4-secret", "pw1", "pw2", "pw3"} {
		if strings.Contains(got, secret) {
			t.Errorf("%q is shown:\n%s", secret, got)
		}
	}
	for _, line := range []string{
		"--- config.toml\n+++ config.toml (new)\n@@ -1,8 +1,8 @@\n", ` # was [MASKED] once`, `-  token = "[MASKED]"`, `+  token = "[MASKED, new]"`,
		`-  environment = ["DEPLOY_TOKEN=[MASKED]", "LANG=C"]`, `+  environment = ["DEPLOY_TOKEN=[MASKED]", "LANG=D"]`,
		`+    prepare_args = ["prepare", "-x", "--registry-password", "[MASKED]", "--default-ssh-password=[MASKED]", "--registry-password [MASKED]"]`,
	} {
		if !strings.Contains(got, line) {
			t.Errorf("%q is missing in\n%s", line, got)
		}
	}
	if Diff("a", []byte(before), "b", []byte(before)) != "" {
		t.Error("a difference where there is none")
	}
}

func TestDiffOfWhatIsNoTOML(t *testing.T) {
	got := Diff("a", []byte("token = glrt-abcdefghijkl"), "b", []byte("x"))
	if strings.Contains(got, "abcdefghijkl") || !strings.Contains(got, "-token = [MASKED]") {
		t.Error(got)
	}
}

func FuzzSet(f *testing.F) {
	f.Add([]byte(asWritten))
	f.Add([]byte("[[runners]]\ncustom = {run_exec='a'}"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		d, err := Parse(raw)
		if err != nil || d.Set(Global, []string{"concurrent"}, 7, "why") != nil {
			return
		}
		out, err := d.Bytes()
		if err != nil {
			return // said, not damaged
		}
		again, err := Parse(out)
		if err != nil || again.Config().Concurrent != 7 {
			t.Errorf("%q became %q: %+v %v", raw, out, again, err)
		}
	})
}
