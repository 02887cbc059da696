//go:build linux

package guest

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"gitlab-runner-tart-driver/internal/tartsim/tarthome"
)

// helperSocket is where the guest's helper commands reach its first process.
const helperSocket = "/run/tartsim/helper.sock"

// What helper commands ask for.
const (
	helperPowerOff = "poweroff"
	helperReboot   = "reboot"
	helperMount    = "mount"
)

type helperRequest struct {
	Verb string `json:"verb"`
	Tag  string `json:"tag,omitempty"`
	Dir  string `json:"dir,omitempty"`
}

type helperReply struct {
	Error string `json:"error,omitempty"`
}

// socketPath is the helper socket's path as the guest sees it.
func (s *Spec) socketPath() string {
	if s.Level == LevelNone {
		return filepath.Join(s.VMDir, tarthome.TreeName, "helper.sock")
	}
	return helperSocket
}

// serveHelpers answers the guest's helper commands.
func (g *guestInit) serveHelpers() error {
	path := g.spec.socketPath()
	if g.spec.Level == LevelNone {
		_ = os.Remove(path)
		if err := g.writeBareShims(); err != nil {
			return err
		}
	}
	listener, err := ListenUnix(path, 0o666)
	if err != nil {
		return err
	}
	go func() {
		for {
			conn, err := listener.AcceptUnix()
			if err != nil {
				return
			}
			go g.help(conn)
		}
	}()
	return nil
}

func (g *guestInit) help(conn *net.UnixConn) {
	defer func() { _ = conn.Close() }()
	var request helperRequest
	if err := json.NewDecoder(conn).Decode(&request); err != nil {
		return
	}
	reply := helperReply{}
	then := func() {}
	asker := peer(conn)
	switch {
	case !g.mayAsk(asker, request.Verb):
		reply.Error = "not permitted"
	case request.Verb == helperPowerOff:
		then = g.shutdown
	case request.Verb == helperReboot:
		then = g.reboot
	case request.Verb == helperMount && g.spec.Level == LevelNone:
		reply.Error = "a guest without isolation can't mount shares"
	case request.Verb == helperMount:
		if err := mountShare(request.Tag, request.Dir); err != nil {
			reply.Error = err.Error()
		}
	default:
		reply.Error = fmt.Sprintf("unknown request %q", request.Verb)
	}
	_ = json.NewEncoder(conn).Encode(reply)
	_ = conn.Close()
	// The command that asked gets the time to end by itself; a real system takes longer to go down, too.
	awaitEnd(int(asker.Pid), askerGrace)
	then()
}

// awaitEnd waits for the end of a process, but not longer than so long.
func awaitEnd(pid int, most time.Duration) {
	deadline := time.NewTimer(most)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, alive := parentOf(pid); !alive {
			return
		}
		select {
		case <-deadline.C:
			return
		case <-tick.C:
		}
	}
}

// askerGrace bounds the wait for the end of the helper command that asked for a shutdown.
const askerGrace = time.Second

// mayAsk leaves to root what is root's; macOS lets everybody mount.
func (g *guestInit) mayAsk(asker unix.Ucred, verb string) bool {
	return g.spec.Level != LevelRoot || verb == helperMount && g.spec.mac() || asker.Uid == 0
}

// peer is the process at the other end of a connection; nobody, if that can't be told.
func peer(conn *net.UnixConn) unix.Ucred {
	nobody := unix.Ucred{Uid: nobodyUID}
	raw, err := conn.SyscallConn()
	if err != nil {
		return nobody
	}
	found := nobody
	err = raw.Control(func(fd uintptr) {
		if credentials, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			found = *credentials
		}
	})
	if err != nil {
		return nobody
	}
	return found
}

// ListenUnix listens on a path of any length: the kernel sees it relative to the open directory. The mode says who may connect.
func ListenUnix(path string, mode os.FileMode) (*net.UnixListener, error) {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer func() { _ = dir.Close() }()
	short := fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path))
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: short, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	listener.SetUnlinkOnClose(false)
	if err := os.Chmod(path, mode); err != nil {
		return nil, err
	}
	return listener, nil
}

// DialUnix connects to a socket path of any length.
func DialUnix(path string) (*net.UnixConn, error) {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer func() { _ = dir.Close() }()
	short := fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path))
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: short, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", path, err)
	}
	return conn, nil
}

func (g *guestInit) writeBareShims() error {
	if err := os.MkdirAll(g.spec.bareBin(), 0o755); err != nil {
		return err
	}
	shims := g.spec.shimCommands()
	shims["sudo"] = ""
	for name := range shims {
		if err := os.WriteFile(filepath.Join(g.spec.bareBin(), name), []byte(g.spec.shimScript(name)), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// shimScript is the text of a helper command.
func (s *Spec) shimScript(name string) string {
	switch name {
	case "uname":
		return unameScript
	case "sw_vers":
		return swVersScript(s.ProductVersion)
	}
	tool := ToolPath
	if s.Level == LevelNone {
		tool = s.Tool
	}
	return fmt.Sprintf("#!/bin/sh\nexec '%s' %s '%s' %s \"$@\"\n", tool, ShimVerb, s.socketPath(), name)
}
