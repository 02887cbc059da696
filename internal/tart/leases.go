package tart

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Leases is the table of the host's DHCP server, which tells a VM's address as soon as there is one: `tart ip` reads it, too, but only once a
// second, and costs a process each time.
type Leases struct {
	table, config string
	seen          [2]fs.FileInfo
}

// Leases watches the table for a local VM.
func (c *Client) Leases(name string) *Leases {
	return &Leases{table: leasesPath(c.home), config: filepath.Join(c.VMDir(name), "config.json")}
}

// Readable tells whether the table exists and can be read, and the VM's MAC address is known. If not, only tart can tell the address; the table
// may also be made with the first lease.
func (l *Leases) Readable() bool {
	f, err := os.Open(l.table)
	if err != nil {
		return false
	}
	f.Close()
	return l.mac() != ""
}

// mac is the VM's MAC address. Tart gives it another when it starts, if a running VM has the same.
func (l *Leases) mac() string {
	var config struct {
		MACAddress string `json:"macAddress"`
	}
	raw, err := os.ReadFile(l.config)
	if err != nil || json.Unmarshal(raw, &config) != nil {
		return ""
	}
	mac, err := net.ParseMAC(config.MACAddress)
	if err != nil {
		return ""
	}
	return mac.String()
}

// Look returns the VM's address if anything has changed since the last look, and the zero address if not, or if there is none.
func (l *Leases) Look(now time.Time) netip.Addr {
	changed := false
	for i, path := range []string{l.table, l.config} {
		st, err := os.Stat(path)
		if err != nil {
			return netip.Addr{}
		}
		old := l.seen[i]
		changed = changed || old == nil || !os.SameFile(st, old) || !st.ModTime().Equal(old.ModTime()) || st.Size() != old.Size()
		l.seen[i] = st
	}
	if !changed {
		return netip.Addr{}
	}
	raw, err := os.ReadFile(l.table)
	if err != nil {
		return netip.Addr{}
	}
	return leaseOf(raw, l.mac(), now)
}

// leaseOf finds the unexpired lease of a MAC address that expires last, as tart does. The table may be half written: what can't be read is
// passed over, and the next look sees more.
// https://github.com/openai/tart/blob/main/Sources/tart/MACAddressResolver/Leases.swift
func leaseOf(table []byte, mac string, now time.Time) netip.Addr {
	var best, addr netip.Addr
	var latest, expires time.Time
	var owner string
	lines := bufio.NewScanner(bytes.NewReader(table))
	for lines.Scan() {
		key, value, _ := strings.Cut(strings.TrimSpace(lines.Text()), "=")
		switch key {
		case "{":
			addr, expires, owner = netip.Addr{}, time.Time{}, ""
		case "ip_address":
			addr, _ = netip.ParseAddr(value)
		case "hw_address":
			owner = leaseMAC(value)
		case "lease":
			if n, err := strconv.ParseInt(strings.TrimPrefix(value, "0x"), 16, 64); err == nil {
				expires = time.Unix(n, 0)
			}
		case "}":
			if owner == mac && owner != "" && addr.Is4() && expires.After(now) && expires.After(latest) {
				best, latest = addr, expires
			}
		}
	}
	return best
}

// leaseMAC is the address in "1,a:b:c:d:e:f", where the server leaves zeros in front out.
func leaseMAC(value string) string {
	kind, text, _ := strings.Cut(value, ",")
	parts := strings.Split(text, ":")
	if kind != "1" || len(parts) != 6 {
		return ""
	}
	for i, p := range parts {
		if len(p) == 1 {
			parts[i] = "0" + p
		}
	}
	mac, err := net.ParseMAC(strings.Join(parts, ":"))
	if err != nil {
		return ""
	}
	return mac.String()
}
