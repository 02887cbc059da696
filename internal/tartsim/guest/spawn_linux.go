//go:build linux

package guest

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// process is something to start in the guest.
type process struct {
	path   string // empty: argv[0], looked up in the PATH of env
	argv   []string
	env    []string
	dir    string
	files  [3]*os.File
	tty    bool // files are a terminal that becomes the controlling one
	asRoot bool
	group  bool // a process group of its own, not a session
}

// reaper starts the guest's processes and collects the dead, orphans included: the guest's first process has to.
type reaper struct {
	spec    *Spec
	mu      sync.Mutex
	waiting map[int]chan unix.WaitStatus
	forks   chan func() // carried out by the one thread that has given up the powers guests must not have
}

func newReaper(spec *Spec) *reaper {
	return &reaper{spec: spec, waiting: map[int]chan unix.WaitStatus{}, forks: make(chan func())}
}

// ready starts the thread that processes are started by. Capabilities belong to threads, and a child has those of the thread it comes from.
func (r *reaper) ready() error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := dropPowers(r.spec.Level)
		result <- err
		if err != nil {
			return
		}
		for fork := range r.forks {
			fork()
		}
	}()
	return <-result
}

// forkExec starts a program on that thread.
func (r *reaper) forkExec(path string, argv []string, attr *syscall.ProcAttr) (pid int, err error) {
	done := make(chan struct{})
	r.forks <- func() {
		pid, err = syscall.ForkExec(path, argv, attr)
		close(done)
	}
	<-done
	return pid, err
}

// collect waits for dead children until there are none; it is called whenever a child's death was signalled.
func (r *reaper) collect() {
	for {
		var status unix.WaitStatus
		r.mu.Lock()
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if err == unix.EINTR {
			r.mu.Unlock()
			continue
		}
		if err != nil || pid <= 0 {
			r.mu.Unlock()
			return
		}
		done, known := r.waiting[pid]
		delete(r.waiting, pid)
		r.mu.Unlock()
		if known {
			done <- status
		}
	}
}

// start starts a process in its own session or process group. The channel gets its status when it has ended.
func (r *reaper) start(p process) (int, <-chan unix.WaitStatus, error) {
	path := p.path
	if path == "" {
		var err error
		if path, err = lookPath(p.argv[0], p.env); err != nil {
			return 0, nil, err
		}
	}
	attr := &syscall.ProcAttr{Dir: p.dir, Env: p.env, Sys: &syscall.SysProcAttr{Setsid: !p.group, Setpgid: p.group, Setctty: p.tty, Ctty: 0}}
	for _, file := range p.files {
		attr.Files = append(attr.Files, file.Fd())
	}
	if !p.asRoot && r.spec.Level == LevelRoot {
		attr.Sys.Credential = &syscall.Credential{Uid: uint32(r.spec.UID), Gid: uint32(r.spec.GID)}
	}
	done := make(chan unix.WaitStatus, 1)
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := r.forkExec(path, p.argv, attr)
	if err != nil {
		return 0, nil, fmt.Errorf("start %s: %w", path, err)
	}
	r.waiting[pid] = done
	return pid, done, nil
}

// lookPath finds a program along the PATH of the environment it is going to have.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	path := ""
	for _, entry := range env {
		if value, ok := strings.CutPrefix(entry, "PATH="); ok {
			path = value
		}
	}
	for _, dir := range filepath.SplitList(path) {
		candidate := filepath.Join(dir, name)
		if info, err := os.Stat(candidate); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return candidate, nil
		}
	}
	return "", fmt.Errorf("exec: %q: executable file not found in $PATH", name)
}
