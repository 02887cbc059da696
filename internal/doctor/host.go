package doctor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/tart"
)

// Host is what checks see of a machine. Paths are those of the machine.
type Host interface {
	// OS is as runtime.GOOS, and UID the user's number.
	OS() string
	UID() int
	Now() time.Time
	// Getenv is a variable of the environment, or empty.
	Getenv(name string) string
	// Real is where this process finds a path of the machine: the same, unless the machine is played by a directory.
	Real(path string) string
	ReadFile(path string) ([]byte, error)
	// Head is the beginning of a file, or nothing.
	Head(path string) []byte
	Glob(pattern string) []string
	Stat(path string) (FileInfo, error)
	// Writable tries to make a file in a directory.
	Writable(dir string) error
	// Find looks a program up in the directories that have one on a Mac; an absolute path is only checked. The path that is returned is the
	// machine's.
	Find(program string) (path string, ok bool)
	// Run runs a program to its end, within limit. Its error is of type *exec.ExitError where the program said no.
	Run(ctx context.Context, limit time.Duration, program string, args ...string) (Output, error)
	// Tart is a client for a tart executable.
	Tart(executable string) (*tart.Client, error)
}

// FileInfo is what checks want to know of a file.
type FileInfo struct {
	Mode fs.FileMode
	UID  int
	// Changed is when its content last changed.
	Changed time.Time
	// Target is the path behind symbolic links.
	Target string
}

// Executable tells whether it is a file that somebody may run.
func (f FileInfo) Executable() bool { return f.Mode.IsRegular() && f.Mode.Perm()&0o111 != 0 }

// Output is what a program wrote.
type Output struct{ Stdout, Stderr string }

// ErrNoProgram means that a program is not there.
var ErrNoProgram = errors.New("not found")

// System is the machine that this process runs on, or a directory that plays one.
type System struct {
	// GOOS and User are the machine's operating system and the user's number.
	GOOS string
	User int
	// Environ is in the form of os.Environ.
	Environ []string
	// Root is a directory that plays the machine, for tests: files are read below it, and programs are those in its bin directory. Empty for the
	// machine itself.
	Root string
	// Time is the clock.
	Time func() time.Time
}

// OS implements Host. A directory plays a Mac if it has a Mac's program for its version.
func (s *System) OS() string {
	if s.Root != "" {
		if _, ok := s.Find("sw_vers"); ok {
			return "darwin"
		}
		return "linux"
	}
	return s.GOOS
}

// UID implements Host.
func (s *System) UID() int { return s.User }

// Now implements Host.
func (s *System) Now() time.Time { return s.Time() }

// Getenv implements Host.
func (s *System) Getenv(name string) string { return job.Environ(s.Environ).Get(name) }

// Real implements Host.
func (s *System) Real(path string) string {
	if s.Root == "" {
		return path
	}
	return filepath.Join(s.Root, path)
}

// ReadFile implements Host.
func (s *System) ReadFile(path string) ([]byte, error) { return os.ReadFile(s.Real(path)) }

// headSize is how much of a file Head reads, in bytes.
const headSize = 4096

// Head implements Host.
func (s *System) Head(path string) []byte {
	f, err := os.Open(s.Real(path))
	if err != nil {
		return nil
	}
	defer f.Close()
	head := make([]byte, headSize)
	n, err := io.ReadFull(f, head)
	if err != nil && n == 0 {
		return nil
	}
	return head[:n]
}

// Glob implements Host.
func (s *System) Glob(pattern string) []string {
	found, err := filepath.Glob(s.Real(pattern))
	if err != nil {
		return nil
	}
	for i := range found {
		found[i] = s.machines(found[i])
	}
	return found
}

// machines is the machine's path of a file that this process sees.
func (s *System) machines(path string) string {
	if rel, err := filepath.Rel(s.Root, path); s.Root != "" && err == nil && filepath.IsLocal(rel) {
		return "/" + rel
	}
	return path
}

// Stat implements Host.
func (s *System) Stat(path string) (FileInfo, error) {
	st, err := os.Stat(s.Real(path))
	if err != nil {
		return FileInfo{}, err
	}
	info := FileInfo{Mode: st.Mode(), Changed: st.ModTime(), Target: path}
	if target, err := filepath.EvalSymlinks(s.Real(path)); err == nil {
		info.Target = s.machines(target)
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		info.UID = int(sys.Uid)
		if s.Root != "" && info.UID == os.Getuid() { // whoever made the directory plays the user
			info.UID = s.User
		}
	}
	return info, nil
}

// Writable implements Host.
func (s *System) Writable(dir string) error {
	f, err := os.CreateTemp(s.Real(dir), ".doctor-*")
	if err != nil {
		return err
	}
	f.Close()
	return os.Remove(f.Name())
}

// programDirs are where programs are on a Mac, beside those in PATH.
func programDirs() []string {
	return []string{"/opt/homebrew/bin", "/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"}
}

// Find implements Host.
func (s *System) Find(program string) (string, bool) {
	dirs := append(filepath.SplitList(s.Getenv("PATH")), programDirs()...)
	switch {
	case filepath.IsAbs(program):
		dirs, program = []string{filepath.Dir(program)}, filepath.Base(program)
	case strings.Contains(program, "/"):
		return "", false
	case s.Root != "":
		dirs = []string{"/bin"}
	}
	for _, dir := range dirs {
		path := filepath.Join(dir, program)
		if info, err := s.Stat(path); err == nil && info.Executable() && filepath.IsAbs(path) {
			return path, true
		}
	}
	return "", false
}

// network are the variables that programs need to reach GitLab.
func network() []string {
	return []string{"http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"}
}

// environ is the environment of programs: no secrets, and messages in English.
func (s *System) environ() []string {
	own := job.Environ(s.Environ)
	var env []string
	for _, kv := range tart.Environ(s.Environ) {
		if name, value, _ := strings.Cut(kv, "="); s.Root != "" && (name == "HOME" || name == "TART_HOME") {
			kv = name + "=" + s.Real(value)
		}
		env = append(env, kv)
	}
	for _, name := range network() {
		if value := own.Get(name); value != "" {
			env = append(env, name+"="+value)
		}
	}
	return append(env, "LC_ALL=C")
}

// killDelay is how long a program may take to end after it was asked to, and how long its pipes may stay open after its end.
const killDelay = 2 * time.Second

// Run implements Host.
func (s *System) Run(ctx context.Context, limit time.Duration, program string, args ...string) (Output, error) {
	path, ok := s.Find(program)
	if !ok {
		return Output{}, fmt.Errorf("%s: %w", program, ErrNoProgram)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%s: no answer within %s", program, limit))
	defer cancel()
	cmd := exec.CommandContext(ctx, s.Real(path), args...)
	var stdout, stderr bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = s.environ(), &stdout, &stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = killDelay
	err := cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) { // it ended well, and what it has started still has its output open
		err = nil
	}
	if cause := context.Cause(ctx); cause != nil && err != nil {
		err = cause
	}
	return Output{stdout.String(), stderr.String()}, err
}

// Tart implements Host.
func (s *System) Tart(executable string) (*tart.Client, error) {
	if s.Root == "" {
		return tart.New(executable, s.Environ)
	}
	path, ok := s.Find(executable)
	if !ok {
		return nil, fmt.Errorf("%w: %s", tart.ErrNotFound, executable)
	}
	return tart.New(s.Real(path), s.environ())
}

// reason is an error without the path that this process has for a file.
func reason(err error) error {
	if pathErr := (*fs.PathError)(nil); errors.As(err, &pathErr) {
		return pathErr.Err
	}
	return err
}
