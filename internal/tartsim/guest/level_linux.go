//go:build linux

package guest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"gitlab-runner-tart-driver/internal/tartsim/simconf"
)

// Levels are the levels to try for a setting of isolation, best first. Whether one works shows when a guest is started at it.
func Levels(isolation string) []Level {
	switch isolation {
	case simconf.IsolationRoot:
		return []Level{LevelRoot}
	case simconf.IsolationUserNS:
		return []Level{LevelUserNS}
	case simconf.IsolationNone:
		return []Level{LevelNone}
	}
	if os.Geteuid() == 0 {
		return []Level{LevelRoot, LevelUserNS, LevelNone}
	}
	return []Level{LevelUserNS, LevelNone}
}

// errUnsafe refuses guests that could do real harm.
var errUnsafe = errors.New("refused for root on a machine run by systemd: a guest's \"shutdown\" could be the machine's; run as another user")

// permitted tells whether a level may be used here at all.
func permitted(level Level) error {
	if level == LevelNone && os.Geteuid() == 0 && isDir("/run/systemd/system") {
		return errUnsafe
	}
	return nil
}

// FindSSHD finds the SSH server of a root file system ("" is the host's) and returns its path inside it.
func FindSSHD(rootfs string) (string, error) {
	for _, path := range []string{"/usr/sbin/sshd", "/usr/bin/sshd", "/usr/local/sbin/sshd"} {
		if isFile(filepath.Join("/", rootfs, path)) {
			return path, nil
		}
	}
	return "", fmt.Errorf("no sshd in %s (apt-get install openssh-server): %w", filepath.Join("/", rootfs), exec.ErrNotFound)
}

// Ports of guests' SSH servers.
const (
	standardSSHPort = 22
	highSSHPort     = 2222
)

// SSHPort is the port on which a guest with this address listens: the configured one (if not 0), or 22 where this process may bind it and
// nobody has taken it for all addresses, or 2222.
func SSHPort(configured int, address *Address) int {
	if configured != 0 {
		return configured
	}
	probe, err := net.Listen("tcp", net.JoinHostPort(address.IP.String(), strconv.Itoa(standardSSHPort)))
	if err != nil {
		return highSSHPort
	}
	_ = probe.Close()
	return standardSSHPort
}

// kernelSigaction is struct sigaction of rt_sigaction(2) with the default action; the Go runtime keeps its handlers otherwise.
type kernelSigaction struct {
	handler, flags, restorer uintptr
	mask                     uint64
}

// DieBy ends the process by a signal, with the signal's default action.
func DieBy(sig os.Signal) {
	number, ok := sig.(syscall.Signal)
	if ok {
		signal.Reset(sig)
		var action kernelSigaction
		_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(number), uintptr(unsafe.Pointer(&action)), 0, unsafe.Sizeof(action.mask), 0, 0)
		_ = unix.Kill(os.Getpid(), number)
	}
	os.Exit(1)
}
