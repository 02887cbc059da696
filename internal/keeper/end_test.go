package keeper

import (
	"context"
	"errors"
	"io"
	"log"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"gitlab-runner-tart-driver/internal/guest"
	"gitlab-runner-tart-driver/internal/host"
)

// TestTheEndWaitsForAnswers has clients that get theirs late, or never.
func TestTheEndWaitsForAnswers(t *testing.T) {
	for name, c := range map[string]struct{ late, waits time.Duration }{
		"nobody asks": {},
		"a moment":    {late: time.Second, waits: time.Second},
		"for ever":    {late: time.Hour, waits: answerLimit},
	} {
		synctest.Test(t, func(t *testing.T) {
			k := &Keeper{log: log.New(io.Discard, "", 0)}
			if c.late > 0 {
				k.clients.Go(func() { time.Sleep(c.late) })
			}
			began := time.Now()
			k.awaitAnswers()
			if waited := time.Since(began); waited != c.waits {
				t.Errorf("%s: the keeper stays for %s, want %s", name, waited, c.waits)
			}
			k.clients.Wait()
		})
	}
}

// TestAskAtTheEnd asks a keeper that nothing moves any more, and one that comes to its end before it has heard the question.
func TestAskAtTheEnd(t *testing.T) {
	broken := errors.New("tart is broken")
	synctest.Test(t, func(t *testing.T) {
		k := &Keeper{triggers: make(chan trigger)}
		told := make(chan ending, 1)
		go func() { told <- k.ask(stopAsked) }()
		synctest.Wait()
		k.answerWaiters(broken)
		if e := <-told; !errors.Is(e.err, broken) {
			t.Errorf("who asked before is told %v", e.err)
		}
		if e := k.ask(released); !errors.Is(e.err, broken) {
			t.Errorf("who asks afterwards is told %v", e.err)
		}
	})
}

// clinging is a guest whose script ends when it is told to, and not with its context.
type clinging struct {
	guest.Guest
	began, leave chan struct{}
}

func (g *clinging) Cause() error { return nil }
func (g *clinging) StandBy()     {}

func (g *clinging) RunScript(ctx context.Context, _ string, _ io.ReaderAt, _ int64, _, _ io.Writer) (guest.Status, error) {
	close(g.began)
	<-ctx.Done()
	<-g.leave
	return guest.Status{}, guest.ErrLost
}

// TestScriptsAreAnsweredForAtTheEnd has a VM destroyed under a script, which takes longer than that to be over.
func TestScriptsAreAnsweredForAtTheEnd(t *testing.T) {
	state, err := host.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	entry, err := state.Create(host.Record{VM: state.NewName("1"), JobKey: "1-a"})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := state.Listen(entry.Record.VM)
	if err != nil {
		t.Fatal(err)
	}
	g := &clinging{began: make(chan struct{}), leave: make(chan struct{})}
	k := &Keeper{log: log.New(io.Discard, "", 0), jobKey: "1-a", vmGone: make(chan struct{}), guest: &link{guest: g}}
	k.condemned, k.condemn = context.WithCancelCause(t.Context())
	served := make(chan struct{})
	go func() {
		k.serve(listener)
		close(served)
	}()
	conn, err := dial(t.Context(), state, entry.Record.VM)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	script := someFile(t, "true")
	if err := send(conn, Request{Version: ProtocolVersion, Op: opExec, JobKey: "1-a", Stage: "build_script"}, script, script, script); err != nil {
		t.Fatal(err)
	}
	<-g.began
	k.condemn(errors.New(string(forciblyEnd)))
	listener.Close()
	<-served
	k.answerWaiters(nil)
	close(g.leave)
	k.awaitAnswers()
	// This is where the process would end.
	reply := make([]byte, maxMessage)
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if cerr := raw.Control(func(fd uintptr) {
		var n int
		n, _, err = unix.Recvfrom(int(fd), reply, unix.MSG_DONTWAIT)
		reply = reply[:max(n, 0)]
	}); cerr != nil || err != nil || !strings.Contains(string(reply), "the VM is being destroyed: "+string(forciblyEnd)) {
		t.Errorf("at the keeper's end the script's stage has been told %q, %v, %v", reply, err, cerr)
	}
}

// TestWhyAScriptIsCutOff has a VM that is seen to end later than its connection, and other reasons that come to light meanwhile.
func TestWhyAScriptIsCutOff(t *testing.T) {
	for name, c := range map[string]struct {
		later  func(k *Keeper, cancel context.CancelCauseFunc)
		says   string
		waited time.Duration
	}{
		"the VM ends":         {func(k *Keeper, _ context.CancelCauseFunc) { k.lost = errors.New("no power"); close(k.vmGone) }, "no power", 5 * time.Second},
		"it is taken":         {func(k *Keeper, _ context.CancelCauseFunc) { k.condemn(errors.New(string(stopAsked))) }, "the VM is being destroyed: cleanup asks for it", 5 * time.Second},
		"a cancel":            {func(_ *Keeper, cancel context.CancelCauseFunc) { cancel(errCanceled) }, "canceled", 5 * time.Second},
		"the VM is all right": {func(*Keeper, context.CancelCauseFunc) {}, "while the script ran: ", vmEndLimit},
	} {
		synctest.Test(t, func(t *testing.T) {
			k := &Keeper{vmGone: make(chan struct{})}
			k.condemned, k.condemn = context.WithCancelCause(t.Context())
			ctx, cancel := context.WithCancelCause(k.condemned)
			defer cancel(nil)
			began := time.Now()
			time.AfterFunc(5*time.Second, func() { c.later(k, cancel) })
			err := k.explain(ctx, &link{}, guest.ErrLost)
			if waited := time.Since(began); err == nil || !strings.Contains(err.Error(), c.says) || waited != c.waited {
				t.Errorf("%s: %v after %s, want %q after %s", name, err, waited, c.says, c.waited)
			}
		})
	}
}
