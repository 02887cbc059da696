package doctor

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"

	"gitlab-runner-tart-driver/internal/lazy"
)

// What programs and files of macOS say. Everything here is a pure function of a text.

// version is a version number, such as 15.6.1.
type version []int

var versionForm = lazy.Regexp(`\d+(\.\d+)*`)

// parseVersion finds the first version number in a text.
func parseVersion(text string) (version, bool) {
	var v version
	for _, part := range strings.Split(versionForm().FindString(text), ".") {
		n, err := strconv.Atoi(part)
		if err != nil {
			return nil, false
		}
		v = append(v, n)
	}
	return v, true
}

// atLeast compares with another version, in which missing parts are 0.
func (v version) atLeast(other ...int) bool {
	for i := range max(len(v), len(other)) {
		a, b := 0, 0
		if i < len(v) {
			a = v[i]
		}
		if i < len(other) {
			b = other[i]
		}
		if a != b {
			return a > b
		}
	}
	return true
}

func (v version) String() string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint([]int(v)), " ", "."), "[]")
}

// lease is an entry of /var/db/dhcpd_leases.
type lease struct {
	address netip.Addr
	expires time.Time
}

var errLeases = errors.New("not the table that macOS writes")

// parseLeases reads /var/db/dhcpd_leases: blocks in braces with a key=value on each line, lease being the end of the lease in seconds since 1970,
// in hexadecimal. Entries that lack an address or a time are passed over, as tart does.
// https://github.com/openai/tart/blob/main/Sources/tart/MACAddressResolver/Leases.swift
func parseLeases(text string) ([]lease, error) {
	var leases []lease
	var open bool
	var current lease
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		key, value, _ := strings.Cut(line, "=")
		switch {
		case line == "":
		case line == "{" && !open:
			open, current = true, lease{}
		case line == "}" && open:
			if open = false; current.address.IsValid() && !current.expires.IsZero() {
				leases = append(leases, current)
			}
		case !open || line == "{":
			return nil, errLeases
		case key == "ip_address":
			current.address, _ = netip.ParseAddr(value)
		case key == "lease":
			if n, err := strconv.ParseInt(strings.TrimPrefix(value, "0x"), 16, 64); err == nil {
				current.expires = time.Unix(n, 0)
			}
		}
	}
	if open {
		return nil, errLeases
	}
	return leases, nil
}

// diskFree is a row of `df -Pk`.
type diskFree struct {
	device string
	bytes  int64
}

// parseDF reads what `df -Pk PATH` prints. https://pubs.opengroup.org/onlinepubs/9799919799/utilities/df.html
func parseDF(text string) (diskFree, bool) {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	row := regexp.MustCompile(`^(.+?)\s+\d+\s+\d+\s+(-?\d+)\s+-?\d+%\s+/`).FindStringSubmatch(lines[len(lines)-1])
	if len(lines) < 2 || row == nil {
		return diskFree{}, false
	}
	kilobytes, err := strconv.ParseInt(row[2], 10, 64)
	return diskFree{device: row[1], bytes: kilobytes * 1024}, err == nil
}

// remote tells whether the disk is another machine's: SMB's //user@server/share, NFS's server:/path.
func (d diskFree) remote() bool {
	return strings.HasPrefix(d.device, "//") || regexp.MustCompile(`^[^/]+:/`).MatchString(d.device)
}

// keychainInfo is what `security show-keychain-info` says of an unlocked keychain.
type keychainInfo struct {
	locksOnSleep bool
	// timeout is after how long without use it locks itself; 0 for never.
	timeout time.Duration
}

// parseKeychain reads `Keychain "PATH" lock-on-sleep timeout=300s`, or `Keychain "PATH" no-timeout`.
func parseKeychain(text string) (keychainInfo, bool) {
	_, flags, ok := strings.Cut(text, `Keychain "`)
	i := strings.LastIndex(flags, `"`)
	if !ok || i < 0 {
		return keychainInfo{}, false
	}
	var info keychainInfo
	for _, flag := range strings.Fields(flags[i+1:]) {
		if seconds, ok := strings.CutPrefix(flag, "timeout="); ok {
			timeout, err := time.ParseDuration(seconds)
			if err != nil {
				return keychainInfo{}, false
			}
			info.timeout = timeout
		}
		info.locksOnSleep = info.locksOnSleep || flag == "lock-on-sleep"
	}
	return info, true
}
