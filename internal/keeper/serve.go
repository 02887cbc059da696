package keeper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"runtime/debug"
	"time"

	"gitlab-runner-tart-driver/internal/crash"
	"gitlab-runner-tart-driver/internal/guest"
	"gitlab-runner-tart-driver/internal/job"
)

// serve takes requests of stages until the listener is closed.
func (k *Keeper) serve(listener *net.UnixListener) {
	for {
		conn, err := listener.AcceptUnix()
		if err != nil {
			return
		}
		k.clients.Go(func() { k.handle(conn) })
	}
}

func (k *Keeper) handle(conn *net.UnixConn) {
	defer conn.Close()
	in := &receiver{conn: conn}
	defer in.closeFiles()
	var req Request
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if err := in.next(&req); err != nil {
		k.log.Printf("unusable request: %v", err)
		return
	}
	_ = conn.SetReadDeadline(time.Time{})
	reply := Reply{Version: ProtocolVersion}
	if req.TimedOut && req.JobKey == k.jobKey {
		k.noteTimeout()
	}
	switch {
	case req.Version != ProtocolVersion:
		reply.Failed = packFailure(fmt.Errorf("this keeper speaks version %d of its protocol, not %d", ProtocolVersion, req.Version))
	case req.JobKey != k.jobKey:
		reply.Failed = packFailure(errors.New("this VM belongs to another job"))
	case req.Op == opExec:
		k.learnOwner(req.Ancestors)
		status, err := k.exec(conn, in, req.Shell)
		// GitLab Runner waits until nobody has the stage's pipes any more: ours go before the answer.
		in.closeFiles()
		if err != nil {
			k.log.Printf("script not run to its end: %v", err)
			reply.Failed = packFailure(err)
		}
		reply.ExitCode = status.Code
		reply.HoldFor = k.judge(req.Stage, status, err)
		defer func() {
			k.standBy()
			giveBack()
		}()
	case req.Op == opShell:
		status, err := k.session(conn, in, req.Session)
		if err != nil {
			reply.Failed = packFailure(err)
		}
		reply.ExitCode = status.Code
	case req.Op == opStop, req.Op == opHold, req.Op == opRelease:
		k.conclude(conn, req, reply)
		return
	default:
		reply.Failed = packFailure(fmt.Errorf("this keeper does not know how to %q", req.Op))
	}
	if err := send(conn, reply); err != nil {
		k.log.Printf("nobody to answer to: %v", err)
	}
}

// awaitAnswers returns when all clients have their answers: they end with this process. A script or a session ends with the VM, and its client is to
// hear why.
func (k *Keeper) awaitAnswers() {
	answered := make(chan struct{})
	go func() {
		k.clients.Wait()
		close(answered)
	}()
	limit := time.NewTimer(answerLimit)
	defer limit.Stop()
	select {
	case <-answered:
	case <-limit.C:
		k.log.Printf("somebody has no answer after %s", answerLimit)
	}
}

// conclude answers those who decide on the VM's end.
func (k *Keeper) conclude(conn *net.UnixConn, req Request, reply Reply) {
	var e ending
	switch {
	case req.Op == opHold:
		if req.For <= 0 {
			reply.Failed = packFailure(fmt.Errorf("a VM cannot be held for %s", req.For))
			_ = send(conn, reply)
			return
		}
		e = k.askHold(req.For)
	case req.Op == opRelease && req.Force:
		e = k.ask(forciblyEnd)
	case req.Op == opRelease:
		e = k.ask(released)
	default:
		e = k.ask(stopAsked)
	}
	reply.HeldUntil, reply.HoldFor = e.heldUntil, e.holdFor
	if e.err != nil {
		reply.Failed = packFailure(e.err)
	}
	_ = send(conn, reply)
}

// errCanceled is the cause when a stage asks for its script to be ended, or is gone itself; errTimedOut when that happens as the job's timeout is over.
var (
	errCanceled = errors.New("canceled")
	errTimedOut = fmt.Errorf("%w as the job's timeout is over", errCanceled)
)

// whyCanceled is the cause of a cancel that comes now.
func (k *Keeper) whyCanceled(now time.Time) error {
	if at := k.p.TimesOut; !at.IsZero() && !now.Before(at) {
		return errTimedOut
	}
	return errCanceled
}

// exec runs the script that came with a request: descriptors script, stdout and stderr.
func (k *Keeper) exec(conn *net.UnixConn, in *receiver, shell string) (guest.Status, error) {
	if len(in.files) != 3 {
		return guest.Status{}, fmt.Errorf("%d descriptors came with the request, not 3", len(in.files))
	}
	script, stdout, stderr := in.files[0], in.files[1], in.files[2]
	st, err := script.Stat()
	if err != nil {
		return guest.Status{}, fmt.Errorf("script: %w", err)
	}
	ctx, cancel := context.WithCancelCause(k.condemned)
	defer cancel(nil)
	go func() { // a cancel, or the end of the asking process
		var again Request
		_ = in.next(&again)
		cancel(k.whyCanceled(time.Now()))
	}()
	link, err := k.link(ctx)
	if err != nil {
		return guest.Status{}, err
	}
	shell, err = k.shell(ctx, link, shell)
	if err != nil {
		return guest.Status{}, k.explain(ctx, link, err)
	}
	crash.Point("keeper: script in hand")
	status, err := link.guest.RunScript(ctx, shell, script, st.Size(), stdout, stderr)
	crash.Point("keeper: script has ended")
	if err != nil {
		return guest.Status{}, k.explain(ctx, link, err)
	}
	return status, nil
}

// standBy has the guest ready for another script, after the answer to the last one.
func (k *Keeper) standBy() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.guest != nil && k.condemned.Err() == nil {
		k.guest.guest.StandBy()
	}
}

// spareMemory is how much memory the heap may have beyond what it needs, in bytes.
const spareMemory = 1 << 20

// giveBack returns memory to the system that a script with much output has left behind. The runtime would take minutes for that.
func giveBack() {
	var m runtime.MemStats
	if runtime.ReadMemStats(&m); m.HeapSys-m.HeapReleased-m.HeapAlloc > spareMemory {
		debug.FreeOSMemory()
	}
}

// shell is what the guest has for the shell that a stage wants. Prepare has asked for one already; run may be set up with another.
func (k *Keeper) shell(ctx context.Context, l *link, wanted string) (string, error) {
	if wanted == "" || wanted == k.p.Shell {
		return k.info.Shell, nil
	}
	if found, ok := k.shells.Load(wanted); ok {
		return found.(string), nil
	}
	info, err := l.guest.Survey(ctx, wanted)
	if err != nil {
		return "", err
	}
	k.shells.Store(wanted, info.Shell)
	return info.Shell, nil
}

// explain finds the reason behind a script's failure that is not the script's own.
func (k *Keeper) explain(ctx context.Context, l *link, err error) error {
	switch cause := context.Cause(ctx); {
	case k.condemned.Err() != nil:
		return k.whyCondemned()
	case cause != nil && !errors.Is(err, cause): // where the script could not be ended quite
		return job.Infrastructure(fmt.Errorf("%w (%w)", err, cause), "")
	case cause != nil:
		return job.Infrastructure(err, "")
	case errors.Is(err, guest.ErrNotStarted):
		return job.Infrastructure(err, "is the VM's disk full?")
	}
	wait := time.NewTimer(vmEndLimit)
	defer wait.Stop()
	select {
	case <-k.vmGone:
		return job.Infrastructure(k.lost, "the script did not fail: its VM went away under it")
	case <-ctx.Done():
		return k.explain(ctx, l, err)
	case <-wait.C:
		return job.Infrastructure(fmt.Errorf("while the script ran: %w", err), "%s", l.lostHint())
	}
}

// whyCondemned is what those are told whom the VM is taken away from.
func (k *Keeper) whyCondemned() error {
	return job.Infrastructure(fmt.Errorf("the VM is being destroyed: %w", context.Cause(k.condemned)), "")
}

// link returns the connection to the guest. One that broke is made anew, as long as the VM lives: a script may have restarted the SSH
// server, and the stages after it deserve a try.
func (k *Keeper) link(ctx context.Context) (*link, error) {
	end, err := k.linking.take(ctx)
	switch {
	case err != nil && k.condemned.Err() != nil:
		return nil, k.whyCondemned()
	case err != nil:
		return nil, asFailure(err, "")
	}
	defer end()
	select {
	case <-k.condemned.Done():
		return nil, k.whyCondemned()
	case <-k.vmGone:
		return nil, job.Infrastructure(k.lost, "")
	default:
	}
	k.mu.Lock()
	l := k.guest
	k.mu.Unlock()
	if l == nil {
		return nil, job.Infrastructure(errors.New("the VM is not ready yet"), "")
	}
	if l.guest.Cause() == nil {
		return l, nil
	}
	k.log.Printf("connecting again: %v", l.guest.Cause())
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-k.vmGone:
			cancel(job.Infrastructure(k.lost, ""))
		case <-ctx.Done():
		}
	}()
	l, err = k.reach(ctx, &link{addr: l.addr, hostKey: l.hostKey, login: l.login}, func(rung, *link) {})
	if err != nil && k.condemned.Err() != nil {
		err = k.whyCondemned()
	}
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	k.guest = l
	k.mu.Unlock()
	return l, nil
}
