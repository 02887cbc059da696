package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// releaser is what of .goreleaser.yaml must agree with what else makes packages.
type releaser struct {
	ProjectName string `yaml:"project_name"`
	Before      struct{ Hooks []string }
	Builds      []struct {
		Main, Binary                 string
		Env, Flags, Ldflags, Targets []string
	}
	Archives []struct {
		NameTemplate string `yaml:"name_template"`
		Files        []struct{ Src, Dst string }
	}
	Checksum struct {
		NameTemplate string `yaml:"name_template"`
	}
	Casks []struct {
		Manpages    []string
		Completions map[string]string
	} `yaml:"homebrew_casks"`
}

// repository has the files of the repository by their paths.
func repository(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("../..", path))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// found is what the first group of an expression matches in a text, each sorted.
func found(t *testing.T, expression, text string) []string {
	t.Helper()
	var all []string
	for _, m := range regexp.MustCompile(expression).FindAllStringSubmatch(text, -1) {
		all = append(all, strings.Fields(m[1])...)
	}
	if len(all) == 0 {
		t.Errorf("nothing matches %s", expression)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func same(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %q and %q", what, got, want)
	}
}

// TestReleaserAgrees holds .goreleaser.yaml, the Makefile and scripts/dist to each other: they make the same files.
func TestReleaserAgrees(t *testing.T) {
	var r releaser
	if err := yaml.Unmarshal([]byte(repository(t, ".goreleaser.yaml")), &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Builds) != 1 || len(r.Archives) != 1 || len(r.Casks) != 1 {
		t.Fatalf("%+v", r)
	}
	build, archive, makefile, dist := r.Builds[0], r.Archives[0], repository(t, "Makefile"), repository(t, "scripts/dist")

	targets := strings.Fields(strings.ReplaceAll(strings.Join(build.Targets, " "), "_", "/"))
	slices.Sort(targets)
	same(t, "platforms of scripts/dist", targets, found(t, `for platform in (.*); do`, dist))
	same(t, "platforms of scripts/cross", targets, found(t, `for platform in (.*); do`, repository(t, "scripts/cross")))

	// The linker says nothing of a variable that is not there.
	variables := map[string]*string{"main.commit": &commit, "main.version": &version}
	ldflags := found(t, `-X (\S+?)=`, strings.Join(build.Ldflags, " "))
	for _, name := range ldflags {
		if variables[name] == nil {
			t.Errorf("-X %s: there is no such variable", name)
		}
	}
	same(t, "-X of the Makefile", ldflags, found(t, `-X (\S+?)=`, makefile))
	same(t, "-X of scripts/dist", ldflags, found(t, `-X (\S+?)=`, dist))
	same(t, "flags", build.Flags, strings.Fields(regexp.MustCompile(`GOFLAGS := (.*)`).FindStringSubmatch(makefile)[1]))
	if !slices.Equal(build.Env, []string{"CGO_ENABLED=0"}) || build.Binary != r.ProjectName || build.Main != "./cmd/"+r.ProjectName {
		t.Errorf("%+v", build)
	}

	var files []string
	for _, f := range archive.Files {
		files = append(files, filepath.Base(strings.TrimSuffix(f.Src, "/*")))
		if inside := strings.HasPrefix(f.Src, "bin/extras/"); inside != (f.Dst != "") || inside && "bin/extras/"+f.Dst+"/*" != f.Src {
			t.Errorf("%+v", f)
		}
	}
	slices.Sort(files)
	inDist := found(t, `cp -R (.*) "\$dir/"`, dist)
	for i, f := range inDist {
		inDist[i] = filepath.Base(f)
	}
	slices.Sort(inDist)
	same(t, "files in archives", files, inDist)
	name := strings.NewReplacer("{{ .ProjectName }}", "$name", "{{ .Version }}", "$version", "{{ .Os }}", "$os", "{{ .Arch }}", "$arch").Replace(archive.NameTemplate)
	if !strings.Contains(dist, "dir=dist/"+name+"\n") || !strings.Contains(dist, "> "+r.Checksum.NameTemplate) {
		t.Errorf("scripts/dist makes no %s and %s", name, r.Checksum.NameTemplate)
	}
	same(t, "hooks", r.Before.Hooks, []string{"./scripts/extras bin/extras {{ .Version }}"})
}

// TestExtras makes what stands beside the binary, and looks for what the cask and `make install` take of it.
func TestExtras(t *testing.T) {
	var r releaser
	if err := yaml.Unmarshal([]byte(repository(t, ".goreleaser.yaml")), &r); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "extras")
	for range 2 { // the second time over the first
		cmd := exec.Command("../../scripts/extras", dir, "1.2.3")
		cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1700000000", "GOOS=plan9")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	for _, pattern := range r.Casks[0].Manpages {
		if pages, _ := filepath.Glob(filepath.Join(dir, pattern)); len(pages) < 20 {
			t.Errorf("%s: %d pages", pattern, len(pages))
		}
	}
	for _, path := range r.Casks[0].Completions {
		if st, err := os.Stat(filepath.Join(dir, path)); err != nil || st.Size() < 1000 {
			t.Errorf("%s: %v, %v", path, st, err)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 2 {
		t.Errorf("left in there: %v", entries)
	}
	page, err := os.ReadFile(filepath.Join(dir, "man", r.ProjectName+".1"))
	if err != nil || !strings.Contains(string(page), `1 2023-11-14 "gitlab\-runner\-tart\-driver 1.2.3"`) {
		t.Errorf("%v in\n%.200s", err, page)
	}
}

// TestNotes takes what a release says from the changelog.
func TestNotes(t *testing.T) {
	versions := regexp.MustCompile(`(?m)^## (\S+)`).FindAllStringSubmatch(repository(t, "CHANGELOG.md"), -1)
	oldest := versions[len(versions)-1][1]
	out, err := exec.Command("../../scripts/notes", "v"+oldest).Output()
	if err != nil || !strings.HasPrefix(string(out), "- ") || strings.Contains(string(out), "## ") {
		t.Errorf("of %s: %v: %s", oldest, err, out)
	}
	if out, err := exec.Command("../../scripts/notes", "v0.0.0").Output(); err == nil || len(out) > 0 {
		t.Errorf("of a version that is not there: %v, %q", err, out)
	}
}
