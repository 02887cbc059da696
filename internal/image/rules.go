package image

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/bmatcuk/doublestar/v4"

	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/settings"
)

// Rules say which images the operator lets jobs have.
type Rules struct {
	// Allow are patterns; without any, every image is allowed. ** stands for any number of path parts.
	Allow []string
	// AllowOrigin says who set Allow.
	AllowOrigin string
	// Exclude are searched for in an image's name, and come before Allow.
	Exclude       []*regexp.Regexp
	ExcludeOrigin string
	// Default is the image of jobs that name none. Allow need not have it.
	Default string
}

// NewRules takes the rules from the settings.
func NewRules(s *settings.Settings) Rules {
	return Rules{
		Allow: s.AllowImages, AllowOrigin: string(s.Origin("allow-image")),
		Exclude: s.ExcludeImages, ExcludeOrigin: string(s.Origin("exclude-image-expr")), Default: s.DefaultImage,
	}
}

// Check refuses an image that jobs may not have. written is its name as the job wrote it.
func (r Rules) Check(ref Reference, written string) error {
	for _, expr := range r.Exclude {
		anyCase, err := regexp.Compile("(?i)" + expr.String()) // as macOS's file system, where the cache is
		if err != nil {
			anyCase = expr
		}
		for _, name := range spellings(ref, written) {
			if anyCase.MatchString(name) {
				return job.Mistake(fmt.Errorf("image %q is excluded on this runner: %q is found in its name (%s)", ref.Name, expr, r.ExcludeOrigin),
					"the operator excludes images with --exclude-image-expr; choose another")
			}
		}
	}
	if len(r.Allow) == 0 {
		return nil
	}
	if standard, err := Parse(r.Default); err == nil && standard == ref {
		return nil
	}
	for _, pattern := range r.Allow {
		ok, err := allows(pattern, ref)
		if err != nil {
			return job.Mistake(fmt.Errorf("%s: pattern %q: %w", r.AllowOrigin, pattern, err), "expected a pattern such as ghcr.io/cirruslabs/*:*, or the name of a local VM")
		}
		if ok {
			return nil
		}
	}
	return job.Mistake(fmt.Errorf("image %q is not allowed on this runner: allowed are %s (%s)", ref.Name, strings.Join(r.Allow, ", "), r.AllowOrigin),
		"the operator allows images with --allow-image; choose one of these")
}

// allows tells whether a pattern fits an image. A pattern without a tag fits any tag and digest, because people leave out what doesn't
// matter to them. It is in no way wider than that: a pattern with a tag fits no part of a name without one.
func allows(pattern string, ref Reference) (bool, error) {
	host, rest, ok := strings.Cut(pattern, "/")
	if ok { // host names have no case
		pattern = strings.ToLower(host) + "/" + rest
	}
	for _, name := range []string{ref.Name, ref.Repository()} {
		if ok, err := doublestar.Match(pattern, name); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

// spellings are the names by which an excluded image might slip through: as the job wrote it, in the normal form, and without the port that
// means the same as none.
func spellings(ref Reference, written string) []string {
	names := []string{ref.Name, written}
	host, port, ok := strings.Cut(ref.Host, ":")
	if n, err := strconv.Atoi(port); ok && err == nil && (n == 443 || n == 80) {
		names = append(names, host+strings.TrimPrefix(ref.Name, ref.Host))
	}
	return names
}
