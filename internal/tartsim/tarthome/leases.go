package tarthome

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Lease is one entry of the DHCP server's table.
type Lease struct {
	Name    string
	IP      netip.Addr
	MAC     MAC
	Expires time.Time
}

// LeaseFile is the table in the form of macOS's /var/db/dhcpd_leases. Real tart reads the host's; the stand-in keeps one per TART_HOME.
type LeaseFile struct{ path string }

// Path is where the table is.
func (l *LeaseFile) Path() string { return l.path }

// Read parses the table; a missing file is an empty one.
func (l *LeaseFile) Read() ([]Lease, error) {
	data, err := os.ReadFile(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, System("%v", err)
	}
	return ParseLeases(string(data))
}

// ParseLeases parses the table. Entries that lack something are passed over; a malformed or cut-off table is an error, as in tart.
func ParseLeases(text string) ([]Lease, error) {
	var leases []Lease
	var fields map[string]string
	filled := false
	number := 0
	for _, line := range strings.Split(text, "\n") {
		if line == "" {
			continue
		}
		number++
		switch {
		case line == "{":
			if fields != nil {
				return nil, leaseFormat("unexpected lease block start ({)", number)
			}
			fields, filled = map[string]string{}, false
		case line == "}":
			if fields == nil || !filled {
				return nil, leaseFormat("unexpected lease block end (})", number)
			}
			if lease, ok := leaseFrom(fields); ok {
				leases = append(leases, lease)
			}
			fields = nil
		default:
			content := strings.TrimLeft(line, " \t")
			if content == "" {
				continue
			}
			key, value, found := strings.Cut(content, "=")
			if !found || key == "" || value == "" {
				return nil, leaseFormat("key-value pair with only a key", number)
			}
			if fields == nil {
				fields = map[string]string{}
			}
			fields[key], filled = value, true
		}
	}
	if fields != nil {
		return nil, System("Truncated(name: \"truncated DHCPD leases file\")")
	}
	return leases, nil
}

func leaseFormat(message string, line int) error {
	return System("UnexpectedFormat(name: \"unexpected DHCPD leases file format\", message: %q, line: %d)", message, line)
}

func leaseFrom(fields map[string]string) (Lease, bool) {
	kind, address, found := strings.Cut(fields["hw_address"], ",")
	if !found || kind != "1" {
		return Lease{}, false
	}
	mac, err := ParseMAC(address)
	if err != nil {
		return Lease{}, false
	}
	ip, err := netip.ParseAddr(fields["ip_address"])
	if err != nil || !ip.Is4() {
		return Lease{}, false
	}
	digits, _ := strings.CutPrefix(fields["lease"], "0x")
	seconds, err := strconv.ParseInt(digits, 16, 64)
	if err != nil {
		return Lease{}, false
	}
	return Lease{Name: fields["name"], IP: ip, MAC: mac, Expires: time.Unix(seconds, 0)}, true
}

// FormatLeases writes the table.
func FormatLeases(leases []Lease) string {
	var b strings.Builder
	for _, lease := range leases {
		name := lease.Name
		if name == "" {
			name = "guest"
		}
		mac := lease.MAC.leaseString()
		fmt.Fprintf(&b, "{\n\tname=%s\n\tip_address=%s\n\thw_address=1,%s\n\tidentifier=1,%s\n\tlease=0x%x\n}\n", name, lease.IP, mac, mac, lease.Expires.Unix())
	}
	return b.String()
}

// Lookup returns the unexpired lease of a MAC address that expires last.
func Lookup(leases []Lease, mac MAC, now time.Time) (Lease, bool) {
	var best Lease
	found := false
	for _, lease := range leases {
		if lease.MAC == mac && lease.Expires.After(now) && (!found || lease.Expires.After(best.Expires)) {
			best, found = lease, true
		}
	}
	return best, found
}

// Change edits the table under a lock and replaces the file in one step, so that readers never see half of it.
func (l *LeaseFile) Change(edit func([]Lease) []Lease) error {
	lock, err := os.OpenFile(l.path+".lock", os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("lease file: %w", err)
	}
	defer func() { _ = lock.Close() }()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lease file: lock: %w", err)
	}
	leases, err := l.Read()
	if err != nil {
		return err
	}
	temp := l.path + ".new"
	if err := os.WriteFile(temp, []byte(FormatLeases(edit(leases))), 0o644); err != nil {
		return fmt.Errorf("lease file: %w", err)
	}
	return os.Rename(temp, l.path)
}

// Put adds a lease, in place of an older one of the same MAC address.
func Put(leases []Lease, lease Lease) []Lease {
	kept := make([]Lease, 0, len(leases)+1)
	for _, other := range leases {
		if other.MAC != lease.MAC {
			kept = append(kept, other)
		}
	}
	return append(kept, lease)
}
