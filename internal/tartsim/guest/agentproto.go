package guest

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync"
)

// The agent's protocol over control.sock: the client sends one request frame, then input and terminal sizes; the agent answers with a
// hello, output, and the exit status. It stands for the gRPC stream between tart and its guest agent and has the same messages.

// FrameKind says what a frame carries.
type FrameKind byte

// The kinds of frames.
const (
	FrameRequest FrameKind = iota + 1 // client: JSON of AgentRequest
	FrameStdin                        // client: input; empty: end of file
	FrameResize                       // client: two big-endian 16-bit numbers, columns and rows
	FrameHello                        // agent: the request has been accepted
	FrameStdout                       // agent
	FrameStderr                       // agent
	FrameExit                         // agent: big-endian 32-bit exit status
	FrameAddress                      // agent: the guest's address as text
	FrameEnd                          // agent: the stream ends well, without an exit status
)

// AgentRequest asks the agent for a command or, without one, for the guest's address.
type AgentRequest struct {
	Argv        []string `json:"argv,omitempty"`
	Interactive bool     `json:"interactive,omitempty"`
	TTY         bool     `json:"tty,omitempty"`
	Columns     uint16   `json:"columns,omitempty"`
	Rows        uint16   `json:"rows,omitempty"`
}

// MaxFrame is the most a frame carries, the size of tart's own messages.
const MaxFrame = 64 << 10

// FrameWriter writes whole frames from several goroutines.
type FrameWriter struct {
	mu sync.Mutex
	w  io.Writer
}

// NewFrameWriter makes a writer of frames.
func NewFrameWriter(w io.Writer) *FrameWriter { return &FrameWriter{w: w} }

// Write writes one frame; data longer than MaxFrame is an error.
func (f *FrameWriter) Write(kind FrameKind, data []byte) error {
	if len(data) > MaxFrame {
		return fmt.Errorf("agent frame of %d bytes: the limit is %d", len(data), MaxFrame)
	}
	frame := make([]byte, 5, 5+len(data))
	frame[0] = byte(kind)
	binary.BigEndian.PutUint32(frame[1:], uint32(len(data)))
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err := f.w.Write(append(frame, data...))
	return err
}

// ReadFrame reads one frame.
func ReadFrame(r io.Reader) (FrameKind, []byte, error) {
	var header [5]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return 0, nil, err
	}
	size := binary.BigEndian.Uint32(header[1:])
	if size > MaxFrame {
		return 0, nil, fmt.Errorf("agent frame of %d bytes: the limit is %d", size, MaxFrame)
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(r, data); err != nil {
		return 0, nil, err
	}
	return FrameKind(header[0]), data, nil
}
