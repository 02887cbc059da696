//go:build !linux

package guest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
)

// ErrNoGuests is what everything that needs a guest answers outside Linux.
var ErrNoGuests = fmt.Errorf("guests can only be made on Linux, not on %s", runtime.GOOS)

// Machine is a running guest; there are none here.
type Machine struct{}

// Address is a guest's address; there are none here.
type Address struct{ IP netip.Addr }

// Start fails.
func Start(Spec, *net.UnixListener, *os.File) (*Machine, error) { return nil, ErrNoGuests }

// RunInit fails.
func RunInit() int { return 1 }

// Hold waits for the end of its input.
func Hold(in io.Reader) int {
	_, _ = io.Copy(io.Discard, in)
	return 0
}

// RunShim fails.
func RunShim(_, _ []string, _, errOut io.Writer) int {
	_, _ = fmt.Fprintln(errOut, ErrNoGuests)
	return 1
}

// RunSudo fails.
func RunSudo(_, _ []string, _ string, errOut io.Writer) int { return RunShim(nil, nil, nil, errOut) }

// SudoName is argv[0] of the guest's substitute for sudo.
const SudoName = "sudo"

// Events never has any.
func (m *Machine) Events() <-chan Event { return nil }

// Ended is never closed.
func (m *Machine) Ended() <-chan struct{} { return nil }

// Shutdown fails.
func (m *Machine) Shutdown() error { return ErrNoGuests }

// Kill does nothing.
func (m *Machine) Kill() {}

// Freeze does nothing.
func (m *Machine) Freeze() {}

// Thaw does nothing.
func (m *Machine) Thaw() {}

// Unplug fails.
func (m *Machine) Unplug() error { return ErrNoGuests }

// Plug fails.
func (m *Machine) Plug() error { return ErrNoGuests }

// TakeAddress fails.
func TakeAddress(netip.Addr, bool) (*Address, error) { return nil, ErrNoGuests }

// Release does nothing.
func (a *Address) Release() {}

// CheckNetNS fails.
func CheckNetNS() error { return ErrNoGuests }

// ListenUnix fails.
func ListenUnix(string, os.FileMode) (*net.UnixListener, error) { return nil, ErrNoGuests }

// DialUnix connects to a socket.
func DialUnix(path string) (*net.UnixConn, error) {
	return net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
}

// Levels are the levels to try.
func Levels(string) []Level { return nil }

// FindSSHD finds no SSH server.
func FindSSHD(string) (string, error) { return "", errors.New("guests can only be made on Linux") }

// SSHPort is the port guests listen on.
func SSHPort(configured int, _ *Address) int { return configured }

// DieBy ends the process by a signal.
func DieBy(os.Signal) { os.Exit(1) }
