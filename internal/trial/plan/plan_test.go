package plan

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gitlab-runner-tart-driver/internal/trial"
	"gitlab-runner-tart-driver/internal/trial/gitsource"
)

// place is a directory with files, in an environment that sees no configuration of this machine.
func place(t *testing.T, files map[string]string) Request {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "my app")
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return Request{Dir: dir, Environ: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "GIT_CONFIG_NOSYSTEM=1", "SECRET=a$b",
		"GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=A", "GIT_COMMITTER_EMAIL=a@example.com"}}
}

// commit makes the place a repository with everything in it committed.
func commit(t *testing.T, r Request) {
	t.Helper()
	for _, args := range [][]string{{"init", "-q", "--initial-branch=main"}, {"remote", "add", "origin", "git@gitlab.example.com:g/s/p.git"}, {"add", "-A"}, {"commit", "-qm", "m"}} {
		cmd := exec.Command("git", args...)
		cmd.Dir, cmd.Env = r.Dir, r.Environ
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
}

func TestCommand(t *testing.T) {
	for want, words := range map[string][]string{
		"make":               {"make"},
		"echo a && echo $B":  {"echo a && echo $B"},
		"sh -c 'x y'":        {"sh", "-c", "x y"},
		"echo '&&' '$B' ''":  {"echo", "&&", "$B", ""},
		"env A=b make -j4 x": {"env", "A=b", "make", "-j4", "x"},
	} {
		r := place(t, nil)
		r.Image, r.Command, r.After = "img:$V", words, []string{"echo 'a b'"}
		p, err := Make(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(p.Job.Script, []string{want}) || p.Job.AfterScript[0] != "echo 'a b'" || p.Job.Image.Name != "img:$V" {
			t.Errorf("%q became %q", words, p.Job.Script)
		}
		if p.Job.Source.Kind != gitsource.None || len(p.Warnings) != 0 || p.Job.Project.Path != "try/my-app" {
			t.Errorf("got %+v %q", p.Job, p.Warnings)
		}
	}
}

const yaml = `variables: {A: yaml, B: yaml}
unit:
  stage: verify
  image: {name: "img:1", pull_policy: always, docker: {user: u}}
  timeout: 10m
  services: [{name: db, alias: d}]
  script: [make]
  after_script: [bye]
  hooks: {pre_get_sources_script: [pre], post_get_sources_script: [post]}
bare: {script: a}
`

func TestJobOfAFile(t *testing.T) {
	r := place(t, map[string]string{"ci/.gitlab-ci.yml": yaml, "key": "content"})
	commit(t, r)
	r.JobName, r.File = "unit", "ci/.gitlab-ci.yml"
	r.Variables, r.FileVariables = []string{"B=own=1", "SECRET", "C="}, []string{"KEY=key"}
	p, err := Make(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	j := p.Job
	if j.Name != "unit" || j.Stage != "verify" || j.Timeout != 10*time.Minute || j.Image.Name != "img:1" || j.Image.PullPolicy[0] != "always" || j.Image.ExecutorOpts.Docker.User != "u" || j.Services[0].Alias != "d" {
		t.Errorf("got %+v", j)
	}
	if j.Script[0] != "make" || j.AfterScript[0] != "bye" || j.PreGetSources[0] != "pre" || j.PostGetSources[0] != "post" {
		t.Errorf("got %+v", j)
	}
	for key, want := range map[string]string{"A": "yaml", "B": "own=1", "SECRET": "a$b", "C": "", "KEY": "content"} {
		if got := j.Variables.Value(key); got != want {
			t.Errorf("%s=%q", key, got)
		}
	}
	if got := j.Variables.Expand().Value("SECRET"); got != "a$b" {
		t.Errorf("a value of the environment was expanded to %q", got)
	}
	if j.Source.Kind != gitsource.Local || j.Source.Commit.Title() != "m" || j.Project != (trial.Project{Path: "g/s/p", ServerURL: "https://gitlab.example.com", ConfigPath: ".gitlab-ci.yml"}) {
		t.Errorf("%v %+v", j.Source.Kind, j.Project)
	}
	if len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0], "services is not honoured") {
		t.Errorf("warnings %q", p.Warnings)
	}
	r.Image, r.Timeout, r.NoSources = "other", time.Hour, true
	if p, err = Make(t.Context(), r); err != nil || p.Job.Image.Name != "other" || p.Job.Image.PullPolicy[0] != "always" || p.Job.Timeout != time.Hour || p.Job.Source.Kind != gitsource.None {
		t.Errorf("%+v %v", p, err)
	}
}

func TestSources(t *testing.T) {
	r := place(t, map[string]string{".gitlab-ci.yml": yaml})
	r.JobName = "bare"
	p, err := Make(t.Context(), r)
	if err != nil || len(p.Warnings) != 2 || !strings.Contains(p.Warnings[1], "the job gets no sources") || !strings.Contains(p.Warnings[0], "no image") {
		t.Errorf("%q %v", p.Warnings, err)
	}
	commit(t, r)
	r.Variables = []string{"GIT_STRATEGY=none"}
	if p, err = Make(t.Context(), r); err != nil || p.Job.Source.Kind != gitsource.None {
		t.Errorf("%+v %v", p, err)
	}
	r.Variables = []string{"GIT_DEPTH=1"}
	if p, err = Make(t.Context(), r); err != nil || p.Job.Source.Depth != 1 {
		t.Errorf("%+v %v", p, err)
	}
	r.Repo = "file://" + filepath.ToSlash(r.Dir)
	if p, err = Make(t.Context(), r); err != nil || p.Job.Source.Kind != gitsource.Remote || p.Job.Source.Commit.Ref != "main" {
		t.Errorf("%+v %v", p, err)
	}
}

func TestRequestsThatMakeNoSense(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*Request)
		want   string
	}{
		"no image":               {func(r *Request) { r.JobName, r.Command = "", []string{"a"} }, "no image"},
		"no command":             {func(r *Request) { r.JobName, r.Image = "", "i" }, "no command"},
		"file alone":             {func(r *Request) { r.JobName, r.Image, r.File = "", "i", "x" }, "--file without --job"},
		"job and command":        {func(r *Request) { r.Command = []string{"a"} }, "its own script"},
		"job and after":          {func(r *Request) { r.After = []string{"a"} }, "its own script"},
		"no such job":            {func(r *Request) { r.JobName = "x" }, `no job "x"; there are unit, bare`},
		"no such file":           {func(r *Request) { r.File = "x" }, "no such file"},
		"name of a variable":     {func(r *Request) { r.Variables = []string{"a-b=c"} }, `--variable "a-b=c"`},
		"not in the environment": {func(r *Request) { r.Variables = []string{"NOPE"} }, "not in the environment"},
		"file variable":          {func(r *Request) { r.FileVariables = []string{"A"} }, "write NAME=PATH"},
		"file of a variable":     {func(r *Request) { r.FileVariables = []string{"A=none"} }, "no such file"},
		"timeout":                {func(r *Request) { r.Timeout = time.Millisecond }, "less than a second"},
		"ref alone":              {func(r *Request) { r.Ref = "main" }, "--ref without --repo"},
		"repo but no sources":    {func(r *Request) { r.Repo, r.NoSources = "https://gitlab.invalid/g/p", true }, "--repo with --no-sources"},
		"a directory for a file": {func(r *Request) { r.File = "." }, "is a directory"},
		"a reference to nowhere": {func(r *Request) { r.Repo, r.Ref = "file://"+r.Dir, "nope" }, `"nope"`},
	} {
		r := place(t, map[string]string{".gitlab-ci.yml": yaml})
		commit(t, r)
		r.JobName = "unit"
		tt.change(&r)
		_, err := Make(t.Context(), r)
		var wrong *UsageError
		if !errors.As(err, &wrong) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestProjectOf(t *testing.T) {
	for repo, want := range map[string]trial.Project{
		"https://gitlab.example.com:8443/g/p.git":     {ServerURL: "https://gitlab.example.com:8443", Path: "g/p"},
		"https://user:pass@gitlab.example.com/g/s/p/": {ServerURL: "https://gitlab.example.com", Path: "g/s/p"},
		"ssh://git@gitlab.example.com:2222/g/p.git":   {ServerURL: "https://gitlab.example.com", Path: "g/p"},
		"git@gitlab.example.com:g/p.git":              {ServerURL: "https://gitlab.example.com", Path: "g/p"},
		"gitlab.example.com:g/p":                      {ServerURL: "https://gitlab.example.com", Path: "g/p"},
		"https://gitlab.example.com/p.git":            {Path: "try/dir"},
		"/srv/git/p.git":                              {Path: "try/dir"},
		"file:///srv/git/p.git":                       {Path: "try/dir"},
		"../p.git":                                    {Path: "try/dir"},
		"https://gitlab.example.com/g/../../../p.git": {Path: "try/dir"},
		"": {Path: "try/dir"},
	} {
		if got := projectOf(repo, "/x/dir"); got != want {
			t.Errorf("%q: got %+v", repo, got)
		}
	}
	if got := projectOf("", "/"); got.Path != "try/job" {
		t.Errorf("got %+v", got)
	}
}
