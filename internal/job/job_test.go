package job

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// fullResponse is a job response as GitLab Runner writes it, with all that it may hold.
const fullResponse = `{"id":42,"token":"glcbt-64_abc","allow_git_fetch":false,
 "job_info":{"name":"t","stage":"test","project_id":7,"project_name":"p","project_full_path":"g/p","namespace_id":1,"pipeline_id":2,"user_id":3},
 "git_info":{"repo_url":"https://gitlab-ci-token:secret@gl/g/p.git","ref":"main","sha":"00","refspecs":["r"],"depth":20,"protected":null},
 "runner_info":{"uuid":"","timeout":3600},"inputs":{},
 "variables":[{"key":"K","value":"v","public":true,"file":false,"masked":false,"raw":false}],
 "steps":[{"name":"script","script":["make"],"timeout":3600,"when":"on_success","allow_failure":false}],
 "image":{"name":" ghcr.io/o/macos:15 ","alias":"a","entrypoint":["/bin/sh"],"pull_policy":["always","if-not-present"],"ports":[],
   "executor_opts":{"docker":{"platform":"","user":""},"kubernetes":{"user":""}}},
 "services":[{"name":"postgres:16","alias":"db","variables":[]},{"name":"a\u001b[1m"}],"artifacts":null,"cache":[],
 "credentials":[{"type":"registry","url":"registry.example.com:5050","username":"u","password":"p:w"},
   {"type":"netrc","url":"gl","username":"x","password":"y"},{"type":"registry","url":"second.example.com","username":"u2","password":"p2"}],
 "dependencies":[],"features":{"trace_sections":true,"token_mask_prefixes":null,"failure_reasons":["r"],"tracing":null},
 "policy_options":{},"suspend_options":{},"run":[],"from_the_future":{"a":[1,null]}}`

// environWith is a stage's environment with a job response file of the given content.
func environWith(t *testing.T, response string, extra ...string) Environ {
	t.Helper()
	path := filepath.Join(t.TempDir(), "response.json")
	if err := os.WriteFile(path, []byte(response), 0o600); err != nil {
		t.Fatal(err)
	}
	return append(Environ{"JOB_RESPONSE_FILE=" + path}, extra...)
}

func load(t *testing.T, env Environ) *Job {
	t.Helper()
	j, err := Load(env)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// described takes the time out that a job was written down at, which is now.
func described(t *testing.T, j *Job) {
	t.Helper()
	if age := time.Since(j.Described); age < -time.Hour || age > time.Hour { // of a file that is as old as the test
		t.Errorf("the job was described %s ago", age)
	}
	j.Described = time.Time{}
}

func TestTimedOut(t *testing.T) {
	for status, want := range map[string]bool{"timedout": true, "failed": false, "canceled": false, "running": false, "": false} {
		if got := (&Job{Variables: map[string]string{"CI_JOB_STATUS": status}}).TimedOut(); got != want {
			t.Errorf("%q: %v", status, got)
		}
	}
}

func TestJobFromResponse(t *testing.T) {
	// What a job says of itself in variables counts for nothing.
	j := load(t, environWith(t, fullResponse, "CUSTOM_ENV_CI_JOB_ID=1", "CUSTOM_ENV_CI_PROJECT_PATH=evil", "CUSTOM_ENV_CI_JOB_IMAGE=evil",
		"CUSTOM_ENV_CI_JOB_TIMEOUT=1", "CUSTOM_ENV_CI_JOB_TOKEN=evil", "CI_JOB_ID=1", "CUSTOM_ENV_K=v"))
	described(t, j)
	key := j.Key
	j.Key = ""
	want := &Job{
		ID: "42", Project: "g/p", ProjectID: 7, RepoURL: "https://gitlab-ci-token:secret@gl/g/p.git", Image: "ghcr.io/o/macos:15", ImagePullPolicies: []string{"always", "if-not-present"}, Timeout: time.Hour, Trusted: true,
		Services: []string{"postgres:16", "a\ufffd[1m"}, Entrypoint: true,
		Credentials: []RegistryLogin{{"registry.example.com:5050", "u", "p:w"}, {"second.example.com", "u2", "p2"}},
		Variables: map[string]string{"CI_JOB_ID": "1", "CI_PROJECT_PATH": "evil", "CI_JOB_IMAGE": "evil", "CI_JOB_TIMEOUT": "1",
			"CI_JOB_TOKEN": "evil", "K": "v"},
	}
	if !reflect.DeepEqual(j, want) {
		t.Errorf("got  %+v\nwant %+v", j, want)
	}
	if !strings.HasPrefix(key, "42-") || strings.Contains(key, "abc") {
		t.Errorf("key is %q", key)
	}
}

func TestJobFromSparseResponse(t *testing.T) {
	for _, response := range []string{
		`{"id":7,"token":""}`,
		`{"id":7,"token":null,"job_info":null,"runner_info":null,"image":null,"credentials":null,"steps":null}`,
		`{"id":7,"image":{"name":"","pull_policy":null},"credentials":[],"runner_info":{"timeout":0}}`,
		`{"id":7,"image":{"name":" \n "},"credentials":[{"type":"","url":null}],"runner_info":{"timeout":-1}}`,
		`{"id":7,"image":{"entrypoint":[]},"services":[]}`,
		`{"id":7,"image":{"entrypoint":"sh"},"services":{"name":"x"}}`, // of a form that is none of ours
		`{"id":7,"image":{"entrypoint":null},"services":null}`,
		" \n{\"id\":7}\n",
	} {
		j := load(t, environWith(t, response))
		described(t, j)
		j.Key = ""
		if want := (&Job{ID: "7", Timeout: defaultTimeout, Trusted: true, Variables: map[string]string{}}); !reflect.DeepEqual(j, want) {
			t.Errorf("%s: got %+v, want %+v", response, j, want)
		}
	}
	if j := load(t, environWith(t, `{"id":7,"job_info":{"project_name":"only the name"}}`)); j.Project != "only the name" {
		t.Errorf("project is %q", j.Project)
	}
}

func TestJobFromGarbage(t *testing.T) {
	for _, response := range []string{
		"", "\n", "null", "{}", "[]", "42", `"42"`, "{", `{"id":42`, `{"id":"42"}`, `{"id":0}`, `{"id":-1}`, `{"id":4.2}`, `{"id":42}{}`, `{"id":42} x`,
		`{"id":9223372036854775808}`, `{"id":42,"image":"macos"}`, `{"id":42,"credentials":{}}`, `{"token":"secret-token"}`,
		`{"id":42,"token":"secret-token","image":{"pull_policy":"always"}}`, "\x00\xff",
	} {
		// A response that can't be read must not be replaced by what the job says of itself.
		j, err := Load(environWith(t, response, "CUSTOM_ENV_CI_JOB_ID=1"))
		if err == nil {
			t.Errorf("%q is taken for the job %+v", response, j)
		} else if strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "JOB_RESPONSE_FILE") {
			t.Errorf("%q: error %q", response, err)
		}
	}
	dir := t.TempDir()
	if j, err := Load(Environ{"JOB_RESPONSE_FILE=" + dir}); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a response that can't be read gives %+v, %v", j, err)
	}
}

func TestJobFromVariables(t *testing.T) {
	variables := []string{"CUSTOM_ENV_CI_JOB_ID=42", "CUSTOM_ENV_CI_PROJECT_PATH=g/p", "CUSTOM_ENV_CI_JOB_IMAGE= macos ", "CUSTOM_ENV_CI_JOB_TIMEOUT=600",
		"CUSTOM_ENV_CI_JOB_TOKEN=glcbt-64_abc"}
	for _, env := range []Environ{
		variables,
		append(slices.Clone(variables), "JOB_RESPONSE_FILE="),
		append(slices.Clone(variables), "JOB_RESPONSE_FILE="+filepath.Join(t.TempDir(), "gone", "response.json")),
	} {
		j := load(t, env)
		if j.ID != "42" || j.Project != "g/p" || j.Image != "macos" || j.Timeout != 10*time.Minute || j.Trusted || len(j.Credentials) > 0 {
			t.Errorf("got %+v", j)
		}
		if trusted := load(t, environWith(t, fullResponse)); j.Key != trusted.Key {
			t.Errorf("the same job has the key %q from its variables and %q from its response", j.Key, trusted.Key)
		}
	}
	for _, id := range []string{"", "-1", "4.2", "x", "../..", "42\n", "99999999999999999999"} {
		if j := load(t, Environ{"CUSTOM_ENV_CI_JOB_ID=" + id}); j.ID != "" || j.Key != "" || j.Timeout != defaultTimeout {
			t.Errorf("id %q gives %+v", id, j)
		}
	}
}

func TestKeyTellsJobsApart(t *testing.T) {
	seen := map[string]string{}
	for _, id := range []string{"1", "11", "42"} {
		for _, token := range []string{"", "a", "1", "1 a", "glcbt-64_secret", "glcbt-64_secreT"} {
			k := key(id, token)
			if other, ok := seen[k]; ok {
				t.Errorf("job %s with token %q has the key of %s", id, token, other)
			}
			seen[k] = id + " with " + token
			if k != key(id, token) {
				t.Error("a key is not the same twice")
			}
			if len(token) > 4 && strings.Contains(k, token) || strings.Contains(k, "secret") {
				t.Errorf("key %q gives token %q away", k, token)
			}
		}
	}
}

func TestTimeoutIsBounded(t *testing.T) {
	const most = 31 * 24 * time.Hour
	for in, want := range map[int64]time.Duration{
		-1 << 63: defaultTimeout, -1: defaultTimeout, 0: defaultTimeout, 1: time.Second, 3600: time.Hour,
		31 * 24 * 3600: most, 31*24*3600 + 1: most, 1 << 31: most, 1<<63 - 1: most,
	} {
		if got := timeout(in); got != want {
			t.Errorf("%d s: got %s, want %s", in, got, want)
		}
	}
}

func FuzzResponse(f *testing.F) {
	f.Add([]byte(fullResponse))
	f.Add([]byte(`{"id":1,"image":null,"credentials":[null]}`))
	f.Add([]byte(`{"id":1e2,"runner_info":{"timeout":99999999999}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		j := &Job{}
		if err := j.fromResponse(raw); err != nil {
			if j.Trusted || j.ID != "" || j.Key != "" {
				t.Errorf("%q: error %v, and yet the job %+v", raw, err, j)
			}
			return
		}
		if !j.Trusted || strings.Trim(j.ID, "0123456789") != "" || j.ID == "" || !strings.HasPrefix(j.Key, j.ID+"-") || len(j.Key) != len(j.ID)+17 {
			t.Errorf("%q: %+v", raw, j)
		}
		if j.Timeout <= 0 || j.Timeout > 31*24*time.Hour || j.Image != strings.TrimSpace(j.Image) {
			t.Errorf("%q: timeout %s, image %q", raw, j.Timeout, j.Image)
		}
	})
}
