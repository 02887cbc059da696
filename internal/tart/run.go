package tart

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gitlab-runner-tart-driver/internal/crash"
	"gitlab-runner-tart-driver/internal/proc"
	"gitlab-runner-tart-driver/internal/wait"
)

// RunOptions are options of `tart run`.
type RunOptions struct {
	Graphics bool
	VNC      bool
	Nested   bool
	// Softnet isolates the VM's network; SoftnetAllow are networks, in CIDR notation, that it may reach all the same.
	Softnet      bool
	SoftnetAllow []string
	// Bridged is a network interface of the host; empty for shared networking.
	Bridged      string
	RootDiskOpts string
	// Disks and Dirs are in tart's own syntax.
	Disks []string
	Dirs  []string
	// Plain leaves out what an older tart may not know: --no-audio, --no-clipboard and RootDiskOpts.
	Plain bool
	// Env is added to the environment.
	Env []string
	// LogPath gets everything that `tart run` prints; it is appended to.
	LogPath string
}

// args passes the options that a throw-away VM should have: no access to the host's microphone and clipboard.
func (o RunOptions) args(name string) []string {
	args := []string{"run", name}
	if !o.Plain {
		args = append(args, "--no-audio", "--no-clipboard")
	}
	if o.RootDiskOpts != "" && !o.Plain {
		args = append(args, "--root-disk-opts="+o.RootDiskOpts)
	}
	if !o.Graphics {
		args = append(args, "--no-graphics")
	}
	if o.VNC {
		args = append(args, "--vnc")
	}
	if o.Nested {
		args = append(args, "--nested")
	}
	switch {
	case o.Bridged != "":
		args = append(args, "--net-bridged="+o.Bridged)
	case len(o.SoftnetAllow) > 0:
		args = append(args, "--net-softnet-allow="+strings.Join(o.SoftnetAllow, ","))
	case o.Softnet:
		args = append(args, "--net-softnet")
	}
	for _, d := range o.Disks {
		args = append(args, "--disk="+d)
	}
	for _, d := range o.Dirs {
		args = append(args, "--dir="+d)
	}
	return args
}

// Run is a started `tart run`. The VM lives exactly as long as this process.
type Run struct {
	id    proc.ID
	log   string
	from  int64 // where this run's part of the log begins
	cmd   *exec.Cmd
	ended chan struct{}
	err   error
}

// gate is a shell script that becomes `tart run` only when it is told to. Its pid can so be written down before there is a VM;
// if the one who was to write it down dies first, end of file ends the script too.
const gate = `read -r go <&3 && [ "$go" = go ] && exec 3<&- && exec "$0" "$@"; exit 125`

// StartRun starts `tart run` in a session of its own, so that no signal to our process group and no closing terminal ends it.
// started is told the process before it becomes a VM; when it returns an error, there will be none. inherit are descriptors that
// the process keeps open while it lives.
func (c *Client) StartRun(name string, opt RunOptions, inherit []*os.File, started func(proc.ID) error) (*Run, error) {
	log, err := os.OpenFile(opt.LogPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("log of tart run: %w", err)
	}
	defer log.Close()
	before, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, fmt.Errorf("log of tart run: %w", err)
	}
	go_, release, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer go_.Close()
	defer release.Close()

	cmd := exec.Command("/bin/sh", append([]string{"-c", gate, c.path}, opt.args(name)...)...)
	cmd.Env = append(slices.Clip(c.env), opt.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = append([]*os.File{go_}, inherit...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, &Error{Kind: KindCannotRun, Command: "run", ExitCode: -1, Err: err}
	}
	r := &Run{cmd: cmd, log: opt.LogPath, from: before, ended: make(chan struct{})}
	crash.Point("keeper: tart run at the gate")
	r.id, err = proc.Of(cmd.Process.Pid)
	if err == nil {
		err = started(r.id)
	}
	crash.Point("keeper: tart run on record")
	if err == nil {
		_, err = release.WriteString("go\n")
	}
	if err != nil {
		_ = release.Close() // ends the script
		_ = cmd.Wait()
		return nil, fmt.Errorf("start tart run: %w", err)
	}
	go func() {
		r.err = cmd.Wait()
		close(r.ended)
	}()
	return r, nil
}

// ID names the process.
func (r *Run) ID() proc.ID { return r.id }

// Ended is closed when `tart run` has ended, and with it the VM.
func (r *Run) Ended() <-chan struct{} { return r.ended }

// PowerOff ends the VM as `tart stop` does: SIGINT, and SIGKILL when that takes longer than timeout. A SIGINT that comes before tart
// has armed itself is lost, hence the SIGKILL. The guest gets no chance to shut down either way, and needs none: its disk goes.
func (r *Run) PowerOff(timeout time.Duration) {
	powerOff(r.id, timeout, func(d time.Duration) bool {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-r.ended:
			return true
		case <-timer.C:
			return false
		}
	})
	<-r.ended // SIGKILL can't fail; a process in uninterruptible sleep ends when it wakes
}

// PowerOffOrphan does the same to the `tart run` of a keeper that is gone.
func PowerOffOrphan(id proc.ID, timeout time.Duration) {
	powerOff(id, timeout, id.WaitGone)
}

func powerOff(id proc.ID, timeout time.Duration, gone func(time.Duration) bool) {
	id.SignalGroup(syscall.SIGINT)
	if gone(timeout) {
		return
	}
	id.SignalGroup(syscall.SIGKILL)
	gone(timeout)
}

// Reason explains why `tart run` ended by itself, from its exit and the end of what it wrote. The exit code alone can't tell a crash of the
// guest from a clean shutdown: both are 0.
func (r *Run) Reason() *Error {
	select {
	case <-r.ended:
	default:
		return nil
	}
	e := &Error{Command: "run", ExitCode: r.cmd.ProcessState.ExitCode(), Text: LastWords(r.output())}
	e.Kind = classify(e.ExitCode, e.Text)
	if status, ok := r.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		e.Text = strings.TrimPrefix(e.Text+"; killed by "+unix.SignalName(status.Signal()), "; ")
	}
	if exitErr := (*exec.ExitError)(nil); errors.As(r.err, &exitErr) {
		e.Err = exitError{r.err, e.ExitCode}
	}
	return e
}

// output is the end of what this run has written so far.
func (r *Run) output() []byte {
	st, err := os.Stat(r.log)
	if err != nil {
		return nil
	}
	const most = 8 << 10
	return Tail(r.log, min(most, st.Size()-r.from))
}

// Tail reads the last n bytes of a file, or less.
func Tail(path string, n int64) []byte {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	size := n
	if st, err := f.Stat(); err == nil {
		size = st.Size()
	}
	buf := make([]byte, min(n, size))
	got, _ := f.ReadAt(buf, max(0, size-n))
	return buf[:got]
}

// raceTries is how often a command is called at most. Each command of another job may get in its way.
const raceTries = 6

// Retry calls a tart command again when tart's own garbage collection got in its way: any other tart command deletes the
// temporary directory of a clone in the instant between its creation and its lock.
// https://github.com/openai/tart/blob/main/Sources/tart/Config.swift
func Retry(ctx context.Context, call func(context.Context) error) error {
	err := call(ctx)
	for tries := 1; tries < raceTries && KindOf(err) == KindRace && ctx.Err() == nil; tries++ {
		err = call(ctx)
	}
	return err
}

// AwaitUse waits until `tart run` has taken a VM into use. Before that, tart gives it another MAC address, and drops the state of its suspended guest, where
// a running VM has the same address. Tart's lock tells at once; `tart list` is asked, too, in case the lock can't be seen.
// https://github.com/openai/tart/blob/main/Sources/tart/Commands/Run.swift
func (c *Client) AwaitUse(ctx context.Context, name string) error {
	const look, ask = 10 * time.Millisecond, time.Second
	for asked := time.Now(); !c.inUse(name); {
		if err := wait.For(ctx, look); err != nil {
			return err
		}
		if time.Since(asked) < ask {
			continue
		}
		asked = time.Now()
		if vms, err := c.List(ctx); err == nil {
			if vm, _ := local(vms, name); vm.Running {
				return nil
			}
		}
	}
	return nil
}
