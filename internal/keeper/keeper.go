package keeper

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gitlab-runner-tart-driver/internal/crash"
	"gitlab-runner-tart-driver/internal/guest"
	"gitlab-runner-tart-driver/internal/host"
	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/proc"
	"gitlab-runner-tart-driver/internal/tart"
	"gitlab-runner-tart-driver/internal/wait"
)

const (
	// powerOffLimit is how long a VM may take to end by SIGINT, before SIGKILL.
	powerOffLimit = 5 * time.Second
	// settleLimit is how long calls of tart may take to end that nobody needs any more; each is killed three seconds after it was asked to.
	settleLimit = 5 * time.Second
	// destroyLimit is how long others wait for a keeper to destroy its VM.
	destroyLimit = 90 * time.Second
	// cancelLimit is how long run waits for a script to be ended.
	cancelLimit = 40 * time.Second
	// lastBytes is how long after a VM's end its last output may take to be read from the connection.
	lastBytes = 300 * time.Millisecond
	// vmEndLimit is how long after the loss of a connection the VM may take to be seen to end. A VM that ends takes its connections along, often an instant
	// before its process is gone, and a busy host takes its time to notice.
	vmEndLimit = 10 * time.Second
	// queueInterval is how often the keeper of a held VM looks whether a job waits for its place.
	queueInterval = time.Second
	// answerLimit is how long a keeper whose VM is gone stays until everybody who has asked it for something has an answer.
	answerLimit = 10 * time.Second
)

// Keeper owns one VM.
type Keeper struct {
	p       Params
	state   *host.State
	entry   *host.Entry
	slot    *host.Slot
	tart    *tart.Client
	control *net.UnixConn
	log     *log.Logger

	triggers chan trigger
	// condemned ends when the VM is to be destroyed; its cause says why. All work in the guest hangs on it.
	condemned context.Context
	condemn   context.CancelCauseFunc

	taken  chan struct{} // closed when the VM is the job's
	vmGone chan struct{} // closed when the VM has ended by itself
	lost   error         // why it has; set before vmGone is closed

	telling sync.Mutex     // held while prepare is told of something
	linking turn           // of those who make a connection to the guest
	shells  sync.Map       // shells that stages asked for, and what the guest has in their place
	clients sync.WaitGroup // connections whose requests are not answered yet

	jobKey, jobID, project string       // the record's
	self                   proc.ID      // this process
	sessions               atomic.Int32 // users of the VM beside the job

	mu      sync.Mutex
	outcome outcome
	run     *tart.Run
	guest   *link
	info    guest.Info // there as soon as guest is
	owner   *proc.ID   // the GitLab Runner process, once it is known
	waiters []waiter
	ended   bool  // nothing moves the keeper any more
	end     error // what became of the VM then
}

// Main is a keeper's whole life. Its descriptors are inherited, see Start. The error, if any, is for the keeper's log.
func Main(environ []string, stderr *os.File) error {
	for fd := fdControl; fd <= fdSlot; fd++ {
		unix.CloseOnExec(fd) // or every tart would hold the locks; `tart run` gets the slot's on purpose
	}
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}) // the guest's password is in this process's memory
	inherited := os.NewFile(fdControl, "control")
	control, err := net.FileConn(inherited)
	inherited.Close() // FileConn made a copy
	if err != nil {
		return fmt.Errorf("%s is started by prepare, not by hand: %w", Command, err)
	}
	conn, ok := control.(*net.UnixConn)
	if !ok {
		return fmt.Errorf("%s is started by prepare, not by hand", Command)
	}
	in := &receiver{conn: conn}
	var p Params
	if err := in.next(&p); err != nil {
		return fmt.Errorf("read parameters: %w", err)
	}
	crash.Point("keeper: begun")
	k := &Keeper{p: p, control: conn, log: log.New(stderr, "", log.LstdFlags|log.Lmicroseconds|log.LUTC), triggers: make(chan trigger, 16),
		taken: make(chan struct{}), vmGone: make(chan struct{})}
	k.condemned, k.condemn = context.WithCancelCause(context.Background())
	if k.state, err = host.Open(p.StateDir); err != nil {
		return err
	}
	if k.entry, err = k.state.Adopt(p.VM, os.NewFile(fdRecord, "record lock")); err != nil {
		return err
	}
	k.jobKey, k.jobID, k.project = k.entry.Record.JobKey, k.entry.Record.JobID, k.entry.Record.Project
	k.slot = host.AdoptSlot(p.SlotIndex, os.NewFile(fdSlot, "slot lock"))
	if k.tart, err = tart.New(p.Tart, environ); err != nil {
		return err
	}
	return k.live(in)
}

// live is the life from the first boot to the last file.
func (k *Keeper) live(in *receiver) error {
	var err error
	if k.self, err = proc.Of(os.Getpid()); err == nil {
		err = k.entry.Update(func(r *host.Record) { r.Keeper = k.self })
	}
	var listener *net.UnixListener
	if err == nil {
		listener, err = k.state.Listen(k.p.VM)
	}
	if err != nil {
		k.tell(Event{Failed: packFailure(fmt.Errorf("start keeper: %w", err))})
		return errors.Join(err, k.destroy())
	}
	crash.Point("keeper: listens")
	if owner, ok := proc.Common(k.p.PrepareAncestors, k.p.ConfigAncestors); ok {
		k.owner = &owner
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		k.serve(listener)
	}()
	go k.watchControl(in)
	go k.watchOwner()
	go k.boot()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP) // the host shuts down, or somebody lost patience

	at := booting
	deadline := time.NewTimer(time.Until(k.p.Deadline))
	defer deadline.Stop()
	for at != destroying {
		var t trigger
		select {
		case t = <-k.triggers:
		case <-deadline.C:
			if t = deadlineMet; at == held {
				t = holdOver
			}
		case <-signals:
			t = signaled
		}
		t = k.orHold(at, t)
		to, ok := next(at, t)
		if !ok {
			k.decline(at, t)
			continue
		}
		k.log.Printf("%s -> %s: %s", at, to, t)
		switch at = to; at {
		case held:
			k.hold(deadline, t)
		case destroying:
			k.condemn(errors.New(string(t)))
			fallthrough
		default:
			k.noteWay(at, t, time.Time{})
		}
		if t == committed {
			close(k.taken)
		}
	}
	err = k.destroy()
	if !k.tart.Settle(settleLimit) { // questions about a VM that is gone
		k.log.Print("a call of tart does not end")
	}
	listener.Close()
	<-served // nobody comes any more
	k.answerWaiters(err)
	crash.Point("keeper: about to answer")
	k.awaitAnswers()
	return err
}

// boot brings the VM up and tells prepare how it goes.
func (k *Keeper) boot() {
	info, err := k.climb(k.condemned)
	if err != nil {
		k.log.Printf("not ready: %v", err)
		k.tell(Event{Failed: packFailure(err)})
		k.triggers <- ladderFailed
		return
	}
	k.mu.Lock()
	run := k.run
	k.mu.Unlock()
	k.triggers <- ladderClimbed
	go k.watchRun(run)
	k.tell(Event{Ready: &info})
	k.standBy()
}

// tellLimit is how long prepare may take to read an event.
const tellLimit = 5 * time.Second

// tell sends an event to prepare, which may be gone: that is noticed elsewhere.
func (k *Keeper) tell(e Event) {
	k.telling.Lock()
	defer k.telling.Unlock()
	if err := sendWithin(tellLimit, k.control, e); err != nil {
		k.log.Printf("prepare does not listen: %v", err)
	}
}

// sendWithin sends a message within a limit, which holds for that message only: the next one may be due much later.
func sendWithin(limit time.Duration, conn *net.UnixConn, m any) error {
	_ = conn.SetWriteDeadline(time.Now().Add(limit))
	defer func() { _ = conn.SetWriteDeadline(time.Time{}) }()
	return send(conn, m)
}

// watchControl waits for prepare to take over or to end.
func (k *Keeper) watchControl(in *receiver) {
	var r Request
	if err := in.next(&r); err != nil || r.Op != opCommit {
		k.triggers <- prepareGone
		return
	}
	k.triggers <- committed
	var refusal error
	select {
	case <-k.taken:
		crash.Point("keeper: took over")
		_ = send(k.control, Reply{Version: ProtocolVersion})
		k.state.History().Prune(k.p.History, time.Now()) // here, because nobody waits for it
		return
	case <-k.vmGone:
		refusal = k.lost
	case <-k.condemned.Done():
		refusal = fmt.Errorf("the VM is being destroyed: %w", context.Cause(k.condemned))
	}
	_ = send(k.control, Reply{Version: ProtocolVersion, Failed: packFailure(refusal)})
	k.triggers <- prepareGone
}

// watchRun waits for the VM to end by itself.
func (k *Keeper) watchRun(run *tart.Run) {
	select {
	case <-k.condemned.Done():
		return
	case <-run.Ended():
	}
	reason := run.Reason()
	k.lost = fmt.Errorf("the VM has ended: %s", reasonText(reason))
	k.triggers <- vmEnded // before a stage can hear of it, and cleanup comes
	close(k.vmGone)
	k.log.Print(k.lost)
	k.slot.Release()                                                                          // others need not wait until this job's cleanup
	if err := k.entry.Update(func(r *host.Record) { r.Address = netip.Addr{} }); err != nil { // another VM may get it now
		k.log.Print(err)
	}
	// A VM that loses power says no goodbye: its connection would stay open for ever. What it had sent is here within moments.
	_ = wait.For(k.condemned, lastBytes)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.guest.guest.Close()
}

func reasonText(e *tart.Error) string {
	if e.Text == "" {
		return fmt.Sprintf("tart run exited with code %d and said nothing", e.ExitCode)
	}
	return e.Text
}

// destroy ends the VM and removes everything of it. What it can't remove is left to a sweep, together with the record.
func (k *Keeper) destroy() error {
	k.mu.Lock()
	run, l := k.run, k.guest
	k.mu.Unlock()
	if l != nil {
		l.guest.Close()
	}
	crash.Point("keeper: destroys")
	if run != nil {
		run.PowerOff(powerOffLimit)
	}
	crash.Point("keeper: powered off")
	if err := k.tart.Destroy(context.Background(), k.p.VM); err != nil {
		k.log.Printf("destroy: %v", err)
		k.slot.Release()
		return job.Infrastructure(fmt.Errorf("delete VM %s: %w", k.p.VM, err), "the next prepare or cleanup on this host tries again")
	}
	crash.Point("keeper: deleted")
	k.slot.Release()
	return k.entry.Remove()
}
