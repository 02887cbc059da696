// Package gitsource finds out which sources a job gets: the committed state of a local repository, packed so that it can travel
// inside a script, or a repository that the guest clones by itself.
//
// It runs git on the host, and only reads. It knows nothing of scripts or of GitLab Runner.
package gitsource

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// Kind says where a job's sources come from.
type Kind int

const (
	// None means that the project directory starts out empty.
	None Kind = iota
	// Local means that the sources travel inside the script (Pack).
	Local
	// Remote means that the guest fetches URL.
	Remote
)

// DefaultDepth is the number of commits that GitLab lets a job fetch unless the project says otherwise.
//
// Source: https://docs.gitlab.com/ci/pipelines/settings/#limit-the-number-of-changes-fetched-during-clone
const DefaultDepth = 20

// ZeroSHA stands for a commit that is not known.
const ZeroSHA = "0000000000000000000000000000000000000000"

// Source is where a job's sources come from, and which commit it is.
type Source struct {
	Kind Kind
	// URL is what the guest fetches (Remote), or the local repository's "origin", if it has one (Local).
	URL string
	// Commit describes the commit that is checked out. For Remote only SHA and the names of the ref may be known.
	Commit Commit
	// Refspecs is what the guest fetches (Remote).
	Refspecs []string
	// Depth is the number of commits of history; 0 means all of it.
	Depth int
	// ObjectFormat is "sha1" or "sha256".
	ObjectFormat string
	// Pack is a git pack with all objects of the commit and of its history down to Depth (Local).
	Pack []byte
	// Shallow are the commits at which the packed history ends (Local).
	Shallow []string
	// Refs are the refs of the packed repository (Local).
	Refs []Ref
	// DefaultBranch is the branch that "origin" names as its default, "" where it is not known.
	DefaultBranch string
	// Warnings are sentences on what the job's sources lack.
	Warnings []string
}

// Ref is a name for an object.
type Ref struct{ Name, SHA string }

// Commit describes a commit the way GitLab's CI_COMMIT_* variables do.
type Commit struct {
	SHA, BeforeSHA string
	// Ref is the name of the branch or tag without "refs/…/".
	Ref string
	// Tag says that Ref is a tag.
	Tag bool
	// Message is the whole message; Author is "Name <address>"; Timestamp is in ISO 8601 form.
	Message, Author, Timestamp string
}

// Title returns the first line of the message.
func (c Commit) Title() string {
	title, _, _ := strings.Cut(c.Message, "\n")
	return title
}

// Description returns the message without its first line.
func (c Commit) Description() string {
	_, rest, _ := strings.Cut(c.Message, "\n")
	return strings.TrimLeft(rest, "\n")
}

// ShortSHA returns the first eight characters of the commit's name.
func (c Commit) ShortSHA() string {
	if len(c.SHA) < 8 {
		return c.SHA
	}
	return c.SHA[:8]
}

// git runs git and returns what it prints, without the final line break.
type git struct {
	dir string
	env []string
}

func (g git) run(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = g.dir
	cmd.Env = g.env
	out, err := cmd.Output()
	if err == nil {
		return strings.TrimRight(string(out), "\n"), nil
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && len(exit.Stderr) > 0 {
		return "", fmt.Errorf("git %s: %s", args[0], strings.TrimSpace(string(exit.Stderr)))
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return "", fmt.Errorf("git %s: %w", args[0], err)
}

// lines splits the output of git into its lines.
func lines(out string) []string {
	if out == "" {
		return nil
	}
	return strings.Split(out, "\n")
}
