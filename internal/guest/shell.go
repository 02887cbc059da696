package guest

import (
	"context"
	"fmt"
	"io"
	"time"

	"golang.org/x/crypto/ssh"

	"gitlab-runner-tart-driver/internal/wait"
)

// Size is a terminal's, in characters.
type Size struct {
	Columns int `json:"columns"`
	Rows    int `json:"rows"`
}

// Terminal is the terminal of somebody who uses a guest.
type Terminal struct {
	// Kind is the value of TERM.
	Kind string `json:"kind"`
	Size Size   `json:"size"`
	// Resized tells of other sizes.
	Resized <-chan Size `json:"-"`
}

// Shells is a guest that people can be let into.
type Shells interface {
	// Shell runs a shell of the guest as a login shell, or a command line in one, until that or ctx ends.
	Shell(ctx context.Context, shell, command string, streams Streams) (Status, error)
	// Program runs a program by /bin/sh, without what a login shell does and may print. It may neither hold a single quote nor a line end.
	Program(ctx context.Context, program string, args []string, streams Streams) (Status, error)
}

// hangUpLimit is how long a command may take to end when nobody is interested in it any more. Then it is left to itself.
const hangUpLimit = 2 * time.Second

// loginProgram is how both transports run a command line: as the job's scripts are run, with what the user's startup files set.
//
//	$1 shell  $2 command line, or empty for what comes on stdin
const loginProgram = `if [ "$2" ]; then "$1" -l -c "$2"; else "$1" -l; fi; exit $?`

// Shell implements Shells.
func (s *SSH) Shell(ctx context.Context, shell, command string, streams Streams) (Status, error) {
	return s.execute(ctx, nil, loginLine(shell, command), streams)
}

// Program implements Shells.
func (s *SSH) Program(ctx context.Context, program string, args []string, streams Streams) (Status, error) {
	return s.execute(ctx, nil, commandLine(program, args...), streams)
}

// Terminal is Shell with a terminal of its own in the guest, RFC 4254, section 6.2. Its output is all on stdout.
func (s *SSH) Terminal(ctx context.Context, terminal Terminal, shell, command string, streams Streams) (Status, error) {
	return s.execute(ctx, &terminal, loginLine(shell, command), streams)
}

// execute runs a command line, and ends it when ctx does: the end of the channel alone is nothing to a command without a terminal.
func (s *SSH) execute(ctx context.Context, terminal *Terminal, line string, streams Streams) (Status, error) {
	inner, end := context.WithCancelCause(context.WithoutCancel(ctx))
	defer end(nil)
	return s.exec(inner, line, streams, func(ch ssh.Channel) error {
		if terminal != nil {
			if err := terminal.request(ch); err != nil {
				return err
			}
			go terminal.follow(inner, ch)
		}
		context.AfterFunc(ctx, func() {
			// https://man.openbsd.org/sshd: it knows the request since 7.9; an older one refuses it.
			_, _ = ch.SendRequest("signal", false, ssh.Marshal(struct{ Name string }{"HUP"}))
			if wait.For(inner, hangUpLimit) == nil {
				end(context.Cause(ctx))
			}
		})
		return nil
	})
}

// request asks the server for a terminal.
func (t *Terminal) request(ch ssh.Channel) error {
	msg := struct {
		Kind                         string
		Columns, Rows, Width, Height uint32
		Modes                        string
	}{Kind: t.Kind, Columns: uint32(t.Size.Columns), Rows: uint32(t.Size.Rows), Modes: "\x00"} // the server's own modes
	ok, err := ch.SendRequest("pty-req", true, ssh.Marshal(msg))
	if err != nil || !ok {
		return fmt.Errorf("the SSH server gives no terminal (%w)", orEOF(err))
	}
	return nil
}

// follow tells the server of other sizes, RFC 4254, section 6.7.
func (t *Terminal) follow(ctx context.Context, ch ssh.Channel) {
	for {
		select {
		case <-ctx.Done():
			return
		case size, ok := <-t.Resized:
			if !ok {
				return
			}
			_, _ = ch.SendRequest("window-change", false, ssh.Marshal(struct{ Columns, Rows, Width, Height uint32 }{
				Columns: uint32(size.Columns), Rows: uint32(size.Rows),
			}))
		}
	}
}

// loginLine is a command line for whatever login shell the user has. The shell takes its place, so that a terminal's ^C meets no other program.
func loginLine(shell, command string) string {
	line := "exec " + Quote(shell) + " -l"
	if command != "" {
		line += " -c " + Quote(command)
	}
	return line
}

// Shell implements Shells.
func (a *Agent) Shell(ctx context.Context, shell, command string, streams Streams) (Status, error) {
	return a.run(ctx, loginProgram, []string{shell, command}, withInput(streams))
}

// Program implements Shells.
func (a *Agent) Program(ctx context.Context, program string, args []string, streams Streams) (Status, error) {
	return a.run(ctx, program, args, withInput(streams))
}

// withInput gives a command an input, if an empty one: the agent's own may never end.
func withInput(s Streams) Streams {
	if s.Stdin == nil {
		s.Stdin = eof{}
	}
	return s
}

type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }

// AgentTerminal is what the agent is to run for somebody with a terminal. The agent's environment may lack what a login has, TERM among it.
func AgentTerminal(kind, shell, command string) []string {
	const program = `TERM=$1; u=$(id -un); [ "$USER" ] || USER=$u; [ "$LOGNAME" ] || LOGNAME=$u; [ "$HOME" ] || HOME=$(eval "echo ~$u"); ` +
		`export TERM USER LOGNAME HOME; cd "$HOME" || cd /; if [ "$3" ]; then exec "$2" -l -c "$3"; else exec "$2" -l; fi`
	return []string{"/bin/sh", "-c", program, "grtd", kind, shell, command}
}
