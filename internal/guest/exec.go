package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
)

// Streams are a command's standard streams. Nil ones are empty or thrown away.
type Streams struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// Status is how a command ended.
type Status struct {
	// Code is 0 to 255, and 128+n where signal n ended the command.
	Code int
	// Signal is the name of the signal that ended the command itself, without SIG; empty else.
	Signal string
}

// ErrNoStatus means that a command has ended, and nobody could tell how.
var ErrNoStatus = errors.New("the command ended without an exit status")

// errOutput means that our side could not take the command's output: the job log's reader is gone.
var errOutput = errors.New("output cannot be written")

// signals are those whose numbers Linux and macOS share, by the names that RFC 4254, section 6.10 gives them.
var signals = map[string]int{"HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "TRAP": 5, "ABRT": 6, "FPE": 8, "KILL": 9, "SEGV": 11, "PIPE": 13, "ALRM": 14, "TERM": 15}

// Exec runs a command line by the login shell of the guest's user, and returns when it has ended and its output is written. A
// process that it leaves behind with the output still open does not keep Exec.
func (s *SSH) Exec(ctx context.Context, commandLine string, streams Streams) (Status, error) {
	return s.exec(ctx, commandLine, streams, nil)
}

// exec is Exec; prepare may ask for more on the channel before the command starts there.
func (s *SSH) exec(ctx context.Context, commandLine string, streams Streams, prepare func(ssh.Channel) error) (Status, error) {
	x, err := s.startWithin(ctx, commandLine, prepare)
	if err != nil {
		return Status{}, err
	}
	return s.attend(ctx, x, streams)
}

// startWithin is start, for no longer than ctx: a server may be alive and yet say nothing to a new session.
func (s *SSH) startWithin(ctx context.Context, commandLine string, prepare func(ssh.Channel) error) (*execution, error) {
	type started struct {
		x   *execution
		err error
	}
	done := make(chan started, 1)
	go func() {
		x, err := s.start(commandLine, prepare)
		done <- started{x, err}
	}()
	select {
	case st := <-done:
		return st.x, st.err
	case <-ctx.Done():
		go func() {
			if st := <-done; st.err == nil {
				st.x.ch.Close()
			}
		}()
		return nil, context.Cause(ctx)
	}
}

// start starts a command, which somebody has to attend to, or to end by closing its channel.
func (s *SSH) start(commandLine string, prepare func(ssh.Channel) error) (*execution, error) {
	ch, requests, err := s.conn.OpenChannel("session", nil)
	if err != nil {
		return nil, s.why(fmt.Errorf("open an SSH session: %w", err))
	}
	x := &execution{ch: ch, ended: make(chan struct{})}
	go x.watch(requests)
	if prepare != nil {
		err = prepare(ch)
	}
	if err == nil {
		var ok bool
		if ok, err = ch.SendRequest("exec", true, ssh.Marshal(struct{ Command string }{commandLine})); err != nil || !ok {
			err = fmt.Errorf("start a command: refused by the SSH server (%w)", orEOF(err))
		}
	}
	if err != nil {
		err = s.why(err)
		ch.Close()
		return nil, err
	}
	return x, nil
}

// attend gives a command its input and takes its output, until it has ended.
func (s *SSH) attend(ctx context.Context, x *execution, streams Streams) (Status, error) {
	defer x.ch.Close()
	go func() {
		if streams.Stdin != nil {
			_, _ = io.Copy(x.ch, streams.Stdin) // a command need not read its input
		}
		_ = x.ch.CloseWrite()
	}()
	copied := x.copyOutput(streams)
	select {
	case <-ctx.Done():
		return Status{}, context.Cause(ctx)
	case <-s.lost:
		awaitCopied(ctx, copied) // what came before the end belongs to the log
		return Status{}, s.cause
	case err := <-x.broken:
		return Status{}, err
	case <-x.ended:
	}
	if err := s.drain(ctx, x, copied); err != nil {
		return Status{}, err
	}
	if !x.known {
		return Status{}, contextOr(ctx, s.why(ErrNoStatus))
	}
	return x.status, nil
}

// awaitCopied gives a slow reader of the job log time for what came last.
func awaitCopied(ctx context.Context, copied <-chan struct{}) {
	limit := time.NewTimer(drainLimit)
	defer limit.Stop()
	select {
	case <-copied:
	case <-ctx.Done():
	case <-limit.C:
	}
}

// why prefers the connection's end over what it led to. A connection that breaks closes its channels an instant before it is known to be
// broken; a request tells.
func (s *SSH) why(err error) error {
	if _, _, rerr := s.conn.SendRequest(keepaliveRequest, true, nil); rerr != nil {
		<-s.lost
		return s.cause
	}
	return err
}

// execution is a command that runs.
type execution struct {
	ch     ssh.Channel
	ended  chan struct{} // closed when the command has ended
	known  bool          // whether status is
	status Status
	broken chan error // gets what went wrong with writing the output
	moved  atomic.Int64
	inside atomic.Int32 // writers that are busy with a slow reader
}

// watch reads the server's messages about the command.
func (x *execution) watch(requests <-chan *ssh.Request) {
	for req := range requests {
		if status, ok := parseStatus(req.Type, req.Payload); ok && !x.known {
			x.status, x.known = status, true
			close(x.ended)
		}
		if req.WantReply {
			_ = req.Reply(false, nil)
		}
	}
	if !x.known {
		close(x.ended)
	}
}

// parseStatus reads how a command ended from a channel request, RFC 4254, section 6.10.
func parseStatus(kind string, payload []byte) (Status, bool) {
	switch kind {
	case "exit-status":
		var msg struct{ Code uint32 }
		if ssh.Unmarshal(payload, &msg) != nil {
			return Status{}, false
		}
		return Status{Code: int(min(msg.Code, 255))}, true // POSIX has no more
	case "exit-signal":
		var msg struct {
			Signal     string
			CoreDumped bool
			Error      string
			Lang       string
		}
		if ssh.Unmarshal(payload, &msg) != nil {
			return Status{}, false
		}
		n, ok := signals[msg.Signal]
		if !ok {
			n = 127 // a signal without a number of its own: 255, as OpenSSH's client has it
		}
		return Status{Code: 128 + n, Signal: msg.Signal}, true
	default:
		return Status{}, false
	}
}

// copyOutput starts the copying of both streams; the channel is closed when both are at their end.
func (x *execution) copyOutput(streams Streams) <-chan struct{} {
	x.broken = make(chan error, 2)
	copied := make(chan struct{})
	left := atomic.Int32{}
	left.Store(2)
	pump := func(w io.Writer, r io.Reader) {
		if err := x.pump(w, r); err != nil {
			x.broken <- fmt.Errorf("%w: %w", errOutput, err)
		}
		if left.Add(-1) == 0 {
			close(copied)
		}
	}
	go pump(streams.Stdout, x.ch)
	go pump(streams.Stderr, x.ch.Stderr())
	return copied
}

// pump copies until the end of r, and only fails when w does.
func (x *execution) pump(w io.Writer, r io.Reader) error {
	if w == nil {
		w = io.Discard
	}
	buf := make([]byte, 64<<10)
	for {
		n, rerr := r.Read(buf)
		if n > 0 {
			x.inside.Add(1)
			_, werr := w.Write(buf[:n])
			x.moved.Add(int64(n))
			x.inside.Add(-1)
			if werr != nil {
				return werr
			}
		}
		if rerr != nil {
			return nil
		}
	}
}

const (
	drainPatience = 200 * time.Millisecond // for the end of output after the end of a command
	drainQuiet    = 100 * time.Millisecond // without output, after which there is nothing of the command's left
	drainLimit    = 5 * time.Second        // for a background process that keeps on writing
)

// drain waits for the rest of the output. The server tells a command's end before it has read all of its output, and a process left in
// the background may keep the output open for ever. So after some patience, another command goes through the server: by the time
// it has come back, the server has read what the first one had written. What then still comes is the background's.
func (s *SSH) drain(ctx context.Context, x *execution, copied <-chan struct{}) error {
	patience := time.NewTimer(drainPatience)
	defer patience.Stop()
	for x.known { // else the channel is closed, and so is the output
		select {
		case <-copied:
			return firstOf(x.broken)
		case err := <-x.broken:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-patience.C:
		}
		if x.inside.Load() == 0 {
			break
		}
		patience.Reset(drainPatience) // the reader of the job log is slow; that's no background process
	}
	if !x.known {
		<-copied
		return firstOf(x.broken)
	}
	bctx, cancel := context.WithTimeout(ctx, drainLimit)
	defer cancel()
	_ = s.roundTrip(bctx)
	tick := time.NewTicker(drainQuiet)
	defer tick.Stop()
	for {
		before := x.moved.Load()
		select {
		case <-copied:
			return firstOf(x.broken)
		case err := <-x.broken:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
			quiet := x.moved.Load() == before || bctx.Err() != nil
			if quiet && x.inside.Load() == 0 { // while the job log's reader is slow, there is more to come
				return nil
			}
		}
	}
}

func firstOf(errs <-chan error) error {
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

// roundTrip runs a command that does nothing.
func (s *SSH) roundTrip(ctx context.Context) error {
	ch, requests, err := s.conn.OpenChannel("session", nil)
	if err != nil {
		return err
	}
	defer ch.Close()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		ssh.DiscardRequests(requests)
	}()
	if _, err := ch.SendRequest("exec", true, ssh.Marshal(struct{ Command string }{"exit"})); err != nil {
		return err
	}
	_ = ch.CloseWrite()
	go func() { _, _ = io.Copy(io.Discard, ch) }()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
