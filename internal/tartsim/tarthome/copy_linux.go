//go:build linux

package tarthome

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	seekData = unix.SEEK_DATA
	seekHole = unix.SEEK_HOLE
)

func cloneFile(target, source *os.File) error {
	return unix.IoctlFileClone(int(target.Fd()), int(source.Fd()))
}

// attributeMax is the most an extended attribute can hold, XATTR_SIZE_MAX of linux/limits.h.
const attributeMax = 64 << 10

// CopyTree copies a directory with owners, modes, extended attributes and the character devices by which overlayfs marks deleted files.
// Sockets and pipes are left out.
func CopyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		return copyEntry(path, filepath.Join(to, relative))
	})
}

func copyEntry(from, to string) error {
	var st unix.Stat_t
	if err := unix.Lstat(from, &st); err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	var err error
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		err = os.MkdirAll(to, 0o700)
	case unix.S_IFREG:
		err = CopyFile(from, to)
	case unix.S_IFLNK:
		var target string
		if target, err = os.Readlink(from); err == nil {
			err = os.Symlink(target, to)
		}
	case unix.S_IFCHR:
		err = unix.Mknod(to, st.Mode, int(st.Rdev))
	default:
		return nil
	}
	if err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	if err := unix.Lchown(to, int(st.Uid), int(st.Gid)); err != nil && os.Geteuid() == 0 {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return nil
	}
	if err := unix.Chmod(to, st.Mode&0o7777); err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	if err := copyAttributes(from, to); err != nil {
		return err
	}
	times := []unix.Timespec{st.Atim, st.Mtim}
	return unix.UtimesNanoAt(unix.AT_FDCWD, to, times, unix.AT_SYMLINK_NOFOLLOW)
}

func copyAttributes(from, to string) error {
	size, err := unix.Llistxattr(from, nil)
	if err != nil || size == 0 {
		return ignoreUnsupported(from, err)
	}
	list := make([]byte, size)
	if size, err = unix.Llistxattr(from, list); err != nil {
		return ignoreUnsupported(from, err)
	}
	for _, name := range strings.Split(strings.TrimSuffix(string(list[:size]), "\x00"), "\x00") {
		value := make([]byte, attributeMax)
		n, err := unix.Lgetxattr(from, name, value)
		if err == nil {
			err = unix.Lsetxattr(to, name, value[:n], 0)
		}
		// Attributes other than overlayfs's are not needed for the copy to mean the same.
		if err != nil && strings.Contains(name, "overlay.") {
			return fmt.Errorf("copy %s: attribute %s: %w", from, name, err)
		}
	}
	return nil
}

func ignoreUnsupported(path string, err error) error {
	if err == nil || errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	return fmt.Errorf("copy %s: list attributes: %w", path, err)
}
