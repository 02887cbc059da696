//go:build linux

package guest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Machine is a running guest, seen from the process that started it.
type Machine struct {
	spec   Spec
	cmd    *exec.Cmd
	conn   net.Conn
	mu     sync.Mutex // of out
	out    *json.Encoder
	events chan Event
	ended  chan struct{}
}

// namespaces are those every isolated guest has of its own.
const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC

// mountPowers are the capabilities the first process needs inside a user namespace, where it isn't root.
var mountPowers = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_NET_BIND_SERVICE, unix.CAP_KILL, unix.CAP_SETPCAP}

// Start starts a guest and returns when it has booted; its services come after their delays. The listener is the socket of the guest's
// agent; log gets the output of the guest's services. The guest is killed when this process dies, whatever the way.
func Start(spec Spec, listener *net.UnixListener, log *os.File) (*Machine, error) {
	if err := permitted(spec.Level); err != nil {
		return nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("guest's control channel: %w", err)
	}
	far := os.NewFile(uintptr(pair[1]), "control")
	defer func() { _ = far.Close() }()
	near := os.NewFile(uintptr(pair[0]), "control")
	conn, err := net.FileConn(near)
	_ = near.Close()
	if err != nil {
		return nil, fmt.Errorf("guest's control channel: %w", err)
	}
	listening, err := listener.File()
	if err != nil {
		return nil, fmt.Errorf("agent's listener: %w", err)
	}
	defer func() { _ = listening.Close() }()
	m := &Machine{spec: spec, conn: conn, out: json.NewEncoder(conn), events: make(chan Event, 16), ended: make(chan struct{})}
	extra := []*os.File{far, listening}
	if owners := m.mapOwners(); owners != nil {
		defer func() { _ = owners.Close() }()
		extra = append(extra, owners)
	}
	if err := m.launch(extra, log); err != nil {
		_ = conn.Close()
		return nil, err
	}
	if err := m.boot(); err != nil {
		m.Kill()
		return nil, err
	}
	return m, nil
}

// launch starts the guest's first process. The thread that does it stays until the process has ended: the kernel kills the child when its
// parent *thread* ends, see PR_SET_PDEATHSIG in prctl(2).
func (m *Machine) launch(extra []*os.File, log *os.File) error {
	// Whatever else this process inherited is no business of the guest.
	if err := unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("keep descriptors out of the guest: %w", err)
	}
	m.cmd = &exec.Cmd{
		Path: m.spec.Tool, Args: []string{InitName}, Env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, Dir: "/",
		Stdout: log, Stderr: log, ExtraFiles: extra, SysProcAttr: m.attributes(),
	}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err := m.cmd.Start()
		started <- err
		if err == nil {
			_ = m.cmd.Wait() // the way it ended tells nothing: it is nearly always killed
		}
		close(m.ended)
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start guest: %w", err)
	}
	return nil
}

func (m *Machine) attributes() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setsid: true}
	switch m.spec.Level {
	case LevelRoot:
		attr.Cloneflags, attr.Pdeathsig = namespaces, unix.SIGKILL
		if m.spec.Link != nil {
			attr.Cloneflags |= unix.CLONE_NEWNET
		}
	case LevelUserNS:
		attr.Cloneflags, attr.Pdeathsig = namespaces|unix.CLONE_NEWUSER, unix.SIGKILL
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: m.spec.UID, HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: m.spec.GID, HostID: os.Getgid(), Size: 1}}
		attr.AmbientCaps = mountPowers
	case LevelNone:
		// Not killed with its parent: it ends the guest's processes when the control channel closes. It may be frozen then.
		attr.Pdeathsig = unix.SIGCONT
	}
	return attr
}

// boot hands over the specification and waits for the guest's answer.
func (m *Machine) boot() error {
	if err := m.tell(m.spec); err != nil {
		return err
	}
	if m.spec.Link != nil {
		if err := m.plug(); err != nil {
			return err
		}
	}
	in := json.NewDecoder(m.conn)
	for {
		var e Event
		if err := in.Decode(&e); err != nil {
			return fmt.Errorf("guest ended while it was set up: %w", err)
		}
		switch e.Kind {
		case EventReady:
			go m.listen(in)
			return nil
		case EventFailed:
			return errors.New(e.Text)
		default:
			m.events <- e
		}
	}
}

func (m *Machine) listen(in *json.Decoder) {
	defer close(m.events)
	for {
		var e Event
		if err := in.Decode(&e); err != nil {
			return
		}
		m.events <- e
	}
}

func (m *Machine) tell(what any) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.out.Encode(what); err != nil {
		return fmt.Errorf("tell guest: %w", err)
	}
	return nil
}

// Events are what the guest reports; closed when it has ended.
func (m *Machine) Events() <-chan Event { return m.events }

// Ended is closed when the guest's first process is gone, and with it everything else.
func (m *Machine) Ended() <-chan struct{} { return m.ended }

// Shutdown asks the guest's system to shut down; EventPowerOff follows.
func (m *Machine) Shutdown() error { return m.tell(order{Verb: orderShutdown}) }

// bareEndWait bounds how long a guest without isolation may take to end its own processes.
const bareEndWait = 5 * time.Second

// Kill switches the guest off and waits until nothing of it is left.
func (m *Machine) Kill() {
	_ = m.cut() // the guest goes in any case
	_ = m.conn.Close()
	if m.spec.Level == LevelNone {
		timer := time.NewTimer(bareEndWait)
		defer timer.Stop()
		m.signalAll(unix.SIGCONT)
		select {
		case <-m.ended:
			return
		case <-timer.C:
		}
	}
	_ = m.cmd.Process.Kill() // gone already is as good
	<-m.ended
}

// Freeze stops all processes of the guest.
func (m *Machine) Freeze() { m.signalAll(unix.SIGSTOP) }

// Thaw lets them go on.
func (m *Machine) Thaw() { m.signalAll(unix.SIGCONT) }

// freezeRounds bounds the search for processes that were born while the others were being stopped.
const freezeRounds = 3

func (m *Machine) signalAll(signal unix.Signal) {
	// The first process goes first when stopping, so that nobody is born unnoticed, and last when waking up.
	root := m.cmd.Process.Pid
	for range freezeRounds {
		if signal == unix.SIGSTOP {
			_ = unix.Kill(root, signal)
		}
		for _, pid := range descendants(root) {
			_ = unix.Kill(pid, signal) // it may have ended meanwhile
		}
		if signal != unix.SIGSTOP {
			_ = unix.Kill(root, signal)
		}
	}
}

// mapOwners makes the user namespace by which shared directories belong to the guest's user; nil where that isn't needed or possible.
func (m *Machine) mapOwners() *os.File {
	if len(m.spec.Shares) == 0 || m.spec.Level != LevelRoot {
		return nil
	}
	sleeper := &exec.Cmd{
		Path: m.spec.Tool, Args: []string{InitName, "hold"}, Env: []string{},
		SysProcAttr: &syscall.SysProcAttr{
			Cloneflags:  unix.CLONE_NEWUSER,
			UidMappings: swapIDs(os.Getuid(), m.spec.UID), GidMappings: swapIDs(os.Getgid(), m.spec.GID),
		},
	}
	hold, err := sleeper.StdinPipe()
	if err != nil {
		return nil
	}
	if err := sleeper.Start(); err != nil {
		m.events <- Event{Kind: EventNote, Text: "owners of shares are not mapped: " + err.Error()}
		return nil
	}
	owners, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", sleeper.Process.Pid))
	_ = hold.Close()
	_ = sleeper.Wait()
	if err != nil {
		return nil
	}
	m.spec.MapOwner = true
	return owners
}

// Hold waits for the end of its input; see mapOwners.
func Hold(in io.Reader) int {
	_, _ = io.Copy(io.Discard, in)
	return 0
}

// idSpace is the number of user ids that exist.
const idSpace = 1<<32 - 1

// swapIDs maps all ids to themselves but two, which change places: what belongs to the caller on the host is the guest user's in the guest.
func swapIDs(host, guest int) []syscall.SysProcIDMap {
	if host == guest {
		return []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: idSpace}}
	}
	low, high := min(host, guest), max(host, guest)
	parts := []syscall.SysProcIDMap{
		{ContainerID: 0, HostID: 0, Size: low},
		{ContainerID: low, HostID: high, Size: 1},
		{ContainerID: low + 1, HostID: low + 1, Size: high - low - 1},
		{ContainerID: high, HostID: low, Size: 1},
		{ContainerID: high + 1, HostID: high + 1, Size: idSpace - high - 1},
	}
	kept := parts[:0]
	for _, part := range parts {
		if part.Size > 0 {
			kept = append(kept, part)
		}
	}
	return kept
}
