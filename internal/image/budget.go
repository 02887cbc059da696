package image

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"gitlab-runner-tart-driver/internal/tart"
)

// Cached is an image in tart's cache. `tart list` shows it more than once: under its digest, and under each tag that points there.
type Cached struct {
	// Tags are the references with a tag, and Digest is that with the digest, such as HOST/PATH@sha256:HEX; one of them may be empty.
	Tags   []string
	Digest string
	// SizeGB is what it takes on the disk, in GB.
	SizeGB float64
	// Used is when it was last used, the zero time where nobody knows.
	Used time.Time
}

// Names are all references of the image.
func (c Cached) Names() []string {
	names := slices.Clone(c.Tags)
	if c.Digest != "" {
		names = append(names, c.Digest)
	}
	return names
}

// Name is the reference that says most to a person.
func (c Cached) Name() string { return c.Names()[0] }

// DigestHex is the digest in the form sha256:HEX; empty if it is not known.
func (c Cached) DigestHex() string {
	_, digest, _ := strings.Cut(c.Digest, "@")
	return digest
}

// Group puts the rows of `tart list` that are about one image together, least recently used first. Local VMs are left out. digestOf resolves a tag
// to sha256:HEX, or to nothing. uses are the times at which names were last used; where there is none, tart's own time counts.
func Group(rows []tart.VM, digestOf func(reference string) string, uses map[string]time.Time) []Cached {
	var all []*Cached
	byDigest := map[string]*Cached{}
	accessed := map[*Cached]time.Time{}
	for _, row := range rows {
		if row.Source != "OCI" || !strings.Contains(row.Name, "/") {
			continue
		}
		digest, tag := row.Name, ""
		if !strings.Contains(row.Name, "@") {
			digest, tag = "", row.Name
			if hex := digestOf(row.Name); hex != "" {
				digest = Reference{Name: row.Name, Host: "x"}.Repository() + "@" + hex
			}
		}
		c := byDigest[digest]
		if c == nil || digest == "" {
			c = &Cached{Digest: digest}
			byDigest[digest] = c
			all = append(all, c)
		}
		if tag != "" {
			c.Tags = append(c.Tags, tag)
		}
		c.SizeGB = max(c.SizeGB, float64(row.Size))
		c.Used = latest(c.Used, uses[row.Name])
		accessed[c] = latest(accessed[c], row.Accessed.Time)
	}
	var grouped []Cached
	for _, c := range all {
		if c.Used.IsZero() {
			c.Used = accessed[c]
		}
		slices.Sort(c.Tags)
		grouped = append(grouped, *c)
	}
	slices.SortFunc(grouped, func(a, b Cached) int { return cmp.Or(a.Used.Compare(b.Used), cmp.Compare(a.Name(), b.Name())) })
	return grouped
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// TotalGB is what images take together, in GB.
func TotalGB(images []Cached) float64 {
	total := 0.0
	for _, c := range images {
		total += c.SizeGB
	}
	return total
}
