package guest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// buffer is a bytes.Buffer for several.
type buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *buffer) Bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.buf.Bytes())
}

func noise(seed byte, size int) []byte {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(data)
	return data
}

func TestExecTellsHowACommandEnded(t *testing.T) {
	s := newServer(t, func(command string, s *session) {
		var code uint32
		if _, err := fmt.Sscanf(command, "status %d", &code); err == nil {
			s.exit(code)
		} else if name, ok := strings.CutPrefix(command, "signal "); ok {
			s.exitSignal(name)
		}
	}, nil)
	c := s.connect()
	for command, want := range map[string]Status{
		"status 0":     {},
		"status 1":     {Code: 1},
		"status 42":    {Code: 42},
		"status 255":   {Code: 255},
		"signal TERM":  {Code: 143, Signal: "TERM"},
		"signal KILL":  {Code: 137, Signal: "KILL"},
		"signal ALRM":  {Code: 142, Signal: "ALRM"},
		"signal OTHER": {Code: 255, Signal: "OTHER"},
	} {
		if got, err := c.Exec(t.Context(), command, Streams{}); got != want || err != nil {
			t.Errorf("%s: got %+v, %v, want %+v", command, got, err, want)
		}
	}
	if got, err := c.Exec(t.Context(), "nothing", Streams{}); !errors.Is(err, ErrNoStatus) {
		t.Errorf("no status: got %+v, %v, want ErrNoStatus", got, err)
	}
	if c.Cause() != nil {
		t.Errorf("the connection has ended: %v", c.Cause())
	}
}

func TestExecTakesTheFirstStatus(t *testing.T) {
	s := newServer(t, func(_ string, s *session) {
		_, _ = s.SendRequest("exit-status", false, []byte("\x00")) // too short to be one
		_, _ = s.SendRequest("something@example.com", false, nil)
		s.exit(3)
		s.exit(4)
		s.exitSignal("TERM")
	}, nil)
	if got, err := s.connect().Exec(t.Context(), "x", Streams{}); got != (Status{Code: 3}) || err != nil {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestExecMovesEveryByte(t *testing.T) {
	t.Parallel()
	const size = 5 << 20 // on each stream
	out, errs := noise(1, size), noise(2, size)
	s := newServer(t, func(_ string, s *session) {
		var both sync.WaitGroup
		both.Go(func() { _, _ = s.Write(out) })
		both.Go(func() { _, _ = s.Stderr().Write(errs) })
		both.Wait()
		s.exit(0)
	}, nil)
	var gotOut, gotErr bytes.Buffer
	if _, err := s.connect().Exec(t.Context(), "x", Streams{Stdout: &gotOut, Stderr: &gotErr}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(gotOut.Bytes(), out) || !bytes.Equal(gotErr.Bytes(), errs) {
		t.Errorf("of %d bytes on each stream came %d and %d, the same: %v and %v", size, gotOut.Len(), gotErr.Len(),
			bytes.Equal(gotOut.Bytes(), out), bytes.Equal(gotErr.Bytes(), errs))
	}
}

func TestExecHandsInputOn(t *testing.T) {
	input := noise(3, 2500000) // more than the window of a channel
	s := newServer(t, func(command string, s *session) {
		if command == "read" {
			_, _ = io.Copy(s, s)
		}
		s.exit(0)
	}, nil)
	c := s.connect()
	for name, in := range map[string][]byte{"nothing": nil, "something": input} {
		var out bytes.Buffer
		streams := Streams{Stdout: &out}
		if in != nil {
			streams.Stdin = bytes.NewReader(in)
		}
		if _, err := c.Exec(t.Context(), "read", streams); err != nil || !bytes.Equal(out.Bytes(), in) {
			t.Errorf("%s: %d bytes came back of %d, %v", name, out.Len(), len(in), err)
		}
	}
	// A command need not read what it is given.
	if got, err := c.Exec(t.Context(), "ignore", Streams{Stdin: bytes.NewReader(input)}); got.Code != 0 || err != nil {
		t.Errorf("unread input: got %+v, %v", got, err)
	}
}

// TestABackgroundProcessDoesNotKeepExec has servers that tell the exit status and leave the output open, as OpenSSH does for a daemon
// that a script has started.
func TestABackgroundProcessDoesNotKeepExec(t *testing.T) {
	t.Parallel()
	before, after := noise(4, 1<<20), []byte("read late")
	over := make(chan struct{})
	var late sync.WaitGroup
	late.Add(1)
	var command *session
	s := newServer(t, func(_ string, s *session) {
		command = s
		_, _ = s.Write(before)
		s.exit(7)
		late.Wait()
		<-over
	}, nil)
	// What the command wrote, the server may have read only after it told the command's end, but before another command of later.
	s.roundTrip = func(s *session) {
		_, _ = command.Write(after)
		_, _ = command.Stderr().Write(after)
		late.Done()
		s.exit(0)
	}
	defer close(over)
	var out, errs buffer
	got, err := s.connect().Exec(t.Context(), "x", Streams{Stdout: &out, Stderr: &errs})
	if got != (Status{Code: 7}) || err != nil {
		t.Errorf("got %+v, %v", got, err)
	}
	if want := append(bytes.Clone(before), after...); !bytes.Equal(out.Bytes(), want) || !bytes.Equal(errs.Bytes(), after) {
		t.Errorf("%d bytes of output, want %d; %d of errors, want %d", len(out.Bytes()), len(want), len(errs.Bytes()), len(after))
	}
}

// slow is a reader of the job log that takes its time over the first bytes.
type slow struct {
	buffer
	first sync.Once
}

func (w *slow) Write(p []byte) (int, error) {
	w.first.Do(func() { <-time.After(drainPatience * 2) })
	return w.buffer.Write(p)
}

func TestASlowReaderLosesNothing(t *testing.T) {
	t.Parallel()
	want := noise(5, 1<<20)
	s := newServer(t, func(_ string, s *session) {
		_, _ = s.Write(want)
		s.exit(0)
	}, nil)
	var out slow
	if _, err := s.connect().Exec(t.Context(), "x", Streams{Stdout: &out}); err != nil || !bytes.Equal(out.Bytes(), want) {
		t.Errorf("%d of %d bytes, %v", len(out.Bytes()), len(want), err)
	}
}

// broken is a job log whose reader is gone.
type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestExecEndsWhenNobodyReadsItsOutput(t *testing.T) {
	for name, streams := range map[string]Streams{"stdout": {Stdout: broken{}}, "stderr": {Stderr: broken{}}} {
		s := newServer(t, func(_ string, s *session) {
			_, _ = s.Write([]byte("x"))
			_, _ = s.Stderr().Write([]byte("x"))
			_, _ = io.Copy(io.Discard, s) // until the other side closes
			_, _ = s.SendRequest("anybody there?", true, nil)
		}, nil)
		_, err := s.connect().Exec(t.Context(), "x", streams)
		if !errors.Is(err, errOutput) || !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestExecEndsWithItsContext(t *testing.T) {
	began := make(chan struct{})
	s := newServer(t, func(_ string, s *session) {
		close(began)
		_, _ = s.SendRequest("anybody there?", true, nil) // is answered when the other side closes
	}, nil)
	c := s.connect()
	cause := errors.New("canceled")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-began
		cancel(cause)
	}()
	if _, err := c.Exec(ctx, "x", Streams{}); !errors.Is(err, cause) {
		t.Errorf("error %v, want the cause", err)
	}
	if c.Cause() != nil {
		t.Errorf("the connection has ended, too: %v", c.Cause())
	}
}

func TestExecRefused(t *testing.T) {
	s := newServer(t, noCommands, nil)
	c := s.connect()
	c.Close()
	if _, err := c.Exec(t.Context(), "x", Streams{}); !errors.Is(err, ErrLost) {
		t.Errorf("over a closed connection: %v", err)
	}
}

// TestWhatCameBeforeTheConnectionBrokeIsKept cuts the connection while a slow reader has most of it still before it.
func TestWhatCameBeforeTheConnectionBrokeIsKept(t *testing.T) {
	t.Parallel()
	want := noise(6, 1<<20) // within the window, so that all of it is under way
	cut := make(chan struct{})
	s := newServer(t, func(_ string, s *session) {
		_, _ = s.Write(want)
		_ = s.conn.(*net.TCPConn).CloseWrite()
		<-cut
	}, nil)
	defer close(cut)
	var out slow
	_, err := s.connect().Exec(t.Context(), "x", Streams{Stdout: &out})
	if !errors.Is(err, ErrLost) && !errors.Is(err, ErrNoStatus) {
		t.Errorf("error %v", err)
	}
	if !bytes.Equal(out.Bytes(), want) {
		t.Errorf("%d of %d bytes were written", len(out.Bytes()), len(want))
	}
}

func FuzzParseStatus(f *testing.F) {
	f.Add("exit-status", []byte{0, 0, 0, 42})
	f.Add("exit-signal", ssh.Marshal(struct {
		Name string
		Core bool
		A, B string
	}{"TERM", false, "", ""}))
	f.Add("exit-signal", []byte{255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, kind string, payload []byte) {
		got, ok := parseStatus(kind, payload)
		if !ok && got != (Status{}) || got.Code < 0 || got.Code > 255 || ok && kind != "exit-status" && kind != "exit-signal" {
			t.Errorf("%q %x: %+v, %v", kind, payload, got, ok)
		}
		if got.Signal != "" && got.Code <= 128 {
			t.Errorf("signal %q gives code %d", got.Signal, got.Code)
		}
	})
}
