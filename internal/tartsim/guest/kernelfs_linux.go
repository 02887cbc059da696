//go:build linux

package guest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Devices that a guest has, and the parts of /proc through which root could change the host.
var (
	guestDevices = []string{"null", "zero", "full", "random", "urandom", "tty"}
	procReadOnly = []string{"sys", "sysrq-trigger", "irq", "bus", "fs"}
	procHidden   = []string{"kcore", "keys", "timer_list", "latency_stats"}
)

const ttyGroup = 5

// mountKernel mounts proc, dev, run and tmp.
func (t *tree) mountKernel() error {
	proc := filepath.Join(t.root, "proc")
	if err := mount("proc", proc, "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return err
	}
	for _, name := range procReadOnly {
		if err := bindReadOnly(filepath.Join(proc, name), filepath.Join(proc, name)); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	for _, name := range procHidden {
		path := filepath.Join(proc, name)
		if _, err := os.Stat(path); err != nil {
			continue
		}
		if err := mount("/dev/null", path, "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	for name, mode := range map[string]string{"tmp": "mode=1777", "run": "mode=0755"} {
		if err := mount("tartsim", filepath.Join(t.root, name), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, mode); err != nil {
			return err
		}
	}
	return t.mountDev()
}

func (t *tree) mountDev() error {
	dev := filepath.Join(t.root, "dev")
	if err := mount("tartsim", dev, "tmpfs", unix.MS_NOSUID, "mode=0755"); err != nil {
		return err
	}
	for _, name := range guestDevices {
		target := filepath.Join(dev, name)
		if err := os.WriteFile(target, nil, 0o666); err != nil {
			return err
		}
		if err := mount("/dev/"+name, target, "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	for _, name := range []string{"pts", "shm"} {
		if err := os.Mkdir(filepath.Join(dev, name), 0o755); err != nil {
			return err
		}
	}
	options := "newinstance,ptmxmode=0666,mode=0620"
	if t.spec.Level == LevelRoot {
		options += fmt.Sprintf(",gid=%d", ttyGroup)
	}
	if err := mount("devpts", filepath.Join(dev, "pts"), "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, options); err != nil {
		return err
	}
	if err := mount("tartsim", filepath.Join(dev, "shm"), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777"); err != nil {
		return err
	}
	for name, target := range map[string]string{
		"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
	} {
		if err := os.Symlink(target, filepath.Join(dev, name)); err != nil {
			return err
		}
	}
	return nil
}

// bindReadOnly binds a file or directory, with what is mounted below it, and makes it read-only.
func bindReadOnly(source, target string) error {
	if err := mount(source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	attributes := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(unix.AT_FDCWD, target, unix.AT_RECURSIVE, attributes); err != nil {
		return fmt.Errorf("make %s read-only: %w", target, err)
	}
	return nil
}

// mountTool puts the stand-in's binary, and the base's own mount command that a helper hides, where the guest's helpers find them.
func (t *tree) mountTool() error {
	for _, dir := range []string{"run/sshd", "run/lock", "run/tartsim", "run/tartsim/shares"} {
		if err := os.MkdirAll(filepath.Join(t.root, dir), 0o755); err != nil {
			return err
		}
	}
	binds := map[string]string{t.spec.Tool: ToolPath}
	if real := filepath.Join("/", t.spec.Rootfs, "usr/bin/mount"); isFile(real) {
		binds[real] = realMountPath
	}
	for source, path := range binds {
		target := filepath.Join(t.root, path)
		if err := os.WriteFile(target, nil, 0o755); err != nil {
			return err
		}
		if err := bindReadOnly(source, target); err != nil {
			return err
		}
	}
	return nil
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
