package trial

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path"
	"strings"
	"sync"

	"gitlab-runner-tart-driver/internal/trial/civar"
	"gitlab-runner-tart-driver/internal/trial/gitsource"
	"gitlab-runner-tart-driver/internal/trial/script"
)

// build is what outlives a Prepare attempt: where the job's directories are, and how far it is.
type build struct {
	t *Trial
	// rootDir is builds_dir, dir the project directory, cacheDir the project's part of cache_dir. They are empty before the first attempt
	// has got so far, which its config stage can see.
	rootDir, dir, cacheDir string
	hostname               string
	shell                  string

	// after an abort, cleanup may run beside a stage that does not end
	mu     sync.Mutex
	status string // CI_JOB_STATUS
	cached civar.List
}

// variables are all variables of the job as GitLab Runner knows them, expanded, in its order of precedence.
func (b *build) variables() civar.List {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cached != nil {
		return b.cached
	}
	t := b.t
	var list civar.List
	if t.image.Name != "" {
		list = append(list, variable("CI_JOB_IMAGE", t.image.Name))
	}
	list = append(list, b.runnerVariables()...)
	list = append(list, t.predef...)
	list = append(list, variable("CI_SHARED_ENVIRONMENT", "true"))
	list = append(list, versionVariables()...)
	list = append(list, variable("RUNNER_TEMP_PROJECT_DIR", b.dir+".tmp"))
	b.cached = list.Expand()
	return b.cached
}

// refresh makes the next call of variables see what has changed.
func (b *build) refresh() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cached = nil
}

// setStatus changes CI_JOB_STATUS for all stages to come.
func (b *build) setStatus(status string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.status, b.cached = status, nil
}

// start settles the directories of the job.
func (b *build) start(buildsDir, cacheDir string, shared bool) error {
	if buildsDir == "" {
		return &jobError{inner: errors.New("the builds_dir is not configured"), reason: ConfigurationError}
	}
	if cacheDir == "" {
		return &jobError{inner: errors.New("the cache_dir is not configured"), reason: ConfigurationError}
	}
	b.rootDir = buildsDir
	b.cacheDir = path.Join(cacheDir, b.uniqueDir(false))
	b.refresh()
	if b.variables().Value("GIT_CLONE_PATH") != "" {
		return &jobError{inner: errors.New("setting GIT_CLONE_PATH is not allowed, enable `custom_build_dir` feature"), reason: ConfigurationError}
	}
	b.dir = path.Join(buildsDir, b.uniqueDir(shared))
	b.refresh()
	return nil
}

// uniqueDir is the project's part of a path.
func (b *build) uniqueDir(shared bool) string {
	dir, ok := slugOf(b.t.repoURL())
	if !ok {
		dir = fmt.Sprintf("project-%d", b.t.projectID())
	}
	if shared {
		dir = path.Join(b.t.opts.RunnerToken, fmt.Sprint(b.t.opts.ConcurrentProjectID), dir)
	}
	if b.strategy() == "empty" {
		dir += "-empty"
	}
	return dir
}

// slugOf is the path of a repository's URL.
func slugOf(repo string) (string, bool) {
	u, err := url.Parse(repo)
	if err != nil || u.Host == "" {
		return "", false
	}
	slug := path.Clean(strings.TrimSuffix(u.Path, ".git"))
	return slug, slug != "." && !strings.Contains(slug, "..")
}

// strategy is the job's GIT_STRATEGY. Without sources there is nothing to clone.
func (b *build) strategy() string {
	strategy := b.variables().Value("GIT_STRATEGY")
	switch {
	case strategy == "none", strategy == "empty":
		return strategy
	case b.t.job.Source.Kind == gitsource.None:
		return "none"
	case strategy == "fetch":
		return strategy
	default:
		return "clone"
	}
}

// scripts collects what the scripts of the job are made from.
func (b *build) scripts() *script.Build {
	job := b.t.job
	return &script.Build{
		Shell: b.shell, Hostname: b.hostname, RootDir: b.rootDir, ProjectDir: b.dir, CacheDir: b.cacheDir, Variables: b.variables(),
		Script: job.Script, AfterScript: job.AfterScript, PreGetSources: job.PreGetSources, PostGetSources: job.PostGetSources,
		Source: job.Source, Strategy: b.strategy(), Cache: job.Cache, Artifacts: job.Artifacts, Dependencies: job.Dependencies,
		JobName: b.t.jobName(), JobID: b.t.id, Token: b.t.token, ServerURL: b.t.serverURL(),
	}
}

// services is CI_JOB_SERVICES.
//
// Source: https://docs.gitlab.com/runner/executors/custom/#services
func (b *build) services() string {
	if len(b.t.job.Services) == 0 {
		return ""
	}
	type service struct {
		Name       string            `json:"name"`
		Alias      string            `json:"alias"`
		Entrypoint []string          `json:"entrypoint"`
		Command    []string          `json:"command"`
		Variables  map[string]string `json:"variables,omitempty"`
	}
	var list []service
	for _, s := range b.t.expandedServices() {
		one := service{Name: s.Name, Entrypoint: s.Entrypoint, Command: s.Command}
		if aliases := strings.Fields(strings.ReplaceAll(s.Alias, ",", " ")); len(aliases) > 0 {
			one.Alias = aliases[0]
		}
		if len(s.Variables) > 0 {
			expanded := append(append(civar.List(nil), b.variables()...), s.Variables...).Expand()
			one.Variables = map[string]string{}
			for _, v := range s.Variables {
				one.Variables[v.Key] = expanded.Value(v.Key)
			}
		}
		list = append(list, one)
	}
	text, _ := json.Marshal(list) // strings in, strings out: there is nothing that could fail
	return string(text)
}
