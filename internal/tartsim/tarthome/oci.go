package tarthome

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// ExplicitMark marks an image that was pulled by digest; such images survive the loss of their last tag.
const ExplicitMark = ".explicitly-pulled"

// Cache is the cache of pulled images: a directory per digest, and absolute symbolic links for tags beside it.
type Cache struct{ dir string }

// Path is where an image is, or would be.
func (c *Cache) Path(name RemoteName) string {
	return filepath.Join(c.HostDir(name.Host), filepath.FromSlash(name.Namespace), name.Reference())
}

// HostDir is the directory of one registry host, which is also the lock of its pulls.
func (c *Cache) HostDir(host string) string {
	return filepath.Join(c.dir, strings.ReplaceAll(host, ":", "%3A"))
}

// Has reports whether an image is there and complete.
func (c *Cache) Has(name RemoteName) bool { return c.vm(name).Complete() }

func (c *Cache) vm(name RemoteName) *VM { return &VM{Dir: c.Path(name), Name: name.String()} }

// VM returns the image's directory, which need not exist.
func (c *Cache) VM(name RemoteName) *VM { return c.vm(name) }

// Digest resolves a tag through the cache alone; a digest stands for itself.
func (c *Cache) Digest(name RemoteName) (string, error) {
	if name.Digest != "" {
		return name.Digest, nil
	}
	target, err := os.Readlink(c.Path(name))
	if err != nil || !strings.HasPrefix(filepath.Base(target), "sha256:") {
		return "", Failure("OCI storage error: %s is not a digest and doesn't point to a digest", name)
	}
	return filepath.Base(target), nil
}

// Link points a tag at a digest and collects what the tag's old target leaves behind.
func (c *Cache) Link(from, to RemoteName) error {
	path := c.Path(from)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return System("%v", err)
	}
	if err := os.Symlink(c.Path(to), path); err != nil {
		return System("%v", err)
	}
	return c.Collect()
}

// LinkedTo reports whether a tag points at that digest already.
func (c *Cache) LinkedTo(from, to RemoteName) bool {
	target, err := os.Readlink(c.Path(from))
	return err == nil && target == c.Path(to)
}

// Entry is one row of the cache: a tag's link or a digest's directory.
type Entry struct {
	*VM
	Link bool
}

// List returns every complete image in the cache, tags and digests both.
func (c *Cache) List() ([]Entry, error) {
	var entries []Entry
	err := c.walk(func(path string, link bool) error {
		vm := &VM{Dir: path, Name: c.nameOf(path)}
		if vm.Complete() {
			entries = append(entries, Entry{VM: vm, Link: link})
		}
		return nil
	})
	return entries, err
}

func (c *Cache) nameOf(path string) string {
	relative, err := filepath.Rel(c.dir, path)
	if err != nil {
		return path
	}
	dir, last := filepath.Split(filepath.ToSlash(relative))
	dir = strings.ReplaceAll(strings.TrimSuffix(dir, "/"), "%3A", ":")
	if strings.HasPrefix(last, "sha256:") {
		return dir + "@" + last
	}
	return dir + ":" + last
}

// walk visits links and the directories of digests.
func (c *Cache) walk(visit func(path string, link bool) error) error {
	err := filepath.WalkDir(c.dir, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case entry.Type()&fs.ModeSymlink != 0:
			return visit(path, true)
		case entry.IsDir() && strings.HasPrefix(entry.Name(), "sha256:"):
			if err := visit(path, false); err != nil {
				return err
			}
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		return System("%v", err)
	}
	return nil
}

// Collect removes broken links, and digests that no link points at unless they were pulled by digest.
func (c *Cache) Collect() error {
	references := map[string]int{}
	err := c.walk(func(path string, link bool) error {
		if !link {
			references[path] += 0
			return nil
		}
		target, err := os.Readlink(path)
		if err != nil {
			return err
		}
		if _, err := os.Stat(target); err != nil {
			return os.Remove(path)
		}
		references[target]++
		return nil
	})
	if err != nil {
		return err
	}
	for path, count := range references {
		if _, err := os.Stat(filepath.Join(path, ExplicitMark)); err == nil || count > 0 {
			continue
		}
		if err := RemoveTree(path); err != nil {
			return System("%v", err)
		}
	}
	return nil
}

// Delete removes a tag's link or a digest's directory, and then what nothing points at any more.
func (c *Cache) Delete(name RemoteName) error {
	path := c.Path(name)
	if _, err := os.Lstat(path); err != nil {
		return NotExist(name.String())
	}
	if err := RemoveTree(path); err != nil {
		return System("%v", err)
	}
	return c.Collect()
}

// Place moves a finished pull to its digest.
func (c *Cache) Place(from string, name RemoteName, tmp string) error {
	path := c.Path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return System("%s", foundationText(path, err))
	}
	return replaceDir(from, path, tmp)
}
