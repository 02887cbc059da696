package tart

// leasesPath is where macOS's DHCP server keeps its table.
func leasesPath(string) string { return "/var/db/dhcpd_leases" }
