package tartcmd

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"net"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"gitlab-runner-tart-driver/internal/tartsim/guest"
	"gitlab-runner-tart-driver/internal/tartsim/tarthome"
)

// agentTimeout is how long Tart waits for a guest agent that doesn't answer.
const agentTimeout = 10 * time.Second

func (a *app) exec() error {
	vm, err := a.home.OpenVM(a.args.Arg("name"))
	if err != nil {
		return err
	}
	pid, err := vm.RunPID()
	if err != nil {
		return err
	}
	if pid == 0 {
		return tarthome.NotRunning(vm.Name)
	}
	request := guest.AgentRequest{Argv: a.args.Args("command"), Interactive: a.args.Has("i"), TTY: a.args.Has("t")}
	if request.TTY {
		restore := a.rawTerminal()
		defer restore()
		request.Columns, request.Rows = a.terminalSize()
	}
	conn, err := a.connectAgent(vm, request)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	frames := guest.NewFrameWriter(conn)
	if request.Interactive {
		go a.sendInput(frames)
	}
	if request.TTY {
		go a.sendSizes(frames)
	}
	return a.receive(conn)
}

// rawTerminal puts a terminal on standard input into raw mode, so that ^C travels to the guest.
func (a *app) rawTerminal() func() {
	fd := int(a.Stdin.Fd())
	if !term.IsTerminal(fd) {
		return func() {}
	}
	old, err := term.MakeRaw(fd)
	if err != nil {
		return func() {}
	}
	return func() { _ = term.Restore(fd, old) }
}

// terminalSize is that of standard output. Tart crashes when that is no terminal.
func (a *app) terminalSize() (columns, rows uint16) {
	size, err := unix.IoctlGetWinsize(int(a.Stdout.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		a.complain("tart/Exec.swift: Fatal error: 'try!' expression unexpectedly raised an error: failed to get terminal size\n")
		guest.DieBy(unix.SIGTRAP)
		return 0, 0
	}
	return size.Col, size.Row
}

// connectAgent connects and waits for the agent's answer to the request.
func (a *app) connectAgent(vm *tarthome.VM, request guest.AgentRequest) (*net.UnixConn, error) {
	timeout := cmp.Or(a.config.AgentTimeout.D(), agentTimeout)
	deadline := time.Now().Add(timeout)
	conn, err := guest.DialUnix(vm.Path(tarthome.ControlName))
	if err != nil {
		wait(time.Until(deadline))
		return nil, agentAbsent()
	}
	if err := conn.SetReadDeadline(deadline); err != nil {
		return nil, agentAbsent()
	}
	if err := sendRequest(conn, request); err != nil {
		_ = conn.Close()
		return nil, agentAbsent()
	}
	kind, _, err := guest.ReadFrame(conn)
	if err != nil || kind != guest.FrameHello {
		// An agent that goes away is tried again until the time is over.
		wait(time.Until(deadline))
		_ = conn.Close()
		return nil, agentAbsent()
	}
	return conn, conn.SetReadDeadline(time.Time{})
}

func agentAbsent() error {
	return tarthome.Failure("Failed to connect to the VM using its control socket: The operation couldn’t be completed. " +
		"(GRPC.GRPCConnectionPoolError error 1.), is the Tart Guest Agent running?")
}

func sendRequest(conn net.Conn, request guest.AgentRequest) error {
	data, err := json.Marshal(request)
	if err != nil {
		return err
	}
	return guest.NewFrameWriter(conn).Write(guest.FrameRequest, data)
}

// sendInput sends standard input and then its end.
func (a *app) sendInput(frames *guest.FrameWriter) {
	buffer := make([]byte, guest.MaxFrame)
	for {
		n, err := a.Stdin.Read(buffer)
		if n > 0 && frames.Write(guest.FrameStdin, buffer[:n]) != nil {
			return
		}
		if err != nil {
			_ = frames.Write(guest.FrameStdin, nil)
			return
		}
	}
}

func (a *app) sendSizes(frames *guest.FrameWriter) {
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, unix.SIGWINCH)
	for range changed {
		columns, rows := a.terminalSize()
		size := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, columns), rows)
		if frames.Write(guest.FrameResize, size) != nil {
			return
		}
	}
}

// receive passes the command's output on until its exit status comes. A stream that ends well without one is success to Tart.
func (a *app) receive(conn *net.UnixConn) error {
	for {
		kind, data, err := guest.ReadFrame(conn)
		if err != nil {
			return tarthome.System("unavailable (14): Transport became inactive")
		}
		switch kind {
		case guest.FrameEnd:
			return nil
		case guest.FrameStdout:
			_, err = a.Stdout.Write(data)
		case guest.FrameStderr:
			_, err = a.Stderr.Write(data)
		case guest.FrameExit:
			if len(data) == 4 {
				return exitStatus(int(int32(binary.BigEndian.Uint32(data))) & 0xff)
			}
		}
		if err != nil {
			return tarthome.System("%v", err)
		}
	}
}
