//go:build linux

package guest

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
)

// sshdConfig is the configuration of a guest's OpenSSH server: macOS's defaults where they differ from those of OpenSSH.
func (s *Spec) sshdConfig() string {
	yes := func(b bool) string {
		if b {
			return "yes"
		}
		return "no"
	}
	refuse := s.SSHFault == SSHRefuses
	lines := []string{
		"Port " + strconv.Itoa(s.Port),
		"ListenAddress " + s.Address,
		"HostKey " + hostKeyPath,
		"PidFile none",
		"UsePAM " + yes(s.PAM),
		"PasswordAuthentication " + yes(!refuse),
		"KbdInteractiveAuthentication " + yes(s.PAM && !refuse),
		"PubkeyAuthentication yes",
		"PermitRootLogin no",
		"PrintMotd no",
		"PrintLastLog no",
		"UseDNS no",
		"AcceptEnv LANG LC_*",
		"Subsystem sftp internal-sftp",
		"SetEnv PATH=" + s.path(),
	}
	if refuse {
		lines = append(lines, "AuthorizedKeysFile none")
	}
	return strings.Join(lines, "\n") + "\n"
}

// startOpenSSH starts the base's own SSH server.
func (g *guestInit) startOpenSSH() error {
	if err := os.WriteFile(hostKeyPath, g.spec.HostKey, 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(sshdConfigPath, []byte(g.spec.sshdConfig()), 0o644); err != nil {
		return err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { _ = null.Close() }()
	_, _, err = g.reaper.start(process{
		argv:   []string{g.spec.SSHD, "-D", "-e", "-f", sshdConfigPath},
		env:    []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		dir:    "/",
		files:  [3]*os.File{null, null, os.Stderr},
		asRoot: true,
	})
	return err
}

// listenSSH opens the guest's SSH port for a server inside the first process. A reboot closes it.
func (g *guestInit) listenSSH() (net.Listener, error) {
	address := net.JoinHostPort(g.spec.Address, strconv.Itoa(g.spec.Port))
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sshListener = listener
	return listener, nil
}

func (g *guestInit) closeSSH() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.sshListener != nil {
		_ = g.sshListener.Close()
	}
}

// dropConnections plays an SSH server that accepts and hangs up without a word.
func (g *guestInit) dropConnections() error {
	listener, err := g.listenSSH()
	if err != nil {
		return err
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		_ = conn.Close()
	}
}
