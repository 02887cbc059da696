package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"gitlab-runner-tart-driver/internal/settings"
)

const (
	privacyDomain = "com.apple.network.local-network"
	leasesPath    = "/var/db/dhcpd_leases"
	sharingPlist  = "/Library/Preferences/SystemConfiguration/com.apple.InternetSharing.default.plist"
	vmnetPlist    = "/Library/Preferences/SystemConfiguration/com.apple.vmnet.plist"
	// leaseDefault and leaseMost are in seconds: what macOS has where nothing is set, and what is still well.
	leaseDefault, leaseMost = 86400, 3600
)

// privacyKeys are the lists of networks that all programs may reach, by the kind of interface that the Mac is on the network with.
// https://developer.apple.com/documentation/technotes/tn3179-understanding-local-network-privacy
func privacyKeys() []string {
	return []string{"AllowedEthernetLocalNetworkAddresses", "AllowedWiFiLocalNetworkAddresses"}
}

func lookLocalNetwork(ctx context.Context, s *survey) []Finding {
	v, err := s.macOS()
	switch {
	case err != nil:
		return []Finding{warn("", "%v", err)}
	case !v.atLeast(15):
		return []Finding{pass("macOS %s has no Local Network privacy", v)}
	case len(s.own) > 0 && !s.uses(func(set *settings.Settings) bool { return set.Transport == "ssh" }):
		return []Finding{pass("VMs are reached by the guest agent, without the network (--transport)")}
	}
	var missing []string
	allowed := s.allowedNetworks(ctx)
	for _, key := range privacyKeys() {
		if !covers(allowed[key], netip.MustParsePrefix("192.168.64.0/24")) {
			missing = append(missing, key)
		}
	}
	if len(missing) == 0 {
		return []Finding{pass("all programs may reach VMs")}
	}
	var fix []string
	for _, key := range missing {
		fix = append(fix, fmt.Sprintf("sudo defaults write %s %s -array 10.0.0.0/8 172.16.0.0/12 192.168.0.0/16", privacyDomain, key))
	}
	return []Finding{warn(strings.Join(fix, " && ")+", and a restart; or --transport agent, if images have the guest agent",
		"as far as this user can see, VMs' addresses are not among those that all programs may reach (%s): what GitLab Runner's LaunchAgent starts may not reach VMs by SSH", strings.Join(missing, ", "))}
}

// allowedNetworks are the lists of networks, by key. sudo puts them among root's preferences, which others can't read; where sudo asks for no
// password, root is asked.
func (s *survey) allowedNetworks(ctx context.Context) map[string][]string {
	allowed := map[string][]string{}
	for _, command := range [][]string{
		{"defaults", "read", privacyDomain}, {"defaults", "read", "/Library/Preferences/" + privacyDomain}, {"sudo", "-n", "defaults", "read", privacyDomain},
	} {
		out, err := s.host.Run(ctx, briefly, command[0], command[1:]...)
		if err != nil {
			continue
		}
		value, err := parseDefaults(out.Stdout)
		fields, ok := value.(map[string]any)
		if err != nil || !ok {
			continue
		}
		for _, key := range privacyKeys() {
			items, _ := fields[key].([]any)
			for _, item := range items {
				if text, ok := item.(string); ok {
					allowed[key] = append(allowed[key], text)
				}
			}
		}
		if len(allowed) == len(privacyKeys()) {
			break
		}
	}
	return allowed
}

// covers tells whether a network is part of one of the list.
func covers(list []string, network netip.Prefix) bool {
	return slices.ContainsFunc(list, func(text string) bool {
		p, err := netip.ParsePrefix(text)
		return err == nil && p.Bits() <= network.Bits() && p.Contains(network.Addr())
	})
}

func lookDHCPLease(ctx context.Context, s *survey) []Finding {
	seconds, origin := leaseDefault, "by default"
	out, err := s.host.Run(ctx, briefly, "defaults", "read", sharingPlist, "bootpd")
	if err != nil && !isExit(err) {
		return []Finding{warn("", "the lease time is not known: %v", err)}
	}
	if err == nil {
		value, err := parseDefaults(out.Stdout)
		fields, ok := value.(map[string]any)
		if err != nil || !ok {
			return []Finding{warn("", "the lease time is not known: bootpd in %s is not understood", sharingPlist)}
		}
		if text, ok := fields["DHCPLeaseTimeSecs"].(string); ok {
			if seconds, err = strconv.Atoi(text); err != nil {
				return []Finding{warn(leaseFix(), "DHCPLeaseTimeSecs in %s is %q, which is no number", sharingPlist, text)}
			}
			origin = "set in " + filepath.Base(sharingPlist)
		}
	}
	switch {
	case len(s.own) > 0 && !s.uses(func(set *settings.Settings) bool { return !set.Softnet && len(set.SoftnetAllow) == 0 }):
		return []Finding{pass("Softnet sets it by itself")}
	case seconds > leaseMost:
		return []Finding{warn(leaseFix(), "a VM's address stays taken for %d s after its start (%s), and there are about 250", seconds, origin)}
	default:
		return []Finding{pass("%d s (%s)", seconds, origin)}
	}
}

func leaseFix() string {
	return "sudo defaults write " + sharingPlist + " bootpd -dict DHCPLeaseTimeSecs -int 600"
}

const emptyLeases = "sudo rm " + leasesPath + " while no VM runs; macOS makes it anew"

func lookDHCPTable(ctx context.Context, s *survey) []Finding {
	raw, err := s.host.ReadFile(leasesPath)
	if errors.Is(err, fs.ErrNotExist) {
		return []Finding{pass("none yet")}
	}
	if err != nil {
		return []Finding{warn("", "%s cannot be read: %v", leasesPath, reason(err))}
	}
	leases, err := parseLeases(string(raw))
	if err != nil {
		return []Finding{fail(emptyLeases, "%s is damaged, and so tart finds no VM's address: %v", leasesPath, err)}
	}
	room, now := s.addresses(ctx), s.host.Now()
	taken, noted := map[netip.Addr]bool{}, map[netip.Addr]bool{}
	for _, l := range leases {
		noted[l.address] = true
		if l.expires.After(now) {
			taken[l.address] = true
		}
	}
	switch {
	case len(taken) >= room-room/20:
		return []Finding{fail(emptyLeases+"; "+leaseFix(), "%d of %d addresses for VMs are taken", len(taken), room)}
	case len(noted) >= room-room/20:
		return []Finding{warn(emptyLeases, "%s has entries for %d of %d addresses, %d of them still taken: two VMs may get the same address", leasesPath, len(noted), room, len(taken))}
	default:
		return []Finding{pass("%d of %d addresses are taken", len(taken), room)}
	}
}

// addresses is how many the DHCP server has for VMs: those of the network but its own, its first and its last.
// https://tart.run/faq/#changing-the-default-nat-subnet
func (s *survey) addresses(ctx context.Context) int {
	const usual = 253
	out, err := s.host.Run(ctx, briefly, "defaults", "read", vmnetPlist, "Shared_Net_Mask")
	if err != nil {
		return usual
	}
	mask, err := netip.ParseAddr(strings.Trim(strings.TrimSpace(out.Stdout), `"`))
	if err != nil || !mask.Is4() {
		return usual
	}
	n := mask.As4()
	size := 1 << 32
	size -= int(n[0])<<24 | int(n[1])<<16 | int(n[2])<<8 | int(n[3])
	return max(size-3, 1)
}

func lookSoftnet(ctx context.Context, s *survey) []Finding {
	if !s.uses(func(set *settings.Settings) bool { return set.Softnet || len(set.SoftnetAllow) > 0 }) {
		return []Finding{skip("the settings do not ask for it")}
	}
	path, ok := s.host.Find("softnet")
	if !ok {
		return []Finding{fail("brew install openai/tools/softnet", "the settings ask for Softnet, and there is no softnet in PATH")}
	}
	info, err := s.host.Stat(path)
	if err != nil {
		return []Finding{fail("", "%s: %v", path, reason(err))}
	}
	if info.UID == 0 && info.Mode&fs.ModeSetuid != 0 {
		return []Finding{pass("%s is SUID root", info.Target)}
	}
	// As tart itself asks. https://github.com/openai/tart/blob/main/Sources/tart/Network/Softnet.swift
	if _, err := s.host.Run(ctx, briefly, "sudo", "--non-interactive", "softnet", "--help"); err == nil {
		return []Finding{pass("sudo lets it run without a password")}
	}
	return []Finding{fail(fmt.Sprintf("sudo chown root %s && sudo chmod u+s %s", info.Target, info.Target), "%s is not SUID root, and sudo asks for a password: no VM starts", info.Target)}
}
