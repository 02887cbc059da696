// Package keeper is the process that owns one VM from prepare to cleanup, and the client side of its socket.
//
// A keeper is the parent of its VM's `tart run`, holds the locks of the VM's record and slot, keeps the one connection to the guest,
// and destroys the VM in the end: when cleanup asks for it, when the GitLab Runner that started the job is gone (owner.go), or at the job's
// deadline. The VM of a job that failed, or that somebody asks for, it may hold a while beyond that (hold.go), and it lets people in (shell.go).
// It decides nothing about images, settings or exit codes.
package keeper

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gitlab-runner-tart-driver/internal/guest"
	"gitlab-runner-tart-driver/internal/history"
	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/proc"
	"gitlab-runner-tart-driver/internal/tart"
)

// ProtocolVersion is the version of the messages below. A stage of one version may meet a keeper of another when the binary is
// upgraded while a job runs.
const ProtocolVersion = 1

// Params is what prepare tells a new keeper, over an inherited socket: argv and environment can be read by others, and there is a
// password in it.
type Params struct {
	StateDir  string `json:"state_dir"`
	VM        string `json:"vm"`
	SlotIndex int    `json:"slot_index"`
	// Tart is the path of the tart executable.
	Tart string          `json:"tart"`
	Run  tart.RunOptions `json:"run"`

	// Transport is ssh, agent or auto.
	Transport string `json:"transport"`
	// Resolver is how tart finds the address; empty for tart's default.
	Resolver string `json:"resolver,omitempty"`

	Login guest.Login `json:"login"`
	// LoginOrigin says where user name and password came from, for the message about a refused login.
	LoginOrigin string `json:"login_origin"`
	Port        int    `json:"port"`
	// SSHKey has a key of the keeper's take the place of all logins, see lock.go.
	SSHKey bool `json:"ssh_key,omitempty"`
	// Shell and Dirs are given to guest.Survey.
	Shell string   `json:"shell"`
	Dirs  []string `json:"dirs"`

	// Timeout bounds each rung of the readiness ladder.
	Timeout time.Duration `json:"timeout"`
	// LimitPatience is how long to try again when Apple's limit of running VMs is reached.
	LimitPatience time.Duration `json:"limit_patience"`
	// JobDir is GitLab Runner's directory for this attempt at the job, which goes with it; empty if that is not known.
	JobDir string `json:"job_dir"`
	// Deadline ends the job at the latest.
	Deadline time.Time `json:"deadline"`
	// TimesOut is when a script that is ended from outside has taken too long, and was not canceled; zero if that is not known.
	TimesOut time.Time `json:"times_out,omitzero"`
	// HoldOnFailure is how long to keep the VM of a job that has failed; 0 for not at all.
	HoldOnFailure time.Duration `json:"hold_on_failure,omitempty"`
	// History is how much to keep of jobs that are over.
	History history.Limits `json:"history"`
	// PrepareAncestors and ConfigAncestors are the parents of these stages.
	PrepareAncestors []proc.ID `json:"prepare_ancestors"`
	ConfigAncestors  []proc.ID `json:"config_ancestors"`
}

// Event is what a new keeper tells prepare while the VM comes up.
type Event struct {
	// Step is a finished step of the way, in words for the job log, with the time that it took.
	Step string        `json:"step,omitempty"`
	Took time.Duration `json:"took,omitempty"`
	// Note is something that prepare should tell the user now.
	Note string `json:"note,omitempty"`
	// Ready comes last when all went well.
	Ready *guest.Info `json:"ready,omitempty"`
	// Failed comes last when it did not; the keeper destroys the VM and ends.
	Failed *Failure `json:"failed,omitempty"`
}

// Failure is a job.Failure on its way through a socket.
type Failure struct {
	Job   bool   `json:"job"`
	Error string `json:"error"`
	Hint  string `json:"hint,omitempty"`
}

func packFailure(err error) *Failure {
	if f := (*job.Failure)(nil); errors.As(err, &f) {
		return &Failure{Job: f.Job, Error: err.Error(), Hint: f.Hint}
	}
	return &Failure{Error: err.Error()}
}

// Unpack makes an error of it again.
func (f *Failure) Unpack() error {
	return &job.Failure{Job: f.Job, Err: errors.New(f.Error), Hint: f.Hint}
}

// Operations of a Request.
const (
	opCommit = "commit" // prepare: the job has its VM
	opExec   = "exec"   // run: three descriptors come with it, script, stdout and stderr
	opCancel = "cancel" // run: end the script
	opStop   = "stop"   // cleanup: destroy the VM, or hold it

	opShell   = "shell"   // ssh, cp: three or four descriptors come with it, see Session
	opResize  = "resize"  // ssh: the terminal has another size
	opHold    = "hold"    // hold: keep the VM when the job is over
	opRelease = "release" // release: destroy a VM that is held
)

// Request is what a stage asks of a keeper.
type Request struct {
	Version int    `json:"version"`
	Op      string `json:"op"`
	// JobKey must be the record's.
	JobKey string `json:"job_key,omitempty"`
	// Shell is for exec; empty for the one found at prepare.
	Shell string `json:"shell,omitempty"`
	// Stage is the job's stage that a script belongs to.
	Stage string `json:"stage,omitempty"`
	// TimedOut says that GitLab Runner has ended an earlier script of the job because it took too long.
	TimedOut bool `json:"timed_out,omitempty"`
	// Ancestors are the parents of the asking stage.
	Ancestors []proc.ID `json:"ancestors,omitempty"`

	// Session is for shell.
	Session *Session `json:"session,omitempty"`
	// Size is for resize.
	Size guest.Size `json:"size,omitzero"`
	// For is for hold: how long, once the job is over.
	For time.Duration `json:"for,omitempty"`
	// Force is for release: even if the job still runs.
	Force bool `json:"force,omitempty"`
}

// Reply answers a Request.
type Reply struct {
	Version int `json:"version"`
	// ExitCode is the script's, after exec.
	ExitCode int      `json:"exit_code"`
	Failed   *Failure `json:"failed,omitempty"`

	// Begun comes before the end of a shell, when it takes input.
	Begun bool `json:"begun,omitempty"`
	// OwnTerminal comes with Begun where the client's terminal itself was handed on: its input is not the client's to read any more.
	OwnTerminal bool `json:"own_terminal,omitempty"`
	// HoldFor is how long the VM is to be held when the job is over: after hold, and after the first script that failed where that is why.
	HoldFor time.Duration `json:"hold_for,omitempty"`
	// HeldUntil is when a VM that is held goes; zero where it is not held.
	HeldUntil time.Time `json:"held_until,omitzero"`
}

// maxMessage bounds a message, in bytes.
const maxMessage = 256 << 10

// send writes v as one line of JSON, with descriptors.
func send(conn *net.UnixConn, v any, files ...*os.File) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		rights = unix.UnixRights(fds...)
	}
	raw = append(raw, '\n')
	n, _, err := conn.WriteMsgUnix(raw, rights, nil)
	runtime.KeepAlive(files)
	if err == nil && n < len(raw) { // a stream socket may take a part; the descriptors went with the first byte
		_, err = conn.Write(raw[n:])
	}
	return err
}

// receiver reads messages, and the descriptors that come with them.
type receiver struct {
	conn  *net.UnixConn
	buf   []byte
	files []*os.File
}

// next reads the next message into v.
func (r *receiver) next(v any) error {
	for {
		for i, b := range r.buf {
			if b == '\n' {
				line := r.buf[:i]
				r.buf = r.buf[i+1:]
				return json.Unmarshal(line, v)
			}
		}
		if len(r.buf) > maxMessage {
			return fmt.Errorf("message of more than %d bytes", maxMessage)
		}
		chunk, oob := make([]byte, 16<<10), make([]byte, unix.CmsgSpace(8*4))
		n, err := r.receive(chunk, oob)
		if err != nil {
			return err
		}
		if n == 0 {
			return net.ErrClosed
		}
		r.buf = append(r.buf, chunk[:n]...)
	}
}

// receive reads what there is. Descriptors that come with it belong to no program that is started in this very moment: macOS can't mark them as it makes
// them, as Linux does, and whoever had one of a script's would keep GitLab Runner waiting.
func (r *receiver) receive(chunk, oob []byte) (n int, err error) {
	raw, err := r.conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	closed := raw.Read(func(fd uintptr) (done bool) {
		syscall.ForkLock.RLock()
		defer syscall.ForkLock.RUnlock()
		var oobn int
		for {
			if n, oobn, _, _, err = unix.Recvmsg(int(fd), chunk, oob, 0); !errors.Is(err, unix.EINTR) {
				break
			}
		}
		if errors.Is(err, unix.EAGAIN) {
			return false
		}
		if err == nil {
			r.takeFiles(oob[:oobn])
		}
		return true
	})
	return n, cmp.Or(closed, err)
}

func (r *receiver) takeFiles(oob []byte) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			r.files = append(r.files, os.NewFile(uintptr(fd), "passed"))
		}
	}
}

// closeFiles gives up all descriptors that were received.
func (r *receiver) closeFiles() {
	for _, f := range r.files {
		f.Close()
	}
	r.files = nil
}
