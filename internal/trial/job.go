package trial

import (
	"time"

	"gitlab-runner-tart-driver/internal/trial/civar"
	"gitlab-runner-tart-driver/internal/trial/gitsource"
	"gitlab-runner-tart-driver/internal/trial/script"
)

// Job is what GitLab would send to GitLab Runner.
type Job struct {
	// Name and Stage are CI_JOB_NAME and CI_JOB_STAGE; they default to "try" and "test".
	Name, Stage string
	// Image is the job's image. An empty name means that the job has none.
	Image Image
	// Services are handed to the driver; nothing here starts them.
	Services []Image
	// Variables are those of the user: from the YAML, the project, the command line. A later one overrides an earlier one and a
	// predefined one.
	Variables civar.List
	// Script are the commands of before_script and script, AfterScript those of after_script.
	Script, AfterScript []string
	// PreGetSources and PostGetSources are the commands of "hooks:".
	PreGetSources, PostGetSources []string
	// Timeout is the job's timeout, at least one second; 0 means one hour.
	Timeout time.Duration
	// Source is where the sources come from. The zero value makes a job with GIT_STRATEGY "none".
	Source gitsource.Source
	// Project describes the project.
	Project Project
	// Credentials are for registries.
	Credentials []Credentials
	// Cache, Artifacts and Dependencies make GitLab Runner call itself inside the guest.
	Cache        []script.Cache
	Artifacts    []script.Artifact
	Dependencies []script.Dependency
}

// Project describes a project the way GitLab's CI_PROJECT_* and CI_SERVER_* variables do.
type Project struct {
	// ID is the project's number; 0 means 1.
	ID int64
	// Path is "group/name"; "" means "try/job".
	Path string
	// ServerURL is the address of GitLab; "" means "https://gitlab.invalid", a name that never resolves.
	ServerURL string
	// DefaultBranch is the project's default branch; "" means "main".
	DefaultBranch string
	// ConfigPath is the path of the YAML file in the project; "" means ".gitlab-ci.yml".
	ConfigPath string
}

// Image is an image or a service of a job. JSON names are those of GitLab Runner's job response.
type Image struct {
	Name       string   `json:"name"`
	Alias      string   `json:"alias,omitempty"`
	Command    []string `json:"command,omitempty"`
	Entrypoint []string `json:"entrypoint,omitempty"`
	// Variables are those of a service.
	Variables  civar.List `json:"variables,omitempty"`
	PullPolicy []string   `json:"pull_policy,omitempty"`
	// ExecutorOpts is "docker" and "kubernetes" of the image. GitLab Runner always sends it.
	ExecutorOpts ExecutorOpts `json:"executor_opts"`
}

// ExecutorOpts are options of an image for one kind of executor.
type ExecutorOpts struct {
	Docker     DockerOpts     `json:"docker"`
	Kubernetes KubernetesOpts `json:"kubernetes"`
}

// DockerOpts are options of an image for the Docker executor.
type DockerOpts struct {
	Platform string `json:"platform"`
	User     string `json:"user"`
}

// KubernetesOpts are options of an image for the Kubernetes executor.
type KubernetesOpts struct {
	User string `json:"user"`
}

// Credentials let the driver use a registry.
type Credentials struct {
	Type     string `json:"type"`
	URL      string `json:"url"`
	Username string `json:"username"`
	Password string `json:"password"`
}
