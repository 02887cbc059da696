//go:build linux

package guest

import (
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"strings"
)

// bridgeName is the bridge that guests with a network of their own are connected to.
const bridgeName = "tartsim0"

// interfacePrefix begins the names of the host's ends of guests' links.
const interfacePrefix = "tsim"

// CheckNetNS says why guests can't have a network of their own here. They can only where no packet can leave the machine by mistake: in a
// network namespace without a default route and without interfaces other than the loopback and the stand-in's.
func CheckNetNS() error {
	if _, err := exec.LookPath("ip"); err != nil {
		return fmt.Errorf("network %q needs the ip command (apt-get install iproute2): %w", "netns", err)
	}
	out, err := exec.Command("ip", "route", "show", "default").Output()
	if err != nil {
		return fmt.Errorf("ip route: %w", err)
	}
	if len(strings.TrimSpace(string(out))) > 0 {
		return errors.New("network \"netns\" is refused here: there is a default route, packets of a guest could leave the machine; run under `unshare --net`")
	}
	interfaces, err := net.Interfaces()
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	for _, i := range interfaces {
		if i.Flags&net.FlagLoopback == 0 && i.Name != bridgeName && !strings.HasPrefix(i.Name, interfacePrefix) && i.Flags&net.FlagUp != 0 {
			return fmt.Errorf("network \"netns\" is refused here: interface %s is up; run under `unshare --net`", i.Name)
		}
	}
	return nil
}

// run runs the ip command.
func ip(args ...string) error {
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// plug connects the guest's network namespace to the bridge, which it makes if nobody has.
func (m *Machine) plug() error {
	link := m.spec.Link
	if _, err := net.InterfaceByName(bridgeName); err != nil {
		// Two guests may start at once: who comes second finds the bridge there.
		if err := ip("link", "add", bridgeName, "type", "bridge"); err != nil && !strings.Contains(err.Error(), "File exists") {
			return err
		}
	}
	// When `tart run` was killed, the kernel keeps the guest's namespace, and with it the link, until its last connections are closed.
	if err := m.cut(); err != nil {
		return err
	}
	prefix := strconv.Itoa(link.Prefix)
	if err := ip("address", "replace", link.Gateway+"/"+prefix, "dev", bridgeName); err != nil {
		return err
	}
	return errors.Join(
		ip("link", "set", bridgeName, "up"),
		ip("link", "set", "lo", "up"),
		// Another guest may have had the address, with another MAC address.
		ip("neigh", "flush", "to", m.spec.Address),
		ip("link", "add", link.Host, "type", "veth", "peer", "name", link.Guest, "address", link.MAC, "netns", strconv.Itoa(m.cmd.Process.Pid)),
		ip("link", "set", link.Host, "master", bridgeName, "up"),
	)
}

// cut removes the guest's link. A virtual machine that is switched off doesn't say goodbye to its peers, but a dying process does.
func (m *Machine) cut() error {
	if m.spec.Link == nil {
		return nil
	}
	if _, err := net.InterfaceByName(m.spec.Link.Host); err != nil {
		return nil // there is none
	}
	return ip("link", "delete", m.spec.Link.Host)
}

// Unplug takes the guest's link down without a word to either side, as if a cable were pulled.
func (m *Machine) Unplug() error {
	if m.spec.Link == nil {
		return errors.New("the guest has no network of its own (network: loopback): its connections can't break silently")
	}
	return ip("link", "set", m.spec.Link.Host, "down")
}

// Plug takes it up again.
func (m *Machine) Plug() error {
	if m.spec.Link == nil {
		return errors.New("the guest has no network of its own (network: loopback)")
	}
	return ip("link", "set", m.spec.Link.Host, "up")
}
