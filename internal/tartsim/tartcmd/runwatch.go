package tartcmd

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"gitlab-runner-tart-driver/internal/tartsim/guest"
	"gitlab-runner-tart-driver/internal/tartsim/simconf"
	"gitlab-runner-tart-driver/internal/tartsim/tarthome"
)

// timers are what happens to a running VM by itself.
type timers struct {
	lease  <-chan time.Time
	death  <-chan time.Time
	freeze <-chan time.Time
	cut    <-chan time.Time
	how    string
}

func (r *runner) setTimers() timers {
	var t timers
	t.lease = time.After(r.image.Lease.D())
	if fault := r.fault(simconf.DiesAfter); fault != nil {
		t.death, t.how = time.After(fault.After.D()), fault.How
	}
	if fault := r.fault(simconf.FreezeAfter); fault != nil {
		t.freeze = time.After(fault.After.D())
	}
	if fault := r.fault(simconf.PowerCut); fault != nil {
		t.cut = time.After(fault.After.D())
	}
	return t
}

// watch is the rest of the VM's life. It returns the exit status of `tart run`.
func (r *runner) watch() int {
	if r.fault(simconf.StaleLease) != nil {
		if other, err := guest.TakeAddress(netip.Addr{}, false); err == nil {
			defer other.Release() // nobody else gets it, or that guest would answer there
			r.putLease(other.IP)
		}
	}
	deaf := r.fault(simconf.SigintIgnored) != nil
	t := r.setTimers()
	events := r.machine.Events()
	for {
		select {
		case <-r.sigint:
			if deaf {
				continue
			}
			r.println("Stopping VM...")
			r.machine.Kill()
			return 0
		case s := <-r.signals:
			if code, ended := r.signalled(s); ended {
				return code
			}
		case event, open := <-events:
			if !open {
				events = nil
				continue
			}
			if code, ended := r.reported(event); ended {
				return code
			}
		case <-r.machine.Ended():
			return r.endWith("error")
		case order := <-r.orders:
			if code, ended := r.obey(order); ended {
				return code
			}
		case <-t.lease:
			r.lease()
		case <-t.death:
			return r.endWith(t.how)
		case <-t.freeze:
			r.machine.Freeze()
		case <-t.cut:
			r.powerCut()
		}
	}
}

func (r *runner) reported(event guest.Event) (int, bool) {
	if event.Kind == guest.EventPowerOff {
		return r.endWith("poweroff"), true
	}
	r.log.printf("guest: %s", event.Text)
	return 0, false
}

// endWith ends the VM in one of the ways that are not `tart stop`.
func (r *runner) endWith(how string) int {
	switch how {
	case "error":
		r.machine.Kill()
		r.println("guest has stopped the virtual machine due to error: Error Domain=VZErrorDomain Code=1 " +
			"\"The virtual machine stopped unexpectedly.\" UserInfo={NSLocalizedFailure=Internal Virtualization error.}")
	case "network":
		r.println("virtual machine's network attachment <VZNetworkDevice: 0x600000000000> has been disconnected with error: " +
			"Error Domain=VZErrorDomain Code=1 \"Internal Network Error.\"")
		r.machine.Kill()
	case "killed":
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	default:
		r.machine.Kill()
		r.println("guest has stopped the virtual machine")
	}
	return 0
}

// powerCut ends the guest and this process with it. A guest with a network of its own is cut off first, so that no connection learns of it.
func (r *runner) powerCut() {
	r.machine.Kill()
	_ = unix.Kill(os.Getpid(), unix.SIGKILL)
}

func (r *runner) signalled(s os.Signal) (int, bool) {
	if s == unix.SIGUSR1 {
		return r.suspended(), true
	}
	r.println("Requesting guest OS to stop...")
	if r.config.OS == tarthome.Linux {
		if err := r.machine.Shutdown(); err != nil {
			r.log.printf("%v", err)
		}
	}
	// macOS shows a dialog that nobody answers.
	return 0, false
}

// Lease times of macOS's DHCP server, by default and as Softnet sets it.
const (
	leaseTime        = 24 * time.Hour
	softnetLeaseTime = 10 * time.Minute
)

// lease enters the guest's address into the DHCP table, unless it gets none.
func (r *runner) lease() {
	if r.args.Has("net-bridged") || r.fault(simconf.NeverAddress) != nil {
		return
	}
	r.putLease(r.address.IP)
}

func (r *runner) putLease(ip netip.Addr) {
	mac, err := tarthome.ParseMAC(r.config.MAC)
	if err != nil {
		r.log.printf("lease: %v", err)
		return
	}
	duration := leaseTime
	switch {
	case r.app.config.LeaseTime > 0:
		duration = r.app.config.LeaseTime.D()
	case r.softnet():
		duration = softnetLeaseTime
	}
	now := time.Now()
	lease := tarthome.Lease{Name: "guest", IP: ip, MAC: mac, Expires: now.Add(duration)}
	err = r.home.Leases().Change(func(leases []tarthome.Lease) []tarthome.Lease {
		taken := 0
		for _, other := range leases {
			if other.MAC != mac && other.Expires.After(now) {
				taken++
			}
		}
		if pool := r.app.config.LeasePool; pool > 0 && taken >= pool {
			r.log.printf("lease: all %d addresses are taken", pool)
			return leases
		}
		return tarthome.Put(leases, lease)
	})
	if err != nil {
		r.log.printf("lease: %v", err)
	}
}

// otherRunning names the other running VMs in the way of the limit's message.
func (r *runner) otherRunning() string {
	entries, err := os.ReadDir(r.home.VMs())
	if err != nil {
		return ""
	}
	var names []string
	for _, entry := range entries {
		// The VM's own file must stay closed, or its lock is lost.
		if entry.Name() == r.vm.Name {
			continue
		}
		other := r.home.VM(filepath.Base(entry.Name()))
		if pid, err := other.RunPID(); err == nil && pid != 0 {
			names = append(names, other.Name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return " (other running VMs: " + strings.Join(names, ", ") + ")"
}
