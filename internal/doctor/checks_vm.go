package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"gitlab-runner-tart-driver/internal/settings"
	"gitlab-runner-tart-driver/internal/tart"
)

func lookKeychain(ctx context.Context, s *survey) []Finding {
	v, err := s.macOS()
	if err != nil {
		return []Finding{warn("", "%v", err)}
	}
	amiss := fail
	if !v.atLeast(15) { // guests start without it; registry logins in it are out of reach
		amiss = warn
	}
	path := filepath.Join("/", s.home, "Library/Keychains/login.keychain-db")
	if _, err := s.host.Stat(path); err != nil {
		return []Finding{amiss("log in once at the Mac's screen or by Screen Sharing; or, for one without a password, "+
			"security create-keychain -p '' login.keychain && security unlock-keychain -p '' login.keychain && security login-keychain -s login.keychain",
			"there is no login keychain (%s): macOS guests do not start", path)}
	}
	out, err := s.host.Run(ctx, briefly, "security", "show-keychain-info", path)
	const unlock = "security unlock-keychain login.keychain"
	if err != nil {
		said := tart.LastWords([]byte(out.Stderr))
		if said == "" {
			said = err.Error()
		}
		return []Finding{amiss(unlock, "the login keychain is locked, or out of this session's reach: %s", said)}
	}
	info, ok := parseKeychain(out.Stderr + out.Stdout)
	switch {
	case !ok:
		return []Finding{warn("", "the login keychain is unlocked, but what `security` says of it is not understood: %q", strings.TrimSpace(out.Stderr))}
	case info.timeout > 0:
		return []Finding{warn("security set-keychain-settings "+path, "the login keychain is unlocked, but locks itself when it is not used for %s", info.timeout)}
	case info.locksOnSleep:
		return []Finding{warn("security set-keychain-settings "+path+"; sudo pmset -a sleep 0 keeps the Mac awake", "the login keychain is unlocked, but locks itself when the Mac sleeps")}
	}
	return []Finding{pass("unlocked")}
}

// tartHome is where Tart keeps VMs and images.
func (s *survey) tartHome() string {
	if home := s.host.Getenv("TART_HOME"); home != "" {
		return home
	}
	return filepath.Join("/", s.home, ".tart")
}

// df asks for the disk that a path is on, or will be.
func (s *survey) df(ctx context.Context, path string) (diskFree, error) {
	out, err := s.host.Run(ctx, briefly, "df", "-Pk", s.host.Real(s.existing(path)))
	if err != nil {
		return diskFree{}, err
	}
	disk, ok := parseDF(out.Stdout)
	if !ok {
		return diskFree{}, errors.New("what df says is not understood")
	}
	return disk, nil
}

// imageGB is room for an image where none is there to tell, in GB: one with Xcode takes more, one without less.
const imageGB = 50

func lookDisk(ctx context.Context, s *survey) []Finding {
	home := s.tartHome()
	disk, err := s.df(ctx, home)
	if err != nil {
		return []Finding{warn("", "free space at %s is not known: %v", home, err)}
	}
	const gb = 1e9 // as tart and macOS count
	free := float64(disk.bytes) / gb
	reserve := 0
	for _, r := range s.own {
		reserve = max(reserve, r.settings.DiskReserveGB)
	}
	largest, name := 0.0, ""
	for _, tartName := range s.tartNames() {
		for _, vm := range s.tart(ctx, tartName).vms {
			if !vm.Local() && float64(vm.Size) > largest {
				largest, name = float64(vm.Size), vm.Name
			}
		}
	}
	const fix = "gitlab-runner-tart-driver images prune --budget GB removes images that no job uses; --image-budget does so by itself"
	switch {
	case free < float64(reserve):
		return []Finding{fail(fix, "%.1f GB are free at %s, and jobs are refused below %d GB (--disk-reserve)", free, home, reserve)}
	case name != "" && free < largest+float64(reserve):
		return []Finding{warn(fix, "%.1f GB are free at %s: too little to pull a new version of %s (%g GB) beside the old one", free, home, name, largest)}
	case name == "" && free < imageGB:
		return []Finding{warn("make room", "%.1f GB are free at %s, and an image of macOS takes about %d GB", free, home, imageGB)}
	default:
		return []Finding{pass("%.1f GB are free at %s", free, home)}
	}
}

func lookStateDir(ctx context.Context, s *survey) []Finding {
	var findings []Finding
	for _, dir := range s.stateDirs() {
		at := s.existing(dir)
		info, err := s.host.Stat(at)
		switch {
		case err != nil:
			findings = append(findings, fail("", "%s: %v", at, reason(err)))
			continue
		case !info.Mode.IsDir():
			findings = append(findings, fail("choose another with --state-dir, the same for all stages", "%s is not a directory", at))
			continue
		case at == dir && info.UID != s.host.UID():
			findings = append(findings, fail(fmt.Sprintf("run GitLab Runner and this as the same user; or sudo chown -R %s %s", s.host.Getenv("USER"), dir),
				"%s belongs to another user (number %d)", dir, info.UID))
			continue
		case at == dir && info.Mode.Perm()&0o077 != 0:
			findings = append(findings, warn("chmod 700 "+dir, "other users can get at %s (mode %04o): its files decide which VMs are removed", dir, info.Mode.Perm()))
		}
		if err := s.host.Writable(at); err != nil {
			findings = append(findings, fail("choose another with --state-dir, the same for all stages", "%s cannot be written: %v", at, reason(err)))
		}
		if disk, err := s.df(ctx, dir); err == nil && disk.remote() {
			findings = append(findings, fail("choose one on the Mac's own disk with --state-dir", "%s is on another machine's disk (%s), where locks are not sure to hold", dir, disk.device))
		}
		if len(findings) == 0 && at != dir {
			findings = append(findings, pass("the first job makes %s", dir))
		}
	}
	if len(findings) == 0 {
		findings = append(findings, pass("%s", strings.Join(s.stateDirs(), ", ")))
	}
	return findings
}

func mendStateDir(_ context.Context, s *survey) (string, error) {
	var done []string
	for _, dir := range s.stateDirs() {
		info, err := s.host.Stat(dir)
		if err != nil || !info.Mode.IsDir() || info.UID != s.host.UID() || info.Mode.Perm()&0o077 == 0 {
			continue
		}
		if err := os.Chmod(s.host.Real(dir), 0o700); err != nil {
			return strings.Join(done, "; "), reason(err)
		}
		done = append(done, dir+" has mode 0700 now")
	}
	return strings.Join(done, "; "), nil
}

// anyAgent tells whether some runner can reach VMs by the guest agent.
func anyAgent(set *settings.Settings) bool { return set.Transport != "ssh" }
