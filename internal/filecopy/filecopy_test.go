package filecopy

import (
	"archive/tar"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// packed is an archive with these entries.
func packed(t *testing.T, entries ...tar.Header) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range entries {
		content := ""
		if h.Typeflag == tar.TypeReg {
			content = "content of " + h.Name
			h.Size = int64(len(content))
		}
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

// all are the names below a directory.
func all(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(dir, path)
		names = append(names, rel)
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return names
}

// TestNothingGetsOut unpacks what a hostile job might send: nothing beside the target changes.
func TestNothingGetsOut(t *testing.T) {
	file := func(name string) tar.Header { return tar.Header{Typeflag: tar.TypeReg, Name: name} }
	link := func(name, to string) tar.Header {
		return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to}
	}
	hard := func(name, to string) tar.Header { return tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: to} }
	for name, c := range map[string]struct {
		entries []tar.Header
		before  map[string]string // links that are in the target
		fails   bool
		warns   bool
	}{
		"absolute name":             {entries: []tar.Header{file("/etc/x")}, fails: true},
		"parent":                    {entries: []tar.Header{file("../x")}, fails: true},
		"parent in the middle":      {entries: []tar.Header{file("a/../../x")}, fails: true},
		"directory outside":         {entries: []tar.Header{{Typeflag: tar.TypeDir, Name: "../d"}}, fails: true},
		"link to the parent":        {entries: []tar.Header{link("l", ".."), file("l/x")}, warns: true},
		"chain that stays in words": {entries: []tar.Header{{Typeflag: tar.TypeDir, Name: "a/b/c"}, link("a/b/c/l", "../../.."), link("a/b/c/l/m", "../../..")}, warns: true},
		"link to outside":           {entries: []tar.Header{link("l", "../outside"), file("l")}, warns: true},
		"absolute link":             {entries: []tar.Header{link("l", "/etc"), file("l/x")}, warns: true},
		"chain of links":            {entries: []tar.Header{{Typeflag: tar.TypeDir, Name: "a/b"}, link("l", "a/b"), link("l/m", "../.."), file("l/m/../x")}, warns: true},
		"hard link to outside":      {entries: []tar.Header{hard("l", "../outside")}, fails: true},
		"hard link to itself":       {entries: []tar.Header{file("l"), hard("l", "l")}, fails: true},
		"link of the user's":        {entries: []tar.Header{file("there/x")}, before: map[string]string{"there": ".."}, fails: true},
		"file behind user's link":   {entries: []tar.Header{file("there")}, before: map[string]string{"there": "../outside"}},
		"hard link through user's":  {entries: []tar.Header{hard("l", "there/outside")}, before: map[string]string{"there": ".."}, fails: true},
		"mode behind user's link":   {entries: []tar.Header{{Typeflag: tar.TypeDir, Name: "there", Mode: 0o500}}, before: map[string]string{"there": "../outside"}, fails: true},
		"device":                    {entries: []tar.Header{{Typeflag: tar.TypeChar, Name: "null", Devmajor: 1, Devminor: 3}}, warns: true},
		"file in place of its dir":  {entries: []tar.Header{file("a/b"), file("a")}, fails: true},
		"file below a file":         {entries: []tar.Header{file("a"), file("a/b")}, fails: true},
		"links that stay":           {entries: []tar.Header{file("d/a"), link("d/l", "a"), link("up", "d/../d/a"), hard("h", "d/a")}},
		"the same file twice":       {entries: []tar.Header{file("a"), file("a")}},
		"link in the place of file": {entries: []tar.Header{file("b"), file("a"), link("a", "b"), file("a")}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			target := filepath.Join(dir, "target")
			outside := filepath.Join(dir, "outside")
			if err := errors.Join(os.WriteFile(outside, []byte("untouched"), 0o640), os.Mkdir(target, 0o755)); err != nil {
				t.Fatal(err)
			}
			for name, to := range c.before {
				if err := os.Symlink(to, filepath.Join(target, name)); err != nil {
					t.Fatal(err)
				}
			}
			warned := 0
			err := Unpack(packed(t, c.entries...), target, func(string) { warned++ })
			if (err != nil) != c.fails || (warned > 0) != c.warns {
				t.Errorf("unpacking: %v, %d warnings", err, warned)
			}
			if raw, err := os.ReadFile(outside); err != nil || string(raw) != "untouched" {
				t.Errorf("the file outside: %q, %v", raw, err)
			}
			if st, err := os.Stat(outside); err != nil || st.Mode() != 0o640 {
				t.Errorf("the file outside: %v, %v", st, err)
			}
			for _, name := range all(t, target) {
				if to, err := filepath.EvalSymlinks(filepath.Join(target, name)); err == nil && c.before == nil && !strings.HasPrefix(to, target) {
					t.Errorf("%s leads to %s", name, to)
				}
			}
			others := slices.DeleteFunc(all(t, dir), func(name string) bool { return name == "." || strings.HasPrefix(name, "target") })
			if !slices.Equal(others, []string{"outside"}) {
				t.Errorf("beside the target there are %q", others)
			}
		})
	}
}

func TestThereAndBack(t *testing.T) {
	from, to := t.TempDir(), filepath.Join(t.TempDir(), "new")
	var errs []error
	for _, dir := range []string{"closed/below", "empty"} {
		errs = append(errs, os.MkdirAll(filepath.Join(from, dir), 0o755))
	}
	long := strings.Repeat("long-", 40)
	for name, mode := range map[string]fs.FileMode{"a b": 0o644, "closed/below/x": 0o755, "secret": 0o600, "ünïcode": 0o644, long: 0o644} {
		errs = append(errs, os.WriteFile(filepath.Join(from, name), []byte(name), mode))
	}
	errs = append(errs, os.Symlink("closed/below/x", filepath.Join(from, "link")), os.Chmod(filepath.Join(from, "closed"), 0o500))
	t.Cleanup(func() {
		_ = os.Chmod(filepath.Join(from, "closed"), 0o700)
		_ = os.Chmod(filepath.Join(to, "closed"), 0o700)
	})
	var b bytes.Buffer
	warn := func(text string) { t.Error(text) }
	if err := errors.Join(append(errs, Pack(&b, from, warn), Unpack(&b, to, warn))...); err != nil {
		t.Fatal(err)
	}
	names := all(t, from)
	if got := all(t, to); !slices.Equal(got, names) {
		t.Errorf("there are %q, want %q", got, names)
	}
	for _, name := range names[1:] {
		before, err1 := os.Lstat(filepath.Join(from, name))
		after, err2 := os.Lstat(filepath.Join(to, name))
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		if before.Mode() != after.Mode() {
			t.Errorf("%s: %v, want %v", name, after.Mode(), before.Mode())
		}
		if before.Mode().IsRegular() {
			raw, err := os.ReadFile(filepath.Join(to, name))
			if err != nil || string(raw) != name || before.ModTime().Sub(after.ModTime()).Abs() > time.Second {
				t.Errorf("%s: %q of %v, %v", name, raw, after.ModTime(), err)
			}
		}
	}
}

func TestUnpackFile(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "new")
	one := tar.Header{Typeflag: tar.TypeReg, Name: "./../its name there does not matter"}
	if err := UnpackFile(packed(t, one), target); err != nil {
		t.Fatal(err)
	}
	if raw, err := os.ReadFile(target); err != nil || string(raw) != "content of "+one.Name {
		t.Errorf("%q, %v", raw, err)
	}
	// What is cut short, is more than a file, or none.
	whole := packed(t, one).Bytes()
	for name, archive := range map[string][]byte{
		"nothing": nil, "cut": whole[:520], "two": packed(t, one, one).Bytes(), "directory": packed(t, tar.Header{Typeflag: tar.TypeDir, Name: "d"}).Bytes(),
		"noise": []byte(strings.Repeat("noise", 1000)),
	} {
		if err := UnpackFile(bytes.NewReader(archive), filepath.Join(dir, "other")); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := UnpackFile(packed(t, one), filepath.Join(dir, "no", "such", "directory")); err == nil {
		t.Error("a file in a directory that is not there")
	}
}

func TestPackWhatIsNotThere(t *testing.T) {
	if err := Pack(&bytes.Buffer{}, filepath.Join(t.TempDir(), "none"), func(string) {}); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
