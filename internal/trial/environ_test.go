package trial

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gitlab-runner-tart-driver/internal/trial/civar"
	"gitlab-runner-tart-driver/internal/trial/gitsource"
)

func TestHowStagesAreStarted(t *testing.T) {
	b := newBench(t)
	for _, stage := range []string{"prepare", "build_script", "cleanup"} {
		b.opts.Environ = append(b.opts.Environ, "FAKE_"+stage+"=facts "+filepath.Join(b.dir, stage))
	}
	b.opts.Environ = append(b.opts.Environ, "FAKE_config=facts "+filepath.Join(b.dir, "config")+`; out {"builds_dir":"/builds","cache_dir":"/cache"}`)
	b.opts.Driver.Run.Args = []string{"run", "-x", "two words"}
	pids := map[string]int{}
	b.opts.Hooks.Started = func(_ *Trial, p Process) { pids[p.Stage] = p.PID }
	r := b.run()
	if r.Status != Success {
		t.Fatal(r.Err)
	}
	for _, stage := range []string{"config", "prepare", "build_script", "cleanup"} {
		f, s := b.facts(stage), r.Stage(stage)
		if f.Dir != s.TempDir || f.DirMode != 0o700 || !strings.HasPrefix(f.Dir, b.opts.TempDir+"/custom-executor") {
			t.Errorf("%s: runs in %s (%v), TMPDIR is %s", stage, f.Dir, f.DirMode, s.TempDir)
		}
		if f.PID != f.PGR || f.PID != s.PID || f.PID != pids[stage] {
			t.Errorf("%s: pid %d, group %d, result %d, hook %d", stage, f.PID, f.PGR, s.PID, pids[stage])
		}
		if f.Stdin != fs.FileMode(fs.ModeDevice|fs.ModeCharDevice).String() {
			t.Errorf("%s: stdin is %s", stage, f.Stdin)
		}
		if f.Pipes != 2 {
			t.Errorf("%s: stdout and stderr are not two pipes", stage)
		}
		for key, want := range map[string]string{
			"TMPDIR": s.TempDir, "BUILD_FAILURE_EXIT_CODE": "1", "SYSTEM_FAILURE_EXIT_CODE": "2", "HOME": b.dir,
			"BUILD_EXIT_CODE_FILE": s.TempDir + "/build_exit_code", "JOB_RESPONSE_FILE": s.TempDir + "/response.json",
			"CUSTOM_ENV_CI_JOB_ID": fmt.Sprint(r.JobID), "CUSTOM_ENV_CI_JOB_IMAGE": "ghcr.io/o/macos:15", "CUSTOM_ENV_CI_JOB_SERVICES": "",
			"CUSTOM_ENV_CI_SHARED_ENVIRONMENT": "true", "CUSTOM_ENV_CI_JOB_TIMEOUT": "3600", "CUSTOM_ENV_CI_CONCURRENT_ID": "0",
		} {
			if got := f.getenv(key); got != want {
				t.Errorf("%s: %s=%q, want %q", stage, key, got, want)
			}
		}
		if f.RespMode != 0o600 || fmt.Sprint(f.Response["id"]) != fmt.Sprint(float64(r.JobID)) {
			t.Errorf("%s: response %v, mode %v", stage, f.Response["id"], f.RespMode)
		}
	}
	if f := b.facts("build_script"); !slices.Equal(f.Args[:3], []string{"run", "-x", "two words"}) || f.Args[4] != "build_script" || filepath.Base(f.Args[3]) != "script" ||
		!strings.HasPrefix(filepath.Dir(f.Args[3]), f.Dir+"/script") {
		t.Errorf("arguments of run: %q", f.Args)
	}
}

func TestConfigStageSeesNoDirectoriesYet(t *testing.T) {
	b := newBench(t, "prepare", "exit 2 | ok")
	r := b.run()
	first, second := r.Stages[0], r.Stages[3]
	if second.Name != StageConfig {
		t.Fatalf("order: %v", r.Names())
	}
	for key, want := range map[string]string{"CUSTOM_ENV_CI_BUILDS_DIR": "", "CUSTOM_ENV_CI_PROJECT_DIR": "", "CUSTOM_ENV_RUNNER_TEMP_PROJECT_DIR": ".tmp"} {
		if got, _ := first.Getenv(key); got != want {
			t.Errorf("first config: %s=%q", key, got)
		}
	}
	project := b.dir + "/builds/try/job"
	for key, want := range map[string]string{"CUSTOM_ENV_CI_BUILDS_DIR": b.dir + "/builds", "CUSTOM_ENV_CI_PROJECT_DIR": project, "CUSTOM_ENV_RUNNER_TEMP_PROJECT_DIR": project + ".tmp"} {
		if got, _ := second.Getenv(key); got != want {
			t.Errorf("second config: %s=%q", key, got)
		}
	}
}

func TestConfigOutput(t *testing.T) {
	b := newBench(t, "config", `out {"driver":{"name":"d","version":"v1"},"hostname":"mac","builds_dir":"/b","cache_dir":"/c","builds_dir_is_shared":true,`+
		`"job_env":{"TMPDIR":"/elsewhere","JOB_RESPONSE_FILE":"/other","MINE":"yes","PATH":"/bin"},"shell":"sh","unknown":[1]}`)
	b.opts.RunnerToken, b.opts.ConcurrentProjectID = "abc", 4
	r := b.run()
	if r.Status != Success || !strings.Contains(plain(string(r.Log)), "Using Custom executor with driver d v1...\n") {
		t.Errorf("%v\n%s", r.Err, r.Log)
	}
	for stage, want := range map[string]string{"config": "<unset>", "prepare": "yes", "build_script": "yes", "cleanup": "yes"} {
		got, ok := r.Stage(stage).Getenv("MINE")
		if !ok {
			got = "<unset>"
		}
		if got != want {
			t.Errorf("%s: job_env is %q", stage, got)
		}
	}
	run := r.Stage("build_script")
	for key, want := range map[string]string{"TMPDIR": "/elsewhere", "JOB_RESPONSE_FILE": "/other", "PATH": "/bin", "CUSTOM_ENV_CI_PROJECT_DIR": "/b/abc/4/try/job", "CUSTOM_ENV_CI_RUNNER_SHORT_TOKEN": "abc"} {
		if got, _ := run.Getenv(key); got != want {
			t.Errorf("%s=%q, want %q", key, got, want)
		}
	}
	if !strings.HasPrefix(string(run.Script), "#!/usr/bin/env sh\n") || !strings.Contains(string(r.Stage("prepare_script").Script), "via mac...") {
		t.Errorf("scripts: %s", run.Script)
	}
}

func TestJobEnvOfAFailedAttemptIsForgotten(t *testing.T) {
	dirs := `"builds_dir":"/b","cache_dir":"/c"`
	b := newBench(t, "config", `out {`+dirs+`,"job_env":{"MINE":"first"}} | out {`+dirs+`}`, "prepare", "exit 2 | ok")
	r := b.run()
	if _, ok := r.Stage("build_script").Getenv("MINE"); ok || r.Status != Success {
		t.Errorf("job_env survived (%v)", r.Err)
	}
	if got, _ := r.Stages[2].Getenv("MINE"); r.Stages[2].Name != StageCleanup || got != "first" {
		t.Errorf("cleanup of the first attempt: %q", got)
	}
}

func TestVariables(t *testing.T) {
	b := newBench(t)
	b.job.Name, b.job.Stage = "unit tests: 1/2", "verify"
	b.job.Image.Name = "ghcr.io/$ORG/macos:${VERSION}"
	b.job.Project = Project{Path: "group/sub/app", ServerURL: "https://gitlab.example.com:8443/"}
	b.job.Variables = civar.List{variable("ORG", "$COMPANY"), variable("COMPANY", "acme"), variable("VERSION", "15"), {Key: "RAW", Value: "$ORG", Raw: true},
		variable("DOLLAR", "a$$b"), {Key: "CERT", Value: "content $ORG", File: true}, variable("WHERE", "$CERT"), variable("CI_JOB_ID", "1"), variable("PROJECT", "$CI_PROJECT_DIR/x")}
	r := b.run()
	project := b.dir + "/builds/group/sub/app"
	run := r.Stage("build_script")
	for key, want := range map[string]string{
		"CI_JOB_IMAGE": "ghcr.io/acme/macos:15", "ORG": "acme", "RAW": "$ORG", "DOLLAR": "a$b", "CERT": "content acme", "WHERE": project + ".tmp/CERT",
		"CI_JOB_ID": "1", "PROJECT": project + "/x", "CI_JOB_NAME": "unit tests: 1/2", "CI_JOB_NAME_SLUG": "unit-tests--1-2", "CI_JOB_STAGE": "verify",
		"CI_PROJECT_NAME": "app", "CI_PROJECT_NAMESPACE": "group/sub", "CI_PROJECT_ROOT_NAMESPACE": "group", "CI_PROJECT_PATH_SLUG": "group-sub-app",
		"CI_SERVER_HOST": "gitlab.example.com", "CI_SERVER_PORT": "8443", "CI_SERVER_FQDN": "gitlab.example.com:8443", "CI_SERVER_PROTOCOL": "https",
		"CI_PROJECT_URL": "https://gitlab.example.com:8443/group/sub/app", "CI_JOB_URL": fmt.Sprintf("https://gitlab.example.com:8443/group/sub/app/-/jobs/%d", r.JobID),
		"GIT_STRATEGY": "none", "CI_COMMIT_SHA": strings.Repeat("0", 40), "CI_COMMIT_BRANCH": "main", "CI": "true", "CI_SERVER": "yes", "GITLAB_CI": "true",
	} {
		if got, ok := run.Getenv("CUSTOM_ENV_" + key); got != want || !ok {
			t.Errorf("%s=%q, want %q", key, got, want)
		}
	}
	if r.JobID < 100_000_000 || r.JobID > 999_999_999_999 {
		t.Errorf("job number %d", r.JobID)
	}
}

func TestProjectDirectory(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*Job)
		want   string
	}{
		"path of the project":  {func(j *Job) { j.Project.Path = "g/p" }, "g/p"},
		"strategy empty":       {func(j *Job) { j.Project.Path, j.Variables = "g/p", civar.List{variable("GIT_STRATEGY", "empty")} }, "g/p-empty"},
		"path of a repository": {func(j *Job) { j.Source = gitsource.Source{Kind: gitsource.Remote, URL: "https://h/x/y.git"} }, "x/y"},
		"repository of no host": {func(j *Job) {
			j.Source = gitsource.Source{Kind: gitsource.Remote, URL: "file:///x/y.git"}
			j.Project.ID = 7
		}, "project-7"},
		"repository over ssh": {func(j *Job) { j.Source = gitsource.Source{Kind: gitsource.Remote, URL: "git@h:x/y.git"} }, "project-1"},
	} {
		b := newBench(t)
		tt.change(b.job)
		if got, _ := b.run().Stage("build_script").Getenv("CUSTOM_ENV_CI_PROJECT_DIR"); got != b.dir+"/builds/"+tt.want {
			t.Errorf("%s: got %s", name, got)
		}
	}
	b := newBench(t)
	b.job.Variables = civar.List{variable("GIT_CLONE_PATH", "/elsewhere")}
	if r := b.run(); r.FailureReason != ConfigurationError || r.PrepareAttempts != 1 {
		t.Errorf("GIT_CLONE_PATH: %q (%v)", r.FailureReason, r.Err)
	}
}

func TestSecretsAreMasked(t *testing.T) {
	b := newBench(t, "prepare", "out tok-1 hush p4ss pw open")
	b.opts.Token = "tok-1"
	b.job.Variables = civar.List{{Key: "S", Value: "hush", Masked: true}, variable("O", "open")}
	b.job.Credentials = []Credentials{{Password: "p4ss"}}
	b.job.Source = gitsource.Source{Kind: gitsource.Remote, URL: "https://u:pw@h/x/y.git"}
	if log := string(b.run().Log); !strings.Contains(log, "[MASKED] [MASKED] [MASKED] [MASKED] open") {
		t.Errorf("log:\n%s", log)
	}
}

func TestJobResponse(t *testing.T) {
	b := newBench(t)
	b.opts.Environ = append(b.opts.Environ, "FAKE_prepare=facts "+filepath.Join(b.dir, "prepare"))
	b.opts.JobID, b.opts.Token = 123456789012, "glcbt-x"
	b.job.Image.PullPolicy = []string{"always"}
	b.job.Services = []Image{{Name: "postgres:$V", Alias: "db,sql", Variables: civar.List{variable("P", "$V")}}}
	b.job.Variables = civar.List{variable("V", "16"), variable("REF", "$CI_PROJECT_DIR")}
	b.job.AfterScript = []string{"bye"}
	b.job.PreGetSources = []string{"before"}
	b.job.Credentials = []Credentials{{Type: "registry", URL: "r.example.com", Username: "u", Password: "p4ss"}}
	b.opts.EditResponse = func(r map[string]any) {
		r["image"].(map[string]any)["alias"] = "edited"
		if r["id"] != json.Number("123456789012") {
			t.Errorf("id is %v", r["id"])
		}
	}
	r := b.run()
	got := b.facts("prepare").Response
	text, err := json.Marshal(map[string]any{
		"id": got["id"], "token": got["token"], "image": got["image"], "services": got["services"], "steps": got["steps"], "artifacts": got["artifacts"], "cache": got["cache"],
		"dependencies": got["dependencies"], "credentials": got["credentials"], "hooks": got["hooks"], "inputs": got["inputs"], "runner_info": got["runner_info"],
	})
	if err != nil {
		t.Fatal(err)
	}
	opts := `"executor_opts":{"docker":{"platform":"","user":""},"kubernetes":{"user":""}}`
	want := `{"artifacts":null,"cache":[],"credentials":[{"password":"p4ss","type":"registry","url":"r.example.com","username":"u"}],"dependencies":[],` +
		`"hooks":[{"name":"pre_get_sources_script","script":["before"]}],"id":123456789012,` +
		`"image":{"alias":"edited",` + opts + `,"name":"ghcr.io/o/macos:15","pull_policy":["always"]},"inputs":{},"runner_info":{"timeout":3600,"uuid":""},` +
		`"services":[{"alias":"db,sql",` + opts + `,"name":"postgres:16","variables":[{"file":false,"key":"P","masked":false,"public":true,"raw":false,"value":"$V"}]}],` +
		`"steps":[{"allow_failure":false,"name":"script","script":["true"],"timeout":3600,"when":"on_success"},` +
		`{"allow_failure":true,"name":"after_script","script":["bye"],"timeout":3600,"when":"always"}],"token":"glcbt-x"}`
	if string(text) != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
	vars := map[string]string{}
	for _, v := range got["variables"].([]any) {
		vars[v.(map[string]any)["key"].(string)] = v.(map[string]any)["value"].(string)
	}
	if vars["REF"] != "$CI_PROJECT_DIR" || vars["CI_JOB_TOKEN"] != "glcbt-x" || vars["CI_PROJECT_DIR"] != "" {
		t.Errorf("variables: %v", vars)
	}
	if env, _ := r.Stage("prepare").Getenv("CUSTOM_ENV_CI_JOB_SERVICES"); env != `[{"name":"postgres:16","alias":"db","entrypoint":null,"command":null,"variables":{"P":"16"}}]` {
		t.Errorf("CI_JOB_SERVICES: %s", env)
	}
}

func TestScriptFiles(t *testing.T) {
	b := newBench(t)
	modes := map[string]os.FileMode{}
	dirs := map[string]bool{}
	b.opts.Hooks.Started = func(_ *Trial, p Process) {
		if file := p.Argv[len(p.Argv)-2]; filepath.Base(file) == "script" {
			info, err := os.Stat(file)
			if err != nil {
				t.Error(err)
				return
			}
			modes[p.Stage] = info.Mode().Perm()
			dirs[filepath.Dir(file)] = true
		}
	}
	b.run()
	if len(modes) != 4 || len(dirs) != 4 {
		t.Errorf("scripts: %v in %v", modes, dirs)
	}
	for stage, mode := range modes {
		if mode != 0o700 {
			t.Errorf("%s: mode %v", stage, mode)
		}
	}
}
