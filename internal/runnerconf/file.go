package runnerconf

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// File is a configuration file on the disk, which may not be there yet.
type File struct {
	// Path is as it was given; Target is what it leads to where it is a symbolic link, and the same otherwise.
	Path, Target string
	// Content is what was read; nil where there is no file.
	Content []byte
	// Exists tells whether there is one, and Linked whether Path is a symbolic link.
	Exists, Linked bool
}

// maxSize bounds what is read, in bytes; no config.toml comes near it.
const maxSize = 8 << 20

// maxLinks is how many symbolic links are followed, as by the kernel.
const maxLinks = 40

// ErrNotRegular means that a path names something other than a file.
var ErrNotRegular = errors.New("not a regular file")

// ErrChanged means that a file was changed by somebody else since it was read.
var ErrChanged = errors.New("the file has changed since it was read; nothing was written")

// Open reads a file. That there is none is no error: Replace makes it.
func Open(path string) (*File, error) {
	f := &File{Path: path, Target: path}
	for range maxLinks {
		link, err := os.Readlink(f.Target)
		if err != nil {
			break
		}
		if !filepath.IsAbs(link) {
			link = filepath.Join(filepath.Dir(f.Target), link)
		}
		f.Target, f.Linked = link, true
	}
	st, err := os.Stat(f.Target)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() > maxSize {
		return nil, &fs.PathError{Op: "read", Path: path, Err: ErrNotRegular}
	}
	if f.Content, err = os.ReadFile(f.Target); err != nil {
		return nil, err
	}
	f.Exists = true
	return f, nil
}

// Replace writes new content in one step, with mode, and keeps the old content beside it; backup is that file's path, empty where there was
// none. A symbolic link stays one: the file that it leads to is replaced. It waits for the disk: a lost token would have to be made anew.
func (f *File) Replace(content []byte, mode fs.FileMode, now time.Time) (backup string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write %s: %w", f.Path, err)
		}
	}()
	if err := os.MkdirAll(filepath.Dir(f.Target), 0o700); err != nil {
		return "", err
	}
	if err := f.unchanged(); err != nil {
		return "", err
	}
	if f.Exists {
		if backup, err = f.backUp(mode, now); err != nil {
			return "", err
		}
	}
	tmp, err := os.CreateTemp(filepath.Dir(f.Target), ".tmp-*")
	if err != nil {
		return "", err
	}
	defer os.Remove(tmp.Name()) // fails after the rename, as it should
	err = f.fill(tmp, content, mode)
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), f.Target)
	}
	if err != nil {
		return "", err
	}
	f.Content, f.Exists = content, true
	return backup, nil
}

// fill writes the new file, for whoever owns the old one.
func (f *File) fill(tmp *os.File, content []byte, mode fs.FileMode) error {
	if _, err := tmp.Write(content); err != nil {
		return err
	}
	if err := tmp.Chmod(mode); err != nil {
		return err
	}
	if st, err := os.Stat(f.Target); err == nil {
		if err := sameOwner(tmp, st); err != nil {
			return err
		}
	}
	return tmp.Sync()
}

// unchanged tells whether the file still is what was read.
func (f *File) unchanged() error {
	now, err := os.ReadFile(f.Target)
	if errors.Is(err, fs.ErrNotExist) && !f.Exists {
		return nil
	}
	if err != nil {
		return err
	}
	if !f.Exists || !bytes.Equal(now, f.Content) {
		return ErrChanged
	}
	return nil
}

// backUp copies the old content to a file of its own.
func (f *File) backUp(mode fs.FileMode, now time.Time) (string, error) {
	name := f.Target + ".backup-" + now.Format("20060102-150405")
	for i := 0; ; i++ {
		path := name
		if i > 0 {
			path = fmt.Sprintf("%s-%d", name, i)
		}
		out, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		err = f.fill(out, f.Content, mode)
		if cerr := out.Close(); err == nil {
			err = cerr
		}
		return path, err
	}
}
