// Package tart is the only one that starts `tart`. It knows the command line, the JSON and the error texts of Tart, and turns
// them into typed calls and typed errors, so that nobody else reads Tart's words.
//
// It takes no decisions: which VM, when, and what follows from an error is for its callers.
package tart

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gitlab-runner-tart-driver/internal/proc"
)

// Client starts one tart executable with one environment.
type Client struct {
	path string
	env  []string
	home string
	// inherit are descriptors that every child gets, so that locks outlive this process as long as a child still works.
	inherit []*os.File
	// limits bound each command's calls.
	limits map[string]time.Duration
	// calls are those of this client and of those that were made from it.
	calls *inFlight
}

// well-known places of tart, for the short PATH that launchd gives to GitLab Runner.
var usualDirs = []string{"/opt/homebrew/bin", "/usr/local/bin"}

// passed are the variables of the driver's environment that tart gets to see. Nothing else passes: GitLab Runner's environment
// holds every variable of the job, secrets included. (TRACEPARENT, too, would make tart send its argv to a collector.)
var passed = []string{"HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TART_HOME", "__CF_USER_TEXT_ENCODING"}

// Environ picks from environ what tart, and a keeper, may see. CI=1 makes tart's progress plain lines; TART_NO_AUTO_PRUNE keeps
// it from deleting cached images that another job is about to clone.
func Environ(environ []string) []string {
	var env []string
	path := ""
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		if name == "PATH" {
			path = value
		} else if slices.Contains(passed, name) {
			env = append(env, kv)
		}
	}
	dirs := filepath.SplitList(path)
	for _, dir := range usualDirs { // tart looks for softnet in PATH
		if !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return append(env, "PATH="+strings.Join(dirs, string(filepath.ListSeparator)), "CI=1", "TART_NO_AUTO_PRUNE=1")
}

// ErrNotFound means that there is no tart executable.
var ErrNotFound = errors.New("tart executable not found")

// New finds the executable: a path is taken as it is, a bare name is looked up in environ's PATH and the places where Homebrew
// puts it.
func New(executable string, environ []string) (*Client, error) {
	env := Environ(environ)
	path, err := find(executable, env)
	if err != nil {
		return nil, err
	}
	if lookup(env, "HOME") == "" {
		if u, err := user.Current(); err == nil {
			env = append(env, "HOME="+u.HomeDir)
		}
	}
	home := lookup(env, "TART_HOME")
	if home == "" {
		home = filepath.Join("/", lookup(env, "HOME"), ".tart")
	}
	return &Client{path: path, env: env, home: home, limits: limits, calls: &inFlight{}}, nil
}

func find(executable string, env []string) (string, error) {
	if strings.Contains(executable, "/") {
		if err := executableFile(executable); err != nil {
			return "", fmt.Errorf("%w: %w", ErrNotFound, err)
		}
		return filepath.Abs(executable)
	}
	dirs := filepath.SplitList(lookup(env, "PATH"))
	for _, dir := range dirs {
		path := filepath.Join(dir, executable)
		if filepath.IsAbs(path) && executableFile(path) == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%w: no %q in %s", ErrNotFound, executable, strings.Join(dirs, ", "))
}

func executableFile(path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	if st.IsDir() || st.Mode().Perm()&0o111 == 0 {
		return fmt.Errorf("%s is not an executable file", path)
	}
	return nil
}

func lookup(env []string, name string) string {
	for _, kv := range slices.Backward(env) {
		if n, v, _ := strings.Cut(kv, "="); n == name {
			return v
		}
	}
	return ""
}

// Path is the executable's absolute path.
func (c *Client) Path() string { return c.path }

// VMDir is where Tart keeps a local VM.
// https://github.com/openai/tart/blob/main/Sources/tart/VMStorageLocal.swift
func (c *Client) VMDir(name string) string { return filepath.Join(c.home, "vms", name) }

// HasVM tells whether there is a local VM of this name, at the price of a file look-up instead of a process.
func (c *Client) HasVM(name string) bool {
	st, err := os.Stat(filepath.Join(c.VMDir(name), "config.json"))
	return err == nil && st.Mode().IsRegular()
}

// Suspended tells whether a local VM has the state of a guest that was suspended, with which it would go on.
// https://github.com/openai/tart/blob/main/Sources/tart/VMDirectory.swift
func (c *Client) Suspended(name string) bool {
	_, err := os.Lstat(filepath.Join(c.VMDir(name), "state.vzvmsave"))
	return err == nil
}

// inUse tells whether a process has taken a local VM into use, by the lock that tart has on such a VM.
// https://github.com/openai/tart/blob/main/Sources/tart/PIDLock.swift
func (c *Client) inUse(name string) bool {
	f, err := os.Open(filepath.Join(c.VMDir(name), "config.json"))
	if err != nil {
		return false
	}
	defer f.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	return unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock) == nil && lock.Type != unix.F_UNLCK
}

// VMDirs lists the names of the directories that hold local VMs, at the price of one directory read instead of a process. It is a
// hint only: ok is false where the directory can't be read, and names may be of incomplete VMs. Every tart command makes its home; where that is missing,
// tart has another one, which a wrapper around it may have set.
func (c *Client) VMDirs() (names []string, ok bool) {
	dirs, err := os.ReadDir(filepath.Join(c.home, "vms"))
	if err != nil {
		_, herr := os.Stat(c.home)
		return nil, errors.Is(err, os.ErrNotExist) && herr == nil
	}
	for _, d := range dirs {
		names = append(names, d.Name())
	}
	return names, true
}

// VMDirGone tells whether there is nothing where VMDirs found something.
func (c *Client) VMDirGone(name string) bool {
	if _, err := os.Stat(c.home); err != nil {
		return false // see VMDirs
	}
	_, err := os.Lstat(c.VMDir(name))
	return errors.Is(err, os.ErrNotExist)
}

// Inheriting returns a client whose children inherit the given descriptors.
func (c *Client) Inheriting(files ...*os.File) *Client {
	d := *c
	d.inherit = append(slices.Clip(c.inherit), files...)
	return &d
}

// call is one finished tart process.
type call struct {
	args     []string
	stdout   []byte
	stderr   []byte
	exitCode int
}

// options of a single call.
type options struct {
	// env is added to the client's environment, for this call only.
	env []string
	// line gets each line of stdout as it comes.
	line func(string)
	// waits is how long the call is asked to wait for something.
	waits time.Duration
	// silence is how long the call may print no line; 0 for ever. It needs line.
	silence time.Duration
}

// killDelay is how long a child may take to end after it was asked to, and how long its pipes may stay open after it ended.
const killDelay = 3 * time.Second

// limits bound calls that hang; pull, which may well take hours, is bounded by pullSilence.
var limits = map[string]time.Duration{
	// Clone waits for others in the same place, and copies where the volumes differ.
	"clone": 30 * time.Minute,
	// List walks over all files of all VMs.
	"list": 3 * time.Minute,
	"set":  time.Minute, "fqn": time.Minute, "delete": time.Minute, "--version": time.Minute,
	// What these wait for comes on top.
	"stop": time.Minute, "ip": 30 * time.Second,
}

// pullSilence is how long a pull may print nothing: it prints each percent of each layer.
const pullSilence = 30 * time.Minute

// bound ends the context when a call takes too long, or with a silence too long. alive is to be called when there is a sign of life.
func bound(ctx context.Context, command string, limit, silence time.Duration) (bounded context.Context, alive, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	alive, stop = func() {}, func() { cancel(nil) }
	if limit > 0 {
		timer := time.AfterFunc(limit, func() { cancel(fmt.Errorf("tart %s did not end within %s", command, limit)) })
		stop = func() { timer.Stop(); cancel(nil) }
	}
	if silence > 0 {
		timer := time.AfterFunc(silence, func() { cancel(fmt.Errorf("tart %s showed no progress for %s", command, silence)) })
		alive = func() { timer.Reset(silence) }
		stop = func() { timer.Stop(); cancel(nil) }
	}
	return ctx, alive, stop
}

// run runs tart to its end. Its errors are of type *Error, with the context's cause inside where that ended the call.
func (c *Client) run(ctx context.Context, opt options, args ...string) (call, error) {
	ctx, alive, stop := bound(ctx, args[0], c.limits[args[0]]+opt.waits, opt.silence)
	defer stop()
	cmd := exec.CommandContext(ctx, c.path, args...)
	cmd.Env = append(slices.Clip(c.env), opt.env...)
	cmd.ExtraFiles = c.inherit
	var stdout, stderr bytes.Buffer
	cmd.Stdout = &stdout
	if opt.line != nil {
		cmd.Stdout = &lineWriter{keep: &stdout, emit: func(line string) { alive(); opt.line(line) }}
	}
	cmd.Stderr = &stderr
	killRest := endWith(cmd, func() syscall.Signal {
		if errors.Is(context.Cause(ctx), ErrDiscard) {
			return syscall.SIGINT // the one signal that tart clears up after
		}
		return syscall.SIGTERM
	})
	end := c.calls.begin()
	err := cmd.Run()
	killRest()
	end()
	done := call{args: args, stdout: stdout.Bytes(), stderr: stderr.Bytes(), exitCode: -1}
	if cmd.ProcessState != nil {
		done.exitCode = cmd.ProcessState.ExitCode()
	}
	if cause := context.Cause(ctx); cause != nil && err != nil {
		return done, &Error{Kind: KindInterrupted, Command: args[0], ExitCode: done.exitCode, Err: cause}
	}
	if errors.Is(err, exec.ErrWaitDelay) { // tart itself ended well; something that it has started still has its output open
		err = nil
	}
	if exitErr := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exitErr) {
		return done, &Error{Kind: KindCannotRun, Command: args[0], ExitCode: -1, Err: err}
	}
	if err != nil {
		return done, newError(done, err)
	}
	return done, nil
}

// endWith has the end of a call's context send a signal to the call's process and to all that it has started in its turn, for tart may be a script that calls
// tart. killRest is for after the call.
func endWith(cmd *exec.Cmd, signal func() syscall.Signal) (killRest func()) {
	var family []proc.ID
	cmd.Cancel = func() error {
		family = proc.Descendants(cmd.Process.Pid) // before their parent ends
		sig := signal()
		err := cmd.Process.Signal(sig)
		for _, id := range family {
			id.Signal(sig)
		}
		return err
	}
	cmd.WaitDelay = killDelay
	return func() {
		for _, id := range family {
			id.Signal(syscall.SIGKILL)
		}
	}
}

// lineWriter hands on complete lines, and keeps the last part of everything.
type lineWriter struct {
	keep *bytes.Buffer
	part []byte
	emit func(string)
}

// maxKept bounds what is kept of a call's streamed output, in bytes.
const maxKept = 64 << 10

func (w *lineWriter) Write(p []byte) (int, error) {
	w.keep.Write(p)
	if extra := w.keep.Len() - maxKept; extra > 0 {
		w.keep.Next(extra)
	}
	w.part = append(w.part, p...)
	for {
		i := bytes.IndexAny(w.part, "\r\n")
		if i < 0 {
			if len(w.part) > maxKept { // no line that a person would read
				w.part = nil
			}
			return len(p), nil
		}
		if line := strings.TrimSpace(string(w.part[:i])); line != "" {
			w.emit(line)
		}
		w.part = w.part[i+1:]
	}
}
