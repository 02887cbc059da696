package trial

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"gitlab-runner-tart-driver/internal/trial/civar"
	"gitlab-runner-tart-driver/internal/trial/gitsource"
	"gitlab-runner-tart-driver/internal/trial/script"
)

// jobResponse is the file that JOB_RESPONSE_FILE names: GitLab's answer to a request for a job, as GitLab Runner writes it down again.
//
// Source: https://docs.gitlab.com/runner/executors/custom/#job-response
type jobResponse struct {
	ID             int64               `json:"id"`
	Token          string              `json:"token"`
	AllowGitFetch  bool                `json:"allow_git_fetch"`
	JobInfo        jobInfo             `json:"job_info"`
	GitInfo        gitInfo             `json:"git_info"`
	RunnerInfo     runnerInfo          `json:"runner_info"`
	Inputs         struct{}            `json:"inputs"`
	Variables      civar.List          `json:"variables"`
	Steps          []step              `json:"steps"`
	Image          Image               `json:"image"`
	Services       []Image             `json:"services"`
	Artifacts      []script.Artifact   `json:"artifacts"`
	Cache          []script.Cache      `json:"cache"`
	Credentials    []Credentials       `json:"credentials"`
	Dependencies   []script.Dependency `json:"dependencies"`
	Features       features            `json:"features"`
	Hooks          []hook              `json:"hooks,omitempty"`
	PolicyOptions  policyOptions       `json:"policy_options"`
	SuspendOptions struct{}            `json:"suspend_options"`
}

type jobInfo struct {
	Name            string  `json:"name"`
	Stage           string  `json:"stage"`
	PipelineID      int64   `json:"pipeline_id"`
	ProjectID       int64   `json:"project_id"`
	ProjectName     string  `json:"project_name"`
	ProjectFullPath string  `json:"project_full_path"`
	NamespaceID     int64   `json:"namespace_id"`
	RootNamespaceID int64   `json:"root_namespace_id"`
	OrganizationID  int64   `json:"organization_id"`
	InstanceID      string  `json:"instance_id"`
	InstanceUUID    string  `json:"instance_uuid"`
	UserID          int64   `json:"user_id"`
	TimeInQueue     float64 `json:"time_in_queue_seconds"`
	JobsRunning     string  `json:"project_jobs_running_on_instance_runners_count"`
	QueueSize       int64   `json:"queue_size"`
	QueueDepth      int64   `json:"queue_depth"`
}

type gitInfo struct {
	RepoURL          string   `json:"repo_url"`
	RepoObjectFormat string   `json:"repo_object_format"`
	Ref              string   `json:"ref"`
	SHA              string   `json:"sha"`
	BeforeSHA        string   `json:"before_sha"`
	RefType          string   `json:"ref_type"`
	Refspecs         []string `json:"refspecs"`
	Depth            int      `json:"depth"`
	Protected        bool     `json:"protected"`
}

type runnerInfo struct {
	UUID    string `json:"uuid"`
	Timeout int    `json:"timeout"`
}

type step struct {
	Name         string   `json:"name"`
	Script       []string `json:"script"`
	Timeout      int      `json:"timeout"`
	When         string   `json:"when"`
	AllowFailure bool     `json:"allow_failure"`
}

type features struct {
	TraceSections     bool            `json:"trace_sections"`
	TokenMaskPrefixes []string        `json:"token_mask_prefixes"`
	FailureReasons    []FailureReason `json:"failure_reasons"`
	Tracing           *struct{}       `json:"tracing"`
}

type hook struct {
	Name   string   `json:"name"`
	Script []string `json:"script"`
}

type policyOptions struct {
	PolicyJob bool   `json:"execution_policy_job"`
	Name      string `json:"policy_name"`
}

// response puts together what GitLab would have sent.
func (t *Trial) response() *jobResponse {
	job, seconds := t.job, int(t.timeout().Seconds())
	full := t.projectPath()
	commit := t.commitPart()
	r := &jobResponse{
		ID: t.id, Token: t.token, AllowGitFetch: t.predef.Value("GIT_STRATEGY") == "fetch",
		JobInfo: jobInfo{
			Name: t.jobName(), Stage: t.stageName(), PipelineID: t.id/1000 + 1, ProjectID: t.projectID(), ProjectName: full[strings.LastIndexByte(full, '/')+1:],
			ProjectFullPath: full, NamespaceID: 1, RootNamespaceID: 1, OrganizationID: 1, UserID: 1, JobsRunning: "0",
		},
		GitInfo: gitInfo{
			RepoURL: t.repoURL(), RepoObjectFormat: orElse(job.Source.ObjectFormat, "sha1"), Ref: commit.Value("CI_COMMIT_REF_NAME"),
			SHA: commit.Value("CI_COMMIT_SHA"), BeforeSHA: commit.Value("CI_COMMIT_BEFORE_SHA"), RefType: "branch", Refspecs: job.Source.Refspecs, Depth: job.Source.Depth,
		},
		RunnerInfo: runnerInfo{Timeout: seconds}, Variables: t.predef, Image: t.image, Services: t.expandedServices(),
		Steps:     []step{{Name: "script", Script: job.Script, Timeout: seconds, When: "on_success"}},
		Artifacts: job.Artifacts, Cache: append([]script.Cache{}, job.Cache...), Credentials: append([]Credentials{}, job.Credentials...),
		Dependencies: append([]script.Dependency{}, job.Dependencies...),
		Features: features{TraceSections: true, TokenMaskPrefixes: []string{"glpat-"},
			FailureReasons: []FailureReason{"unknown_failure", ScriptFailure, RunnerSystemFailure, JobExecutionTimeout, ConfigurationError}},
	}
	if job.Source.Commit.Tag {
		r.GitInfo.RefType = "tag"
	}
	if job.Source.Kind != gitsource.Remote {
		ref := r.GitInfo.Ref
		r.GitInfo.Refspecs = []string{"+refs/heads/" + ref + ":refs/remotes/origin/" + ref}
	}
	if len(job.AfterScript) > 0 {
		r.Steps = append(r.Steps, step{Name: "after_script", Script: job.AfterScript, Timeout: seconds, When: "always", AllowFailure: true})
	}
	for name, lines := range map[string][]string{"pre_get_sources_script": job.PreGetSources, "post_get_sources_script": job.PostGetSources} {
		if len(lines) > 0 {
			r.Hooks = append(r.Hooks, hook{Name: name, Script: lines})
		}
	}
	return r
}

// expandedServices are the services with the variables in their names expanded; never nil.
func (t *Trial) expandedServices() []Image {
	out := append([]Image{}, t.job.Services...)
	vars := (&build{t: t, status: "running"}).variables()
	for i := range out {
		out[i].Name, out[i].Alias = vars.ExpandValue(out[i].Name), vars.ExpandValue(out[i].Alias)
	}
	return out
}

// writeResponse writes the job response of one attempt.
func (a *attempt) writeResponse(file string) error {
	text, err := json.Marshal(a.t.response())
	if err != nil {
		return fmt.Errorf("encoding job response file: %w", err)
	}
	if edit := a.t.opts.EditResponse; edit != nil {
		if text, err = edited(text, edit); err != nil {
			return fmt.Errorf("encoding job response file: %w", err)
		}
	}
	if err := os.WriteFile(file, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("creating job response file: %w", err)
	}
	return nil
}

func edited(text []byte, edit func(map[string]any)) ([]byte, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var response map[string]any
	if err := decoder.Decode(&response); err != nil {
		return nil, err
	}
	edit(response)
	return json.Marshal(response)
}
