//go:build linux

package tartsim_test

import (
	"os"
	"path/filepath"
	"testing"

	"gitlab-runner-tart-driver/internal/tartsim/guest"
)

// isolatedLevels runs a test at the levels where a guest has file systems of its own.
func isolatedLevels(t *testing.T, test func(t *testing.T, b *bench, level guest.Level)) {
	for _, level := range []guest.Level{guest.LevelRoot, guest.LevelUserNS} {
		t.Run(string(level), func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.isolate(level)
			test(t, b, level)
		})
	}
}

// shareDir makes a directory with a file on the host, which belongs to whoever calls tart.
func (b *bench) shareDir(name string) string {
	b.t.Helper()
	dir := filepath.Join(b.home, "shares", name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte(name+"\n"), 0o644); err != nil {
		b.t.Fatal(err)
	}
	if b.uid >= 0 {
		for _, path := range []string{dir, filepath.Join(dir, "file")} {
			if err := os.Chown(path, b.uid, b.uid); err != nil {
				b.t.Fatal(err)
			}
		}
	}
	return dir
}

func TestSharesOfMacOSGuests(t *testing.T) {
	t.Parallel()
	isolatedLevels(t, func(t *testing.T, b *bench, _ guest.Level) {
		b.must("clone", "base", "vm")
		builds, fixed, tagged := b.shareDir("builds"), b.shareDir("fixed"), b.shareDir("tagged")
		r := b.start("vm", "--dir", "builds:"+builds, "--dir", "fixed:"+fixed+":ro", "--dir", tagged+":tag=com.example.tag")
		client := r.login()
		if got := mustShell(t, client, "cd '/Volumes/My Shared Files' && cat builds/file fixed/file && stat -c %U builds/file"); got != "builds\nfixed\nadmin" {
			t.Errorf("automatic shares: %q", got)
		}
		mustShell(t, client, "cd '/Volumes/My Shared Files/builds' && echo new > made && chmod 700 made")
		if got := readAll(t, filepath.Join(builds, "made")); got != "new\n" {
			t.Errorf("written by the guest: %q", got)
		}
		info, err := os.Stat(filepath.Join(builds, "made"))
		if err != nil {
			t.Fatal(err)
		}
		if dir, err := os.Stat(builds); err != nil || !sameOwner(info, dir) {
			t.Errorf("the guest's file belongs to somebody else than the share: %v", err)
		}
		if out, _, err := shell(t, client, "touch '/Volumes/My Shared Files/fixed/no'"); err == nil {
			t.Errorf("a read-only share can be written: %q", out)
		}
		if got := mustShell(t, client, "mkdir ~/mounted && mount_virtiofs com.example.tag ~/mounted && cat ~/mounted/file"); got != "tagged" {
			t.Errorf("share with a tag: %q", got)
		}
		if _, errOut, err := shell(t, client, "mount_virtiofs no.such.tag ~/mounted"); err == nil || errOut == "" {
			t.Errorf("unknown tag: %v, %q", err, errOut)
		}
		if shares := r.record().Shares; len(shares) != 3 || shares[1].Name != "fixed" || !shares[1].ReadOnly || shares[2].Tag != "com.example.tag" {
			t.Errorf("record of the shares: %+v", shares)
		}
		b.must("stop", "vm")
		r.wait()
		if got := readAll(t, filepath.Join(builds, "file")); got != "builds\n" {
			t.Errorf("the host's file after all: %q", got)
		}
	})
}

func TestSharesOfLinuxGuests(t *testing.T) {
	t.Parallel()
	isolatedLevels(t, func(t *testing.T, b *bench, _ guest.Level) {
		b.sim("image", "create", "linux", "--os", "linux")
		b.must("clone", "linux", "vm")
		r := b.start("vm", "--dir", b.shareDir("one"))
		client := r.login()
		if got := mustShell(t, client, "pwd; uname -s; ls -d /Volumes 2>/dev/null || echo none"); got != "/home/admin\nLinux\nnone" {
			t.Errorf("a Linux guest: %q", got)
		}
		got := mustShell(t, client, "sudo mkdir -p /mnt/share && sudo mount -t virtiofs "+guest.AutomountTag+" /mnt/share && cat /mnt/share/file")
		if got != "one" {
			t.Errorf("share: %q", got)
		}
		if got := mustShell(t, client, "mount | grep -c ' / '"); got == "0" {
			t.Error("mount without arguments lists nothing")
		}
		// A single share without a name is the mounted directory itself; an unnamed one beside others is refused.
		b.must("stop", "vm")
		r.wait()
		if code := b.start("vm", "--dir", b.shareDir("a"), "--dir", b.shareDir("b")).wait(); code != 64 {
			t.Errorf("two unnamed shares: exit status %d", code)
		}
	})
}
