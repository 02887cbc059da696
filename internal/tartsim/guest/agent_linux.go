//go:build linux

package guest

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// agent serves `tart exec` and `tart ip --resolver agent`. It does what Tart's guest agent does, see
// https://github.com/openai/tart-guest-agent, internal/rpc/exec.go.
type agent struct {
	spec   *Spec
	reaper *reaper
}

// serve accepts connections until the listener fails. A connection to an agent that isn't up stays unanswered, as in a real guest.
func (a *agent) serve(listener net.Listener) {
	up := time.Now().Add(a.spec.AgentDelay)
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer func() { _ = conn.Close() }()
			if a.spec.AgentDown {
				_, _ = io.Copy(io.Discard, conn)
				return
			}
			timer := time.NewTimer(time.Until(up))
			defer timer.Stop()
			<-timer.C
			a.answer(conn)
		}()
	}
}

func (a *agent) answer(conn net.Conn) {
	kind, data, err := ReadFrame(conn)
	if err != nil || kind != FrameRequest {
		return
	}
	var request AgentRequest
	if err := json.Unmarshal(data, &request); err != nil {
		return
	}
	out := NewFrameWriter(conn)
	if len(request.Argv) == 0 {
		_ = out.Write(FrameAddress, []byte(a.spec.Address))
		return
	}
	if out.Write(FrameHello, nil) != nil {
		return
	}
	if lost := a.spec.AgentStreamLost; lost != nil {
		timer := time.AfterFunc(lost.D(), func() { _ = conn.Close() })
		defer timer.Stop()
	}
	status, err := a.run(conn, out, request)
	if err != nil {
		status = exitNotStarted // and not a word about why
	}
	if a.spec.AgentNoExit {
		_ = out.Write(FrameEnd, nil)
		return
	}
	_ = out.Write(FrameExit, binary.BigEndian.AppendUint32(nil, uint32(status)))
}

// run starts the command and moves its streams; it returns the exit status when the command has ended and its output is sent.
func (a *agent) run(conn net.Conn, out *FrameWriter, request AgentRequest) (int, error) {
	streams, err := openStreams(request)
	if err != nil {
		return 0, err
	}
	defer streams.close()
	dir := a.spec.AgentDir
	if dir == "" {
		dir = a.spec.HomeDir
	}
	pid, done, err := a.reaper.start(process{
		argv: request.Argv, env: a.spec.agentEnvironment(), dir: dir, files: streams.child, tty: request.TTY, group: !request.TTY,
	})
	streams.closeChild()
	if err != nil {
		return 0, err
	}
	var output sync.WaitGroup
	for kind, file := range streams.output {
		output.Go(func() { sendOutput(out, kind, file) })
	}
	go func() {
		a.input(conn, streams, request)
		if !a.spec.AgentKeeps {
			_ = unix.Kill(-pid, unix.SIGKILL) // the command may have ended
		}
	}()
	status := <-done
	if request.TTY {
		// A daemon may keep the terminal open for ever; what is there by now has to do.
		_ = streams.input.SetReadDeadline(time.Now().Add(ttyDrain))
	}
	output.Wait()
	return exitCode(status), nil
}

// ttyDrain is how long output is still read from a terminal after its session has ended.
const ttyDrain = 200 * time.Millisecond

// Exit statuses that are not a command's own.
const (
	exitNotStarted = 125
	exitSignalled  = 128 // and the signal's number
)

func exitCode(status unix.WaitStatus) int {
	if status.Signaled() {
		return exitSignalled + int(status.Signal())
	}
	return status.ExitStatus()
}

func sendOutput(out *FrameWriter, kind FrameKind, file *os.File) {
	buffer := make([]byte, MaxFrame)
	for {
		n, err := file.Read(buffer)
		if n > 0 && out.Write(kind, buffer[:n]) != nil {
			return
		}
		if err != nil {
			return
		}
	}
}

// endOfTransmission is what a terminal's end of input is typed with.
const endOfTransmission = 0x04

// input moves the client's frames to the command until the client goes away.
func (a *agent) input(conn net.Conn, streams *agentStreams, request AgentRequest) {
	for {
		kind, data, err := ReadFrame(conn)
		if err != nil {
			return
		}
		switch {
		case kind == FrameStdin && len(data) == 0:
			if request.TTY {
				_, _ = streams.input.Write([]byte{endOfTransmission})
			} else {
				_ = streams.input.Close()
			}
		case kind == FrameStdin && request.Interactive:
			_, _ = streams.input.Write(data)
		case kind == FrameResize && len(data) == 4 && request.TTY:
			_ = setSize(streams.input, binary.BigEndian.Uint16(data), binary.BigEndian.Uint16(data[2:]))
		}
	}
}

// agentStreams are both ends of a command's streams.
type agentStreams struct {
	child  [3]*os.File
	input  *os.File
	output map[FrameKind]*os.File
}

func openStreams(request AgentRequest) (*agentStreams, error) {
	if request.TTY {
		terminal, line, err := openPTY()
		if err != nil {
			return nil, err
		}
		if err := setSize(terminal, request.Columns, request.Rows); err != nil {
			return nil, err
		}
		return &agentStreams{child: [3]*os.File{line, line, line}, input: terminal, output: map[FrameKind]*os.File{FrameStdout: terminal}}, nil
	}
	var ends [3][2]*os.File
	for i := range ends {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		ends[i] = [2]*os.File{r, w}
	}
	s := &agentStreams{
		child:  [3]*os.File{ends[0][0], ends[1][1], ends[2][1]},
		input:  ends[0][1],
		output: map[FrameKind]*os.File{FrameStdout: ends[1][0], FrameStderr: ends[2][0]},
	}
	if !request.Interactive {
		_ = s.input.Close()
	}
	return s, nil
}

func (s *agentStreams) closeChild() {
	for _, file := range s.child {
		_ = file.Close()
	}
}

func (s *agentStreams) close() {
	s.closeChild()
	_ = s.input.Close()
	for _, file := range s.output {
		_ = file.Close()
	}
}

// openPTY makes a pseudo-terminal of the guest's own devpts.
func openPTY() (terminal, line *os.File, err error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("open /dev/ptmx: %w", err)
	}
	terminal = os.NewFile(uintptr(fd), "/dev/ptmx")
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, nil, fmt.Errorf("unlock terminal: %w", err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		return nil, nil, fmt.Errorf("terminal number: %w", err)
	}
	line, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	return terminal, line, nil
}

func setSize(terminal *os.File, columns, rows uint16) error {
	conn, err := terminal.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = conn.Control(func(fd uintptr) {
		failed = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: rows})
	})
	if err != nil {
		return err
	}
	return failed
}
