//go:build linux

package guest

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// sharesDir holds, per tag, what a mount of that tag shows. It stands for the virtual machine's virtiofs devices.
const sharesDir = "/run/tartsim/shares"

// ownerMapFD is the descriptor of the user namespace that maps the caller to the guest's user.
const ownerMapFD = 5

// exposeShares binds the host's directories below sharesDir, and mounts the automatic tag where macOS does.
func (t *tree) exposeShares() error {
	for _, share := range t.spec.Shares {
		target := filepath.Join(t.root, sharesDir, url.PathEscape(share.Tag), share.Name)
		if err := os.MkdirAll(target, 0o755); err != nil {
			return err
		}
		if err := t.bindShare(share, target); err != nil {
			return fmt.Errorf("share %s: %w", share.Path, err)
		}
	}
	source := filepath.Join(t.root, sharesDir, AutomountTag)
	if !t.spec.mac() || !isDir(source) {
		return nil
	}
	target := filepath.Join(t.root, AutomountDir)
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	return mount(source, target, "", unix.MS_BIND|unix.MS_REC, "")
}

// bindShare binds one directory. A virtual machine reaches shared files with the rights of whoever runs `tart run`, and its user
// owns them; a mount with mapped owners does the same where the file system can do it.
func (t *tree) bindShare(share Share, target string) error {
	tree, err := unix.OpenTree(unix.AT_FDCWD, share.Path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return fmt.Errorf("open_tree: %w", err)
	}
	defer func() { _ = unix.Close(tree) }()
	if t.spec.MapOwner {
		attributes := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: ownerMapFD}
		if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, attributes); err != nil {
			t.note("share %s: its file system can't map owners (%v): the guest's user has the rights of any other user", share.Path, err)
		}
	}
	if share.ReadOnly {
		attributes := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, attributes); err != nil {
			return fmt.Errorf("make it read-only: %w", err)
		}
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("move_mount to %s: %w", target, err)
	}
	return nil
}

// mountShare does in the guest what mount_virtiofs does on macOS: it mounts a tag on an existing directory.
func mountShare(tag, dir string) error {
	source := filepath.Join(sharesDir, url.PathEscape(tag))
	if tag == "" || !isDir(source) {
		return fmt.Errorf("tag %q: %w", tag, errNoTag)
	}
	if !isDir(dir) {
		return fmt.Errorf("%s: %w", dir, unix.ENOENT)
	}
	return mount(source, dir, "", unix.MS_BIND|unix.MS_REC, "")
}

var errNoTag = errors.New("no share has this tag")
