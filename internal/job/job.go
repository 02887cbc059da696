// Package job is GitLab Runner's side of the Custom executor: the job it describes, the environment it gives to each stage, the
// exit codes it understands and the marks it knows in a log.
// https://docs.gitlab.com/runner/executors/custom/
//
// It knows nothing of VMs.
package job

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"
)

// Job is what the driver needs to know of a GitLab CI job.
type Job struct {
	// ID is GitLab's number of the job.
	ID string
	// Key tells jobs apart, also those of different GitLab instances with the same ID. It is made from the job's token, which no
	// other job knows, and does not give the token away.
	Key string
	// Project is the project's full path.
	Project string
	// ProjectID is GitLab's number of the project, and RepoURL where its repository is, with a password in it. Both are empty unless the
	// job is trusted.
	ProjectID int64
	RepoURL   string
	// Image is the name under `image:`, with variables expanded; empty if the job has none.
	Image string
	// ImagePullPolicies are from `image: pull_policy:`.
	ImagePullPolicies []string
	// Services are the names of containers that are to run beside the job, and Entrypoint tells of `image: entrypoint:`. A VM has neither.
	Services   []string
	Entrypoint bool
	// Timeout is the whole job's.
	Timeout time.Duration
	// Described is when GitLab Runner wrote down what the job is, for this attempt at it: its own clock for Timeout has begun moments before the first
	// one. Zero unless the job is trusted.
	Described time.Time
	// Credentials are the job's own registry logins.
	Credentials []RegistryLogin
	// Variables are all the job's variables, expanded. A job can set each of them, whatever GitLab had in it.
	Variables map[string]string
	// Trusted is false when all this had to be taken from the variables.
	Trusted bool
}

// RegistryLogin is a user name and password for one registry.
type RegistryLogin struct{ Host, Username, Password string }

// response is the part we use of the job response that GitLab Runner writes for every stage. Unknown fields are ignored.
// https://gitlab.com/gitlab-org/gitlab-runner/-/blob/main/common/spec/spec.go
type response struct {
	ID      int64  `json:"id"`
	Token   string `json:"token"`
	JobInfo struct {
		ProjectFullPath string `json:"project_full_path"`
		ProjectID       int64  `json:"project_id"`
		ProjectName     string `json:"project_name"`
	} `json:"job_info"`
	GitInfo struct {
		RepoURL string `json:"repo_url"`
	} `json:"git_info"`
	RunnerInfo struct {
		Timeout int64 `json:"timeout"`
	} `json:"runner_info"`
	Image struct {
		Name         string   `json:"name"`
		PullPolicies []string `json:"pull_policy"`
		// Entrypoint, and Services below, are only mentioned to the job: what they look like is no reason to refuse one.
		Entrypoint json.RawMessage `json:"entrypoint"`
	} `json:"image"`
	Services    json.RawMessage `json:"services"`
	Credentials []struct {
		Type     string `json:"type"`
		URL      string `json:"url"`
		Username string `json:"username"`
		Password string `json:"password"`
	} `json:"credentials"`
}

// defaultTimeout is GitLab Runner's for a job that has none (common.DefaultTimeout).
const defaultTimeout = 2 * time.Hour

// Load reads the job from JOB_RESPONSE_FILE. The variables of the environment come second: a job can override CI_JOB_ID and all
// others, so they say nothing about who the job is. Only where there is no such file (GitLab Runner before 14.1) they must do, and
// the job is marked as not trusted. With an error, the job has at least its variables.
func Load(env Environ) (*Job, error) {
	j := &Job{Variables: env.Variables()}
	path := env.Get("JOB_RESPONSE_FILE")
	raw, err := os.ReadFile(path)
	if path == "" || errors.Is(err, fs.ErrNotExist) {
		j.fromVariables()
		return j, nil
	}
	if err != nil {
		return j, fmt.Errorf("read the job: JOB_RESPONSE_FILE: %w", err)
	}
	if err := j.fromResponse(raw); err != nil {
		return j, fmt.Errorf("read the job: JOB_RESPONSE_FILE %s: %w", path, err)
	}
	if st, err := os.Stat(path); err == nil {
		j.Described = st.ModTime()
	}
	return j, nil
}

// TimedOut tells whether the job's script was ended because RUNNER_SCRIPT_TIMEOUT was over. It is known in the stages after that. The timeout of the whole
// job looks like a cancel there.
// https://gitlab.com/gitlab-org/gitlab-runner/-/blob/main/common/build.go
func (j *Job) TimedOut() bool { return j.Variables["CI_JOB_STATUS"] == "timedout" }

func (j *Job) fromResponse(raw []byte) error {
	var r response
	if err := json.Unmarshal(raw, &r); err != nil {
		return err
	}
	if r.ID <= 0 {
		return fmt.Errorf("it has no job id")
	}
	j.Trusted = true
	j.ID = strconv.FormatInt(r.ID, 10)
	j.Key = key(j.ID, r.Token)
	j.Project = r.JobInfo.ProjectFullPath
	if j.Project == "" {
		j.Project = r.JobInfo.ProjectName
	}
	j.ProjectID, j.RepoURL = r.JobInfo.ProjectID, r.GitInfo.RepoURL
	j.Image = strings.TrimSpace(r.Image.Name)
	j.ImagePullPolicies = r.Image.PullPolicies
	var services []struct{ Name string }
	_ = json.Unmarshal(r.Services, &services)
	for _, s := range services {
		j.Services = append(j.Services, forPeople(s.Name))
	}
	var entrypoint []any
	j.Entrypoint = json.Unmarshal(r.Image.Entrypoint, &entrypoint) == nil && len(entrypoint) > 0
	j.Timeout = timeout(r.RunnerInfo.Timeout)
	for _, c := range r.Credentials {
		if c.Type == "registry" {
			j.Credentials = append(j.Credentials, RegistryLogin{Host: c.URL, Username: c.Username, Password: c.Password})
		}
	}
	return nil
}

func (j *Job) fromVariables() {
	j.ID = j.Variables["CI_JOB_ID"]
	if _, err := strconv.ParseUint(j.ID, 10, 63); err != nil {
		j.ID = ""
	}
	if j.ID != "" {
		j.Key = key(j.ID, j.Variables["CI_JOB_TOKEN"])
	}
	j.Project = forPeople(j.Variables["CI_PROJECT_PATH"])
	j.Image = strings.TrimSpace(j.Variables["CI_JOB_IMAGE"])
	seconds, _ := strconv.ParseInt(j.Variables["CI_JOB_TIMEOUT"], 10, 64)
	j.Timeout = timeout(seconds)
}

// forPeople makes one short line of a text that is only shown.
func forPeople(text string) string {
	const most = 200 // bytes
	if len(text) > most {
		text = text[:most] + "…"
	}
	return Printable(text)
}

func timeout(seconds int64) time.Duration {
	const longest = 31 * 24 * time.Hour // GitLab's limit is a month
	if seconds <= 0 {
		return defaultTimeout
	}
	return min(time.Duration(min(seconds, 1<<31))*time.Second, longest)
}

func key(id, token string) string {
	sum := sha256.Sum256([]byte("gitlab-runner-tart-driver job " + id + " " + token))
	return id + "-" + hex.EncodeToString(sum[:8])
}
