package filecopy

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"
)

// ErrOutside means that an archive names something outside of its directory.
var ErrOutside = errors.New("the archive names something outside of it")

// Unpack writes what is in an archive into a directory, which is made where it is missing. Files that are there are replaced. Links that lead out of the
// directory, devices and the like are left out, and warn is told.
func Unpack(r io.Reader, dir string, warn func(text string)) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	u := &unpacking{root: root, warn: warn}
	archive := tar.NewReader(r)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return u.finish()
		}
		if err == nil {
			err = u.one(header, archive)
		}
		if err != nil {
			return errors.Join(err, u.finish())
		}
	}
}

// UnpackFile writes the one file that is in an archive to a path, whatever it is called in there.
func UnpackFile(r io.Reader, target string) error {
	root, err := os.OpenRoot(filepath.Dir(target))
	if err != nil {
		return err
	}
	defer root.Close()
	archive := tar.NewReader(r)
	header, err := archive.Next()
	if err != nil {
		return fmt.Errorf("read the archive: %w", noEOF(err))
	}
	if header.Typeflag != tar.TypeReg {
		return fmt.Errorf("%q in the archive is no file", header.Name)
	}
	if err := (&unpacking{root: root}).file(filepath.Base(target), header, archive); err != nil {
		return err
	}
	if _, err := archive.Next(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("there is more than a file in the archive (%w)", noEOF(err))
	}
	return nil
}

// noEOF is for an end that comes too early.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// unpacking is an archive that is being unpacked. Root sees to it that nothing gets out, through links that were there before neither.
type unpacking struct {
	root *os.Root
	warn func(string)
	// dirs and links are what is looked after in the end.
	dirs  []closedDir
	links []string
}

// closedDir is a directory that its owner may not change, which must wait until all is in it.
type closedDir struct {
	name string
	mode fs.FileMode
}

func (u *unpacking) one(header *tar.Header, content io.Reader) error {
	name := path.Clean(header.Name)
	if !filepath.IsLocal(name) {
		return fmt.Errorf("%w: %q", ErrOutside, header.Name)
	}
	if parent := path.Dir(name); parent != "." {
		if err := u.root.MkdirAll(parent, 0o755); err != nil {
			return err
		}
	}
	switch header.Typeflag {
	case tar.TypeDir:
		return u.dir(name, header)
	case tar.TypeReg:
		return u.file(name, header, content)
	case tar.TypeSymlink:
		if filepath.IsAbs(header.Linkname) || !filepath.IsLocal(path.Join(path.Dir(name), header.Linkname)) {
			u.warn(fmt.Sprintf("%s is a link to %s, which is not in the directory, and left out", name, header.Linkname))
			return nil
		}
		if err := u.makeRoom(name); err != nil {
			return err
		}
		u.links = append(u.links, name)
		return u.root.Symlink(header.Linkname, name)
	case tar.TypeLink:
		old := path.Clean(header.Linkname)
		if !filepath.IsLocal(old) {
			return fmt.Errorf("%w: %q", ErrOutside, header.Linkname)
		}
		if old == name {
			return fmt.Errorf("%q in the archive is a link to itself", header.Name)
		}
		if err := u.makeRoom(name); err != nil {
			return err
		}
		return u.root.Link(old, name)
	case tar.TypeXGlobalHeader:
		return nil
	default:
		u.warn(fmt.Sprintf("%s is neither a file nor a directory, and left out", name))
		return nil
	}
}

func (u *unpacking) dir(name string, header *tar.Header) error {
	mode := fs.FileMode(header.Mode) & fs.ModePerm
	if name == "." {
		return nil // the target is made as any directory is
	}
	if err := u.root.MkdirAll(name, mode|0o700); err != nil {
		return err
	}
	if mode&0o700 != 0o700 {
		u.dirs = append(u.dirs, closedDir{name, mode})
	}
	return nil
}

// finish removes links that lead out by way of others, and gives directories their modes, those below first.
func (u *unpacking) finish() error {
	var errs []error
	for _, name := range u.links {
		if info, err := u.root.Lstat(name); err != nil || info.Mode()&fs.ModeSymlink == 0 {
			continue // something else has taken its place
		}
		if _, err := u.root.Stat(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			u.warn(fmt.Sprintf("%s is a link that leads out of the directory by way of others, or nowhere, and left out", name))
			errs = append(errs, u.root.Remove(name))
		}
	}
	for _, d := range slices.Backward(u.dirs) {
		errs = append(errs, u.root.Chmod(d.name, d.mode))
	}
	return errors.Join(errs...)
}

func (u *unpacking) file(name string, header *tar.Header, content io.Reader) error {
	if err := u.makeRoom(name); err != nil {
		return err
	}
	f, err := u.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fs.FileMode(header.Mode)&fs.ModePerm)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("%s: %w", name, noEOF(err))
	}
	if !header.ModTime.After(time.Unix(0, 0)) {
		return nil
	}
	return u.root.Chtimes(name, header.ModTime, header.ModTime)
}

// makeRoom removes a file or link that is there: what it leads to, or shares its content with, is not to change. A directory stays, and is in the way.
func (u *unpacking) makeRoom(name string) error {
	info, err := u.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && info.IsDir() {
		err = fmt.Errorf("%s is a directory already", name)
	}
	if err != nil {
		return err
	}
	return u.root.Remove(name)
}
