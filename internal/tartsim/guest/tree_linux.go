//go:build linux

package guest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"gitlab-runner-tart-driver/internal/tartsim/tarthome"
)

// systemDirs are the host's directories that a guest without a root file system of its own sees. Everything else is hidden by not being there.
var systemDirs = []string{"bin", "etc", "lib", "lib32", "lib64", "libx32", "nix", "opt", "sbin", "usr"}

// tree builds the guest's file systems. It works before and ends with the change of the root directory.
type tree struct {
	spec    *Spec
	scratch string // a tmpfs of the guest's own, mounted at sim-mnt in the VM's directory
	disk    string // sim-disk in the VM's directory: what the guest writes and keeps over a restart
	root    string // the guest's root, below scratch
	shims   string // the layer with the guest's own files
	notes   []string
}

func (t *tree) note(format string, args ...any) {
	t.notes = append(t.notes, fmt.Sprintf(format, args...))
}

// mount is mount(2) with an error that says what was tried.
func mount(source, target, kind string, flags uintptr, data string) error {
	if err := unix.Mount(source, target, kind, flags, data); err != nil {
		return fmt.Errorf("mount %s on %s (type %q, options %q): %w", source, target, kind, data, err)
	}
	return nil
}

// build makes everything below the new root and enters it.
func (t *tree) build() error {
	t.scratch = filepath.Join(t.spec.VMDir, tarthome.MountName)
	t.disk = filepath.Join(t.spec.VMDir, tarthome.TreeName)
	t.root = filepath.Join(t.scratch, "root")
	t.shims = filepath.Join(t.scratch, "shims")
	steps := []func() error{
		func() error { return mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") },
		t.makeScratch,
		t.writeShims,
		t.mountRoot,
		t.makeSkeleton,
		t.hide,
		t.mountKernel,
		t.mountTool,
		t.exposeShares,
		t.enter,
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (t *tree) makeScratch() error {
	// The guest's root may create set-user-id files in here; nobody else on the host may get at them.
	if err := os.MkdirAll(t.disk, 0o700); err != nil {
		return err
	}
	if err := mount("tartsim", t.scratch, "tmpfs", 0, "mode=0755"); err != nil {
		return err
	}
	for _, dir := range []string{t.root, t.shims} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// mountRoot makes the root: an overlay over the image's own root file system, or a directory with overlays over the host's system directories.
func (t *tree) mountRoot() error {
	if t.spec.Rootfs != "" {
		return t.overlay("rootfs", t.root, t.shims, t.spec.Rootfs)
	}
	own := filepath.Join(t.disk, "root")
	if err := os.MkdirAll(own, 0o755); err != nil {
		return err
	}
	if err := mount(own, t.root, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	for _, name := range systemDirs {
		source := "/" + name
		info, err := os.Lstat(source)
		if err != nil {
			continue
		}
		target := filepath.Join(t.root, name)
		if info.Mode()&os.ModeSymlink != 0 {
			if err := keepLink(source, target); err != nil {
				return err
			}
			continue
		}
		if err := os.MkdirAll(target, 0o755); err != nil {
			return err
		}
		lowers := []string{source}
		if own := filepath.Join(t.shims, name); isDir(own) {
			lowers = []string{own, source}
		}
		if err := t.overlay(name, target, lowers...); err != nil {
			return err
		}
	}
	system := filepath.Join(t.shims, "System")
	if !isDir(system) {
		return nil
	}
	target := filepath.Join(t.root, "System")
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	return mount(system, target, "", unix.MS_BIND, "")
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func keepLink(source, target string) error {
	to, err := os.Readlink(source)
	if err != nil {
		return err
	}
	if err := os.Symlink(to, target); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}

// overlay mounts read-only layers, topmost first, with a writable one. The writable one is in the VM's directory; where that file
// system can't serve as one, it is in memory and the guest's disk does not survive a stop.
func (t *tree) overlay(name, target string, lowers ...string) error {
	options := "index=off,metacopy=off"
	if t.spec.Level == LevelUserNS {
		options = "userxattr"
	}
	for i, lower := range lowers {
		lowers[i] = strings.NewReplacer(`\`, `\\`, `:`, `\:`, `,`, `\,`).Replace(lower)
	}
	options += ",lowerdir=" + strings.Join(lowers, ":")
	var failed error
	for _, base := range []string{t.disk, filepath.Join(t.scratch, "memory")} {
		upper, work := filepath.Join(base, "upper", name), filepath.Join(base, "work", name)
		for _, dir := range []string{upper, work} {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
		}
		failed = mount("overlay", target, "overlay", 0, options+",upperdir="+upper+",workdir="+work)
		if failed == nil {
			if base != t.disk {
				t.note("/%s: changes are kept in memory and lost at stop: the file system of TART_HOME can't hold them", strings.TrimPrefix(name, "rootfs"))
			}
			return nil
		}
	}
	return failed
}

// skeletonDir is a directory every guest has.
type skeletonDir struct {
	path  string
	mode  os.FileMode
	owned bool // by the guest's user
}

func (t *tree) skeleton() []skeletonDir {
	dirs := []skeletonDir{
		{"dev", 0o755, false}, {"proc", 0o555, false}, {"sys", 0o555, false}, {"run", 0o755, false}, {"tmp", 0o1777, false},
		{"mnt", 0o755, false}, {"root", 0o700, false}, {"usr/local/bin", 0o755, false}, {"var", 0o755, false},
		{"var/cache", 0o755, false}, {"var/empty", 0o755, false}, {"var/lib", 0o755, false}, {"var/log", 0o755, false},
		{"var/spool", 0o755, false}, {"var/tmp", 0o1777, false}, {strings.TrimPrefix(t.spec.HomeDir, "/"), 0o755, true},
	}
	if t.spec.mac() {
		dirs = append(dirs, skeletonDir{"Volumes", 0o755, false}, skeletonDir{"private", 0o755, false}, skeletonDir{"var/root", 0o700, false},
			skeletonDir{"Users/Shared", 0o1777, false}, skeletonDir{"Applications", 0o755, false}, skeletonDir{"Library", 0o755, false})
	}
	return dirs
}

func (t *tree) makeSkeleton() error {
	unix.Umask(0)
	defer unix.Umask(0o022)
	for _, dir := range t.skeleton() {
		path := filepath.Join(t.root, dir.path)
		if isDir(path) {
			continue
		}
		if err := os.MkdirAll(path, 0o755); err != nil {
			return err
		}
		if err := unix.Chmod(path, unixMode(dir.mode)); err != nil {
			return fmt.Errorf("chmod %s: %w", path, err)
		}
		if dir.owned && t.spec.Level == LevelRoot {
			if err := os.Lchown(path, t.spec.UID, t.spec.GID); err != nil {
				return err
			}
		}
	}
	links := map[string]string{"var/run": "/run"}
	if t.spec.mac() {
		links["private/tmp"], links["private/var"], links["private/etc"] = "/tmp", "/var", "/etc"
	}
	for name, target := range links {
		if err := os.Symlink(target, filepath.Join(t.root, name)); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}

// unixMode keeps the sticky bit, which os.FileMode has elsewhere.
func unixMode(mode os.FileMode) uint32 { return uint32(mode) }

// hide covers directories that lie inside a system directory but belong to the host, such as a TART_HOME below /opt.
func (t *tree) hide() error {
	for _, path := range t.spec.Hide {
		covered := filepath.Join(t.root, path)
		if path == "/" || !isDir(covered) || filepath.Clean(path) == t.spec.HomeDir {
			continue
		}
		if t.spec.Rootfs == "" && !underSystemDir(path) {
			continue
		}
		if err := mount("tartsim", covered, "tmpfs", 0, "mode=0755"); err != nil {
			return err
		}
	}
	return nil
}

func underSystemDir(path string) bool {
	first, _, _ := strings.Cut(strings.TrimPrefix(filepath.Clean(path), "/"), "/")
	for _, name := range systemDirs {
		if name == first {
			return true
		}
	}
	return false
}

// enter makes the new root the root of the process and drops the old one.
func (t *tree) enter() error {
	if err := os.Chdir(t.root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root to %s: %w", t.root, err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount the host's root: %w", err)
	}
	return os.Chdir("/")
}
