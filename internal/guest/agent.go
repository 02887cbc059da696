package guest

import (
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

// Exit codes of leadProgram, which neither the client nor a shell has for anything else.
const (
	agentOK       = 93 // the program's exit status is 0
	agentSeeFile  = 94 // it is in the status file
	agentNoFile   = 95 // it is not 0, and could not be written down
	agentNotBegun = 96 // the program could not begin
)

// leadProgram has a program led by ledProgram in a process group of its own, and tells how it ended. It does not belong to that group, so
// that it can also tell of a signal to all of it. The agent gives its commands no group of their own: ending its own would end the agent.
// macOS has no setsid command, but perl; where there is neither, a script is ended by its process tree. The agent's environment is
// launchd's or systemd's, which may lack what a login has.
// https://github.com/openai/tart-guest-agent/blob/main/internal/rpc/exec.go
//
//	$1 ledProgram  $2 status file  $3 program  $4... its arguments
const leadProgram = `w=$1; f=$2; shift; exec 3>&2 2> /dev/null; ` +
	`u=$(id -un); [ "$USER" ] || USER=$u; [ "$LOGNAME" ] || LOGNAME=$u; [ "$HOME" ] || HOME=$(eval "echo ~$u"); export USER LOGNAME HOME; cd "$HOME" || cd /; ` +
	`if command -v setsid > /dev/null; then (exec setsid /bin/sh -c "$w" grtd "" "$@" 2>&3 3>&-); ` +
	`elif command -v perl > /dev/null; then (exec perl -e "setpgrp(0, 0); exec @ARGV" /bin/sh -c "$w" grtd "" "$@" 2>&3 3>&-); ` +
	`else (exec /bin/sh -c "$w" grtd tree "$@" 2>&3 3>&-); fi; s=$?; ` +
	`case $s in 93|94|95|96) exit $s;; esac; [ $s -gt 128 ] || exit $s; (umask 077; echo $s > "$f") || exit 95; exit 94`

// ledProgram runs a program, and tells its exit status in a way that can't be mistaken for the client's own. The status file also tells that a
// program has ended whose output somebody in the background still holds open.
//
//	$1 empty where it leads a process group  $2 status file  $3 program  $4... the program's arguments
const ledProgram = `t=${1:+0 $$}; f=$2; p=$3; shift 3; no() { trap - EXIT; exit 96; }; ` +
	`told() { s=$?; trap - EXIT; (umask 077; echo $s > "$f") 2> /dev/null || { [ $s -eq 0 ] && exit 93; exit 95; }; [ $s -eq 0 ] && exit 93; exit 94; }; ` +
	`trap told EXIT; ` +
	`eval "$p"`

// beatProgram is a sign of life: it waits a while for a program's end, and tells its exit status if there is one by then.
//
//	$1 status file  $2 seconds
const beatProgram = `n=0; until [ -s "$1" ] || [ $n -ge $2 ]; do sleep 1; n=$((n+1)); done; read -r s 2> /dev/null < "$1" && echo $s; exit 93`

const (
	// heartbeatDelay spares short scripts the heartbeat.
	heartbeatDelay = 2 * time.Second
	// heartbeatLength is how long one heartbeat waits for the program's end.
	heartbeatLength = 5 * time.Second
	// heartbeatPause is between two heartbeats.
	heartbeatPause = time.Second
	// heartbeatLimit is how long the guest may be mute. A busy guest may well take some seconds.
	heartbeatLimit = 30 * time.Second
	// settleQuiet is the time without output after which nothing is on its way any more.
	settleQuiet = 500 * time.Millisecond
)

// Survey implements Guest.
func (a *Agent) Survey(ctx context.Context, shell string, dirs ...string) (Info, error) {
	return surveyIn(ctx, a, shell, dirs...)
}

// RunScript implements Guest.
func (a *Agent) RunScript(ctx context.Context, shell string, script io.ReaderAt, size int64, stdout, stderr io.Writer) (Status, error) {
	file := scriptFile()
	return scriptRun{in: a, file: file, run: func(ctx context.Context) (Status, error) {
		return a.run(ctx, runProgram, []string{file}, Streams{Stdin: scriptInput(shell, script, size), Stdout: stdout, Stderr: stderr})
	}}.do(ctx)
}

// StandBy implements Guest. A shell that waits would take a process of tart on the host.
func (a *Agent) StandBy() {}

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
	file := scriptFile() + ".status"
	argv := append([]string{"/bin/sh", "-c", leadProgram, "grtd", ledProgram, file, program}, args...)
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
	out := &flow{failed: cancel}
	streams.Stdout, streams.Stderr = passedOn{streams.Stdout, out}, passedOn{streams.Stderr, out}
	ended := make(chan outcome, 1)
	go func() {
		code, err := a.exec(cctx, argv, streams)
		ended <- outcome{code, err}
	}()
	seen := make(chan Status, 1)
	go a.watch(cctx, file, seen, cancel)
	var o outcome
	select {
	case o = <-ended:
	case status := <-seen:
		var over bool
		if o, over = out.settle(cctx, ended); !over && cctx.Err() == nil {
			cancel(nil) // what still comes is not the program's
			<-ended
			return status, nil
		} else if !over {
			<-ended
		}
	}
	if cause := context.Cause(cctx); cause != nil {
		return Status{}, cause
	}
	return a.status(ctx, o, file)
}

// flow is the output of a program, both streams of it.
type flow struct {
	moved  atomic.Int64
	inside atomic.Int32 // writers that are busy with a slow reader
	failed context.CancelCauseFunc
}

// passedOn is one stream of a flow.
type passedOn struct {
	w io.Writer
	*flow
}

func (p passedOn) Write(b []byte) (int, error) {
	p.moved.Add(int64(len(b)))
	if p.w == nil {
		return len(b), nil
	}
	p.inside.Add(1)
	defer p.inside.Add(-1)
	n, err := p.w.Write(b)
	if err != nil {
		p.failed(fmt.Errorf("%w: %w", errOutput, err))
	}
	return n, err
}

// settle waits until nothing more is on its way from a program that has ended. It is over when the client has ended, too.
func (f *flow) settle(ctx context.Context, ended <-chan outcome) (o outcome, over bool) {
	limit := time.Now().Add(drainLimit)
	tick := time.NewTicker(settleQuiet)
	defer tick.Stop()
	for {
		before := f.moved.Load()
		select {
		case o = <-ended:
			return o, true
		case <-ctx.Done():
			return o, false
		case <-tick.C:
		}
		if f.inside.Load() == 0 && (f.moved.Load() == before || time.Now().After(limit)) {
			return o, false
		}
	}
}

// status makes the program's exit status of the client's exit code.
func (a *Agent) status(ctx context.Context, o outcome, file string) (Status, error) {
	switch {
	case o.err != nil:
		return Status{}, fmt.Errorf("%w: %w", ErrLost, o.err)
	case o.code == agentOK:
		return Status{}, nil
	case o.code == agentNotBegun:
		return Status{}, ErrNotStarted
	case o.code == agentSeeFile:
		status, ok, err := a.beat(ctx, time.Now().Add(heartbeatLimit), file, 0)
		if err != nil || !ok {
			return Status{}, fmt.Errorf("%w: the exit status cannot be read (%w)", ErrLost, orEOF(err))
		}
		return status, nil
	case o.code == agentNoFile:
		return Status{}, fmt.Errorf("%w: the exit status cannot be written down; is the VM's disk full?", ErrNoStatus)
	default:
		return Status{}, fmt.Errorf("%w: the guest agent's stream ended early (tart exec: exit code %d)", ErrLost, o.code)
	}
}

// errMute means that the agent gives no answer.
var errMute = fmt.Errorf("the guest agent gave no answer for %s", heartbeatLimit)

// watch asks the guest for signs of life while a program runs, and whether it has ended.
func (a *Agent) watch(ctx context.Context, file string, seen chan<- Status, giveUp context.CancelCauseFunc) {
	wait := time.NewTimer(heartbeatDelay)
	defer wait.Stop()
	for until := time.Now().Add(heartbeatLimit); ; wait.Reset(heartbeatPause) {
		select {
		case <-ctx.Done():
			return
		case <-wait.C:
		}
		status, ended, err := a.beat(ctx, until.Add(heartbeatLength), file, heartbeatLength)
		if err == nil {
			until = time.Now().Add(heartbeatLimit)
		}
		if ended { // once more: by the time that it is back, what the program wrote has left the guest
			_, ended, err = a.beat(ctx, until, file, 0)
		}
		switch {
		case ctx.Err() != nil:
			return
		case ended:
			seen <- status
			return
		case err != nil && !time.Now().Before(until): // whether it hangs, or its client gives up before
			giveUp(fmt.Errorf("%w: %w", ErrLost, errMute))
			return
		}
	}
}

// beat waits a while for the end of a program; ended is false while it runs. The answer must be there by the deadline.
func (a *Agent) beat(ctx context.Context, deadline time.Time, file string, wait time.Duration) (status Status, ended bool, err error) {
	ctx, cancel := context.WithDeadlineCause(ctx, deadline, errMute)
	defer cancel()
	var out capped
	argv := []string{"/bin/sh", "-c", beatProgram, "grtd", file, strconv.Itoa(int(wait.Seconds()))}
	code, err := a.exec(ctx, argv, Streams{Stdout: &out})
	switch {
	case err != nil:
		return Status{}, false, err
	case code != agentOK:
		return Status{}, false, fmt.Errorf("the guest agent's stream ended early (tart exec: exit code %d)", code)
	}
	n, err := strconv.Atoi(strings.TrimSpace(out.String()))
	if err != nil || n < 0 || n > 255 {
		return Status{}, false, nil
	}
	return Status{Code: n}, true, nil
}
