//go:build linux

package guest

import (
	"fmt"
	"net"
	"os"
	"strconv"
)

// sshdFiles are the files of the SSH server's configuration, by their path from the guest's root: as macOS has them, or else Debian.
func (s *Spec) sshdFiles() map[string]string {
	own := "UsePAM " + yesNo(s.PAM) + "\nKbdInteractiveAuthentication " + yesNo(s.PAM) + "\nPrintMotd no\nAcceptEnv LANG LC_*\nSubsystem sftp internal-sftp\n"
	if s.mac() {
		return map[string]string{
			sshdConfigPath[1:]:                  "Include " + sshdDropIns + "/*\nAuthorizedKeysFile .ssh/authorized_keys\n",
			sshdDropIns[1:] + "/100-macos.conf": own,
		}
	}
	return map[string]string{sshdConfigPath[1:]: "Include " + sshdDropIns + "/*.conf\n" + own}
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// sshdCommand is the command line of the base's own SSH server. What is the stand-in's and not the guest's to decide is in options, which come
// before all files.
func (s *Spec) sshdCommand(mode string) []string {
	options := []string{
		"Port=" + strconv.Itoa(s.Port), "ListenAddress=" + s.Address, "HostKey=" + hostKeyPath, "UseDNS=no", "PrintLastLog=no", "SetEnv=PATH=" + s.path(),
	}
	if s.SSHFault == SSHRefuses {
		options = append(options, "PasswordAuthentication=no", "KbdInteractiveAuthentication=no", "AuthorizedKeysFile=none")
	}
	argv := []string{s.SSHD, mode, "-e", "-f", sshdConfigPath}
	for _, o := range options {
		argv = append(argv, "-o", o)
	}
	return argv
}

// startOpenSSH starts the base's own SSH server: one that listens, or as macOS's launchd does it, one for each connection, which reads its
// configuration afresh each time.
func (g *guestInit) startOpenSSH() error {
	if err := os.WriteFile(hostKeyPath, g.spec.HostKey, 0o600); err != nil {
		return err
	}
	if g.spec.mac() {
		return g.eachConnection(g.serveByLaunchd)
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { _ = null.Close() }()
	return g.startSSHD("-D", null)
}

// startSSHD starts an SSH server with stdin and stdout.
func (g *guestInit) startSSHD(mode string, stdio *os.File) error {
	_, _, err := g.reaper.start(process{
		argv:   g.spec.sshdCommand(mode),
		env:    []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		dir:    "/",
		files:  [3]*os.File{stdio, stdio, os.Stderr},
		asRoot: true,
	})
	return err
}

// serveByLaunchd hands each connection to a server of its own.
func (g *guestInit) serveByLaunchd(conn *net.TCPConn) error {
	file, err := conn.File() // a copy
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	return g.startSSHD("-i", file)
}

// dropConnection plays an SSH server that accepts and hangs up without a word.
func (g *guestInit) dropConnection(*net.TCPConn) error { return nil }

// eachConnection takes connections to the guest's SSH port, hands each to handle, and closes what is left of it.
func (g *guestInit) eachConnection(handle func(*net.TCPConn) error) error {
	listener, err := g.listenSSH()
	if err != nil {
		return err
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		err = handle(conn.(*net.TCPConn))
		_ = conn.Close()
		if err != nil {
			return err
		}
	}
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
