//go:build linux

package tartsim_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"gitlab-runner-tart-driver/internal/proc/proctest"
	"gitlab-runner-tart-driver/internal/tartsim/guest"
)

// smallSystem are programs enough for a guest; what they need is found with ldd.
var smallSystem = []string{"/bin/sh", "/bin/bash", "/usr/bin/id", "/usr/bin/cat", "/usr/bin/ls", "/usr/bin/env", "/usr/sbin/sshd"}

// makeRootfs copies a few of the host's programs and their libraries into a directory.
func makeRootfs(t *testing.T, dir string) {
	t.Helper()
	files := map[string]bool{}
	for _, program := range smallSystem {
		if _, err := os.Stat(program); err != nil {
			t.Skipf("needs %s for a root file system: %v", program, err)
		}
		files[program] = true
		out, err := exec.Command("ldd", program).Output()
		if err != nil {
			t.Skipf("needs ldd for a root file system: %v", err)
		}
		for _, word := range strings.Fields(string(out)) {
			if strings.HasPrefix(word, "/") {
				files[word] = true
			}
		}
	}
	for _, name := range []string{"etc", "usr/bin", "usr/sbin", "run"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		target := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := proctest.WriteProgram(target, data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	accounts := map[string]string{
		"passwd": "root:x:0:0:root:/root:/bin/sh\nsshd:x:102:65534::/run/sshd:/bin/false\n", "group": "root:x:0:\nnogroup:x:65534:\n",
		"nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\n", "made-for-the-test": "",
	}
	for name, content := range accounts {
		if err := os.WriteFile(filepath.Join(dir, "etc", name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestImageWithItsOwnRootFileSystem(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.isolate(guest.LevelRoot)
	rootfs := filepath.Join(b.home, "rootfs")
	makeRootfs(t, rootfs)
	b.sim("image", "create", "own", "--rootfs", rootfs, "--user", "ci", "--password", "pass word", "--shell", "/bin/bash")
	b.must("clone", "own", "vm")
	r := b.start("vm")
	address := r.address()
	var client *ssh.Client
	b.until("SSH to "+address, func() error {
		var err error
		client, err = ssh.Dial("tcp", address, clientConfig("ci", "pass word"))
		return err
	})
	defer func() { _ = client.Close() }()
	if got := mustShell(t, client, "id -un; ls /etc/made-for-the-test; ls /usr/bin/git 2>/dev/null || echo none"); got != "ci\n/etc/made-for-the-test\nnone" {
		t.Errorf("the image's own system: %q", got)
	}
	mustShell(t, client, "echo x > ~/file; sudo sh -c 'echo x > /etc/written'")
	if _, err := os.Stat(filepath.Join(rootfs, "etc/written")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the image is written to: %v", err)
	}
}
