package keeper

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"gitlab-runner-tart-driver/internal/guest"
	"gitlab-runner-tart-driver/internal/host"
)

// Visitor is who uses a session, and how.
type Visitor struct {
	// In is what the command reads; nil for nothing. It must be the terminal if the session has one.
	In       io.Reader
	Out, Err *os.File
	// Begun is called when the command takes input; may be nil.
	Begun func()
	// Resized tells of the terminal's sizes; may be nil.
	Resized <-chan guest.Size
}

// leaveLimit is how long a session may take to end when its user wants to go.
const leaveLimit = 10 * time.Second

// Visit does something in a job's VM, beside the job and by the connection that its keeper has. It returns when the command has ended, ctx has, or
// the VM; the exit code is 0 to 255. What it reads from In may go on until that ends.
func Visit(ctx context.Context, state *host.State, vm, jobKey string, s Session, v Visitor) (exitCode int, err error) {
	conn, err := dial(ctx, state, vm)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	// The keeper gets a pipe's end and not our stdin: it would go on reading from a terminal after the session, for one read at least.
	stdin, input, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer input.Close()
	files := []*os.File{stdin, v.Out, v.Err}
	if terminal, ok := v.In.(*os.File); s.Terminal != nil {
		if !ok {
			stdin.Close()
			return 0, fmt.Errorf("a terminal is wanted for something that is none")
		}
		files = append(files, terminal)
	}
	err = send(conn, Request{Version: ProtocolVersion, Op: opShell, JobKey: jobKey, Session: &s}, files...)
	stdin.Close()
	if err != nil {
		return 0, fmt.Errorf("ask the VM's keeper: %w", err)
	}
	stop := context.AfterFunc(ctx, func() {
		_ = send(conn, Request{Version: ProtocolVersion, Op: opCancel})
		_ = conn.SetReadDeadline(time.Now().Add(leaveLimit))
	})
	defer stop()
	ended := make(chan struct{})
	defer close(ended)
	in := &receiver{conn: conn}
	for {
		r, err := in.reply()
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		if err != nil || !r.Begun {
			return r.ExitCode, err
		}
		if v.Begun != nil {
			v.Begun()
		}
		go tellSizes(conn, v.Resized, ended)
		if r.OwnTerminal || v.In == nil {
			input.Close()
			continue
		}
		go func() {
			_, _ = io.Copy(input, v.In) // a command need not read its input
			input.Close()
		}()
	}
}

// tellSizes hands on the sizes of the client's terminal.
func tellSizes(conn *net.UnixConn, sizes <-chan guest.Size, ended <-chan struct{}) {
	for {
		select {
		case <-ended:
			return
		case size, ok := <-sizes:
			if !ok {
				return
			}
			_ = send(conn, Request{Version: ProtocolVersion, Op: opResize, Size: size})
		}
	}
}

// Hold has a VM held for a while when its job is over, or for a while from now if the job is. until is zero while the job runs.
func Hold(ctx context.Context, state *host.State, vm, jobKey string, d time.Duration) (until time.Time, err error) {
	r, err := tell(ctx, state, vm, Request{Version: ProtocolVersion, Op: opHold, JobKey: jobKey, For: d})
	return r.HeldUntil, err
}

// Release destroys a VM that is held, and with force also one whose job still runs.
func Release(ctx context.Context, state *host.State, vm, jobKey string, force bool) error {
	_, err := tell(ctx, state, vm, Request{Version: ProtocolVersion, Op: opRelease, JobKey: jobKey, Force: force})
	return err
}

// tell asks for something that needs no descriptors.
func tell(ctx context.Context, state *host.State, vm string, r Request) (Reply, error) {
	conn, err := dial(ctx, state, vm)
	if err != nil {
		return Reply{}, err
	}
	defer conn.Close()
	if err := send(conn, r); err != nil {
		return Reply{}, fmt.Errorf("ask the VM's keeper: %w", err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(destroyLimit))
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Now()) })
	defer stop()
	reply, err := readReply(conn)
	if ctx.Err() != nil {
		return Reply{}, context.Cause(ctx)
	}
	return reply, err
}
