package tarthome

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"gitlab-runner-tart-driver/internal/tartsim/simconf"
)

// CopyVM copies a VM's files into an existing directory: what tart copies, and the stand-in's own.
func CopyVM(from, to string) error {
	for _, file := range []struct {
		name     string
		required bool
	}{
		{ConfigName, true}, {NVRAMName, true}, {DiskName, true}, {StateName, false},
		{simconf.ImageFile, false}, {HostKeyName, false},
	} {
		err := CopyFile(filepath.Join(from, file.name), filepath.Join(to, file.name))
		if errors.Is(err, fs.ErrNotExist) && !file.required {
			continue
		}
		if err != nil {
			return System("%s", foundationText(file.name, err))
		}
	}
	tree := filepath.Join(from, TreeName)
	if _, err := os.Lstat(tree); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	// overlayfs's work directories are left out: they hold nothing, and not even their owner may read them.
	for _, part := range []string{"root", "upper", "home"} {
		source := filepath.Join(tree, part)
		if _, err := os.Lstat(source); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		target := filepath.Join(to, TreeName)
		if err := os.MkdirAll(target, 0o700); err != nil {
			return System("%v", err)
		}
		if err := CopyTree(source, filepath.Join(target, part)); err != nil {
			return System("%v", err)
		}
	}
	return nil
}

// CopyFile copies the data of a file and leaves its holes; disk images are all hole.
func CopyFile(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }()
	info, err := source.Stat()
	if err != nil {
		return err
	}
	target, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_TRUNC, info.Mode().Perm())
	if err != nil {
		return err
	}
	if cloneFile(target, source) != nil {
		err = copySparse(target, source, info.Size())
	}
	if closeErr := target.Close(); err == nil {
		err = closeErr
	}
	return err
}

func copySparse(target, source *os.File, size int64) error {
	if err := target.Truncate(size); err != nil {
		return err
	}
	for offset := int64(0); offset < size; {
		start, err := unix.Seek(int(source.Fd()), offset, seekData)
		if errors.Is(err, unix.ENXIO) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("seek data in %s: %w", source.Name(), err)
		}
		end, err := unix.Seek(int(source.Fd()), start, seekHole)
		if err != nil {
			return fmt.Errorf("seek hole in %s: %w", source.Name(), err)
		}
		section := io.NewSectionReader(source, start, end-start)
		if _, err := io.Copy(io.NewOffsetWriter(target, start), section); err != nil {
			return err
		}
		offset = end
	}
	return nil
}

// RemoveTree removes a directory whatever the modes inside: overlayfs leaves directories behind that not even their owner may read.
func RemoveTree(path string) error {
	err := os.RemoveAll(path)
	if err == nil || !errors.Is(err, fs.ErrPermission) {
		return err
	}
	_ = filepath.WalkDir(path, func(name string, entry fs.DirEntry, walkErr error) error {
		if entry != nil && entry.IsDir() {
			if info, err := entry.Info(); err == nil && info.Mode().Perm()&0o700 != 0o700 {
				// WalkDir reports a directory before it reads it, so that the new mode is in time.
				_ = os.Chmod(name, 0o700)
			}
		}
		if walkErr != nil && entry != nil && entry.IsDir() {
			return fs.SkipDir
		}
		return nil
	})
	return os.RemoveAll(path)
}
