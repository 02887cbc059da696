package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"gitlab-runner-tart-driver/internal/tartsim/simconf"
	"gitlab-runner-tart-driver/internal/tartsim/tartcmd"
	"gitlab-runner-tart-driver/internal/tartsim/tarthome"
)

// watchReady tells when the SSH server of the next VM begins to listen: the first moment at which a login would have succeeded, for a
// connection made then waits for the server to take it. It looks once a millisecond at what the kernel says of listening sockets, and does not
// connect, which would keep the server busy. known are VMs that are not meant. It gives the zero time when ctx ends first.
func (h *host) watchReady(ctx context.Context, known []string) <-chan time.Time {
	found := make(chan time.Time, 1)
	go func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		var at netip.AddrPort
		for {
			if !at.IsValid() {
				at = h.newGuest(known)
			}
			if at.IsValid() && listens(at) {
				found <- time.Now()
				return
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				found <- time.Time{}
				return
			}
		}
	}()
	return found
}

// newGuest is where the guest of a VM that is not known listens, or is going to; invalid while there is none.
func (h *host) newGuest(known []string) netip.AddrPort {
	for _, name := range h.vms() {
		if slices.Contains(known, name) {
			continue
		}
		if at, err := h.guestAt(name); err == nil {
			return at
		}
	}
	return netip.AddrPort{}
}

// guestAt is the address of a VM's guest.
func (h *host) guestAt(vm string) (netip.AddrPort, error) {
	raw, err := os.ReadFile(h.vmFile(vm, tarthome.RunName))
	if err != nil {
		return netip.AddrPort{}, err
	}
	var record tartcmd.RunRecord
	if err := json.Unmarshal(raw, &record); err != nil { // half-written
		return netip.AddrPort{}, err
	}
	addr, err := netip.ParseAddr(record.Address)
	return netip.AddrPortFrom(addr, uint16(record.Port)), err
}

// listens tells whether a TCP socket listens there.
func listens(at netip.AddrPort) bool {
	f, err := os.Open("/proc/net/tcp")
	if err != nil {
		return false
	}
	defer f.Close()
	return hasListener(f, at)
}

// hasListener looks for a listening socket in the form of proc_pid_net(5), where listening sockets come first.
func hasListener(table io.Reader, at netip.AddrPort) bool {
	a := at.Addr().As4()
	local := fmt.Sprintf("%02X%02X%02X%02X:%04X", a[3], a[2], a[1], a[0], at.Port()) // of a little-endian machine
	lines := bufio.NewScanner(table)
	for lines.Scan() {
		const listening = "0A"
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 || fields[0] == "sl" {
			continue
		}
		if fields[3] != listening {
			return false
		}
		if fields[1] == local {
			return true
		}
	}
	return false
}

// sshCounts is what a guest's SSH server saw.
type sshCounts struct {
	// known is false where the server keeps no log.
	known bool
	// connections are TCP connections that reached it, logins those that became an SSH session.
	connections, logins int
}

// countSSH reads the log of the SSH server of the one VM that there is.
func (h *host) countSSH() sshCounts {
	vms := h.vms()
	if len(vms) != 1 || h.sshServer != simconf.SSHOpenSSH {
		return sshCounts{}
	}
	raw, err := os.ReadFile(h.vmFile(vms[0], tarthome.LogName))
	if err != nil {
		return sshCounts{}
	}
	return parseSSHLog(string(raw))
}

// clientPort is the client's side of a connection in a line of sshd's log. Other than a login, one that ends without is mentioned only when it
// has ended.
var clientPort = regexp.MustCompile(`(?:from|by|with|user \S+) 127\.\d+\.\d+\.\d+ port (\d+)`)

// parseSSHLog counts in the log of an OpenSSH server.
func parseSSHLog(log string) sshCounts {
	counts := sshCounts{known: true}
	ports := map[string]bool{}
	for line := range strings.Lines(log) {
		if m := clientPort.FindStringSubmatch(line); m != nil {
			ports[m[1]] = true
		}
		if strings.HasPrefix(line, "Accepted ") {
			counts.logins++
		}
	}
	counts.connections = len(ports)
	return counts
}
