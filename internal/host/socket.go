package host

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// maxSocketPath is the room for a Unix socket's path on macOS, sizeof(sockaddr_un.sun_path) less the final zero byte.
const maxSocketPath = 103

// changingDir is held while the process is in another directory.
var changingDir sync.Mutex

// atSocket calls use with a path for the socket of a VM's keeper that the kernel takes. A home directory may be so deep that the full
// path is too long; then the process goes into the socket's directory for a moment. Nothing else here depends on where it is.
func (s *State) atSocket(name string, use func(path string) error) error {
	path := filepath.Join(s.EntryDir(name), "sock")
	if len(path) <= maxSocketPath {
		return use(path)
	}
	changingDir.Lock()
	defer changingDir.Unlock()
	here, err := os.Open(".")
	if err != nil {
		return err
	}
	defer here.Close()
	if err := os.Chdir(filepath.Dir(path)); err != nil {
		return err
	}
	defer func() { _ = here.Chdir() }() // where we were may be gone; nothing here depends on it
	return use(filepath.Base(path))
}

// Listen makes the socket of a VM's keeper. It goes with the VM's record.
func (s *State) Listen(name string) (*net.UnixListener, error) {
	var listener *net.UnixListener
	err := s.atSocket(name, func(path string) (err error) {
		if listener, err = net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"}); err != nil {
			return err
		}
		return os.Chmod(path, 0o600) // the directory is closed to others already
	})
	if err != nil {
		return nil, err
	}
	listener.SetUnlinkOnClose(false) // by a path that may mean another file by then
	return listener, nil
}

// Dial connects to the keeper of a VM.
func (s *State) Dial(ctx context.Context, name string, timeout time.Duration) (*net.UnixConn, error) {
	var conn net.Conn
	err := s.atSocket(name, func(path string) (err error) {
		conn, err = (&net.Dialer{Timeout: timeout}).DialContext(ctx, "unix", path)
		return err
	})
	if err != nil {
		return nil, err
	}
	return conn.(*net.UnixConn), nil
}
