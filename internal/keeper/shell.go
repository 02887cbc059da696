package keeper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"gitlab-runner-tart-driver/internal/guest"
	"gitlab-runner-tart-driver/internal/job"
)

// Session is what somebody wants to do in a job's VM, beside the job. stdin, stdout and stderr come with the request as descriptors, and with
// Terminal a fourth one, the client's terminal. stdin must not be a terminal: whoever reads from one may take what is typed after the end.
type Session struct {
	// Command is a command line for the job's shell, as a login shell; empty for that shell itself.
	Command string `json:"command,omitempty"`
	// Program, if any, is run by /bin/sh instead, with Args.
	Program string   `json:"program,omitempty"`
	Args    []string `json:"args,omitempty"`
	// Terminal is what the command gets a terminal for; nil for none.
	Terminal *guest.Terminal `json:"terminal,omitempty"`
}

// maxSessions is how many sessions a VM takes. OpenSSH lets ten commands run on a connection, and the job needs some.
// https://man.openbsd.org/sshd_config#MaxSessions
const maxSessions = 6

// errLeft is the cause when the one who uses a session ends it, or is gone.
var errLeft = errors.New("the client has gone")

// session serves one user of the VM until the command ends.
func (k *Keeper) session(conn *net.UnixConn, in *receiver, s *Session) (guest.Status, error) {
	want := 3
	if s != nil && s.Terminal != nil {
		want = 4
	}
	if s == nil || len(in.files) != want {
		return guest.Status{}, fmt.Errorf("%d descriptors came with the request, not %d", len(in.files), want)
	}
	if k.sessions.Add(1) > maxSessions {
		k.sessions.Add(-1)
		return guest.Status{}, job.Infrastructure(fmt.Errorf("the VM has %d sessions already, and the job needs what is left of its connection", maxSessions), "end one of them")
	}
	defer k.sessions.Add(-1)
	files := in.files
	in.files = nil
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	ctx, cancel := context.WithCancelCause(k.condemned)
	defer cancel(nil)
	resized := make(chan guest.Size, 1)
	go func() {
		for {
			var again Request
			if err := in.next(&again); err != nil || again.Op != opResize {
				cancel(errLeft)
				return
			}
			select { // what was not looked at yet is of no interest any more
			case <-resized:
			default:
			}
			resized <- again.Size
		}
	}()
	go func() {
		select {
		case <-k.vmGone:
			cancel(k.lost)
		case <-ctx.Done():
		}
	}()
	l, err := k.link(ctx)
	if err != nil {
		return guest.Status{}, err
	}
	_, agent := l.guest.(*guest.Agent)
	if err := send(conn, Reply{Version: ProtocolVersion, Begun: true, OwnTerminal: agent && s.Terminal != nil}); err != nil {
		return guest.Status{}, err
	}
	k.log.Printf("session begins")
	if s.Terminal != nil {
		s.Terminal.Resized = resized
	}
	status, err := k.serveSession(ctx, l, s, files)
	k.log.Printf("session ends: exit status %d, %v", status.Code, err)
	return status, k.whyOver(ctx, l, err)
}

// serveSession runs what a session is for.
func (k *Keeper) serveSession(ctx context.Context, l *link, s *Session, files []*os.File) (guest.Status, error) {
	streams := guest.Streams{Stdin: files[0], Stdout: files[1], Stderr: files[2]}
	k.mu.Lock()
	shell := k.info.Shell
	k.mu.Unlock()
	if shell == "" {
		shell = "/bin/sh"
	}
	switch g := l.guest.(type) {
	case *guest.SSH:
		if s.Program == "" && s.Terminal != nil {
			return g.Terminal(ctx, *s.Terminal, shell, s.Command, streams)
		}
	case *guest.Agent:
		if s.Program == "" && s.Terminal != nil {
			argv := guest.AgentTerminal(s.Terminal.Kind, shell, s.Command)
			code, err := k.tart.ExecTerminal(ctx, k.p.VM, argv, files[3], files[1], files[2], changes(ctx, s.Terminal.Resized))
			return guest.Status{Code: code}, err
		}
	}
	g, ok := l.guest.(guest.Shells)
	switch {
	case !ok:
		return guest.Status{}, errors.New("this way into the VM is for scripts only")
	case s.Program != "":
		return g.Program(ctx, s.Program, s.Args, streams)
	default:
		return g.Shell(ctx, shell, s.Command, streams)
	}
}

// changes says when there was another size; tart looks for itself which.
func changes(ctx context.Context, sizes <-chan guest.Size) <-chan struct{} {
	changed := make(chan struct{})
	go func() {
		defer close(changed)
		for {
			select {
			case <-sizes:
			case <-ctx.Done():
				return
			}
			select {
			case changed <- struct{}{}:
			case <-ctx.Done():
				return
			}
		}
	}()
	return changed
}

// whyOver explains why a session is over that did not end by itself.
func (k *Keeper) whyOver(ctx context.Context, l *link, err error) error {
	if k.condemned.Err() != nil {
		return k.whyCondemned()
	}
	if err == nil {
		return nil
	}
	if errors.Is(err, guest.ErrLost) {
		limit := time.NewTimer(vmEndLimit)
		defer limit.Stop()
		select {
		case <-k.vmGone:
		case <-k.condemned.Done():
			return k.whyOver(ctx, l, err)
		case <-limit.C:
			return job.Infrastructure(err, "%s", l.lostHint())
		}
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	select {
	case <-k.vmGone:
		return job.Infrastructure(k.lost, "")
	default:
		return job.Infrastructure(err, "")
	}
}
