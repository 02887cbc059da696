// Package filecopy turns directories into tar archives and back, for copies to and from a VM.
//
// What comes out of a VM was made by a job, and is not to be trusted: nothing is ever written outside of the target, neither by names with `..`
// in them nor through links.
package filecopy

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Pack writes what is in a directory to w, by names relative to it. Links stay links. What is neither a file, a directory nor a link is left out,
// and warn is told.
func Pack(w io.Writer, dir string, warn func(text string)) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	archive := tar.NewWriter(w)
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return packOne(archive, root, name, warn)
	})
	return errors.Join(err, archive.Close())
}

func packOne(archive *tar.Writer, root *os.Root, name string, warn func(string)) error {
	info, err := root.Lstat(name)
	if err != nil {
		return err
	}
	link := ""
	switch mode := info.Mode(); {
	case mode&fs.ModeSymlink != 0:
		if link, err = root.Readlink(name); err != nil {
			return err
		}
	case !mode.IsDir() && !mode.IsRegular():
		warn(fmt.Sprintf("%s is neither a file nor a directory, and left out", name))
		return nil
	}
	header, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	header.Name = filepath.ToSlash(name)
	header.Uid, header.Gid, header.Uname, header.Gname = 0, 0, "", "" // whoever unpacks it owns it
	header.Mode &= int64(fs.ModePerm)
	if err := archive.WriteHeader(header); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if !info.Mode().IsRegular() {
		return nil
	}
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.CopyN(archive, f, header.Size); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
