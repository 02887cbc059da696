package trial

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"path"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"

	"gitlab-runner-tart-driver/internal/trial/civar"
	"gitlab-runner-tart-driver/internal/trial/gitsource"
)

// runnerVersion is the version of GitLab Runner whose ways are reproduced; serverVersion is that of GitLab.
const (
	runnerVersion = "19.3.0"
	serverVersion = "19.3.0"
)

// identify gives the job a number and a token that no other job on this machine has.
func (t *Trial) identify() error {
	if t.id == 0 {
		const low, high = 100_000_000, 999_999_999_999
		n, err := rand.Int(rand.Reader, big.NewInt(high-low+1))
		if err != nil {
			return fmt.Errorf("job number: %w", err)
		}
		t.id = low + n.Int64()
	}
	if t.token == "" {
		random := make([]byte, 15)
		if _, err := rand.Read(random); err != nil {
			return fmt.Errorf("job token: %w", err)
		}
		t.token = "glcbt-" + base64.RawURLEncoding.EncodeToString(random)
	}
	return nil
}

func orElse[T comparable](value, otherwise T) T {
	var zero T
	if value == zero {
		return otherwise
	}
	return value
}

func (t *Trial) jobName() string     { return orElse(t.job.Name, "try") }
func (t *Trial) stageName() string   { return orElse(t.job.Stage, "test") }
func (t *Trial) projectID() int64    { return orElse(t.job.Project.ID, 1) }
func (t *Trial) projectPath() string { return orElse(t.job.Project.Path, "try/job") }
func (t *Trial) serverURL() string {
	return strings.TrimRight(orElse(t.job.Project.ServerURL, "https://gitlab.invalid"), "/")
}

// repoURL is the address of the repository in the form that GitLab sends.
func (t *Trial) repoURL() string {
	if t.job.Source.Kind == gitsource.Remote {
		return t.job.Source.URL
	}
	u, err := url.Parse(t.serverURL() + "/" + t.projectPath() + ".git")
	if err != nil {
		return t.serverURL() + "/" + t.projectPath() + ".git"
	}
	u.User = url.UserPassword("gitlab-ci-token", t.token)
	return u.String()
}

func urlPassword(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.User == nil {
		return ""
	}
	password, _ := u.User.Password()
	return password
}

// serverVariables are the variables that GitLab would send: predefined ones, then the user's, those that refer to others resolved.
//
// Source: https://docs.gitlab.com/ci/variables/predefined_variables/
func (t *Trial) serverVariables() (civar.List, error) {
	list := t.serverPart()
	list = append(list, t.pipelinePart()...)
	list = append(list, t.projectPart()...)
	list = append(list, t.commitPart()...)
	list = append(list, t.job.Variables...)
	if strategy := list.Value("GIT_STRATEGY"); t.job.Source.Kind == gitsource.None && strategy != "empty" {
		list = append(list, variable("GIT_STRATEGY", "none"))
	}
	list, err := list.Merge(nil).Nested()
	if err != nil {
		return nil, err
	}
	t.predef, t.image = list, t.job.Image
	t.image.Name = (&build{t: t, status: "running"}).variables().ExpandValue(t.image.Name)
	return list, nil
}

func (t *Trial) serverPart() civar.List {
	server := t.serverURL()
	u, err := url.Parse(server)
	if err != nil {
		u = &url.URL{}
	}
	port := orElse(u.Port(), map[string]string{"https": "443", "http": "80"}[u.Scheme])
	fqdn := u.Hostname()
	if u.Port() != "" {
		fqdn = net.JoinHostPort(fqdn, u.Port())
	}
	parts := strings.SplitN(serverVersion, ".", 3)
	return civar.List{
		variable("CI", "true"), variable("GITLAB_CI", "true"), variable("GITLAB_FEATURES", ""),
		variable("CI_SERVER_URL", server), variable("CI_SERVER_HOST", u.Hostname()), variable("CI_SERVER_PORT", port),
		variable("CI_SERVER_PROTOCOL", u.Scheme), variable("CI_SERVER_FQDN", fqdn), variable("CI_SERVER_NAME", "GitLab"),
		variable("CI_SERVER_VERSION", serverVersion), variable("CI_SERVER_VERSION_MAJOR", parts[0]), variable("CI_SERVER_VERSION_MINOR", parts[1]),
		variable("CI_SERVER_VERSION_PATCH", parts[2]), variable("CI_SERVER_REVISION", "0000000"),
		variable("CI_API_V4_URL", server+"/api/v4"), variable("CI_API_GRAPHQL_URL", server+"/api/graphql"),
	}
}

func (t *Trial) pipelinePart() civar.List {
	id, now := strconv.FormatInt(t.id, 10), t.started.UTC().Format(time.RFC3339)
	project := t.serverURL() + "/" + t.projectPath()
	secret := func(key, value string) civar.Variable { return civar.Variable{Key: key, Value: value, Masked: true} }
	return civar.List{
		variable("CI_PIPELINE_ID", t.pipelineID()), variable("CI_PIPELINE_IID", "1"), variable("CI_PIPELINE_URL", project+"/-/pipelines/"+t.pipelineID()),
		variable("CI_PIPELINE_SOURCE", "web"), variable("CI_PIPELINE_NAME", ""), variable("CI_PIPELINE_CREATED_AT", now),
		variable("CI_JOB_ID", id), variable("CI_JOB_URL", project+"/-/jobs/"+id), secret("CI_JOB_TOKEN", t.token), variable("CI_JOB_STARTED_AT", now),
		variable("CI_JOB_NAME", t.jobName()), variable("CI_JOB_NAME_SLUG", slug(t.jobName())), variable("CI_JOB_STAGE", t.stageName()), variable("CI_NODE_TOTAL", "1"),
		variable("CI_RUNNER_ID", "1"), variable("CI_RUNNER_DESCRIPTION", "try"), variable("CI_RUNNER_TAGS", "[]"),
		{Key: "CI_REPOSITORY_URL", Value: t.repoURL()},
		variable("GITLAB_USER_ID", "1"), variable("GITLAB_USER_LOGIN", "try"), variable("GITLAB_USER_NAME", "try"), variable("GITLAB_USER_EMAIL", "try@localhost.invalid"),
	}
}

// pipelineID is the number of the made-up pipeline.
func (t *Trial) pipelineID() string { return strconv.FormatInt(t.id/1000+1, 10) }

func (t *Trial) projectPart() civar.List {
	full := t.projectPath()
	namespace, name := path.Split(full)
	namespace = strings.TrimSuffix(namespace, "/")
	root, _, _ := strings.Cut(namespace, "/")
	return civar.List{
		variable("CI_PROJECT_ID", strconv.FormatInt(t.projectID(), 10)), variable("CI_PROJECT_NAME", name), variable("CI_PROJECT_TITLE", name),
		variable("CI_PROJECT_DESCRIPTION", ""), variable("CI_PROJECT_PATH", full), variable("CI_PROJECT_PATH_SLUG", slug(full)),
		variable("CI_PROJECT_NAMESPACE", namespace), variable("CI_PROJECT_NAMESPACE_ID", "1"), variable("CI_PROJECT_NAMESPACE_SLUG", slug(namespace)),
		variable("CI_PROJECT_ROOT_NAMESPACE", root), variable("CI_PROJECT_URL", t.serverURL()+"/"+full), variable("CI_PROJECT_VISIBILITY", "private"),
		variable("CI_PROJECT_REPOSITORY_LANGUAGES", ""), variable("CI_DEFAULT_BRANCH", t.defaultBranch()),
		variable("CI_CONFIG_PATH", orElse(t.job.Project.ConfigPath, ".gitlab-ci.yml")),
	}
}

func (t *Trial) defaultBranch() string {
	return orElse(t.job.Project.DefaultBranch, orElse(t.job.Source.DefaultBranch, "main"))
}

func (t *Trial) commitPart() civar.List {
	c := t.job.Source.Commit
	sha, ref := orElse(c.SHA, gitsource.ZeroSHA), orElse(c.Ref, t.defaultBranch())
	list := civar.List{
		variable("CI_COMMIT_SHA", sha), variable("CI_COMMIT_SHORT_SHA", sha[:min(8, len(sha))]), variable("CI_COMMIT_BEFORE_SHA", orElse(c.BeforeSHA, gitsource.ZeroSHA)),
		variable("CI_COMMIT_REF_NAME", ref), variable("CI_COMMIT_REF_SLUG", slug(ref)), variable("CI_COMMIT_REF_PROTECTED", "false"),
		variable("CI_COMMIT_MESSAGE", c.Message), variable("CI_COMMIT_TITLE", c.Title()), variable("CI_COMMIT_DESCRIPTION", c.Description()),
		variable("CI_COMMIT_AUTHOR", c.Author), variable("CI_COMMIT_TIMESTAMP", c.Timestamp),
	}
	if c.Tag {
		return append(list, variable("CI_COMMIT_TAG", ref), variable("CI_COMMIT_TAG_MESSAGE", ""))
	}
	return append(list, variable("CI_COMMIT_BRANCH", ref))
}

// runnerVariables are GitLab Runner's own, which come before the job's and can be overridden by it.
func (b *build) runnerVariables() civar.List {
	return civar.List{
		variable("CI_RUNNER_SHORT_TOKEN", b.t.opts.RunnerToken),
		variable("CI_BUILDS_DIR", b.rootDir), variable("CI_PROJECT_DIR", b.dir),
		variable("CI_CONCURRENT_ID", strconv.Itoa(b.t.opts.ConcurrentID)), variable("CI_CONCURRENT_PROJECT_ID", strconv.Itoa(b.t.opts.ConcurrentProjectID)),
		variable("CI_SERVER", "yes"), variable("CI_JOB_STATUS", b.status),
		variable("CI_JOB_TIMEOUT", strconv.Itoa(int(b.t.timeout().Seconds()))),
	}
}

func versionVariables() civar.List {
	return civar.List{
		variable("CI_RUNNER_VERSION", runnerVersion), variable("CI_RUNNER_REVISION", "HEAD"),
		variable("CI_RUNNER_EXECUTABLE_ARCH", runtime.GOOS+"/"+runtime.GOARCH),
	}
}

// slug is a name in lower case with a dash for everything else, at most 63 characters long, without dashes at its ends.
//
// Source: CI_COMMIT_REF_SLUG in https://docs.gitlab.com/ci/variables/predefined_variables/
func slug(name string) string {
	dashed := regexp.MustCompile(`[^a-z0-9]`).ReplaceAllString(strings.ToLower(name), "-")
	return strings.Trim(dashed[:min(63, len(dashed))], "-")
}
