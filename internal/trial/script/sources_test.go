package script

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gitlab-runner-tart-driver/internal/proc/proctest"
	"gitlab-runner-tart-driver/internal/trial/civar"
	"gitlab-runner-tart-driver/internal/trial/gitsource"
)

// repository makes a git repository with five commits, a tag on the fourth, and files that are hard to carry.
func repository(t *testing.T) (dir string, env []string) {
	t.Helper()
	dir = t.TempDir()
	env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.com", "GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.com"}
	git(t, dir, env, "init", "--quiet", "--initial-branch=trunk")
	for i := 1; i <= 5; i++ {
		write(t, filepath.Join(dir, "ünï 'code"), fmt.Sprintf("version %d\x00\xff\n", i), 0o600)
		write(t, filepath.Join(dir, "run.sh"), fmt.Sprintf("#!/bin/sh\necho %d\n", i), 0o700)
		git(t, dir, env, "add", "--all")
		git(t, dir, env, "commit", "--quiet", "--message", fmt.Sprintf("commit %d\n\nwith a body", i))
		if i == 4 {
			git(t, dir, env, "tag", "--annotate", "v4", "--message", "four")
		}
	}
	return dir, env
}

func git(t *testing.T, dir string, env []string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir, cmd.Env = dir, env
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func write(t *testing.T, file, content string, mode os.FileMode) {
	t.Helper()
	if err := proctest.WriteProgram(file, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, mode); err != nil {
		t.Fatal(err)
	}
}

// checkSources compares what arrived in the guest with the repository.
func checkSources(t *testing.T, b *Build, repo string, env []string, commits int) {
	t.Helper()
	for _, name := range []string{"ünï 'code", "run.sh"} {
		want, err := os.ReadFile(filepath.Join(repo, name))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(b.ProjectDir, name))
		if err != nil || string(got) != string(want) {
			t.Errorf("%s is %q, want %q (%v)", name, got, want, err)
		}
	}
	if info, err := os.Stat(filepath.Join(b.ProjectDir, "run.sh")); err != nil || info.Mode()&0o100 == 0 {
		t.Errorf("run.sh is not executable: %v", err)
	}
	if got, want := git(t, b.ProjectDir, env, "rev-parse", "HEAD"), git(t, repo, env, "rev-parse", "HEAD"); got != want {
		t.Errorf("HEAD is %s, want %s", got, want)
	}
	if got := git(t, b.ProjectDir, env, "rev-list", "--count", "HEAD"); got != fmt.Sprint(commits) {
		t.Errorf("%s commits arrived, want %d", got, commits)
	}
	if got := git(t, b.ProjectDir, env, "status", "--porcelain"); got != "" {
		t.Errorf("the checkout is not clean: %s", got)
	}
	git(t, b.ProjectDir, env, "fsck", "--no-dangling")
}

func TestSourcesTravelInsideTheScript(t *testing.T) {
	repo, env := repository(t)
	for _, depth := range []int{0, 2, 20} {
		t.Run(fmt.Sprintf("depth %d", depth), func(t *testing.T) {
			src, err := gitsource.FromDir(t.Context(), gitsource.LocalOptions{Dir: repo, Depth: depth, Environ: env})
			if err != nil {
				t.Fatal(err)
			}
			commits := 5
			if depth == 2 {
				commits = 2
			}
			inEveryShell(t, func(t *testing.T, g *guest) {
				b := g.build()
				b.Source, b.Strategy = *src, "clone"
				out := g.must(b, GetSources)
				if !strings.Contains(out, "Checking out "+src.Commit.ShortSHA()+" as detached HEAD (ref is trunk)...") {
					t.Errorf("log: %s", out)
				}
				checkSources(t, b, repo, env, commits)
				if got := git(t, b.ProjectDir, env, "describe", "--tags"); !strings.HasPrefix(got, "v4-1-") {
					t.Errorf("the tag did not travel: %s", got)
				}
				if left, _ := filepath.Glob(filepath.Join(b.TmpDir(), "try-source*")); len(left) > 0 {
					t.Errorf("left in the guest: %v", left)
				}
				write(t, filepath.Join(b.ProjectDir, "run.sh"), "changed", 0o600)
				g.must(b, ClearWorktree)
				g.must(b, GetSources)
				checkSources(t, b, repo, env, commits)
			})
		})
	}
}

func TestGuestFetchesTheRepository(t *testing.T) {
	repo, env := repository(t)
	for _, strategy := range []string{"clone", "fetch"} {
		t.Run(strategy, func(t *testing.T) {
			src, err := gitsource.FromURL(t.Context(), gitsource.RemoteOptions{URL: "file://" + repo, Depth: 3, Environ: env})
			if err != nil {
				t.Fatal(err)
			}
			inEveryShell(t, func(t *testing.T, g *guest) {
				b := g.build()
				b.Source, b.Strategy = *src, strategy
				b.PreGetSources, b.PostGetSources = []string{"echo before"}, []string{"ls run.sh"}
				out := g.must(b, GetSources)
				if got := withoutEchoes(out); !strings.HasPrefix(got, "before\n") || !strings.HasSuffix(got, "run.sh\n") {
					t.Errorf("hooks: %q", got)
				}
				checkSources(t, b, repo, env, 3)
				g.must(b, GetSources)
				checkSources(t, b, repo, env, 3)
			})
		})
	}
}

func TestCredentialsStayOutOfTheProjectDirectory(t *testing.T) {
	g := newGuest(t, shells(t)[0])
	b := g.build()
	b.Strategy = "clone"
	b.Source = gitsource.Source{Kind: gitsource.Remote, URL: "http://user:s3cret@127.0.0.1:1/g/p.git", Refspecs: []string{"+HEAD:refs/remotes/origin/HEAD"}}
	if out, exit := g.run(b, GetSources); exit == 0 {
		t.Fatalf("nothing listens there, yet: %s", out)
	}
	config, err := os.ReadFile(filepath.Join(b.ProjectDir, ".git", "config"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(config), "s3cret") || !strings.Contains(string(config), "http://127.0.0.1:1/g/p.git") {
		t.Errorf("config: %s", config)
	}
	external := filepath.Join(b.TmpDir(), externalConfig)
	if text, err := os.ReadFile(external); err != nil || !strings.Contains(string(text), "s3cret") {
		t.Errorf("external config: %s %v", text, err)
	}
	g.must(b, CleanupFiles)
	if _, err := os.Stat(external); err == nil {
		t.Error("the credentials were not removed")
	}
}

func TestLegacyFrameAndTrace(t *testing.T) {
	inEveryShell(t, func(t *testing.T, g *guest) {
		b := g.build()
		b.Variables = append(b.Variables, civar.Public("FF_USE_LEGACY_BASH_EVAL", "true"), civar.Public("CI_DEBUG_TRACE", "true"))
		g.must(b, GetSources)
		b.Script = []string{"cat", "echo x$((40+2))", "exit 5"}
		text, _, err := b.Generate(StepScript)
		if err != nil || !strings.Contains(text, "\n: | eval $'") || !strings.Contains(text, "\nset -o xtrace\n") {
			t.Errorf("%v\n%s", err, text)
		}
		if out, exit := g.run(b, StepScript); exit != 5 || !strings.Contains(out, "\nx42\n") {
			t.Errorf("exit %d\n%s", exit, out)
		}
	})
}

func TestFrame(t *testing.T) {
	b := (&guest{dir: "/g"}).build()
	b.Shell, b.Script = "bash", []string{"make"}
	text, _, err := b.Generate(StepScript)
	if err != nil {
		t.Fatal(err)
	}
	head := "#!/usr/bin/env bash\n\ntrap 'exit 1' TERM\n\ncase \"$(set -o)\" in *\"pipefail\"*) set -o pipefail;; esac; set -o errexit\n" +
		"set +o noclobber\n(trap 'exit 1' TERM; eval $'export CI=true\\nexport CI_PROJECT_DIR=$\\'/g/builds/my group/app\\'\\n"
	if !strings.HasPrefix(text, head) {
		t.Errorf("got  %q\nwant %q", text[:min(len(text), len(head))], head)
	}
	tail := "make\\n') < /dev/null\nexit 0\n"
	if !strings.HasSuffix(text, tail) {
		t.Errorf("got %q", text[max(0, len(text)-60):])
	}
}
