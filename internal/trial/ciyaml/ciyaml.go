// Package ciyaml reads one job out of a .gitlab-ci.yml, as far as that is possible without GitLab: anchors, extends, !reference, defaults
// and variables of the same file.
//
// What it can't honour it names as a warning; what GitLab would refuse is an error with file and line. It reads no other files and
// knows nothing of how jobs are run.
//
// Source: https://docs.gitlab.com/ci/yaml/
package ciyaml

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"gitlab-runner-tart-driver/internal/trial/civar"
)

// Job is one job with everything that is inherited and extended put in.
type Job struct {
	Name, Stage string
	// Image is nil where the job has none.
	Image    *Image
	Services []Image
	// Variables are the global ones, then the job's own.
	Variables civar.List
	// Script are the commands of before_script and of script.
	Script, AfterScript           []string
	PreGetSources, PostGetSources []string
	// Timeout is 0 where nothing is said.
	Timeout time.Duration
	// Warnings are sentences on what is not honoured, each with its line.
	Warnings []string
}

// Image is an image or a service.
type Image struct {
	Name, Alias                                  string
	Entrypoint, Command                          []string
	PullPolicy                                   []string
	Variables                                    civar.List
	DockerPlatform, DockerUser, KubernetesUserID string
}

// Error is a mistake in the file.
type Error struct {
	// File is the name of the file, Line the line counted from 1, or 0.
	File string
	Line int
	// Text says what is wrong, Hint what to do about it.
	Text, Hint string
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.File, e.Text)
	}
	return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Text)
}

// UnknownJobError says that there is no such job.
type UnknownJobError struct {
	File, Name string
	// Jobs are those that there are.
	Jobs []string
	// Included says that the file includes others, which are not read.
	Included bool
}

func (e *UnknownJobError) Error() string {
	text := fmt.Sprintf("%s: no job %q", e.File, e.Name)
	if strings.HasPrefix(e.Name, ".") {
		text = fmt.Sprintf("%s: %q is hidden, which makes it a template and not a job", e.File, e.Name)
	}
	if len(e.Jobs) > 0 {
		text += "; there are " + strings.Join(e.Jobs, ", ")
	}
	if e.Included {
		text += "; files under include: are not read"
	}
	return text
}

// File is a .gitlab-ci.yml.
type File struct {
	name     string
	root     *value
	spec     bool // the file has a header with inputs
	extended map[string]*value
	resolved int // how many values were looked at for references
}

// Load reads a file.
func Load(path string) (*File, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return Parse(path, data)
}

// Parse reads the text of a file; name is used in messages.
func Parse(name string, data []byte) (*File, error) {
	f := &File{name: name, extended: map[string]*value{}}
	var docs []*yaml.Node
	decoder := yaml.NewDecoder(strings.NewReader(string(data)))
	for {
		var doc yaml.Node
		err := decoder.Decode(&doc)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, f.syntaxError(err)
		}
		docs = append(docs, &doc)
	}
	if len(docs) == 0 {
		return nil, &Error{File: name, Text: "the file is empty"}
	}
	c := converter{file: f, done: map[*yaml.Node]*value{}}
	for i, doc := range docs {
		root, err := c.convert(doc)
		if err != nil {
			return nil, err
		}
		if root.kind != kindMap {
			return nil, &Error{File: name, Line: root.line, Text: fmt.Sprintf("the file should be a map of keywords and jobs, it is %s", root.describe())}
		}
		if i == 0 && len(docs) > 1 && root.get("spec") != nil {
			f.spec = true
			continue
		}
		f.root = root
		break
	}
	return f, nil
}

// syntaxError turns the parser's message into one with file and line.
func (f *File) syntaxError(err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	e := &Error{File: f.name, Text: text}
	if m := regexp.MustCompile(`(?s)^line (\d+): (.*)$`).FindStringSubmatch(text); m != nil {
		e.Line, _ = strconv.Atoi(m[1])
		e.Text = m[2]
	}
	if strings.Contains(text, "mapping values are not allowed") {
		e.Hint = `a ": " inside a line of a script makes it a map: put the whole line between quotes`
	}
	return e
}

func (f *File) errorf(line int, format string, args ...any) *Error {
	return &Error{File: f.name, Line: line, Text: fmt.Sprintf(format, args...)}
}

// reserved are top-level keys that are no jobs.
func reserved() []string {
	return []string{"default", "include", "stages", "variables", "workflow", "image", "services", "before_script", "after_script", "cache", "types", "spec"}
}

// JobNames returns the names of all jobs in the order of the file.
func (f *File) JobNames() []string {
	var names []string
	for _, e := range f.root.entries {
		if !strings.HasPrefix(e.key, ".") && !slices.Contains(reserved(), e.key) && e.value.kind == kindMap {
			names = append(names, e.key)
		}
	}
	return names
}

// Job returns a job by its name.
func (f *File) Job(name string) (*Job, error) {
	if !slices.Contains(f.JobNames(), name) {
		return nil, &UnknownJobError{File: f.name, Name: name, Jobs: f.JobNames(), Included: f.root.get("include") != nil}
	}
	own, err := f.extend(name, nil)
	if err != nil {
		return nil, err
	}
	b := &builder{file: f, job: &Job{Name: name, Stage: "test"}, own: own}
	if err := b.build(); err != nil {
		return nil, err
	}
	return b.job, nil
}
