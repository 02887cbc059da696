package tarthome

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"gitlab-runner-tart-driver/internal/tartsim/simconf"
)

// Names of the files in a VM's directory.
const (
	ConfigName  = "config.json"
	DiskName    = "disk.img"
	NVRAMName   = "nvram.bin"
	StateName   = "state.vzvmsave"
	ControlName = "control.sock"
)

// Names of the stand-in's own files in a VM's directory, beside simconf.ImageFile.
const (
	TreeName    = "sim-disk"     // the guest's writable files
	HostKeyName = "sim-host-key" // the guest's SSH host key
	SocketName  = "sim.sock"     // serves `tartsim poweroff` and the like while the VM runs
	LogName     = "sim-run.log"  // what the stand-in has to say about the last run
	RunName     = "sim-run.json" // flags, shares and address of the last run
	MountName   = "sim-mnt"      // an empty directory for the guest's mounts
)

// VM is the directory of a local VM or of a cached image.
type VM struct {
	Dir  string
	Name string
}

// States of a VM.
const (
	Running   = "running"
	Suspended = "suspended"
	Stopped   = "stopped"
)

// Path is a file in the VM's directory.
func (v *VM) Path(name string) string { return filepath.Join(v.Dir, name) }

// Complete reports whether all the files are there that make a directory a VM.
func (v *VM) Complete() bool {
	for _, name := range []string{ConfigName, DiskName, NVRAMName} {
		if _, err := os.Stat(v.Path(name)); err != nil {
			return false
		}
	}
	return true
}

func (v *VM) validate(name string) error {
	if _, err := os.Stat(v.Dir); err != nil {
		return NotExist(name)
	}
	if !v.Complete() {
		return Failure("VM is missing some of its files (%s, %s or %s)", ConfigName, DiskName, NVRAMName)
	}
	return nil
}

// Lock opens the VM's PID lock without taking it. A missing config.json makes the VM non-existent.
func (v *VM) Lock() (*PIDLock, error) {
	lock, err := openPIDLock(v.Path(ConfigName))
	if errors.Is(err, errLockMissing) {
		return nil, NotExist(v.Name)
	}
	return lock, err
}

// RunPID is the pid of the VM's `tart run`; 0: it doesn't run.
func (v *VM) RunPID() (int, error) {
	lock, err := v.Lock()
	if err != nil {
		return 0, err
	}
	defer lock.Close()
	return lock.Holder()
}

// State derives the VM's state from its lock and its saved state.
func (v *VM) State() (string, error) {
	pid, err := v.RunPID()
	if err != nil {
		return "", err
	}
	if pid != 0 {
		return Running, nil
	}
	if v.HasSavedState() {
		return Suspended, nil
	}
	return Stopped, nil
}

// HasSavedState reports whether the VM was suspended.
func (v *VM) HasSavedState() bool {
	_, err := os.Stat(v.Path(StateName))
	return err == nil
}

// Config reads config.json. It must not be called by a process that holds the VM's lock.
func (v *VM) Config() (*Config, error) { return readConfig(v.Path(ConfigName)) }

// Image reads the stand-in's own sim.json.
func (v *VM) Image() (simconf.Image, error) { return simconf.LoadImage(v.Dir) }

// RegenerateMAC gives the VM a new MAC address and drops its saved state, which is of no use with another address.
func (v *VM) RegenerateMAC() error {
	config, err := v.Config()
	if err != nil {
		return err
	}
	config.MAC = RandomMAC()
	if err := os.Remove(v.Path(StateName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return System("%v", err)
	}
	return config.Save(v.Path(ConfigName))
}

// Sizes returns the logical and the allocated bytes of the VM's three files.
func (v *VM) Sizes() (logical, allocated int64, err error) {
	for _, name := range []string{ConfigName, DiskName, NVRAMName} {
		var st unix.Stat_t
		if err := unix.Stat(v.Path(name), &st); err != nil {
			return 0, 0, System("The file “%s” couldn’t be opened because there is no such file.", name)
		}
		logical += st.Size
		allocated += st.Blocks * 512
	}
	image, err := v.Image()
	if err != nil {
		return 0, 0, System("%v", err)
	}
	if image.AllocatedBytes > 0 {
		allocated = image.AllocatedBytes
	}
	return logical, allocated, nil
}

// Accessed is when tart last opened the VM.
func (v *VM) Accessed() (time.Time, error) {
	var st unix.Stat_t
	if err := unix.Stat(v.Dir, &st); err != nil {
		return time.Time{}, System("%v", err)
	}
	return time.Unix(st.Atim.Unix()), nil
}

func (v *VM) touch() { v.SetAccessed(time.Now()) }

// SetAccessed sets the access time that pruning goes by. Like tart's, it is best effort on read-only directories.
func (v *VM) SetAccessed(when time.Time) {
	info, err := os.Stat(v.Dir)
	if err != nil {
		return
	}
	_ = os.Chtimes(v.Dir, when, info.ModTime())
}

// Delete removes a VM that is not running.
func (v *VM) Delete() error {
	lock, err := v.Lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	free, err := lock.TryLock()
	if err != nil {
		return err
	}
	if !free {
		return IsRunning(v.Name)
	}
	if err := RemoveTree(v.Dir); err != nil {
		return System("%v", err)
	}
	return nil
}
