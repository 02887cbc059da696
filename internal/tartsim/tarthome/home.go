// Package tarthome is Tart's directory: where VMs, images and leases are, what state they are in, and the locks around them.
//
// State is never stored. A VM runs when a process holds the POSIX lock on its config.json. That lock is lost when the process closes
// any descriptor of that file, so a process that holds it must not open the file again.
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

// Home is TART_HOME.
type Home struct{ Dir string }

// Open finds TART_HOME from the two variables of the environment and creates it with its cache and tmp directories.
func Open(tartHome, userHome string) (*Home, error) {
	dir := tartHome
	if dir == "" {
		dir = filepath.Join(userHome, ".tart")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, System("%v", err)
	}
	partial := string(filepath.Separator)
	for _, part := range strings.Split(strings.TrimPrefix(dir, partial), string(filepath.Separator)) {
		partial = filepath.Join(partial, part)
		if _, err := os.Stat(partial); err == nil {
			continue
		}
		if err := os.Mkdir(partial, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, Failure("TART_HOME is invalid: %s does not exist, yet we can't create it: %s", partial, foundationText(partial, err))
		}
	}
	home := &Home{Dir: dir}
	for _, sub := range []string{home.path("cache"), home.Tmp()} {
		if err := os.MkdirAll(sub, 0o755); err != nil {
			return nil, System("%s", foundationText(sub, err))
		}
	}
	return home, nil
}

// foundationText words a file error as macOS does.
func foundationText(path string, err error) string {
	if known := (*fs.PathError)(nil); errors.As(err, &known) {
		path = known.Path
	}
	name, folder := filepath.Base(path), filepath.Dir(path)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Sprintf("You don’t have permission to save the file “%s” in the folder “%s”.", name, filepath.Base(folder))
	case errors.Is(err, unix.ENOSPC):
		return fmt.Sprintf("The file “%s” couldn’t be saved because there isn’t enough space.", name)
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Stat(folder); err != nil {
			return fmt.Sprintf("The folder “%s” doesn’t exist.", filepath.Base(folder))
		}
		return fmt.Sprintf("The file “%s” couldn’t be opened because there is no such file.", name)
	default:
		return fmt.Sprintf("The file “%s” couldn’t be opened: %v", name, err)
	}
}

func (h *Home) path(parts ...string) string {
	return filepath.Join(append([]string{h.Dir}, parts...)...)
}

// Tmp is the directory for work in progress.
func (h *Home) Tmp() string { return h.path("tmp") }

// VMs is the directory of the local VMs.
func (h *Home) VMs() string { return h.path("vms") }

// OCI is the cache of pulled images.
func (h *Home) OCI() *Cache { return &Cache{dir: h.path("cache", "OCIs")} }

// Leases is the table that stands for the DHCP server's /var/db/dhcpd_leases.
func (h *Home) Leases() *LeaseFile { return &LeaseFile{path: h.path("dhcpd_leases")} }

// VM returns the local VM of that name, which need not exist.
func (h *Home) VM(name string) *VM { return &VM{Dir: filepath.Join(h.VMs(), name), Name: name} }

// OpenVM returns an existing, complete local VM and marks it as used now.
func (h *Home) OpenVM(name string) (*VM, error) {
	vm := h.VM(name)
	if err := vm.validate(name); err != nil {
		return nil, err
	}
	vm.touch()
	return vm, nil
}

// OpenAny returns a local VM or a cached image, whatever the name stands for.
func (h *Home) OpenAny(name string) (*VM, error) {
	remote, err := ParseRemoteName(name)
	if err != nil {
		return h.OpenVM(name)
	}
	vm := &VM{Dir: h.OCI().Path(remote), Name: name}
	if err := vm.validate(name); err != nil {
		return nil, err
	}
	vm.touch()
	return vm, nil
}

// ListVMs returns the complete local VMs, in the directory's order.
func (h *Home) ListVMs() ([]*VM, error) {
	entries, err := os.ReadDir(h.VMs())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, System("%v", err)
	}
	var vms []*VM
	for _, entry := range entries {
		if vm := h.VM(entry.Name()); vm.Complete() {
			vms = append(vms, vm)
		}
	}
	return vms, nil
}

// CollectGarbage removes everything in tmp that nobody has locked. Tart does it at the start of every command but pull and clone.
func (h *Home) CollectGarbage() error {
	entries, err := os.ReadDir(h.Tmp())
	if err != nil {
		return fmt.Errorf("read %s: %w", h.Tmp(), err)
	}
	for _, entry := range entries {
		path := filepath.Join(h.Tmp(), entry.Name())
		lock, err := OpenFileLock(path)
		if err != nil {
			return err
		}
		free, err := lock.TryLock()
		if err == nil && free {
			err = RemoveTree(path)
		}
		lock.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// TempDir makes a directory in tmp and locks it against garbage collection. The caller closes the lock.
func (h *Home) TempDir(name string) (string, *FileLock, error) {
	path := filepath.Join(h.Tmp(), name)
	if err := os.MkdirAll(path, 0o755); err != nil {
		return "", nil, System("%s", foundationText(path, err))
	}
	lock, err := OpenFileLock(path)
	if err != nil {
		return "", nil, err
	}
	if err := lock.Lock(); err != nil {
		lock.Close()
		return "", nil, err
	}
	return path, lock, nil
}

// Place moves a finished VM directory to its name and silently replaces what was there.
func (h *Home) Place(from, name string) error {
	if err := os.MkdirAll(h.VMs(), 0o755); err != nil {
		return System("%s", foundationText(h.VMs(), err))
	}
	return replaceDir(from, h.VM(name).Dir, h.Tmp())
}

func replaceDir(from, to, tmp string) error {
	old := filepath.Join(tmp, "replaced-"+UUID())
	if err := os.Rename(to, old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return System("%v", err)
	}
	if err := os.Rename(from, to); err != nil {
		return System("%v", err)
	}
	return RemoveTree(old)
}
