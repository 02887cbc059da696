package tarthome

import (
	"crypto/rand"
	"fmt"
	"strconv"
	"strings"
)

// MAC is an Ethernet address.
type MAC [6]byte

// ParseMAC reads an address in colon form. Leading zeros may be missing, as in macOS's lease file.
func ParseMAC(text string) (MAC, error) {
	parts := strings.Split(text, ":")
	var mac MAC
	if len(parts) != len(mac) {
		return MAC{}, fmt.Errorf("MAC address %q: want six octets", text)
	}
	for i, part := range parts {
		octet, err := strconv.ParseUint(part, 16, 8)
		if err != nil || len(part) > 2 {
			return MAC{}, fmt.Errorf("MAC address %q: octet %q", text, part)
		}
		mac[i] = byte(octet)
	}
	return mac, nil
}

func (m MAC) String() string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// leaseString is the form in the lease file.
func (m MAC) leaseString() string {
	return fmt.Sprintf("%x:%x:%x:%x:%x:%x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// RandomMAC makes a locally administered unicast address.
func RandomMAC() string {
	var mac MAC
	_, _ = rand.Read(mac[:]) // never fails, see crypto/rand
	mac[0] = mac[0]&0xfc | 0x02
	return mac.String()
}
