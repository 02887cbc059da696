//go:build linux

package tartsim_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"gitlab-runner-tart-driver/internal/tartsim/guest"
	"gitlab-runner-tart-driver/internal/tartsim/simconf"
)

// TestGuestsOwnTheirSSHConfiguration turns password login off in a guest, as on a real one, with a key to get in by.
func TestGuestsOwnTheirSSHConfiguration(t *testing.T) {
	for _, c := range []struct {
		os, server string
		level      guest.Level
		reload     bool // the server goes by what it read when it started
	}{
		{"darwin", simconf.SSHOpenSSH, guest.LevelRoot, false},
		{"linux", simconf.SSHOpenSSH, guest.LevelRoot, true},
		{"darwin", simconf.SSHBuiltin, guest.LevelRoot, false},
		{"darwin", simconf.SSHBuiltin, guest.LevelUserNS, false},
	} {
		t.Run(fmt.Sprint(c.os, " ", c.server, " ", c.level), func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.isolate(c.level)
			b.configure(map[string]any{"isolation": c.level, "ssh_server": c.server})
			b.sim("image", "create", "--os", c.os, "image")
			b.must("clone", "image", "vm")
			r := b.start("vm")
			client := r.login()
			if server := r.record().SSHServer; server != c.server {
				t.Skipf("the server is %s", server)
			}
			_, private, err := ed25519.GenerateKey(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			signer, err := ssh.NewSignerFromKey(private)
			if err != nil {
				t.Fatal(err)
			}
			public := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
			byKey := clientConfig("admin", "")
			byKey.Auth = []ssh.AuthMethod{ssh.PublicKeys(signer)}
			if got := mustShell(t, client, "head -n 1 /etc/ssh/sshd_config; ls /etc/ssh/sshd_config.d"); got != map[string]string{
				"darwin": "Include /etc/ssh/sshd_config.d/*\n100-macos.conf", "linux": "Include /etc/ssh/sshd_config.d/*.conf"}[c.os] {
				t.Errorf("the guest has %q", got)
			}
			mustShell(t, client, "mkdir -m 700 ~/.ssh; echo '"+public+"' > ~/.ssh/authorized_keys; echo PasswordAuthentication no | sudo -n tee /etc/ssh/sshd_config.d/000.conf")
			if c.reload {
				again, err := ssh.Dial("tcp", r.address(), clientConfig("admin", "admin"))
				if err != nil {
					t.Fatalf("the server goes by a file that it was not told of: %v", err)
				}
				_ = again.Close()
				mustShell(t, client, "sudo -n sh -c 'kill -HUP $(cat /run/sshd.pid)'")
			}
			b.until("passwords are refused", func() error {
				again, err := ssh.Dial("tcp", r.address(), clientConfig("admin", "admin"))
				if err == nil {
					_ = again.Close()
					return fmt.Errorf("a password is taken")
				}
				if strings.Contains(err.Error(), "attempted methods [none]") {
					return nil
				}
				return err
			})
			again, err := ssh.Dial("tcp", r.address(), byKey)
			if err != nil {
				t.Fatalf("by key: %v", err)
			}
			_ = again.Close()
			mustShell(t, client, "true") // a connection outlasts it
		})
	}
}

// TestTheMachinesSSHConfigurationIsSafe is for guests without isolation, whose root may be the machine's.
func TestTheMachinesSSHConfigurationIsSafe(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.isolate(guest.LevelNone)
	b.must("clone", "base", "vm")
	client := b.start("vm").login()
	out, errOut, err := shell(t, client, "sudo -n sh -c 'echo written > $1' sh /etc/ssh/sshd_config.test")
	if err == nil || !strings.Contains(errOut, "/etc/ssh is this machine's") {
		t.Errorf("got %q, %q, %v", out, errOut, err)
	}
}
