package keeper

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gitlab-runner-tart-driver/internal/crash"
	"gitlab-runner-tart-driver/internal/guest"
	"gitlab-runner-tart-driver/internal/host"
	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/proc"
	"gitlab-runner-tart-driver/internal/tart"
)

// Command is the hidden verb by which a keeper is started.
const Command = "keeper"

// Descriptors that a keeper inherits.
const (
	fdControl = 3 + iota
	fdRecord
	fdSlot
)

// Started is a keeper that prepare has started and not let go of yet.
type Started struct {
	conn    *net.UnixConn
	in      *receiver
	ended   chan struct{}
	logPath string
}

// Start starts a keeper: this very binary, in a session of its own, so that no signal to the stage's process group reaches it, and
// with none of the stage's pipes, which GitLab Runner would wait for. From now on the keeper's life holds record and slot too.
func Start(executable string, environ []string, p Params, record, slot *os.File, logPath string) (*Started, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return nil, fmt.Errorf("start keeper: %w", err)
	}
	for _, fd := range pair {
		unix.CloseOnExec(fd)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "control"), os.NewFile(uintptr(pair[1]), "control")
	defer ours.Close()
	defer theirs.Close() // a second time does no harm
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start keeper: %w", err)
	}
	defer log.Close()

	cmd := exec.Command(executable, Command)
	cmd.Env = tart.Environ(environ)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{theirs, record, slot}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	theirs.Close() // or the end of a keeper would not be noticed
	if err != nil {
		return nil, fmt.Errorf("start keeper: %w", err)
	}
	s := &Started{ended: make(chan struct{}), logPath: logPath}
	go func() {
		_ = cmd.Wait()
		close(s.ended)
	}()
	conn, err := net.FileConn(ours)
	if err != nil {
		return nil, fmt.Errorf("start keeper: %w", err)
	}
	s.conn = conn.(*net.UnixConn)
	s.in = &receiver{conn: s.conn}
	crash.Point("prepare: keeper without parameters")
	if err := sendWithin(commitLimit, s.conn, p); err != nil {
		s.conn.Close()
		return nil, fmt.Errorf("start keeper: %w", err)
	}
	return s, nil
}

// Await hands on the keeper's events until the VM is ready or has failed. Ended by ctx, it makes the keeper destroy the VM.
func (s *Started) Await(ctx context.Context, event func(Event)) (guest.Info, error) {
	stop := context.AfterFunc(ctx, func() { _ = s.conn.CloseRead() })
	defer stop()
	for {
		var e Event
		if err := s.in.next(&e); err != nil {
			last := tart.LastWords(tart.Tail(s.logPath, 4<<10)) // before the log goes with the record
			s.abandon()
			if ctx.Err() != nil {
				return guest.Info{}, context.Cause(ctx)
			}
			return guest.Info{}, job.Infrastructure(fmt.Errorf("the VM's keeper ended unexpectedly (%w): %s", err, last), "")
		}
		switch {
		case e.Failed != nil:
			s.abandon()
			return guest.Info{}, e.Failed.Unpack()
		case e.Ready != nil:
			return *e.Ready, nil
		default:
			event(e)
		}
	}
}

// Commit lets go of the keeper: the VM is the job's now, and what led there is noted. Without it, and when it fails, the keeper destroys the VM.
func (s *Started) Commit() error {
	_ = s.conn.SetDeadline(time.Now().Add(commitLimit))
	err := send(s.conn, Request{Version: ProtocolVersion, Op: opCommit})
	if err == nil {
		_, err = s.in.reply()
	}
	s.conn.Close()
	if err != nil {
		return job.Infrastructure(fmt.Errorf("hand the VM over to its keeper: %w", err), "")
	}
	return nil
}

// abandon ends the connection and waits until the keeper has cleared up.
func (s *Started) abandon() {
	s.conn.Close()
	limit := time.NewTimer(destroyLimit)
	defer limit.Stop()
	select {
	case <-s.ended:
	case <-limit.C:
	}
}

// ErrNoKeeper means that nobody answers at the VM's socket.
var ErrNoKeeper = errors.New("the VM has no living keeper")

func dial(ctx context.Context, state *host.State, vm string) (*net.UnixConn, error) {
	conn, err := state.Dial(ctx, vm, 5*time.Second)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, fmt.Errorf("%w (%w)", ErrNoKeeper, err)
	}
	if err != nil {
		return nil, fmt.Errorf("reach the VM's keeper: %w", err)
	}
	return conn, nil
}

// Script is a script to be run in a guest.
type Script struct {
	File           *os.File
	Shell          string
	Stdout, Stderr *os.File
	// Stage is the job's stage that the script belongs to.
	Stage string
	// TimedOut says that GitLab Runner has ended an earlier script of the job because it took too long.
	TimedOut bool
	// HoldFor is told when the script has failed, and the VM will be held for so long if the job ends so; once a job. May be nil.
	HoldFor func(time.Duration)
	// Ancestors are the parents of the stage that asks, for a keeper that does not know yet which process outlives stages. Only another
	// stage than prepare can tell.
	Ancestors []proc.ID
}

// commitLimit is how long a keeper may take to confirm that it has taken over.
const commitLimit = 10 * time.Second

// Exec lets the keeper of a VM run a script, whose output goes straight from there to the given files. When ctx ends, the script is
// ended and Exec returns after that. The exit code is 0 to 255.
func Exec(ctx context.Context, state *host.State, vm, jobKey string, script Script) (exitCode int, err error) {
	conn, err := dial(ctx, state, vm)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	req := Request{Version: ProtocolVersion, Op: opExec, JobKey: jobKey, Shell: script.Shell, Stage: script.Stage, TimedOut: script.TimedOut, Ancestors: script.Ancestors}
	if err := send(conn, req, script.File, script.Stdout, script.Stderr); err != nil {
		return 0, fmt.Errorf("ask the VM's keeper: %w", err)
	}
	stop := context.AfterFunc(ctx, func() {
		_ = send(conn, Request{Version: ProtocolVersion, Op: opCancel})
		_ = conn.SetReadDeadline(time.Now().Add(cancelLimit))
	})
	defer stop()
	reply, err := readReply(conn)
	if reply.HoldFor > 0 && script.HoldFor != nil {
		script.HoldFor(reply.HoldFor)
	}
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	if err != nil {
		return 0, err
	}
	return reply.ExitCode, nil
}

// HeldError means that a VM is not destroyed because somebody may look into it.
type HeldError struct {
	VM string
	// Until is when it goes.
	Until time.Time
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("VM %s is held until %s", e.VM, e.Until.Local().Format(time.DateTime))
}

// Stop lets the keeper of a VM destroy it and end, and returns when that is done. A VM that is held is left alone, and the error is a HeldError. timedOut says
// that GitLab Runner has ended a script of the job because it took too long.
func Stop(ctx context.Context, state *host.State, vm, jobKey string, timedOut bool) error {
	conn, err := dial(ctx, state, vm)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := send(conn, Request{Version: ProtocolVersion, Op: opStop, JobKey: jobKey, TimedOut: timedOut}); err != nil {
		return fmt.Errorf("ask the VM's keeper: %w", err)
	}
	crash.Point("cleanup: keeper asked")
	_ = conn.SetReadDeadline(time.Now().Add(destroyLimit))
	reply, err := readReply(conn)
	if err == nil && !reply.HeldUntil.IsZero() {
		return job.Infrastructure(&HeldError{vm, reply.HeldUntil}, "")
	}
	return err
}

func readReply(conn *net.UnixConn) (Reply, error) { return (&receiver{conn: conn}).reply() }

// reply reads the keeper's next answer.
func (in *receiver) reply() (Reply, error) {
	var r Reply
	if err := in.next(&r); err != nil {
		return Reply{}, fmt.Errorf("%w: it ended without an answer (%w)", ErrNoKeeper, err)
	}
	if r.Version != ProtocolVersion {
		return Reply{}, fmt.Errorf("the VM's keeper speaks version %d of its protocol, this binary version %d", r.Version, ProtocolVersion)
	}
	if r.Failed != nil {
		return r, r.Failed.Unpack()
	}
	return r, nil
}
