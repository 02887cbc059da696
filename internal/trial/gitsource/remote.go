package gitsource

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// lsRemoteTimeout bounds how long the host asks the remote which commit a ref is.
const lsRemoteTimeout = 15 * time.Second

// RemoteOptions are what FromURL needs to know.
type RemoteOptions struct {
	URL string
	// Ref is a branch, a tag or a full commit name; "" means the remote's default branch.
	Ref string
	// Depth is how many commits of history to fetch; 0 means all.
	Depth int
	// Environ is the environment that git gets.
	Environ []string
}

// FromURL describes a repository that the guest fetches. GitLab knows a job's commit beforehand; here the host asks the remote. Where
// it can't reach it (only the guest may), the commit stays unknown, Warnings says so, and the guest takes what the ref points to.
// A ref that the remote does not have is an error.
func FromURL(ctx context.Context, opts RemoteOptions) (*Source, error) {
	src := &Source{Kind: Remote, URL: opts.URL, Depth: opts.Depth, ObjectFormat: "sha1"}
	src.Commit.BeforeSHA = ZeroSHA
	if regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`).MatchString(opts.Ref) {
		src.Commit.SHA, src.Commit.Ref = opts.Ref, opts.Ref
		src.Refspecs = []string{"+" + opts.Ref + ":refs/remotes/origin/" + opts.Ref}
		src.formatOf(opts.Ref)
		return src, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lsRemoteTimeout)
	defer cancel()
	g := git{env: append(append([]string(nil), opts.Environ...), "GIT_TERMINAL_PROMPT=0")}
	out, err := g.run(ctx, "ls-remote", "--symref", "--", opts.URL)
	if err == nil {
		return src, src.resolve(opts.Ref, out)
	}
	src.Commit.Ref = opts.Ref
	src.Refspecs = []string{"+HEAD:refs/remotes/origin/HEAD"}
	if opts.Ref != "" {
		src.Refspecs = []string{"+refs/heads/" + opts.Ref + ":refs/remotes/origin/" + opts.Ref}
	}
	src.Warnings = append(src.Warnings, fmt.Sprintf("CI_COMMIT_SHA is unknown, the guest takes what it finds: %v", err))
	return src, nil
}

// resolve finds a ref in what "git ls-remote --symref" prints.
func (s *Source) resolve(ref, out string) error {
	refs := map[string]string{}
	for _, line := range lines(out) {
		left, name, ok := strings.Cut(line, "\t")
		if head, isSym := strings.CutPrefix(left, "ref: "); ok && isSym && name == "HEAD" {
			s.DefaultBranch = strings.TrimPrefix(head, "refs/heads/")
		} else if ok {
			refs[name] = left
		}
	}
	if ref == "" {
		if ref = s.DefaultBranch; ref == "" {
			return fmt.Errorf("%s names no default branch", s.URL)
		}
	}
	full := "refs/heads/" + ref
	if sha, ok := refs[full]; ok {
		s.Commit.SHA, s.Commit.Ref = sha, ref
		s.Refspecs = []string{"+" + full + ":refs/remotes/origin/" + ref}
		s.formatOf(sha)
		return nil
	}
	full = "refs/tags/" + ref
	sha, ok := refs[full]
	if !ok {
		return fmt.Errorf("%s has neither a branch nor a tag %q", s.URL, ref)
	}
	if peeled, ok := refs[full+"^{}"]; ok {
		sha = peeled
	}
	s.Commit.SHA, s.Commit.Ref, s.Commit.Tag = sha, ref, true
	s.Refspecs = []string{"+" + full + ":" + full}
	s.formatOf(sha)
	return nil
}

func (s *Source) formatOf(sha string) {
	if len(sha) == 64 {
		s.ObjectFormat = "sha256"
	}
}
