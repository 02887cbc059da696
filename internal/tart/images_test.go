package tart

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const hex64 = "6f00000000000000000000000000000000000000000000000000000000000000"

// md5OfImage is that of r.example:5000/a/b:15.
const md5OfImage = "f90a61c51952aad15d2541fdbd299d1d"

// cacheImage puts an image into the fake's cache as tart does: a directory named by the digest, and a link for the tag.
func (f *fake) cacheImage(host, name, tag string) {
	f.t.Helper()
	repository := filepath.Join(f.dir, ".tart", "cache", "OCIs", host, name)
	dir := filepath.Join(repository, "sha256:"+hex64)
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "config.json"), nil, 0o600)
	}
	if err == nil {
		err = os.Symlink(dir, filepath.Join(repository, tag))
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

func TestCached(t *testing.T) {
	f := newFake(t, "")
	f.cacheImage("r.example%3A5000", "a/b", "15")
	client := f.client()
	for name, found := range map[string]bool{
		"r.example:5000/a/b:15":              true,
		"r.example:5000/a/b@sha256:" + hex64: true,
		"r.example:5000/a/b:16":              false,
		"r.example:5000/a/b":                 false, // the tag is added where references are parsed
		"r.example/a/b:15":                   false,
		"r.example:5000/a:15":                false,
		"r.example:5000/a/b@sha256:00":       false,
		"a":                                  false,
		"":                                   false,
		"r.example:5000/a/b:":                false,
		"r.example:5000/../../x:15":          false,
	} {
		digest, ok := client.Cached(name)
		if ok != found || found && digest != "sha256:"+hex64 || !found && digest != "" {
			t.Errorf("%q: got %q, %v", name, digest, ok)
		}
	}
	// A link to nowhere is no image.
	if err := os.RemoveAll(filepath.Join(f.dir, ".tart/cache/OCIs/r.example%3A5000/a/b/sha256:"+hex64)); err != nil {
		t.Fatal(err)
	}
	if _, ok := client.Cached("r.example:5000/a/b:15"); ok {
		t.Error("an image whose digest is gone is found")
	}
	if calls := f.calls(); len(calls) > 0 {
		t.Errorf("tart was called: %q", calls)
	}
}

func FuzzCachePath(f *testing.F) {
	for _, s := range []string{"r.example/a:1", "r/../..:x", "a/b@..", "a:1/b:2", "/etc/passwd:x", "a/\x00:1", "/@.", "a/./b:."} {
		f.Add(s)
	}
	client := &Client{home: "/home/.tart"}
	f.Fuzz(func(t *testing.T, reference string) {
		path, _ := client.cachePath(reference)
		if path != "" && (!strings.HasPrefix(path, "/home/.tart/cache/OCIs/") || strings.Count(path, "/") < 6 || strings.Contains(path, "..")) {
			t.Errorf("%q is kept in %q", reference, path)
		}
	})
}

// TestCloneNeverPulls plays a clone of an image that is gone: tart begins to pull it.
func TestPartlyPulled(t *testing.T) {
	f := newFake(t, "")
	const image = "r.example:5000/a/b:15"
	if f.client().PartlyPulled(image) {
		t.Error("found without a home")
	}
	if err := os.MkdirAll(filepath.Join(f.dir, ".tart/tmp/"+md5OfImage), 0o700); err != nil {
		t.Fatal(err)
	}
	if !f.client().PartlyPulled(image) || f.client().PartlyPulled("r.example:5000/a/b:16") {
		t.Error("a pull that was broken off is not found, or found for another image")
	}
}

func TestCloneNeverPulls(t *testing.T) {
	for name, body := range map[string]string{
		"a long pull": "echo 'pulling manifest...'; exec sleep 600",
		"a quick one": "echo 'pulling manifest...'; echo 'pulling disk (1.0 GB compressed)...'",
		"one that fails": `echo 'pulling manifest...'
echo 'Error: AuthFailed(why: "401")' >&2; exit 1`,
	} {
		err := newFake(t, body).client().Clone(t.Context(), "r.example/a:1", "vm")
		if !errors.Is(err, ErrNotCached) || KindOf(err) != KindOther {
			t.Errorf("%s: %v, kind %d", name, err, KindOf(err))
		}
	}
	if err := newFake(t, "echo 'waiting for lock...'").client().Clone(t.Context(), "r.example/a:1", "vm"); err != nil {
		t.Errorf("a clone that pulls nothing: %v", err)
	}
}

func TestAutoPruning(t *testing.T) {
	f := newFake(t, "")
	client := f.client()
	for _, call := range []struct {
		client *Client
		pruned bool
	}{{client, false}, {client.AutoPruning(), true}, {client, false}} {
		if err := call.client.Clone(t.Context(), "base", "vm"); err != nil {
			t.Fatal(err)
		}
		env := f.environ("clone")
		if slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, "TART_NO_AUTO_PRUNE") }) == call.pruned {
			t.Errorf("auto-prune %v: tart sees %q", call.pruned, env)
		}
		if !slices.Contains(env, "CI=1") {
			t.Errorf("tart sees %q", env)
		}
	}
}

func TestDeleteImage(t *testing.T) {
	f := newFake(t, `case $2 in *gone*) echo "the specified VM \"$2\" does not exist" >&2; exit 2;; *stays*) echo "no permission" >&2; exit 1;; esac`)
	client := f.client()
	for name, fine := range map[string]bool{"r.example/a:1": true, "r.example/gone:1": true, "r.example/stays:1": false, "base": false, "": false, "-x/y": false} {
		if err := client.DeleteImage(t.Context(), name); (err == nil) != fine {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, call := range f.calls() {
		if !strings.HasPrefix(call, "delete r.example/") {
			t.Errorf("tart was called with %q", call)
		}
	}
}

func FuzzSizesAndTimes(f *testing.F) {
	for _, s := range []string{"17", `"17.234"`, `"50 GB"`, "null", `"2026-02-23T12:00:00Z"`, "-1", "1e300", "[]", `"soon"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		if !json.Valid([]byte(raw)) {
			return
		}
		vms, err := parseList([]byte(`[{"Name":"x","Size":` + raw + `,"Accessed":` + raw + `}]`))
		if err != nil || len(vms) != 1 || vms[0].Size < 0 || vms[0].Size >= 1e9 {
			t.Errorf("%s: %+v, %v", raw, vms, err)
		}
	})
}
