// Package image finds out which image a job gets: it reads references, chooses registry credentials and applies pull policies.
//
// It calls tart only to pull; cloning is for others.
package image

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"gitlab-runner-tart-driver/internal/lazy"
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
var localName = lazy.Regexp(`^[A-Za-z0-9_][A-Za-z0-9_.:@+-]{0,127}$`)

// remoteName is Tart's grammar, where that is not stricter in the host, and with lower-case paths as registries want them: the cache is on a file
// system that does not tell cases apart. Its groups are host, path, tag and digest.
// https://github.com/openai/tart/blob/main/Sources/tart/OCI/Reference/Reference.g4
var remoteName = lazy.Regexp(`^([A-Za-z0-9]+(?:(?:[._]|-+)[A-Za-z0-9]+)*(?::[0-9]{1,5})?)` +
	`((?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)+)` + `(?::([A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?` + `(?:@(sha256:[0-9a-f]{64}))?$`)

// maxName is the longest name without tag and digest, in bytes.
const maxName = 255

// Parse reads a reference as Tart does: a name with a slash has its registry in front, one without is a local VM. There is no
// default registry.
func Parse(name string) (Reference, error) {
	if !strings.Contains(name, "/") {
		if !localName().MatchString(name) {
			return Reference{}, fmt.Errorf("%w: %.300q: expected the name of a local VM, or HOST/PATH:TAG", ErrReference, name)
		}
		return Reference{Name: name}, nil
	}
	m := remoteName().FindStringSubmatch(name)
	if m == nil || len(m[1])+len(m[2]) > maxName {
		return Reference{}, fmt.Errorf("%w: %.300q: expected HOST/PATH:TAG or HOST/PATH@sha256:DIGEST, with a path in lower case", ErrReference, name)
	}
	// Host names have no case. With one spelling for each image, no rule can be got round by another.
	host, path, tag, digest := strings.ToLower(m[1]), m[2], m[3], m[4]
	if digest != "" { // Tart knows a tag or a digest, not both
		return Reference{Name: host + path + "@" + digest, Host: host}, nil
	}
	return Reference{Name: host + path + ":" + cmp.Or(tag, "latest"), Host: host}, nil
}
