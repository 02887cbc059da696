package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/crypto/ssh"
)

// standby is a shell in the guest that waits for a script: a session, the user's login shell and runProgram are there already.
type standby struct {
	file  string        // runProgram's
	begun chan struct{} // closed when x or err is there
	x     *execution
	err   error
}

// roomPatience is how long a server may take to have room for another session (MaxSessions), and roomAgain how often it is asked: that of a script which
// was ended may go a little later than the script.
const (
	roomPatience = 5 * time.Second
	roomAgain    = 50 * time.Millisecond
)

// begin starts a shell that waits.
func (s *SSH) begin() *standby {
	b := &standby{file: scriptFile(), begun: make(chan struct{})}
	go func() {
		defer close(b.begun)
		began, again := time.Now(), time.NewTicker(roomAgain)
		defer again.Stop()
		for {
			b.x, b.err = s.start(programLine(runProgram, b.file), nil)
			if noRoom := (*ssh.OpenChannelError)(nil); !errors.As(b.err, &noRoom) || time.Since(began) > roomPatience {
				return
			}
			select {
			case <-again.C:
			case <-s.lost:
				return
			}
		}
	}()
	return b
}

// StandBy implements Guest. There is no more than one shell that waits; what goes wrong with it costs its time only.
func (s *SSH) StandBy() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.standby == nil {
		s.standby = s.begin()
	}
}

// RunScript implements Guest.
func (s *SSH) RunScript(ctx context.Context, shell string, script io.ReaderAt, size int64, stdout, stderr io.Writer) (Status, error) {
	by := func(b *standby, attend func(context.Context, *standby, Streams) (Status, error)) (Status, error) {
		streams := Streams{Stdin: scriptInput(shell, script, size), Stdout: stdout, Stderr: stderr}
		return scriptRun{s, b.file, func(ctx context.Context) (Status, error) { return attend(ctx, b, streams) }, b.signal}.do(ctx)
	}
	s.mu.Lock()
	b := s.standby
	s.standby = nil
	s.mu.Unlock()
	if b != nil {
		if status, err := by(b, s.handOnce); !errors.Is(err, errNeverBegan) {
			return status, err
		}
	}
	return by(s.begin(), s.hand)
}

// errNeverBegan means that the shell that waited has come to an end without a script, such as by something that an earlier script left running.
var errNeverBegan = errors.New("the script has not begun")

// handOnce is hand to a shell that may have come to its end while it waited.
func (s *SSH) handOnce(ctx context.Context, b *standby, streams Streams) (Status, error) {
	status, err := s.hand(ctx, b, streams)
	shellEnded := err == nil && status.Signal != "" || errors.Is(err, ErrNoStatus) || errors.Is(err, ErrNotStarted)
	if !shellEnded || b.x.moved.Load() > 0 {
		return status, err
	}
	// The shell itself was ended, and nothing was heard of the script. Its file tells whether it was there by then, which is of no length only where
	// nothing would be run twice.
	if held, herr := s.run(ctx, `[ -s "$1.sh" ]`, []string{b.file}, Streams{}); herr == nil && held.Code != 0 {
		return Status{}, errNeverBegan
	}
	return status, err
}

// hand gives its script to the shell that waits.
func (s *SSH) hand(ctx context.Context, b *standby, streams Streams) (Status, error) {
	select {
	case <-b.begun:
	case <-ctx.Done():
		go func() {
			if <-b.begun; b.err == nil {
				b.x.ch.Close()
			}
		}()
		return Status{}, context.Cause(ctx)
	}
	if b.err != nil {
		return Status{}, fmt.Errorf("%w: %w", errNeverBegan, b.err)
	}
	return begun(s.attend(ctx, b.x, streams))
}

// signal sends a signal, by its name without SIG, to the process group of a shell and its script: RFC 4254, section 6.9; OpenSSH does so since 7.9.
func (b *standby) signal(name string) {
	select {
	case <-b.begun:
	default:
		return
	}
	if b.err == nil {
		_, _ = b.x.ch.SendRequest("signal", false, ssh.Marshal(struct{ Name string }{name}))
	}
}
