package spawned

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Run runs cmd and returns all programs that were started from it on, in the order of their processes' first, and without cmd itself. It returns
// when cmd and all of them have ended, but for those that leave says true of: they are let go. An error of cmd itself is an error.
func Run(cmd *exec.Cmd, leave func(argv []string) bool) ([]Program, error) {
	// A traced process belongs to one thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Ptrace = true
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	t := &tracer{root: cmd.Process.Pid, leave: leave, seen: map[int]bool{}, index: map[int]int{}}
	if err := t.follow(); err != nil {
		_ = cmd.Process.Kill()
		return nil, fmt.Errorf("count what %s starts: %w", cmd.Path, err)
	}
	if !t.status.Exited() || t.status.ExitStatus() != 0 {
		return t.found, fmt.Errorf("%s ended with wait status %#x", cmd.Path, uint32(t.status))
	}
	return t.found, nil
}

type tracer struct {
	root   int
	leave  func([]string) bool
	status unix.WaitStatus // how root ended
	seen   map[int]bool    // threads and processes whose first stop is behind them
	found  []Program
	index  map[int]int // in found, by process
}

const followed = unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEEXEC | unix.PTRACE_O_EXITKILL

// follow waits for all that happens until nothing is left to follow.
func (t *tracer) follow() error {
	for {
		var status unix.WaitStatus
		// __WNOTHREAD: other threads of this process have children of their own to wait for.
		pid, err := unix.Wait4(-1, &status, unix.WALL|unix.WNOTHREAD, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ECHILD):
			return nil
		case err != nil:
			return err
		}
		if status.Exited() || status.Signaled() {
			if pid == t.root {
				t.status = status
			}
			delete(t.seen, pid) // the number may come again
			delete(t.index, pid)
			continue
		}
		if err := t.stopped(pid, status); err != nil && !errors.Is(err, unix.ESRCH) { // killed meanwhile
			return err
		}
	}
}

// stopped looks at a stop and lets the process go on.
func (t *tracer) stopped(pid int, status unix.WaitStatus) error {
	first := !t.seen[pid]
	t.seen[pid] = true
	if first && pid == t.root { // it has just become cmd's program
		if err := unix.PtraceSetOptions(pid, followed); err != nil {
			return err
		}
		return unix.PtraceCont(pid, 0)
	}
	switch event := status.TrapCause(); {
	case event == unix.PTRACE_EVENT_EXEC:
		if argv := commandLine(pid); t.started(pid, argv) {
			return unix.PtraceDetach(pid)
		}
		return unix.PtraceCont(pid, 0)
	case event > 0: // a new thread or process, which comes by itself
		return unix.PtraceCont(pid, 0)
	case first && status.StopSignal() == unix.SIGSTOP: // only says that it is there
		return unix.PtraceCont(pid, 0)
	default:
		return unix.PtraceCont(pid, int(status.StopSignal()))
	}
}

// started notes a program and tells whether it is to be let go.
func (t *tracer) started(pid int, argv []string) bool {
	if pid != t.root {
		if i, known := t.index[pid]; known {
			t.found[i].Argv = argv
		} else {
			t.index[pid] = len(t.found)
			t.found = append(t.found, Program{PID: pid, Argv: argv})
		}
	}
	return t.leave(argv)
}

func commandLine(pid int) []string {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err != nil {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(raw), "\x00"), "\x00")
}
