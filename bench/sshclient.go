package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// guestUser is the user of the stand-in's images, and the password.
const guestUser = "admin"

// sshClient is OpenSSH's client for one guest, set up as somebody would who scripts it: no questions, no files of the user, the password by
// SSH_ASKPASS.
type sshClient struct {
	dir, askpass string
	guest        netip.AddrPort
	environ      []string
	// master is the socket of an open connection that commands share; "" makes every command open its own.
	master string
}

// sshClient returns the client for a guest, and what removes its files.
func (b *bench) sshClient(guest netip.AddrPort) (c *sshClient, remove func(), err error) {
	dir, err := os.MkdirTemp(b.host.dir, "ssh-")
	if err != nil {
		return nil, nil, err
	}
	c = &sshClient{dir: dir, askpass: filepath.Join(dir, "askpass"), guest: guest}
	c.environ = append(b.host.environ(), "SSH_ASKPASS="+c.askpass, "SSH_ASKPASS_REQUIRE=force", "DISPLAY=none")
	err = os.WriteFile(c.askpass, []byte("#!/bin/sh\necho "+guestUser+"\n"), 0o700)
	return c, func() { _ = os.RemoveAll(dir) }, err
}

// command runs a command line in the guest; without one, options say what is to be done.
func (c *sshClient) command(ctx context.Context, line string, options ...string) *exec.Cmd {
	args := []string{"-F", "none", "-T", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
		"-o", "PreferredAuthentications=password,keyboard-interactive", "-o", "PubkeyAuthentication=no", "-o", "NumberOfPasswordPrompts=1",
		"-l", guestUser, "-p", strconv.Itoa(int(c.guest.Port()))}
	if c.master != "" {
		args = append(args, "-S", c.master)
	}
	args = append(append(args, options...), c.guest.Addr().String())
	if line != "" {
		args = append(args, line)
	}
	cmd := exec.CommandContext(ctx, "ssh", args...)
	cmd.Dir, cmd.Env = c.dir, c.environ
	return cmd
}

// open opens a connection that stays, and returns a client whose commands share it.
func (c *sshClient) open(ctx context.Context) (shared *sshClient, end func(), err error) {
	shared = &sshClient{dir: c.dir, askpass: c.askpass, guest: c.guest, environ: c.environ, master: filepath.Join(c.dir, "master")}
	cmd := shared.command(ctx, "", "-M", "-N", "-o", "ControlPersist=no")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it is ended by a signal
		close(ended)
	}()
	end = func() {
		_ = cmd.Process.Signal(os.Interrupt)
		<-ended
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := time.NewTimer(20 * time.Second)
	defer limit.Stop()
	for shared.command(ctx, "", "-O", "check").Run() != nil {
		select {
		case <-tick.C:
		case <-ended:
			return nil, nil, fmt.Errorf("ssh to %s: it ended before its connection was open", c.guest)
		case <-limit.C:
			end()
			return nil, nil, fmt.Errorf("ssh to %s: no connection within 20 s", c.guest)
		}
	}
	return shared, end, nil
}

// loginShell runs a script that comes on stdin, with the shell that the driver takes.
func loginShell() string {
	for _, shell := range []string{"/bin/zsh", "/bin/bash"} {
		if _, err := os.Stat(shell); err == nil { // guests have the programs of the machine
			return "exec " + shell + " -l"
		}
	}
	return "exec /bin/sh -l"
}
