package image

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"gitlab-runner-tart-driver/internal/job"
)

func TestAllow(t *testing.T) {
	const o = "ghcr.io/o/macos"
	for _, c := range []struct {
		pattern string
		yes, no []string
	}{
		{"ghcr.io/cirruslabs/*:*", []string{"ghcr.io/cirruslabs/a", "ghcr.io/cirruslabs/a:15", "ghcr.io/cirruslabs/a@" + digest},
			[]string{"ghcr.io/cirruslabs/a/b:1", "ghcr.io/other/a:1", "a", "evil.example/ghcr.io/cirruslabs/a:1"}},
		{o, []string{o, o + ":15", o + "@" + digest, "GHCR.io/o/macos"}, []string{o + "x", o + "/y", "x" + o, "macos"}},
		{"GHCR.io/o/macos", []string{o}, nil},
		{o + ":15", []string{o + ":15"}, []string{o, o + ":16", o + ":150", o + "@" + digest, o + ":15@" + digest}},
		{o + ":1*", []string{o + ":15", o + ":1"}, []string{o + ":latest"}},
		{o + "@sha256:*", []string{o + "@" + digest}, []string{o + ":15"}},
		{"ghcr.io/**", []string{o, "ghcr.io/a/b/c:1"}, []string{"ghcr.io.evil.example/a", "macos"}},
		{"**/macos:15", []string{o + ":15"}, []string{o + ":16"}},
		{"ghcr.io/{o,p}/macos", []string{o, "ghcr.io/p/macos:1"}, []string{"ghcr.io/q/macos"}},
		{"r.example:5000/*", []string{"r.example:5000/a:1"}, []string{"r.example/a:1", "r.example:5001/a"}},
		{"macos-*", []string{"macos-15", "macos-"}, []string{"macos", "macos.x/y", "ghcr.io/macos-15"}},
		{"base", []string{"base"}, []string{"base:old", "r.example/base", "basE"}},
		{"*", []string{"base"}, []string{"r.example/base"}},
	} {
		for _, list := range []struct {
			names []string
			want  bool
		}{{c.yes, true}, {c.no, false}} {
			for _, name := range list.names {
				err := Rules{Allow: []string{"nothing", c.pattern}, AllowOrigin: "flag --allow-image"}.Check(mustParse(t, name), name)
				if (err == nil) != list.want {
					t.Errorf("%q with the pattern %q: %v", name, c.pattern, err)
				}
			}
		}
	}
}

func TestRefusalsSayWhatIsAllowed(t *testing.T) {
	for _, c := range []struct {
		rules Rules
		image string
		says  []string // none: allowed
	}{
		{Rules{}, "ghcr.io/o/x", nil},
		{Rules{Allow: []string{"a", "ghcr.io/o/*"}, AllowOrigin: "flag --allow-image"}, "b", []string{`"b" is not allowed`, "a, ghcr.io/o/*", "flag --allow-image"}},
		{Rules{Allow: []string{"a"}, Default: "ghcr.io/o/x"}, "ghcr.io/o/x:latest", nil},
		{Rules{Allow: []string{"a"}, Default: "ghcr.io/o/x"}, "ghcr.io/o/x:1", []string{"not allowed"}},
		{Rules{Allow: []string{"[a"}, AllowOrigin: "flag --allow-image"}, "b", []string{`pattern "[a"`, "flag --allow-image"}},
		{Rules{Exclude: exprs("tahoe"), ExcludeOrigin: "flag --exclude-image-expr"}, "ghcr.io/o/macos-tahoe", []string{"excluded", `"tahoe"`, "flag --exclude-image-expr"}},
		{Rules{Exclude: exprs("tahoe")}, "ghcr.io/o/macos-sonoma", nil},
		{Rules{Exclude: exprs("x", "^b"), Allow: []string{"base"}}, "base", []string{"excluded"}},
		{Rules{Exclude: exprs("^b"), Default: "base"}, "base", []string{"excluded"}},
		{Rules{Exclude: exprs(":latest$")}, "ghcr.io/o/x", []string{"excluded"}},
		{Rules{Exclude: exprs("/x$")}, "ghcr.io/o/x", []string{"excluded"}}, // as the job wrote it
		{Rules{Exclude: exprs("^ghcr.io/o/")}, "GHCR.IO/o/x", []string{"excluded"}},
		{Rules{Exclude: exprs("^ghcr.io/o/")}, "ghcr.io:443/o/x", []string{"excluded"}},
		{Rules{Exclude: exprs("^ghcr.io/o/")}, "ghcr.io:0443/o/x", []string{"excluded"}},
		{Rules{Exclude: exprs("^ghcr.io/o/")}, "ghcr.io:5000/o/x", nil},
	} {
		err := c.rules.Check(mustParse(t, c.image), c.image)
		if len(c.says) == 0 {
			if err != nil {
				t.Errorf("%+v: %s: %v", c.rules, c.image, err)
			}
			continue
		}
		f := (*job.Failure)(nil)
		if !errors.As(err, &f) || !f.Job || f.Hint == "" {
			t.Errorf("%+v: %s: %v, want a mistake with a hint", c.rules, c.image, err)
			continue
		}
		for _, text := range c.says {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("%s: %q does not say %q", c.image, err, text)
			}
		}
	}
}

func exprs(list ...string) []*regexp.Regexp {
	var all []*regexp.Regexp
	for _, e := range list {
		all = append(all, regexp.MustCompile(e))
	}
	return all
}

// FuzzAllow looks for a name that gets past a pattern with a tag, or one for another registry.
func FuzzAllow(f *testing.F) {
	for _, s := range []string{"ghcr.io/o/x:1", "ghcr.io:1/o/x:15", "ghcr.io/o/x@" + digest, "base:15", "GHCR.IO/o/x:15"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		ref, err := Parse(name)
		if err != nil {
			return
		}
		if ok, _ := allows("ghcr.io/o/*:15", ref); ok && (ref.Host != "ghcr.io" || !strings.HasPrefix(ref.Name, "ghcr.io/o/") || !strings.HasSuffix(ref.Name, ":15")) {
			t.Errorf("%q (%+v) is allowed", name, ref)
		}
		if !strings.HasPrefix(ref.Name, ref.Repository()) {
			t.Errorf("the repository of %+v is %q", ref, ref.Repository())
		}
	})
}
