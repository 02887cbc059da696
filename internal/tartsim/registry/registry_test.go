package registry

import (
	"encoding/json"
	"testing"

	"gitlab-runner-tart-driver/internal/tartsim/tarthome"
)

const example = `{
  "host": "registry.test", "namespace": "macos/base", "tags": {"latest": "sha256:00"},
  "images": {"sha256:00": {"template": "templates/x", "size": 1}},
  "username": "u", "password": "p", "pull_duration": "2s", "failures": [{"status": 503, "times": 2}, {"drop_at": 50}]
}`

func TestParse(t *testing.T) {
	r, err := Parse([]byte(example))
	if err != nil {
		t.Fatal(err)
	}
	name := tarthome.RemoteName{Host: "registry.test", Namespace: "macos/base", Tag: "latest"}
	if digest, image, found := r.Resolve(name); !found || digest != "sha256:00" || image.Template != "templates/x" {
		t.Errorf("resolve: %s, %+v, %v", digest, image, found)
	}
	if _, _, found := r.Resolve(name.WithDigest("sha256:01")); found {
		t.Error("an unknown digest is found")
	}
	if !r.Allows("u", "p") || r.Allows("u", "x") || r.Allows("", "") {
		t.Error("the wrong credentials are allowed, or the right ones are not")
	}
	for _, bad := range []string{
		"", "[]", `{"host": "", "namespace": "x"}`, `{"host": "h", "namespace": "n", "tags": {"a": "sha256:00"}}`,
		`{"host": "h", "namespace": "n", "images": {"md5:1": {}}}`, `{"host": "h", "namespace": "n", "pull_duration": "soon"}`,
	} {
		if r, err := Parse([]byte(bad)); err == nil {
			t.Errorf("%s is accepted: %+v", bad, r)
		}
	}
}

func TestFailuresAreCounted(t *testing.T) {
	r, err := Parse([]byte(example))
	if err != nil {
		t.Fatal(err)
	}
	registry := Registry{Home: t.TempDir()}
	for n := range 4 {
		failure, err := registry.Failing(r, "pulling manifest")
		if err != nil || (failure != nil) != (n < 2) {
			t.Errorf("request %d: %+v, %v", n+1, failure, err)
		}
	}
	if failure, err := registry.Failing(r, "pulling blob"); err != nil || failure != nil {
		t.Errorf("another phase: %+v, %v", failure, err)
	}
	for percent := range 101 {
		if drops, err := registry.Drops(r, percent); err != nil || drops != (percent == 50) {
			t.Errorf("at %d%%: %v, %v", percent, drops, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(example))
	f.Add([]byte(`{"host": "h", "namespace": "n"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Parse(data)
		if err != nil {
			return
		}
		for tag, digest := range r.Tags {
			if got, _, found := r.Resolve(tarthome.RemoteName{Host: r.Host, Namespace: r.Namespace, Tag: tag}); tag != "" && (!found || got != digest) {
				t.Fatalf("tag %q: %q, %v", tag, got, found)
			}
		}
		written, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(written); err != nil {
			t.Fatalf("%s: written and read: %v", written, err)
		}
	})
}
