package tarthome

import (
	"regexp"
	"strconv"
	"strings"
)

// RemoteName is the name of an image in a registry.
type RemoteName struct {
	Host      string // with the port, if any
	Namespace string
	Tag       string // one of Tag and Digest is set
	Digest    string // "sha256:" and hex digits
}

const (
	wordPattern      = `[A-Za-z0-9]+`
	hostPattern      = wordPattern + `(?:-` + wordPattern + `)*(?:\.` + wordPattern + `(?:-` + wordPattern + `)*)*`
	namespacePattern = `(?:` + wordPattern + `[._-]?)+(?:/(?:` + wordPattern + `[._-]?)+)*`
	tagPattern       = wordPattern + `(?:[._-]` + wordPattern + `)*`
	digestPattern    = wordPattern + `:` + wordPattern
)

// remotePattern is tart's own grammar: stricter than that of distribution/reference in the host, laxer in the case of letters.
var remotePattern = regexp.MustCompile(`^(` + hostPattern + `(?::[0-9]+)?)/(` + namespacePattern + `)(?::(` + tagPattern + `)|@(` + digestPattern + `))?$`)

// ParseRemoteName parses a name as tart does: any name with a slash that fits is a remote one, even "foo/bar".
func ParseRemoteName(text string) (RemoteName, error) {
	match := remotePattern.FindStringSubmatch(text)
	if match == nil {
		return RemoteName{}, Failure("failed to parse remote name: %s", grammarComplaint(text))
	}
	name := RemoteName{Host: match[1], Namespace: match[2], Tag: match[3], Digest: match[4]}
	if name.Digest != "" && !strings.HasPrefix(name.Digest, "sha256:") {
		return RemoteName{}, Failure("failed to parse remote name: unknown reference format")
	}
	if name.Tag == "" && name.Digest == "" {
		name.Tag = "latest"
	}
	return name, nil
}

// grammarComplaint words the failure like the parser generator tart uses; only the common case is exact.
func grammarComplaint(text string) string {
	if !strings.Contains(text, "/") {
		return "mismatched input '<EOF>' expecting '/' (character " + itoa(len(text)+1) + ")"
	}
	for i, r := range text {
		if r > 127 || !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_/:@", r) {
			return "token recognition error at: '" + string(r) + "' (character " + itoa(i+1) + ")"
		}
	}
	return "extraneous input (character " + itoa(len(text)) + ")"
}

func (n RemoteName) String() string { return n.Host + "/" + n.Namespace + n.reference() }

func (n RemoteName) reference() string {
	if n.Digest != "" {
		return "@" + n.Digest
	}
	return ":" + n.Tag
}

// Reference is the tag or digest alone.
func (n RemoteName) Reference() string {
	if n.Digest != "" {
		return n.Digest
	}
	return n.Tag
}

// WithDigest is the same repository's image of that digest.
func (n RemoteName) WithDigest(digest string) RemoteName {
	return RemoteName{Host: n.Host, Namespace: n.Namespace, Digest: digest}
}

func itoa(n int) string { return strconv.Itoa(n) }
