//go:build linux

package guest

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// linkWait bounds the wait for the interface that the host's side moves into the guest.
const linkWait = 5 * time.Second

// makeLink brings up the guest's own network, if it has one: the loopback and one interface with the guest's address. There is no
// default route, so what is not in the network fails at once.
func (g *guestInit) makeLink() error {
	link := g.spec.Link
	if link == nil {
		return nil
	}
	deadline := time.Now().Add(linkWait)
	for {
		_, err := net.InterfaceByName(link.Guest)
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("interface %s: %w", link.Guest, err)
		}
		timer := time.NewTimer(time.Millisecond)
		<-timer.C
	}
	address, err := netip.ParseAddr(g.spec.Address)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	mask := net.CIDRMask(link.Prefix, 32)
	return errors.Join(
		setUp(fd, "lo"),
		setAddress(fd, link.Guest, unix.SIOCSIFADDR, address.AsSlice()),
		setAddress(fd, link.Guest, unix.SIOCSIFNETMASK, mask),
		setUp(fd, link.Guest),
	)
}

func setAddress(fd int, name string, request uint, address []byte) error {
	ifreq, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	if err := ifreq.SetInet4Addr(address); err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, request, ifreq); err != nil {
		return fmt.Errorf("set address of %s: %w", name, err)
	}
	return nil
}

func setUp(fd int, name string) error {
	ifreq, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, ifreq); err != nil {
		return fmt.Errorf("flags of %s: %w", name, err)
	}
	ifreq.SetUint16(ifreq.Uint16() | unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifreq); err != nil {
		return fmt.Errorf("bring up %s: %w", name, err)
	}
	return nil
}
