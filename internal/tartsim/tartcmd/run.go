package tartcmd

import (
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"gitlab-runner-tart-driver/internal/tartsim/guest"
	"gitlab-runner-tart-driver/internal/tartsim/simconf"
	"gitlab-runner-tart-driver/internal/tartsim/tarthome"
)

// runner is one `tart run` once its arguments are found good.
type runner struct {
	*app
	vm      *tarthome.VM
	config  *tarthome.Config // as it was at the start: the file must not be opened any more
	image   simconf.Image
	lock    *tarthome.PIDLock
	shares  []guest.Share
	hostKey []byte
	resumed bool
	signals chan os.Signal
	log     *runLog
	dir     *os.File // the VM's directory: it may be replaced by a clone of the same name
	slot    *tarthome.FileLock
	address *guest.Address
	machine *guest.Machine
	started time.Time
	orders  chan simOrder
}

func (a *app) run() int {
	r := &runner{app: a, signals: make(chan os.Signal, 8), orders: make(chan simOrder)}
	signal.Ignore(unix.SIGINT)
	if err := r.prepare(); err != nil {
		return a.report(err)
	}
	signal.Notify(r.signals, unix.SIGUSR1, unix.SIGUSR2)
	// From here on SIGINT is heard; what came before is lost.
	signal.Notify(a.sigint, unix.SIGINT)
	select {
	case <-a.sigint:
	default:
	}
	code := r.live()
	r.lock.Close()
	return code
}

// prepare goes from the arguments to the VM's lock. Its errors have their own exit statuses; later ones all end in 1.
func (r *runner) prepare() error {
	var err error
	if r.vm, err = r.home.OpenVM(r.args.Arg("name")); err != nil {
		return err
	}
	global, err := r.home.Global()
	if err != nil {
		return err
	}
	defer global.Close()
	if err := r.avoidMACCollision(); err != nil {
		return err
	}
	if r.config, err = r.vm.Config(); err != nil {
		return err
	}
	if err := r.checkDevices(); err != nil {
		return err
	}
	if r.image, err = r.vm.Image(); err != nil {
		return tarthome.System("%v", err)
	}
	if r.lock, err = r.vm.Lock(); err != nil {
		return err
	}
	free, err := r.lock.TryLock()
	if err != nil {
		return err
	}
	if !free {
		return tarthome.AlreadyRunning(r.vm.Name)
	}
	return nil
}

// avoidMACCollision gives the VM a new address when another one runs with the same; its saved state is lost by that.
func (r *runner) avoidMACCollision() error {
	config, err := r.vm.Config()
	if err != nil {
		return err
	}
	vms, err := r.home.ListVMs()
	if err != nil {
		return err
	}
	for _, other := range vms {
		if other.Name == r.vm.Name {
			continue
		}
		pid, err := other.RunPID()
		if err != nil || pid == 0 {
			continue
		}
		otherConfig, err := other.Config()
		if err != nil || otherConfig.MAC != config.MAC {
			continue
		}
		r.println("There is already a running VM with the same MAC address!")
		r.println("Resetting VM to assign a new MAC address...")
		return r.vm.RegenerateMAC()
	}
	return nil
}

func (r *runner) checkDevices() error {
	if path := r.args.Value("serial-path", ""); path != "" {
		file, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
		if err != nil {
			return tarthome.Failure("Failed to open PTY")
		}
		defer func() { _ = file.Close() }()
	}
	if r.args.Has("serial") {
		r.println("Successfully open pty /dev/ttys000")
	}
	for _, disk := range r.args.Values("disk") {
		if err := r.checkDisk(disk); err != nil {
			return err
		}
	}
	if err := r.checkNetwork(); err != nil {
		return err
	}
	workDir, err := os.Getwd()
	if err != nil {
		return tarthome.System("%v", err)
	}
	if r.shares, err = parseDirs(r.args.Values("dir"), r.env["HOME"], workDir); err != nil {
		return err
	}
	if err := r.fetchShares(); err != nil {
		return err
	}
	if r.args.Has("rosetta") && r.config.OS == tarthome.Darwin {
		return tarthome.System("UnsupportedOSError")
	}
	if r.args.Has("nested") && r.config.OS == tarthome.Darwin {
		return tarthome.Failure("macOS virtual machines do not support nested virtualization")
	}
	return parseDiskOptions(r.args.Value("root-disk-opts", "")).check()
}

// live starts the guest and stays with it to its end.
func (r *runner) live() int {
	if err := r.openLog(); err != nil {
		return r.setupFailure(err)
	}
	defer r.log.close()
	if err := r.startVM(); err != nil {
		r.complain(err.Error() + "\n")
		return exitFailure
	}
	code, err := r.startGuest()
	defer r.release()
	if err != nil {
		r.log.printf("%v", err)
		r.complain(err.Error() + "\n")
		return code
	}
	if code, ended := r.startVNC(); ended {
		r.machine.Kill()
		return code
	}
	return r.watch()
}

// startVM plays what can go wrong when the framework starts a VM.
func (r *runner) startVM() error {
	if r.vm.HasSavedState() {
		if err := r.restore(); err != nil {
			return err
		}
	}
	if r.fault(simconf.KeychainLocked) != nil {
		return vzError(1, "Internal Virtualization error. The virtual machine failed to start.", "Failed to generate keypair: SecKeyCreateRandomKey_ios failed")
	}
	if fault := r.fault(simconf.StartFailure); fault != nil {
		if fault.Text != "" {
			return tarthome.System("%s", fault.Text)
		}
		return vzError(1, "Internal Virtualization error. The virtual machine failed to start.", "The virtual machine failed to start.")
	}
	return r.takeSlot()
}

// vzError is an error of Virtualization.framework as Swift prints it.
func vzError(code int, text, reason string) error {
	return tarthome.System("Error Domain=VZErrorDomain Code=%d \"%s\" UserInfo={NSLocalizedFailure=%s, NSLocalizedFailureReason=%s}", code, text, text, reason)
}

// defaultMaxVMs is the number of macOS VMs that Apple's framework lets run.
const defaultMaxVMs = 2

// takeSlot takes one of the places for running macOS VMs. They are locks, so that they go with their holders.
func (r *runner) takeSlot() error {
	if r.config.OS != tarthome.Darwin {
		return nil
	}
	places := r.app.config.MaxVMs
	if places == 0 {
		places = defaultMaxVMs
	}
	if r.fault(simconf.VMLimit) == nil {
		for n := range places {
			path := filepath.Join(r.home.Dir, fmt.Sprintf("tartsim-slot-%d.lock", n))
			if err := os.WriteFile(path, nil, 0o644); err != nil {
				return err
			}
			slot, err := tarthome.OpenFileLock(path)
			if err != nil {
				return err
			}
			if free, err := slot.TryLock(); err == nil && free {
				r.slot = slot
				return nil
			}
			slot.Close()
		}
	}
	return tarthome.System("The number of VMs exceeds the system limit%s", r.otherRunning())
}

// release gives back what the run held; the kernel does the same for one that is killed.
func (r *runner) release() {
	_ = unix.Unlinkat(int(r.dir.Fd()), tarthome.SocketName, 0)
	_ = r.dir.Close()
	if r.address != nil {
		r.address.Release()
	}
	if r.slot != nil {
		r.slot.Close()
	}
}

// formerAddress is the address the DHCP server would give again: that of an unexpired lease of the same MAC address.
func (r *runner) formerAddress() netip.Addr {
	mac, err := tarthome.ParseMAC(r.config.MAC)
	if err != nil {
		return netip.Addr{}
	}
	leases, err := r.home.Leases().Read()
	if err != nil {
		return netip.Addr{}
	}
	lease, _ := tarthome.Lookup(leases, mac, time.Now())
	return lease.IP
}
