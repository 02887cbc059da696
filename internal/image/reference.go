// Package image finds out which image a job gets: it reads references, chooses registry credentials and applies pull policies.
//
// It calls tart only to pull; cloning is for others.
package image

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/distribution/reference"
)

// Reference is what a job calls its image: a VM on this host, or an image in a registry.
type Reference struct {
	// Name is a local VM's name, or the registry's host, path and tag or digest, with the tag `latest` added where there is neither.
	// The registry is in lower case. It is what `tart list` shows.
	Name string
	// Host is the registry with its port; empty for a local VM.
	Host string
}

// Local tells whether the image is a VM on this host.
func (r Reference) Local() bool { return r.Host == "" }

// Repository is the name without tag and digest; all of a local VM's.
func (r Reference) Repository() string {
	if r.Local() {
		return r.Name
	}
	name, _, digested := strings.Cut(r.Name, "@")
	if at := strings.LastIndex(name, ":"); !digested && at > strings.LastIndex(name, "/") {
		name = name[:at]
	}
	return name
}

// ErrReference marks a name that is no image reference.
var ErrReference = errors.New("not an image reference")

// localName leaves out what tart or a shell might take for something else, a leading dash above all.
var localName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.:@+-]{0,127}$`)

// Parse reads a reference as Tart does: a name with a slash has its registry in front, one without is a local VM. There is no
// default registry.
// https://github.com/openai/tart/blob/main/Sources/tart/OCI/Reference/Reference.g4
func Parse(name string) (Reference, error) {
	if !strings.Contains(name, "/") {
		if !localName.MatchString(name) {
			return Reference{}, fmt.Errorf("%w: %q: expected the name of a local VM, or HOST/PATH:TAG", ErrReference, name)
		}
		return Reference{Name: name}, nil
	}
	parsed, err := reference.Parse(name)
	if err != nil {
		return Reference{}, fmt.Errorf("%w: %q: %w", ErrReference, name, err)
	}
	named, ok := parsed.(reference.Named)
	if !ok {
		return Reference{}, fmt.Errorf("%w: %q: expected HOST/PATH:TAG", ErrReference, name)
	}
	host := reference.Domain(named)
	if host == "" {
		// The grammar takes a first part without a dot for a part of the path; Tart takes it for the host.
		host, _, _ = strings.Cut(named.Name(), "/")
	}
	full := reference.TagNameOnly(named).String()
	if digested, ok := named.(reference.Digested); ok { // Tart knows a tag or a digest, not both
		full = named.Name() + "@" + digested.Digest().String()
	}
	// Host names have no case. With one spelling for each image, no rule can be got round by another.
	lower := strings.ToLower(host)
	return Reference{Name: lower + strings.TrimPrefix(full, host), Host: lower}, nil
}
