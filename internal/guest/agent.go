package guest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// AgentExec runs a command in the guest by Tart's guest agent, word for word. The exit code may be the client's own and says nothing by
// itself; the error is about the client.
type AgentExec func(ctx context.Context, argv []string, streams Streams) (exitCode int, err error)

// Agent reaches a guest by Tart's guest agent.
type Agent struct {
	exec AgentExec
	lost chan struct{}
	once sync.Once
	why  error
}

// NewAgent makes a Guest of a way to run commands. Nothing is connected: every command is a connection of its own.
func NewAgent(exec AgentExec) *Agent { return &Agent{exec: exec, lost: make(chan struct{})} }

// Exit codes of ledProgram, which neither the client nor a shell has for anything else.
const (
	agentOK       = 93 // the program's exit status is 0
	agentSeeFile  = 94 // it is in the status file
	agentNoFile   = 95 // it is not 0, and could not be written down
	agentNotBegun = 96 // the program could not begin
)

// leadProgram makes sure that what it runs leads a process group of its own, which the agent need not have given it: ending the agent's
// group would end the agent. macOS has no setsid command, but perl.
//
//	$1 ledProgram  $2... its arguments
const leadProgram = `w=$1; shift; ` +
	`if [ -r /proc/$$/stat ]; then read -r _ _ _ _ g _ < /proc/$$/stat; else g=$(ps -o pgid= -p $$); fi; ` +
	`if [ $((g+0)) -ne $$ ]; then ` +
	`command -v setsid > /dev/null && exec setsid /bin/sh -c "$w" grtd "$@"; ` +
	`command -v perl > /dev/null && exec perl -e 'setpgrp(0, 0); exec @ARGV' /bin/sh -c "$w" grtd "$@"; fi; ` +
	`exec /bin/sh -c "$w" grtd "$@"`

// ledProgram runs a program, and tells its exit status in a way that can't be mistaken for the client's own. The status file also tells that a
// program has ended whose output somebody in the background still holds open.
//
//	$1 program  $2 status file  $3... the program's arguments
const ledProgram = `p=$1; f=$2; shift 2; no() { trap - EXIT; exit 96; }; ` +
	`trap 's=$?; trap - EXIT; (umask 077; echo $s > "$f") 2> /dev/null || { [ $s -eq 0 ] && exit 93; exit 95; }; [ $s -eq 0 ] && exit 93; exit 94' EXIT; ` +
	`eval "$p"`

const (
	// heartbeatInterval is how often a running program's guest is asked for a sign of life.
	heartbeatInterval = 5 * time.Second
	// heartbeatLimit is how long the guest may be mute. A busy guest may well take some seconds.
	heartbeatLimit = 30 * time.Second
)

// Survey implements Guest.
func (a *Agent) Survey(ctx context.Context, shell string, dirs ...string) (Info, error) {
	return surveyIn(ctx, a, shell, dirs...)
}

// RunScript implements Guest.
func (a *Agent) RunScript(ctx context.Context, shell string, script io.Reader, size int64, stdout, stderr io.Writer) (Status, error) {
	return scriptIn(ctx, a, shell, script, size, stdout, stderr)
}

// Lost implements Guest.
func (a *Agent) Lost() <-chan struct{} { return a.lost }

// Cause implements Guest.
func (a *Agent) Cause() error {
	select {
	case <-a.lost:
		return a.why
	default:
		return nil
	}
}

// Close implements Guest.
func (a *Agent) Close() {
	a.once.Do(func() {
		a.why = fmt.Errorf("%w: closed", ErrLost)
		close(a.lost)
	})
}

// outcome is how a client ended.
type outcome struct {
	code int
	err  error
}

// run runs a program and watches over it: the client hangs when the guest does, and when somebody holds the output.
func (a *Agent) run(ctx context.Context, program string, args []string, streams Streams) (Status, error) {
	file := scriptDir() + ".status"
	argv := append([]string{"/bin/sh", "-c", leadProgram, "grtd", ledProgram, program, file}, args...)
	cctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-a.lost:
			cancel(a.why)
		case <-cctx.Done():
		}
	}()
	// Output goes through this process: a client that had the job log's descriptors itself would keep GitLab Runner waiting for them if it
	// outlived us.
	stdout, stderr := &passedOn{w: streams.Stdout}, &passedOn{w: streams.Stderr}
	streams.Stdout, streams.Stderr = stdout, stderr
	ended := make(chan outcome, 1)
	go func() {
		code, err := a.exec(cctx, argv, streams)
		ended <- outcome{code, err}
	}()
	beats := make(chan Status, 1)
	go a.watch(cctx, file, beats, cancel)
	var out outcome
	select {
	case out = <-ended:
	case status := <-beats:
		// The program has ended long since, and what it wrote has been passed on; its output is held by what it left behind.
		cancel(nil)
		<-ended
		return status, nil
	}
	if cause := context.Cause(cctx); cause != nil {
		return Status{}, cause
	}
	if stdout.broken.Load() || stderr.broken.Load() {
		return Status{}, fmt.Errorf("%w: the job log's reader is gone", errOutput)
	}
	return a.status(ctx, out, file)
}

// passedOn hands output on, and notes when that fails.
type passedOn struct {
	w      io.Writer
	broken atomic.Bool
}

func (p *passedOn) Write(b []byte) (int, error) {
	if p.w == nil {
		return len(b), nil
	}
	n, err := p.w.Write(b)
	if err != nil {
		p.broken.Store(true)
	}
	return n, err
}

// status makes the program's exit status of the client's exit code.
func (a *Agent) status(ctx context.Context, out outcome, file string) (Status, error) {
	switch {
	case out.err != nil:
		return Status{}, fmt.Errorf("%w: %w", ErrLost, out.err)
	case out.code == agentOK:
		return Status{}, nil
	case out.code == agentNotBegun:
		return Status{}, ErrNotStarted
	case out.code == agentSeeFile:
		status, ok, err := a.read(ctx, file)
		if err != nil || !ok {
			return Status{}, fmt.Errorf("%w: the exit status cannot be read (%w)", ErrLost, orEOF(err))
		}
		return status, nil
	case out.code == agentNoFile:
		return Status{}, fmt.Errorf("%w: the exit status cannot be written down; is the VM's disk full?", ErrNoStatus)
	case out.code > 128 && out.code < 160: // the program itself was ended by a signal, with its whole group
		return Status{Code: out.code}, nil
	default:
		return Status{}, fmt.Errorf("%w: the guest agent's stream ended early (tart exec: exit code %d)", ErrLost, out.code)
	}
}

// watch asks the guest for signs of life while a program runs, and whether it has ended.
func (a *Agent) watch(ctx context.Context, file string, ended chan<- Status, giveUp context.CancelCauseFunc) {
	tick := time.NewTicker(heartbeatInterval)
	defer tick.Stop()
	seen, heard := false, time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		bctx, cancel := context.WithDeadline(ctx, heard.Add(heartbeatLimit))
		status, ok, err := a.read(bctx, file)
		cancel()
		switch {
		case err == nil:
			heard = time.Now()
		case time.Since(heard) >= heartbeatLimit && ctx.Err() == nil: // whether it hangs, or its client gives up before
			giveUp(fmt.Errorf("%w: the guest agent gave no answer for %s", ErrLost, heartbeatLimit))
			return
		}
		if ok && seen { // twice in a row: its last output had a whole interval to arrive
			ended <- status
			return
		}
		seen = ok
	}
}

// read reads a status file; ok is false while there is none.
func (a *Agent) read(ctx context.Context, file string) (status Status, ok bool, err error) {
	var out bytes.Buffer
	if _, err := a.exec(ctx, []string{"/bin/cat", file}, Streams{Stdout: &out, Stderr: &bytes.Buffer{}}); err != nil {
		return Status{}, false, err
	}
	code, err := strconv.Atoi(strings.TrimSpace(out.String()))
	if err != nil || code < 0 || code > 255 {
		return Status{}, false, nil
	}
	return Status{Code: code}, true, nil
}
