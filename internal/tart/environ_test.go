package tart

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// hostile is what GitLab Runner's environment may hold, all of which tart must not see.
var hostile = []string{
	"CUSTOM_ENV_CI_JOB_TOKEN=secret-token", "CUSTOM_ENV_PATH=/secret", "CUSTOM_ENV_HOME=/secret", "CUSTOM_ENV_TART_HOME=/secret",
	"TART_REGISTRY_USERNAME=secret-user", "TART_REGISTRY_PASSWORD=secret-password", "TART_REGISTRY_HOSTNAME=secret-host",
	"TRACEPARENT=00-secret", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://secret", "CIRRUS_SENTRY_TAGS=secret",
	"JOB_RESPONSE_FILE=/secret", "BUILD_EXIT_CODE_FILE=/secret", "TMPDIR=/secret", "AWS_SECRET_ACCESS_KEY=secret",
	"DYLD_INSERT_LIBRARIES=/secret", "LD_PRELOAD=/secret", "PATHX=/secret", "XPATH=/secret", "home=/secret", "secret", "=secret",
	"TART_DRIVER_VM=secret", "CI=secret",
}

func TestEnvironLetsNothingElsePass(t *testing.T) {
	good := []string{"HOME=/Users/ci", "USER=ci", "LOGNAME=ci", "LANG=de_DE.UTF-8", "LC_ALL=C", "LC_CTYPE=UTF-8", "TZ=UTC", "TART_HOME=/Volumes/t",
		"__CF_USER_TEXT_ENCODING=0x1F5:0:0"}
	got := Environ(slices.Concat(hostile, good, []string{"PATH=/usr/bin:/bin"}, hostile))
	want := append(slices.Clone(good), "PATH=/usr/bin:/bin:/opt/homebrew/bin:/usr/local/bin", "CI=1", "TART_NO_AUTO_PRUNE=1")
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if again := Environ(got); !slices.Equal(sorted(again), want) {
		t.Errorf("applied twice it gives %q", again)
	}
}

func sorted(s []string) []string {
	s = slices.Clone(s)
	slices.Sort(s)
	return s
}

func TestEnvironPath(t *testing.T) {
	for in, want := range map[string]string{
		"":                                 "/opt/homebrew/bin:/usr/local/bin",
		"PATH=":                            "/opt/homebrew/bin:/usr/local/bin",
		"PATH=/usr/local/bin:/a":           "/usr/local/bin:/a:/opt/homebrew/bin",
		"PATH=/opt/homebrew/bin":           "/opt/homebrew/bin:/usr/local/bin",
		"PATH=/a=b":                        "/a=b:/opt/homebrew/bin:/usr/local/bin",
		"PATH=/usr/local/bin/../local/bin": "/usr/local/bin/../local/bin:/opt/homebrew/bin:/usr/local/bin",
	} {
		if got := lookup(Environ([]string{in}), "PATH"); got != want {
			t.Errorf("%q: PATH is %q, want %q", in, got, want)
		}
	}
	if got := lookup(Environ([]string{"PATH=/first", "HOME=/first", "PATH=/last", "HOME=/last"}), "PATH"); !strings.HasPrefix(got, "/last:") {
		t.Errorf("of two PATHs %q counts, not the last", got)
	}
}

func executable(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), mode); err != nil {
		t.Fatal(err)
	}
}

func TestFindTheExecutable(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	executable(t, filepath.Join(dir, "a", "tart"), 0o700)
	executable(t, filepath.Join(dir, "b", "tart"), 0o700)
	executable(t, filepath.Join(dir, "plain", "tart"), 0o600)
	executable(t, filepath.Join(dir, "folder", "tart", "x"), 0o600)
	in := func(parts ...string) string { return "PATH=" + strings.Join(parts, ":") }
	a, b, plain, folder := filepath.Join(dir, "a"), filepath.Join(dir, "b"), filepath.Join(dir, "plain"), filepath.Join(dir, "folder")

	for _, c := range []struct {
		executable, path, want string
	}{
		{"tart", in(a, b), a + "/tart"},
		{"tart", in(b, a), b + "/tart"},
		{"tart", in("/nonexistent", plain, folder, b), b + "/tart"},
		{"tart", in("a", b), b + "/tart"}, // a relative entry of PATH is whatever directory the caller happens to be in
		{"tart", in("", b), b + "/tart"},
		{a + "/tart", in(b), a + "/tart"},
		{"a/tart", in(b), a + "/tart"},
		{"./b/tart", in(a), b + "/tart"},
	} {
		c1, err := New(c.executable, []string{c.path, "HOME=" + dir})
		if err != nil {
			t.Errorf("%q with %q: %v", c.executable, c.path, err)
		} else if c1.Path() != c.want {
			t.Errorf("%q with %q: found %q, want %q", c.executable, c.path, c1.Path(), c.want)
		}
	}

	for _, c := range []struct{ executable, path, mention string }{
		{"no-such-tart", in(a, b), `"no-such-tart"`},
		{"no-such-tart", in(a, b), b},
		{"./c/tart", in(a), "c/tart"},
		{plain + "/tart", in(a), plain + "/tart"},
		{folder + "/tart", in(a), folder + "/tart"},
		{"", in(a), "not found"},
		{".", in(a), "not found"},
		{"/", in(a), "not an executable file"},
	} {
		_, err := New(c.executable, []string{c.path, "HOME=" + dir})
		if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), c.mention) {
			t.Errorf("%q with %q: error %v, want ErrNotFound that names %s", c.executable, c.path, err, c.mention)
		}
	}
}

func TestHomeOfVMs(t *testing.T) {
	f := newFake(t, "")
	if got, want := f.client().VMDir("x"), filepath.Join(f.dir, ".tart", "vms", "x"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	c := f.client("TART_HOME=" + f.dir + "/elsewhere")
	if got, want := c.VMDir("x"), filepath.Join(f.dir, "elsewhere", "vms", "x"); got != want {
		t.Errorf("with TART_HOME: got %q, want %q", got, want)
	}
	if names, ok := c.VMDirs(); names != nil || ok || c.VMDirGone("a") {
		t.Errorf("no home: got %q, %v, want no VMs and false, and none that is gone", names, ok)
	}
	if err := os.MkdirAll(filepath.Join(f.dir, "elsewhere"), 0o700); err != nil {
		t.Fatal(err)
	}
	if names, ok := c.VMDirs(); names != nil || !ok || !c.VMDirGone("a") {
		t.Errorf("no VM yet: got %q, %v, want no VMs and true", names, ok)
	}
	if err := os.MkdirAll(c.VMDir("b"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(c.VMDir("a"), 0o700); err != nil {
		t.Fatal(err)
	}
	if names, ok := c.VMDirs(); !slices.Equal(names, []string{"a", "b"}) || !ok {
		t.Errorf("got %q, %v", names, ok)
	}
	file := f.client("TART_HOME=" + f.path) // a file: nothing can be said
	if names, ok := file.VMDirs(); ok {
		t.Errorf("a home that cannot be read gives %q, %v", names, ok)
	}
}
