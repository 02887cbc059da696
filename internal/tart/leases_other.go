//go:build !darwin

package tart

import "path/filepath"

// leasesPath is where the stand-in for tart keeps its table: the host has none.
func leasesPath(home string) string { return filepath.Join(home, "dhcpd_leases") }
