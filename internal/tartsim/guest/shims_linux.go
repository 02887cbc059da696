//go:build linux

package guest

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// realMountPath is where the base's own mount command is while a helper has its place.
const realMountPath = "/run/tartsim/mount.real"

// Files of the SSH server in the guest.
const (
	sshDir         = "/etc/ssh"
	sshdConfigPath = sshDir + "/sshd_config"
	sshdDropIns    = sshDir + "/sshd_config.d"
	hostKeyPath    = sshDir + "/ssh_host_ed25519_key"
)

// shimCommands are the commands whose place a helper of the stand-in takes.
func (s *Spec) shimCommands() map[string]string {
	shims := map[string]string{
		"shutdown": "usr/sbin", "poweroff": "usr/sbin", "halt": "usr/sbin", "reboot": "usr/sbin",
	}
	if s.mac() {
		for name, dir := range map[string]string{
			"mount_virtiofs": "usr/sbin", "sw_vers": "usr/bin", "security": "usr/bin", "systemsetup": "usr/sbin",
		} {
			shims[name] = dir
		}
		if !s.HostUname {
			shims["uname"] = "usr/bin"
		}
	} else {
		shims["mount"] = "usr/bin"
	}
	return shims
}

// writeShims fills the layer above the base: accounts, host name, helper commands.
func (t *tree) writeShims() error {
	s := t.spec
	files := map[string]string{
		"etc/hostname": s.Hostname + "\n",
		"etc/hosts":    fmt.Sprintf("127.0.0.1\tlocalhost\n::1\tlocalhost\n%s\t%s\n", s.Address, s.Hostname),
		"etc/motd":     "",
	}
	// The host's own accounts and secrets must never show through, so all four files are always there.
	base, err := os.ReadFile(filepath.Join("/", s.Rootfs, "etc/passwd"))
	if err != nil {
		return err
	}
	groups, err := os.ReadFile(filepath.Join("/", s.Rootfs, "etc/group"))
	if err != nil {
		return err
	}
	passwd := passwdFile(string(base), s)
	files["etc/passwd"], files["etc/group"] = passwd, groupFile(string(groups), s)
	files["etc/shadow"], files["etc/gshadow"] = shadowFile(passwd, s.User, cryptPassword(s.Password)), ""
	if data, err := os.ReadFile("/etc/resolv.conf"); err == nil {
		files["etc/resolv.conf"] = string(data)
	}
	if s.mac() {
		files[systemVersionPath] = systemVersion(s.ProductVersion)
	}
	maps.Copy(files, s.sshdFiles())
	for name, dir := range s.shimCommands() {
		script := s.shimScript(name)
		files[filepath.Join(dir, name)] = script
		// A base without a merged /usr has directories of its own at the top.
		if top := strings.TrimPrefix(dir, "usr/"); isRealDir(filepath.Join("/", s.Rootfs, top)) {
			files[filepath.Join(top, name)] = script
		}
	}
	for name, content := range files {
		if err := t.writeShim(name, content); err != nil {
			return err
		}
	}
	if err := t.hideHostSSH(); err != nil {
		return err
	}
	return t.installSudo()
}

func isRealDir(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.IsDir()
}

func (t *tree) writeShim(name, content string) error {
	path := filepath.Join(t.shims, name)
	mode := os.FileMode(0o644)
	switch {
	case !strings.HasPrefix(name, "etc/") && name != systemVersionPath:
		mode = 0o755
	case strings.HasSuffix(name, "shadow"):
		mode = 0o640
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(content), mode)
}

// hideHostSSH takes what is the host's SSH server's out of the guest's sight: its keys, the private ones of which the guest's root could read, and the
// configuration beside the guest's own.
func (t *tree) hideHostSSH() error {
	if t.spec.Rootfs != "" {
		return nil
	}
	hidden, err := filepath.Glob(sshdDropIns + "/*")
	if err != nil {
		return err
	}
	if t.spec.Level == LevelRoot {
		keys, err := filepath.Glob("/etc/ssh/ssh_host_*")
		if err != nil {
			return err
		}
		hidden = append(hidden, keys...)
	}
	for _, name := range hidden {
		path := filepath.Join(t.shims, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		// A character device 0/0 is overlayfs's mark of a file that is not there. What is there is the guest's own.
		if err := unix.Mknod(path, unix.S_IFCHR, 0); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("hide %s: %w", name, err)
		}
	}
	return nil
}

// installSudo lets the guest's user become root without a password: by the base's sudo, or else by a helper.
func (t *tree) installSudo() error {
	if t.spec.Level == LevelRoot && isFile(filepath.Join("/", t.spec.Rootfs, "usr/bin/sudo")) {
		path := filepath.Join(t.shims, "etc/sudoers.d/tartsim")
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			return err
		}
		return os.WriteFile(path, []byte(t.spec.User+" ALL=(ALL) NOPASSWD: ALL\n"), 0o440)
	}
	path := filepath.Join(t.shims, "usr/bin/sudo")
	if t.spec.Level != LevelRoot {
		return t.writeShim("usr/bin/sudo", t.spec.shimScript(SudoName))
	}
	// The set-user-id copy is in memory that only this mount namespace has: outside of it the bit means nothing.
	if err := copyTool(t.spec.Tool, path); err != nil {
		return err
	}
	return unix.Chmod(path, unix.S_ISUID|0o755)
}

func copyTool(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }()
	target, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(target, source)
	if closeErr := target.Close(); err == nil {
		err = closeErr
	}
	return err
}
