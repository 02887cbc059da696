package image

import (
	"errors"
	"strings"
	"testing"
	"unicode"
)

const digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestParse(t *testing.T) {
	for in, want := range map[string]Reference{
		"macos-15":                       {Name: "macos-15"},
		"My_VM.2":                        {Name: "My_VM.2"},
		"base:old":                       {Name: "base:old"},
		"a":                              {Name: "a"},
		strings.Repeat("a", 128):         {Name: strings.Repeat("a", 128)},
		"ghcr.io/o/macos":                {Name: "ghcr.io/o/macos:latest", Host: "ghcr.io"},
		"ghcr.io/o/macos:15":             {Name: "ghcr.io/o/macos:15", Host: "ghcr.io"},
		"ghcr.io/o/macos:V1_x.y-Z":       {Name: "ghcr.io/o/macos:V1_x.y-Z", Host: "ghcr.io"},
		"ghcr.io/o/macos@" + digest:      {Name: "ghcr.io/o/macos@" + digest, Host: "ghcr.io"},
		"ghcr.io/o/macos:15@" + digest:   {Name: "ghcr.io/o/macos@" + digest, Host: "ghcr.io"},
		"r.example:5000/a/b/c/d:x":       {Name: "r.example:5000/a/b/c/d:x", Host: "r.example:5000"},
		"127.0.0.1:5000/x":               {Name: "127.0.0.1:5000/x:latest", Host: "127.0.0.1:5000"},
		"localhost/x":                    {Name: "localhost/x:latest", Host: "localhost"},
		"localhost:5000/x@" + digest:     {Name: "localhost:5000/x@" + digest, Host: "localhost:5000"},
		"foo/bar":                        {Name: "foo/bar:latest", Host: "foo"}, // no default registry, unlike Docker
		"foo_bar/baz:1":                  {Name: "foo_bar/baz:1", Host: "foo_bar"},
		"registry.example.com/g/s_p/x-y": {Name: "registry.example.com/g/s_p/x-y:latest", Host: "registry.example.com"},
	} {
		got, err := Parse(in)
		if err != nil || got != want {
			t.Errorf("%q: got %+v, %v, want %+v", in, got, err, want)
		}
		if got.Local() != !strings.Contains(in, "/") {
			t.Errorf("%q: local: %v", in, got.Local())
		}
		if again, err := Parse(got.Name); err != nil || again != got {
			t.Errorf("%q, parsed again, gives %+v, %v", got.Name, again, err)
		}
	}
}

func TestParseRefusesWhatIsNoReference(t *testing.T) {
	for _, in := range []string{
		"", " ", "-", "-x", "--help", ".", "..", ".hidden", "a b", "a\nb", "a\n", "\na", "a\x00b", "a;b", "$(x)", "`x`", "a'b", "a\\b", "~", "é", "a%b",
		"a*", strings.Repeat("a", 129), "@" + digest, "*",
		"/", "//", "a/", "/a", "a//b", "../a", "./a", "/etc/passwd", "-a/b", "--x/y", "ghcr.io/-x", "ghcr.io/../x", "ghcr.io/o/macos:", "ghcr.io/o/macos:-x",
		"ghcr.io/o/macos:a b", "ghcr.io/o/macos:a\n", "ghcr.io/o/macos\n", "\nghcr.io/o/macos", " ghcr.io/o/macos", "ghcr.io/o/macos ",
		"ghcr.io/o/MacOS:15", "ghcr.io/o/macos@", "ghcr.io/o/macos@sha256:00", "ghcr.io/o/macos@md5:d41d8cd98f00b204e9800998ecf8427e",
		"ghcr.io/o/macos@" + strings.ToUpper(digest), "https://ghcr.io/o/macos", "user@ghcr.io/o/macos", "user:pw@ghcr.io/o/macos", "ghcr.io:port/x",
		"ghcr.io/" + strings.Repeat("a/", 200) + "a", "ghcr.io/o/macos:" + strings.Repeat("t", 129), "ghcr.io/x\x00", "ghcr.io/é", "ghcr.io/$(x)/y",
	} {
		got, err := Parse(in)
		if !errors.Is(err, ErrReference) {
			t.Errorf("%.80q: got %+v, %v, want ErrReference", in, got, err)
		}
		if err != nil && strings.ContainsFunc(err.Error(), unicode.IsControl) {
			t.Errorf("%.80q: the error has control characters: %q", in, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"macos", "ghcr.io/o/macos:15", "a:5/b@" + digest, "-x", "A/b", "[::1]:5000/x", "a\n/b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		got, err := Parse(in)
		if err != nil {
			if !errors.Is(err, ErrReference) || got != (Reference{}) {
				t.Errorf("%q: got %+v, %v", in, got, err)
			}
			return
		}
		// It becomes an argument of tart, the part of a path, and a line of the log.
		if got.Name == "" || strings.HasPrefix(got.Name, "-") || strings.HasPrefix(got.Name, ".") || strings.Contains(got.Name, "..") && !got.Local() {
			t.Errorf("%q became %q", in, got.Name)
		}
		if strings.ContainsFunc(got.Name, func(r rune) bool { return r <= ' ' || r > '~' }) {
			t.Errorf("%q became %q", in, got.Name)
		}
		if got.Local() != !strings.Contains(got.Name, "/") || !strings.HasPrefix(got.Name, got.Host) {
			t.Errorf("%q became %+v", in, got)
		}
		if again, err := Parse(got.Name); err != nil || again != got {
			t.Errorf("%q became %+v, and that %+v, %v", in, got, again, err)
		}
	})
}
