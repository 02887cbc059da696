package gitsource

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// MaxPack is the largest pack that travels inside a script, in bytes.
const MaxPack = 64 << 20

// TooLargeError says that the committed state does not fit into a script.
type TooLargeError struct {
	// Size and Limit are in bytes.
	Size, Limit int64
	Depth       int
}

func (e *TooLargeError) Error() string {
	history := "the whole history"
	if e.Depth > 0 {
		history = fmt.Sprintf("the last %d commits", e.Depth)
	}
	return fmt.Sprintf("%s of the repository take %d MiB packed, more than the %d MiB that can travel inside a script",
		history, (e.Size+1<<20-1)>>20, e.Limit>>20)
}

// ErrNoRepository says that a directory is not inside a git repository with at least one commit.
var ErrNoRepository = errors.New("not a git repository with a commit")

// LocalOptions are what FromDir needs to know.
type LocalOptions struct {
	// Dir is a directory inside the repository.
	Dir string
	// Depth is how many commits of history to take; 0 takes all.
	Depth int
	// Environ is the environment that git gets.
	Environ []string
	// Limit is the largest pack in bytes; 0 means MaxPack.
	Limit int64
}

// FromDir packs the committed state of HEAD of the repository around a directory. Changes that are not committed, submodules and
// LFS objects stay behind; Warnings says so. It returns ErrNoRepository where there is nothing to pack.
func FromDir(ctx context.Context, opts LocalOptions) (*Source, error) {
	repo := git{dir: opts.Dir, env: opts.Environ}
	top, err := repo.run(ctx, "rev-parse", "--show-toplevel")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoRepository, err)
	}
	repo.dir = top
	if _, err := repo.run(ctx, "rev-parse", "--verify", "--quiet", "HEAD^{commit}"); err != nil {
		return nil, fmt.Errorf("%w: %s has no commit", ErrNoRepository, top)
	}
	src := &Source{Kind: Local, Depth: opts.Depth, ObjectFormat: "sha1"}
	if src.Commit, err = repo.commit(ctx); err != nil {
		return nil, err
	}
	// the two below fail in repositories where there is no such thing, which is fine
	src.URL, _ = repo.run(ctx, "config", "--get", "remote.origin.url")
	if format, err := repo.run(ctx, "rev-parse", "--show-object-format"); err == nil {
		src.ObjectFormat = format
	}
	if head, err := repo.run(ctx, "symbolic-ref", "--short", "refs/remotes/origin/HEAD"); err == nil {
		src.DefaultBranch = strings.TrimPrefix(head, "origin/")
	}
	if src.Warnings, err = repo.leftBehind(ctx); err != nil {
		return nil, err
	}
	limit := opts.Limit
	if limit == 0 {
		limit = MaxPack
	}
	return src, repo.pack(ctx, src, limit)
}

// commit describes HEAD.
func (g git) commit(ctx context.Context) (Commit, error) {
	out, err := g.run(ctx, "log", "-1", "--no-show-signature", "--format=%H%x00%an <%ae>%x00%cI%x00%B", "HEAD")
	if err != nil {
		return Commit{}, err
	}
	fields := strings.SplitN(out, "\x00", 4)
	if len(fields) != 4 {
		return Commit{}, fmt.Errorf("git log: unexpected output %q", out)
	}
	c := Commit{SHA: fields[0], BeforeSHA: ZeroSHA, Author: fields[1], Timestamp: fields[2], Message: strings.TrimRight(fields[3], "\n")}
	if c.Ref, err = g.run(ctx, "symbolic-ref", "--quiet", "--short", "HEAD"); err == nil {
		return c, nil
	}
	if c.Ref, err = g.run(ctx, "describe", "--tags", "--exact-match", "HEAD"); err == nil {
		c.Tag = true
		return c, nil
	}
	c.Ref = c.SHA
	return c, nil
}

// leftBehind says what of the repository the job will not see.
func (g git) leftBehind(ctx context.Context) ([]string, error) {
	var warnings []string
	status, err := g.run(ctx, "status", "--porcelain")
	if err != nil {
		return nil, err
	}
	if n := len(lines(status)); n > 0 {
		warnings = append(warnings, fmt.Sprintf("the job gets the committed state: changes in %d file(s) that are not committed stay behind", n))
	}
	tree, err := g.run(ctx, "ls-tree", "--name-only", "HEAD", ".gitmodules")
	if err != nil {
		return nil, err
	}
	if tree != "" {
		warnings = append(warnings, "submodules stay behind")
	}
	if attributes, err := g.run(ctx, "show", "HEAD:.gitattributes"); err == nil && strings.Contains(attributes, "filter=lfs") {
		warnings = append(warnings, "LFS objects stay behind: the job sees their pointer files")
	}
	return warnings, nil
}

// pack fetches HEAD into a temporary repository, which cuts the history as a job's own fetch would, and reads its pack.
func (g git) pack(ctx context.Context, src *Source, limit int64) error {
	tmp, err := os.MkdirTemp("", "try-source")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if _, err := g.run(ctx, "init", "--quiet", "--bare", "--object-format="+src.ObjectFormat, tmp); err != nil {
		return err
	}
	copied := git{dir: tmp, env: g.env}
	args := []string{"fetch", "--quiet", "--no-recurse-submodules"}
	if src.Depth > 0 {
		args = append(args, "--depth", strconv.Itoa(src.Depth))
	}
	from := url.URL{Scheme: "file", Path: g.dir}
	if _, err := copied.run(ctx, append(args, from.String(), src.refspec())...); err != nil {
		return err
	}
	// a small fetch leaves loose objects, and tags that point into the history come in a pack of their own
	if _, err := copied.run(ctx, "repack", "-a", "-d", "-q"); err != nil {
		return err
	}
	if err := src.readPack(tmp, limit); err != nil {
		return err
	}
	if shallow, err := os.ReadFile(filepath.Join(tmp, "shallow")); err == nil {
		src.Shallow = strings.Fields(string(shallow))
	}
	refs, err := copied.run(ctx, "for-each-ref", "--format=%(objectname) %(refname)")
	if err != nil {
		return err
	}
	for _, line := range lines(refs) {
		sha, name, _ := strings.Cut(line, " ")
		src.Refs = append(src.Refs, Ref{Name: name, SHA: sha})
	}
	return nil
}

// refspec gives the commit the ref under which GitLab Runner would have fetched it.
func (s *Source) refspec() string {
	if s.Commit.Tag {
		tag := "refs/tags/" + s.Commit.Ref
		return "+" + tag + ":" + tag
	}
	return "+HEAD:refs/remotes/origin/" + s.Commit.Ref
}

// readPack reads the pack of a bare repository that has been repacked into one.
func (s *Source) readPack(repo string, limit int64) error {
	packs, err := filepath.Glob(filepath.Join(repo, "objects", "pack", "*.pack"))
	if err != nil {
		return err
	}
	if len(packs) != 1 {
		return fmt.Errorf("git repack left %d packs, expected one", len(packs))
	}
	info, err := os.Stat(packs[0])
	if err != nil {
		return err
	}
	if info.Size() > limit {
		return &TooLargeError{Size: info.Size(), Limit: limit, Depth: s.Depth}
	}
	s.Pack, err = os.ReadFile(packs[0])
	return err
}
