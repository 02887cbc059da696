package gitsource

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// repo is a repository in a directory of its own, with an environment that sees no configuration of this machine.
type repo struct {
	t   *testing.T
	dir string
	env []string
}

func newRepo(t *testing.T) *repo {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("no git on this machine")
	}
	r := &repo{t: t, dir: filepath.Join(t.TempDir(), "a b%20c"), env: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=Ada L", "GIT_AUTHOR_EMAIL=ada@example.com", "GIT_COMMITTER_NAME=Ada L", "GIT_COMMITTER_EMAIL=ada@example.com",
		"GIT_COMMITTER_DATE=2024-05-06T07:08:09+02:00"}}
	if err := os.Mkdir(r.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	r.git("init", "--quiet", "--initial-branch=feature/x")
	return r
}

func (r *repo) git(args ...string) string {
	r.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir, cmd.Env = r.dir, r.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (r *repo) commit(name, content, message string) string {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, name), []byte(content), 0o600); err != nil {
		r.t.Fatal(err)
	}
	r.git("add", "--all")
	r.git("commit", "--quiet", "--message", message)
	return r.git("rev-parse", "HEAD")
}

func (r *repo) options() LocalOptions {
	return LocalOptions{Dir: r.dir, Depth: DefaultDepth, Environ: r.env}
}

func TestFromDirDescribesHead(t *testing.T) {
	r := newRepo(t)
	sha := r.commit("a", "1", "first line\n\nmore\nlines")
	r.git("remote", "add", "origin", "git@gitlab.example.com:g/p.git")
	r.git("update-ref", "refs/remotes/origin/main", sha)
	r.git("symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main")
	sub := filepath.Join(r.dir, "sub")
	if err := os.Mkdir(sub, 0o700); err != nil {
		t.Fatal(err)
	}
	opts := r.options()
	opts.Dir = sub
	src, err := FromDir(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	want := Commit{SHA: sha, BeforeSHA: ZeroSHA, Ref: "feature/x", Message: "first line\n\nmore\nlines", Author: "Ada L <ada@example.com>", Timestamp: "2024-05-06T07:08:09+02:00"}
	if src.Commit != want {
		t.Errorf("got %+v", src.Commit)
	}
	if c := src.Commit; c.Title() != "first line" || c.Description() != "more\nlines" || c.ShortSHA() != sha[:8] {
		t.Errorf("%q %q %q", c.Title(), c.Description(), c.ShortSHA())
	}
	if src.Kind != Local || src.URL != "git@gitlab.example.com:g/p.git" || src.DefaultBranch != "main" || len(src.Warnings) != 0 || len(src.Pack) == 0 {
		t.Errorf("got %+v", src)
	}
	if len(src.Refs) != 1 || src.Refs[0] != (Ref{Name: "refs/remotes/origin/feature/x", SHA: sha}) {
		t.Errorf("refs %v", src.Refs)
	}
}

func TestFromDirWithTagAndWithoutBranch(t *testing.T) {
	r := newRepo(t)
	r.commit("a", "1", "one")
	r.git("tag", "v1")
	r.git("checkout", "--quiet", "--detach")
	src, err := FromDir(t.Context(), r.options())
	if err != nil || src.Commit.Ref != "v1" || !src.Commit.Tag || src.Refs[0].Name != "refs/tags/v1" {
		t.Fatalf("got %+v %v", src, err)
	}
	sha := r.commit("a", "2", "two")
	src, err = FromDir(t.Context(), r.options())
	if err != nil || src.Commit.Ref != sha || src.Commit.Tag {
		t.Fatalf("got %+v %v", src, err)
	}
}

func TestFromDirSaysWhatStaysBehind(t *testing.T) {
	r := newRepo(t)
	if err := os.WriteFile(filepath.Join(r.dir, ".gitmodules"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r.commit(".gitattributes", "*.bin filter=lfs diff=lfs\n", "one")
	if err := os.WriteFile(filepath.Join(r.dir, "new"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	src, err := FromDir(t.Context(), r.options())
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(src.Warnings, "\n")
	for _, want := range []string{"changes in 1 file(s)", "submodules", "LFS"} {
		if !strings.Contains(all, want) {
			t.Errorf("no word on %q in %q", want, all)
		}
	}
}

func TestFromDirLimits(t *testing.T) {
	r := newRepo(t)
	var none error
	if _, none = FromDir(t.Context(), r.options()); !errors.Is(none, ErrNoRepository) {
		t.Errorf("a repository without a commit: %v", none)
	}
	opts := r.options()
	opts.Dir = t.TempDir()
	if _, err := FromDir(t.Context(), opts); !errors.Is(err, ErrNoRepository) {
		t.Errorf("no repository: %v", err)
	}
	r.commit("a", strings.Repeat("x", 100), "one")
	opts = r.options()
	opts.Limit = 50
	var large *TooLargeError
	if _, err := FromDir(t.Context(), opts); !errors.As(err, &large) || large.Limit != 50 || large.Size <= 50 {
		t.Errorf("got %v", err)
	}
	opts.Limit = large.Size
	if _, err := FromDir(t.Context(), opts); err != nil {
		t.Errorf("exactly at the limit: %v", err)
	}
}

func TestFromDirCutsTheHistory(t *testing.T) {
	r := newRepo(t)
	r.commit("a", "1", "one")
	second := r.commit("a", "2", "two")
	r.commit("a", "3", "three")
	opts := r.options()
	opts.Depth = 2
	src, err := FromDir(t.Context(), opts)
	if err != nil || len(src.Shallow) != 1 || src.Shallow[0] != second {
		t.Fatalf("got %v %v", src.Shallow, err)
	}
	opts.Depth = 0
	if src, err = FromDir(t.Context(), opts); err != nil || len(src.Shallow) != 0 {
		t.Fatalf("got %v %v", src.Shallow, err)
	}
}

func TestFromURL(t *testing.T) {
	r := newRepo(t)
	sha := r.commit("a", "1", "one")
	r.git("tag", "-a", "v1", "-m", "tag")
	r.git("tag", "v2")
	from := "file://" + strings.ReplaceAll(r.dir, "%", "%25")
	for _, tt := range []struct{ ref, spec string }{
		{"", "+refs/heads/feature/x:refs/remotes/origin/feature/x"},
		{"feature/x", "+refs/heads/feature/x:refs/remotes/origin/feature/x"},
		{"v1", "+refs/tags/v1:refs/tags/v1"},
		{"v2", "+refs/tags/v2:refs/tags/v2"},
		{sha, "+" + sha + ":refs/remotes/origin/" + sha},
	} {
		src, err := FromURL(t.Context(), RemoteOptions{URL: from, Ref: tt.ref, Depth: 5, Environ: r.env})
		if err != nil {
			t.Fatal(err)
		}
		if src.Commit.SHA != sha || len(src.Refspecs) != 1 || src.Refspecs[0] != tt.spec || src.Commit.Tag != strings.HasPrefix(tt.ref, "v") {
			t.Errorf("%q: got %+v", tt.ref, src)
		}
		if len(src.Warnings) != 0 || src.Depth != 5 || src.Kind != Remote {
			t.Errorf("%q: got %+v", tt.ref, src)
		}
	}
	if _, err := FromURL(t.Context(), RemoteOptions{URL: from, Ref: "none", Environ: r.env}); err == nil || !strings.Contains(err.Error(), `"none"`) {
		t.Errorf("a ref that is not there: %v", err)
	}
	// where only the guest can reach the remote, the guest takes what it finds
	src, err := FromURL(t.Context(), RemoteOptions{URL: "file:///nowhere/at/all", Ref: "main", Environ: r.env})
	if err != nil || src.Commit.SHA != "" || src.Refspecs[0] != "+refs/heads/main:refs/remotes/origin/main" || len(src.Warnings) != 1 {
		t.Errorf("got %+v %v", src, err)
	}
	src, err = FromURL(t.Context(), RemoteOptions{URL: "file:///nowhere/at/all", Environ: r.env})
	if err != nil || src.Refspecs[0] != "+HEAD:refs/remotes/origin/HEAD" {
		t.Errorf("got %+v %v", src, err)
	}
}
