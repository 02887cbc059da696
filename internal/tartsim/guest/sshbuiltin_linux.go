//go:build linux

package guest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"gitlab-runner-tart-driver/internal/tartsim/sshserver"
)

// serveBuiltinSSH runs the SSH server inside the guest's first process.
func (g *guestInit) serveBuiltinSSH() error {
	key, err := ssh.ParsePrivateKey(g.spec.HostKey)
	if err != nil {
		return fmt.Errorf("host key: %w", err)
	}
	listener, err := g.listenSSH()
	if err != nil {
		return err
	}
	refuse := g.spec.SSHFault == SSHRefuses
	return sshserver.Serve(listener, sshserver.Config{
		HostKey:        key,
		TakesPasswords: func() bool { return g.option("passwordauthentication", "yes") == "yes" },
		CheckPassword: func(user, password string) bool {
			return !refuse && user == g.spec.User && password == g.spec.Password
		},
		CheckKey: func(user string, key ssh.PublicKey) bool {
			return !refuse && user == g.spec.User && g.authorized(key)
		},
		Start: g.startSession,
	})
}

// option reads the guest's configuration, which is not there without isolation: those files are the machine's.
func (g *guestInit) option(keyword, standard string) string {
	if g.spec.Level == LevelNone {
		return standard
	}
	return cmp.Or(sshdOption(sshdConfigPath, keyword), standard)
}

// authorized looks a key up in the user's files of keys.
func (g *guestInit) authorized(key ssh.PublicKey) bool {
	for _, name := range strings.Fields(g.option("authorizedkeysfile", ".ssh/authorized_keys")) {
		if !filepath.IsAbs(name) {
			name = filepath.Join(g.spec.HomeDir, name)
		}
		data, err := os.ReadFile(name)
		for err == nil && len(data) > 0 {
			var known ssh.PublicKey
			known, _, _, data, err = ssh.ParseAuthorizedKey(data)
			if err == nil && bytes.Equal(known.Marshal(), key.Marshal()) {
				return true
			}
		}
	}
	return false
}

// sftpServers are the places where systems keep OpenSSH's SFTP server.
var sftpServers = []string{"/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server", "/usr/libexec/sftp-server"}

func (g *guestInit) startSession(request sshserver.Request) (*sshserver.Process, error) {
	argv, err := g.sessionArgv(request)
	if err != nil {
		return nil, err
	}
	streams, err := openStreams(AgentRequest{Interactive: true, TTY: request.TTY, Columns: request.Columns, Rows: request.Rows})
	if err != nil {
		return nil, err
	}
	env := append(g.spec.environment(), request.Env...)
	if request.TTY {
		env = append(env, "TERM="+request.Term, "SSH_TTY="+streams.child[0].Name())
	}
	pid, ended, err := g.reaper.start(process{path: g.spec.Shell, argv: argv, env: env, dir: g.spec.HomeDir, files: streams.child, tty: request.TTY})
	streams.closeChild()
	if err != nil {
		streams.close()
		return nil, err
	}
	done := make(chan sshserver.Status, 1)
	go func() { done <- sessionStatus(<-ended) }()
	p := &sshserver.Process{
		Stdin: streams.input, Stdout: streams.output[FrameStdout], Done: done,
		Signal: func(name string) error { return signalGroup(pid, name) },
	}
	if !request.TTY {
		p.Stderr = streams.output[FrameStderr]
		return p, nil
	}
	p.Resize = func(columns, rows uint16) error { return setSize(streams.input, columns, rows) }
	p.Drain = func() { _ = streams.input.SetReadDeadline(time.Now().Add(ttyDrain)) }
	return p, nil
}

// sessionArgv is the command line: the user's shell runs what is asked, or is itself what is asked, as a login shell.
func (g *guestInit) sessionArgv(request sshserver.Request) ([]string, error) {
	shell := filepath.Base(g.spec.Shell)
	switch {
	case request.Subsystem == "sftp":
		for _, path := range sftpServers {
			if isFile(path) {
				return []string{shell, "-c", "exec " + path}, nil
			}
		}
		return nil, errors.New("no sftp-server on this machine")
	case request.Subsystem != "":
		return nil, fmt.Errorf("unknown subsystem %q", request.Subsystem)
	case request.Command != "":
		return []string{shell, "-c", request.Command}, nil
	default:
		return []string{"-" + shell}, nil
	}
}

// sessionSignals are the signals that a client may send, and by which a command may be reported to have died, see RFC 4254 section 6.10.
var sessionSignals = map[string]unix.Signal{
	"ABRT": unix.SIGABRT, "ALRM": unix.SIGALRM, "FPE": unix.SIGFPE, "HUP": unix.SIGHUP, "ILL": unix.SIGILL, "INT": unix.SIGINT, "KILL": unix.SIGKILL,
	"PIPE": unix.SIGPIPE, "QUIT": unix.SIGQUIT, "SEGV": unix.SIGSEGV, "TERM": unix.SIGTERM, "USR1": unix.SIGUSR1, "USR2": unix.SIGUSR2,
}

func signalGroup(pid int, name string) error {
	signal, known := sessionSignals[name]
	if !known {
		return fmt.Errorf("unknown signal %q", name)
	}
	return unix.Kill(-pid, signal)
}

func sessionStatus(status unix.WaitStatus) sshserver.Status {
	if !status.Signaled() {
		return sshserver.Status{Code: status.ExitStatus()}
	}
	for name, signal := range sessionSignals {
		if signal == status.Signal() {
			return sshserver.Status{Signal: name, Core: status.CoreDump()}
		}
	}
	return sshserver.Status{Signal: "SIG@openssh.com", Core: status.CoreDump()}
}
