package guest

import (
	"context"
	"errors"
	"io"
)

// standby is a shell in the guest that waits for a script: a session, the user's login shell and runProgram are there already.
type standby struct {
	file  string        // runProgram's
	begun chan struct{} // closed when x or err is there
	x     *execution
	err   error
}

// StandBy implements Guest. There is no more than one shell that waits; what goes wrong with it costs its time only.
func (s *SSH) StandBy() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.standby != nil {
		return
	}
	b := &standby{file: scriptFile(), begun: make(chan struct{})}
	s.standby = b
	go func() {
		defer close(b.begun)
		b.x, b.err = s.start(programLine(runProgram, b.file), nil)
	}()
}

// RunScript implements Guest.
func (s *SSH) RunScript(ctx context.Context, shell string, script io.ReaderAt, size int64, stdout, stderr io.Writer) (Status, error) {
	streams := func() Streams {
		return Streams{Stdin: scriptInput(shell, script, size), Stdout: stdout, Stderr: stderr}
	}
	s.mu.Lock()
	b := s.standby
	s.standby = nil
	s.mu.Unlock()
	if b != nil {
		status, err := scriptIn(ctx, s, b.file, func(ctx context.Context) (Status, error) { return s.hand(ctx, b, streams()) })
		if !errors.Is(err, errNeverBegan) {
			return status, err
		}
	}
	file := scriptFile()
	return scriptIn(ctx, s, file, func(ctx context.Context) (Status, error) { return s.run(ctx, runProgram, []string{file}, streams()) })
}

// errNeverBegan means that the shell that waited has come to an end without a script, such as by something that an earlier script left running.
var errNeverBegan = errors.New("the script has not begun")

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
		return Status{}, errNeverBegan
	}
	status, err := s.attend(ctx, b.x, streams)
	if err == nil && status.Signal == "" || err != nil && !errors.Is(err, ErrNoStatus) {
		return status, err
	}
	// The shell itself was ended. Its file tells whether it had its script by then, which is of no length only where nothing would be run twice.
	if held, herr := s.run(ctx, `[ -s "$1.sh" ]`, []string{b.file}, Streams{}); herr == nil && held.Code != 0 {
		return Status{}, errNeverBegan
	}
	return status, err
}
