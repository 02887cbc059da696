// Package plan turns what a person asks for into a job that can be tried: an image and a command, or a job of a .gitlab-ci.yml, together
// with variables and the sources of the repository they stand in.
//
// It reads files and asks git; it starts no stage.
package plan

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"gitlab-runner-tart-driver/internal/trial"
	"gitlab-runner-tart-driver/internal/trial/civar"
	"gitlab-runner-tart-driver/internal/trial/ciyaml"
	"gitlab-runner-tart-driver/internal/trial/gitsource"
	"gitlab-runner-tart-driver/internal/trial/script"
)

// DefaultFile is the file in which GitLab looks for jobs.
const DefaultFile = ".gitlab-ci.yml"

// Request is what a person asks for.
type Request struct {
	// Image is the image; with JobName it replaces that of the job.
	Image string
	// JobName is a job of File ("" means DefaultFile in Dir).
	JobName, File string
	// Command is what to run when there is no JobName: one word is a line of script as it is, several are a command and its arguments.
	Command []string
	// After are lines of after_script.
	After []string
	// Variables are "NAME=VALUE", or "NAME" for the value in Environ; FileVariables are "NAME=PATH".
	Variables, FileVariables []string
	// Repo is a repository for the guest to fetch, Ref a branch, a tag or a commit of it.
	Repo, Ref string
	// NoSources starts with an empty project directory.
	NoSources bool
	// Timeout replaces that of the job; 0 keeps it.
	Timeout time.Duration
	// Dir is the current directory, Environ the environment.
	Dir     string
	Environ []string
}

// Plan is a job to try, and what to say beforehand.
type Plan struct {
	Job      *trial.Job
	Warnings []string
}

// UsageError is a request that can't be fulfilled as it stands.
type UsageError struct {
	Err  error
	Hint string
}

func (e *UsageError) Error() string { return e.Err.Error() }
func (e *UsageError) Unwrap() error { return e.Err }

func usage(hint, format string, args ...any) error {
	return &UsageError{Err: fmt.Errorf(format, args...), Hint: hint}
}

// Make puts a plan together.
func Make(ctx context.Context, r Request) (*Plan, error) {
	if r.Timeout < 0 || r.Timeout > 0 && r.Timeout < time.Second {
		return nil, usage("", "--timeout %v is less than a second", r.Timeout)
	}
	p := &Plan{Job: &trial.Job{Timeout: r.Timeout}}
	dir := r.Dir
	var err error
	if r.JobName != "" {
		dir, err = p.fromFile(r)
	} else {
		err = p.fromCommand(r)
	}
	if err != nil {
		return nil, err
	}
	own, err := r.variables()
	if err != nil {
		return nil, err
	}
	p.Job.Variables = append(p.Job.Variables, own...)
	if err := p.addSources(ctx, r, dir); err != nil {
		return nil, err
	}
	p.Job.Project = projectOf(p.Job.Source.URL, dir)
	if r.JobName != "" {
		p.Job.Project.ConfigPath = filepath.Base(r.file())
	}
	return p, nil
}

func (p *Plan) fromCommand(r Request) error {
	switch {
	case r.Image == "":
		return usage("name one with --image, or a job of .gitlab-ci.yml with --job", "no image")
	case r.File != "":
		return usage("name a job of it with --job", "--file without --job")
	case len(r.Command) == 0:
		return usage("put it behind --, as in: try --image IMAGE -- make test", "no command")
	}
	p.Job.Image.Name = r.Image
	p.Job.Script = []string{commandLine(r.Command)}
	p.Job.AfterScript = r.After
	return nil
}

// commandLine makes one line of script from the words of a command.
func commandLine(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = script.QuoteWord(word)
	}
	return strings.Join(quoted, " ")
}

func (r Request) file() string {
	file := r.File
	if file == "" {
		file = DefaultFile
	}
	if !filepath.IsAbs(file) {
		file = filepath.Join(r.Dir, file)
	}
	return file
}

// fromFile reads the job and returns the directory of its file.
func (p *Plan) fromFile(r Request) (dir string, err error) {
	if len(r.Command) > 0 || len(r.After) > 0 {
		return "", usage("", "a job has its own script: leave the command and --after away")
	}
	path := r.file()
	f, err := ciyaml.Load(path)
	if err != nil {
		return "", inFile(err)
	}
	j, err := f.Job(r.JobName)
	if err != nil {
		return "", inFile(err)
	}
	p.Warnings = append(p.Warnings, j.Warnings...)
	p.Job.Name, p.Job.Stage, p.Job.Variables = j.Name, j.Stage, j.Variables
	p.Job.Script, p.Job.AfterScript = j.Script, j.AfterScript
	p.Job.PreGetSources, p.Job.PostGetSources = j.PreGetSources, j.PostGetSources
	if p.Job.Timeout == 0 {
		p.Job.Timeout = j.Timeout
	}
	if j.Image != nil {
		p.Job.Image = image(*j.Image)
	}
	for _, s := range j.Services {
		p.Job.Services = append(p.Job.Services, image(s))
	}
	if r.Image != "" {
		p.Job.Image.Name = r.Image
	}
	if p.Job.Image.Name == "" {
		p.Warnings = append(p.Warnings, fmt.Sprintf("job %q has no image; name one with --image if the driver has no default", j.Name))
	}
	return filepath.Dir(path), nil
}

func inFile(err error) error {
	hint := ""
	var mistake *ciyaml.Error
	switch {
	case errors.As(err, &mistake):
		hint = mistake.Hint
	case errors.Is(err, os.ErrNotExist):
		hint = "name the file with --file"
	}
	return &UsageError{Err: err, Hint: hint}
}

func image(i ciyaml.Image) trial.Image {
	return trial.Image{
		Name: i.Name, Alias: i.Alias, Command: i.Command, Entrypoint: i.Entrypoint, Variables: i.Variables, PullPolicy: i.PullPolicy,
		ExecutorOpts: trial.ExecutorOpts{
			Docker:     trial.DockerOpts{Platform: i.DockerPlatform, User: i.DockerUser},
			Kubernetes: trial.KubernetesOpts{User: i.KubernetesUserID},
		},
	}
}

// variables reads the variables of the command line. They count like those of a pipeline that is started by hand.
func (r Request) variables() (civar.List, error) {
	var list civar.List
	for _, arg := range r.Variables {
		key, value, given := strings.Cut(arg, "=")
		if !civar.ValidKey(key) {
			return nil, usage("write NAME=VALUE, or NAME for its value in the environment", "--variable %q: no shell can have a variable of that name", arg)
		}
		if !given {
			i := slices.IndexFunc(r.Environ, func(e string) bool { return strings.HasPrefix(e, key+"=") })
			if i < 0 {
				return nil, usage("", "--variable %s: it is not in the environment", key)
			}
			value = strings.TrimPrefix(r.Environ[i], key+"=")
		}
		// a value that comes from the environment is meant as it is
		list = append(list, civar.Variable{Key: key, Value: value, Public: given, Raw: !given})
	}
	for _, arg := range r.FileVariables {
		key, path, given := strings.Cut(arg, "=")
		if !given || !civar.ValidKey(key) {
			return nil, usage("", "--file-variable %q: write NAME=PATH", arg)
		}
		if !filepath.IsAbs(path) {
			path = filepath.Join(r.Dir, path)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, usage("", "--file-variable %s: %w", key, err)
		}
		list = append(list, civar.Variable{Key: key, Value: string(content), File: true, Raw: true})
	}
	return list, nil
}

// addSources finds out which sources the job gets.
func (p *Plan) addSources(ctx context.Context, r Request, dir string) error {
	if r.Ref != "" && r.Repo == "" {
		return usage("name the repository with --repo", "--ref without --repo")
	}
	strategy := p.Job.Variables.Value("GIT_STRATEGY")
	if r.NoSources || strategy == "none" || strategy == "empty" {
		if r.Repo != "" {
			return usage("", "--repo with --no-sources or GIT_STRATEGY %q", strategy)
		}
		return nil
	}
	depth := p.Job.Variables.Int("GIT_DEPTH", gitsource.DefaultDepth)
	var src *gitsource.Source
	var err error
	if r.Repo != "" {
		src, err = gitsource.FromURL(ctx, gitsource.RemoteOptions{URL: r.Repo, Ref: r.Ref, Depth: depth, Environ: r.Environ})
	} else {
		src, err = gitsource.FromDir(ctx, gitsource.LocalOptions{Dir: dir, Depth: depth, Environ: r.Environ})
	}
	var large *gitsource.TooLargeError
	switch {
	case errors.As(err, &large):
		return &UsageError{Err: err, Hint: "let the guest fetch it with --repo URL, take less history with --variable GIT_DEPTH=1, or none of it with --no-sources"}
	case errors.Is(err, gitsource.ErrNoRepository):
		if r.JobName != "" {
			p.Warnings = append(p.Warnings, fmt.Sprintf("the job gets no sources: %v", err))
		}
		return nil
	case err != nil:
		return &UsageError{Err: fmt.Errorf("sources: %w", err), Hint: "--no-sources does without"}
	}
	p.Job.Source = *src
	p.Warnings = append(p.Warnings, src.Warnings...)
	return nil
}

// projectOf describes the project by the address of its repository, or else by its directory.
func projectOf(repo, dir string) trial.Project {
	host, path := "", ""
	if m := regexp.MustCompile(`^(?:[^@/:]+@)?([^/:]+):([^/].*)$`).FindStringSubmatch(repo); m != nil && !strings.Contains(repo, "://") {
		host, path = "https://"+m[1], m[2]
	} else if u, err := url.Parse(repo); err == nil && u.Host != "" {
		switch path = strings.TrimPrefix(u.Path, "/"); u.Scheme {
		case "http", "https":
			host = u.Scheme + "://" + u.Host
		case "ssh", "git":
			host = "https://" + u.Hostname()
		}
	}
	path = strings.TrimSuffix(strings.TrimSuffix(path, "/"), ".git")
	if host == "" || !strings.Contains(path, "/") || strings.Contains(path, "..") {
		name := strings.Trim(regexp.MustCompile(`[^A-Za-z0-9_.-]+`).ReplaceAllString(filepath.Base(dir), "-"), "-.")
		if name == "" {
			name = "job"
		}
		return trial.Project{Path: "try/" + name}
	}
	return trial.Project{ServerURL: host, Path: path}
}
