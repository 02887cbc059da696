package tartcmd

import (
	"os"
	"time"

	"golang.org/x/sys/unix"

	"gitlab-runner-tart-driver/internal/tartsim/simconf"
	"gitlab-runner-tart-driver/internal/tartsim/tarthome"
)

// Times of `tart stop`.
const (
	stopTimeout = 30
	stopTick    = 100 * time.Millisecond
)

func (a *app) stop() error {
	vm, err := a.home.OpenVM(a.args.Arg("name"))
	if err != nil {
		return err
	}
	state, err := vm.State()
	if err != nil {
		return err
	}
	switch state {
	case tarthome.Stopped:
		return tarthome.NotRunning(vm.Name)
	case tarthome.Suspended:
		_ = os.Remove(vm.Path(tarthome.StateName)) // tart doesn't look either
		return nil
	}
	return a.stopRunning(vm)
}

// stopRunning sends SIGINT once, looks at the lock every 100 ms, and at last sends SIGKILL, for whose effect it does not wait.
func (a *app) stopRunning(vm *tarthome.VM) error {
	lock, err := vm.Lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	pid, err := lock.Holder()
	if err != nil {
		return err
	}
	if pid == 0 {
		return tarthome.NotRunning(vm.Name)
	}
	_ = unix.Kill(pid, unix.SIGINT) // it may be gone already, which is as good
	ticks := a.args.Uint("timeout", stopTimeout) * uint64(time.Second/stopTick)
	for range ticks {
		if pid, err = lock.Holder(); err != nil {
			return err
		}
		if pid == 0 {
			return nil
		}
		wait(stopTick)
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		return tarthome.Failure("failed to forcefully terminate the VM %q: %v", vm.Name, err)
	}
	return nil
}

func (a *app) delete() error {
	for _, name := range a.args.Args("name") {
		if a.faultOf(simconf.DeleteFails, name) != nil {
			return tarthome.System("“%s” couldn’t be removed because you don’t have permission to access it.", name)
		}
		if err := a.deleteOne(name); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) deleteOne(name string) error {
	if remote, err := tarthome.ParseRemoteName(name); err == nil {
		if !a.home.OCI().Has(remote) {
			return tarthome.NotExist(name)
		}
		return a.home.OCI().Delete(remote)
	}
	return a.home.VM(name).Delete()
}

func (a *app) suspend() error {
	vm, err := a.home.OpenVM(a.args.Arg("name"))
	if err != nil {
		return err
	}
	pid, err := vm.RunPID()
	if err != nil {
		return err
	}
	if pid == 0 {
		// Tart wraps the message in itself.
		return tarthome.NotRunning("VM \"" + vm.Name + "\" is not running")
	}
	if err := unix.Kill(pid, unix.SIGUSR1); err != nil {
		return tarthome.Failure("Failed to suspend the VM: failed to send SIGUSR1 signal to the \"tart run\" process running VM %q", vm.Name)
	}
	return nil
}

func (a *app) rename() error {
	from, to := a.home.VM(a.args.Arg("name")), a.home.VM(a.args.Arg("new-name"))
	if !from.Complete() {
		return tarthome.Invalid("failed to rename a non-existent local VM: %s", from.Name)
	}
	if to.Complete() {
		return tarthome.Invalid("failed to rename VM %s, target VM %s already exists, delete it first!", from.Name, to.Name)
	}
	return a.home.Place(from.Dir, to.Name)
}

// Sizes of a fresh VM.
const (
	createDiskGB = 50
	createCPU    = 4
	createMemory = 4 << 30
)

func (a *app) create() error {
	name := a.args.Arg("name")
	dir, lock, err := a.home.TempDir(tarthome.UUID())
	if err != nil {
		return err
	}
	defer lock.Close()
	a.cancelWith(func() { _ = tarthome.RemoveTree(dir) })
	guestOS := tarthome.Linux
	if a.args.Has("from-ipsw") {
		guestOS = tarthome.Darwin
		if a.args.Value("from-ipsw", "") == "latest" {
			a.println("Looking up the latest supported IPSW...")
		}
		a.println("Installing OS...")
		a.progress(0)
	}
	if a.args.Value("disk-format", "raw") == "asif" {
		return tarthome.Invalid("Disk format 'asif' is not supported on this system.")
	}
	config := tarthome.NewConfig(guestOS, createCPU, createMemory)
	size := int64(a.args.Uint("disk-size", createDiskGB)) * gigabyte
	if err := NewVM(dir, config, size, simconf.Image{}); err != nil {
		return err
	}
	return a.home.Place(dir, name)
}

// NewVM writes a fresh VM's files into an existing directory.
func NewVM(dir string, config *tarthome.Config, diskSize int64, image simconf.Image) error {
	vm := tarthome.VM{Dir: dir}
	if err := config.Save(vm.Path(tarthome.ConfigName)); err != nil {
		return err
	}
	if err := os.WriteFile(vm.Path(tarthome.NVRAMName), []byte("tartsim\n"), 0o644); err != nil {
		return tarthome.System("%v", err)
	}
	if err := growFile(vm.Path(tarthome.DiskName), diskSize); err != nil {
		return tarthome.System("%v", err)
	}
	if err := image.Save(dir); err != nil {
		return tarthome.System("%v", err)
	}
	if _, err := HostKey(dir); err != nil {
		return tarthome.System("%v", err)
	}
	return nil
}

// growFile makes a file of that size, or lengthens it; it takes no space.
func growFile(path string, size int64) error {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	err = file.Truncate(size)
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	return err
}
