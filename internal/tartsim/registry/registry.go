// Package registry is the stand-in's OCI registry: repositories described by files, which no network is needed for. It knows what a
// repository offers, to whom, and how it fails. What `tart pull` prints and does with it is not its business.
package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"gitlab-runner-tart-driver/internal/tartsim/simconf"
	"gitlab-runner-tart-driver/internal/tartsim/tarthome"
)

// Repository is one file in the registry's directory.
type Repository struct {
	Host      string            `json:"host"`
	Namespace string            `json:"namespace"`
	Tags      map[string]string `json:"tags"` // to digests
	Images    map[string]Image  `json:"images"`
	// Username and Password are needed to pull and push; without a username anybody may.
	Username string           `json:"username,omitempty"`
	Password string           `json:"password,omitempty"`
	Duration simconf.Duration `json:"pull_duration,omitempty"`
	Failures []Failure        `json:"failures,omitempty"`

	path string
}

// Image is what a digest stands for.
type Image struct {
	// Template is a directory like a VM's, relative to the registry's directory.
	Template string `json:"template"`
	// Size is what a pull says it downloads, in bytes.
	Size int64 `json:"size"`
}

// Failure is one way a repository fails. One of Status and DropAt is set.
type Failure struct {
	ID string `json:"id,omitempty"`
	// When is "pulling manifest" (default), "pulling blob", "doing ping" or "pushing manifest".
	When    string `json:"when,omitempty"`
	Status  int    `json:"status,omitempty"` // HTTP status
	Details string `json:"details,omitempty"`
	DropAt  int    `json:"drop_at,omitempty"` // the network connection breaks at this percentage of the disk
	Times   int    `json:"times,omitempty"`   // how often; 0: always
	Skip    int    `json:"skip,omitempty"`
}

func (f Failure) when() string {
	if f.When == "" {
		return "pulling manifest"
	}
	return f.When
}

// Registry is a directory of repositories.
type Registry struct {
	Dir  string // of the repositories' files
	Home string // TART_HOME, for the failures' counters
}

// List reads all repositories.
func (r Registry) List() ([]*Repository, error) {
	var all []*Repository
	err := filepath.WalkDir(r.Dir, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case entry.IsDir() && entry.Name() == templatesName:
			return fs.SkipDir
		case entry.IsDir() || filepath.Ext(path) != ".json":
			return nil
		}
		repository, err := load(path)
		if err != nil {
			return err
		}
		all = append(all, repository)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	return all, nil
}

// templatesName is the directory of images made by the stand-in, inside the registry's.
const templatesName = "templates"

func load(path string) (*Repository, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	repository, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	repository.path = path
	return repository, nil
}

// Parse reads a repository's file and checks that its parts fit together.
func Parse(data []byte) (*Repository, error) {
	var r Repository
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, err
	}
	if _, err := tarthome.ParseRemoteName(r.Host + "/" + r.Namespace); err != nil {
		return nil, fmt.Errorf("host %q, namespace %q: %w", r.Host, r.Namespace, err)
	}
	for tag, digest := range r.Tags {
		if _, known := r.Images[digest]; !known {
			return nil, fmt.Errorf("tag %q: no image %q", tag, digest)
		}
	}
	for digest := range r.Images {
		if !strings.HasPrefix(digest, "sha256:") {
			return nil, fmt.Errorf("image %q: want a digest \"sha256:...\"", digest)
		}
	}
	return &r, nil
}

// Find returns the repository of a name. Whether the host exists at all is told apart: an unknown host is a network error.
func (r Registry) Find(name tarthome.RemoteName) (repository *Repository, hostKnown bool, err error) {
	all, err := r.List()
	if err != nil {
		return nil, false, err
	}
	for _, candidate := range all {
		if candidate.Host != name.Host {
			continue
		}
		hostKnown = true
		if candidate.Namespace == name.Namespace {
			return candidate, true, nil
		}
	}
	return nil, hostKnown, nil
}

// Resolve finds the digest and image of a reference.
func (r *Repository) Resolve(name tarthome.RemoteName) (string, Image, bool) {
	digest := name.Digest
	if digest == "" {
		digest = r.Tags[name.Tag]
	}
	image, found := r.Images[digest]
	return digest, image, found
}

// Allows checks credentials.
func (r *Repository) Allows(user, password string) bool {
	return r.Username == "" || user == r.Username && password == r.Password
}

// Failing returns the failure that happens now in a phase, if any, and counts the occurrence.
func (r Registry) Failing(repository *Repository, when string) (*Failure, error) {
	for i := range repository.Failures {
		failure := repository.Failures[i]
		if failure.when() != when || failure.Status == 0 {
			continue
		}
		if happens, err := r.happens(repository, i); err != nil || happens {
			return &failure, err
		}
	}
	return nil, nil
}

// Drops tells whether the connection breaks at a percentage of the disk, and counts the occurrence.
func (r Registry) Drops(repository *Repository, percent int) (bool, error) {
	for i := range repository.Failures {
		if at := repository.Failures[i].DropAt; at > 0 && percent == at {
			return r.happens(repository, i)
		}
	}
	return false, nil
}

func (r Registry) happens(repository *Repository, i int) (bool, error) {
	failure := repository.Failures[i]
	id := failure.ID
	if id == "" {
		id = fmt.Sprintf("registry|%s/%s|%d|%d|%d", repository.Host, repository.Namespace, i, failure.Status, failure.DropAt)
	}
	return simconf.Occurs(r.Home, id, failure.Skip, failure.Times)
}
