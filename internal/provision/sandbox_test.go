package provision

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gitlab-runner-tart-driver/internal/proc/proctest"
)

// sandbox is a guest of the test's own: a directory in place of /, and a PATH that holds only what the test puts there.
type sandbox struct {
	t         *testing.T
	root, bin string
	env       []string
}

// realTools are those that the scripts use and that do no harm within the sandbox.
var realTools = []string{"sed", "cat", "ls", "mkdir", "rmdir", "rm", "ln", "mv", "cp", "chmod", "dirname", "readlink", "tr", "tail", "tee", "mktemp"}

// newSandbox makes one whose uname says system. Its sudo runs what it is given with AS_ROOT set, and notes that in the file sudo.
func newSandbox(t *testing.T, system string) *sandbox {
	t.Helper()
	s := &sandbox{t: t, root: t.TempDir()}
	s.bin = s.dir("bin")
	for _, name := range realTools {
		s.link(name, name)
	}
	s.tool("uname", `case $1 in -m) echo arm64 ;; *) echo `+system+` ;; esac`)
	s.tool("sudo", `echo "$*" >> "$ROOT/sudo"; [ "$1" = -n ] || exit 9; shift; AS_ROOT=1 exec "$@"`)
	s.link("sleep", "true")
	s.env = []string{"PATH=" + s.bin, "HOME=" + s.dir("home"), "ROOT=" + s.root, "LC_ALL=C"}
	return s
}

func realTool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// link puts a real tool into PATH, by whatever name.
func (s *sandbox) link(name, tool string) {
	s.t.Helper()
	path := filepath.Join(s.bin, name)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		s.t.Fatal(err)
	}
	if err := os.Symlink(realTool(s.t, tool), path); err != nil {
		s.t.Fatal(err)
	}
}

// tool puts a program into PATH, in the language of /bin/sh.
func (s *sandbox) tool(name, body string) {
	s.t.Helper()
	path := filepath.Join(s.bin, name)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		s.t.Fatal(err)
	}
	if err := proctest.WriteProgram(path, []byte("#!/bin/sh\n"+body+"\n"), 0o700); err != nil {
		s.t.Fatal(err)
	}
}

// onlyRoot makes a real tool fail unless sudo runs it, and note its use in the file that has its name.
func (s *sandbox) onlyRoot(name string) {
	s.t.Helper()
	s.tool(name, `[ -n "$AS_ROOT" ] || { echo "`+name+`: Permission denied" >&2; exit 1; }; echo "$*" >> "$ROOT/`+name+`"; exec `+realTool(s.t, name)+` "$@"`)
}

func (s *sandbox) path(name string) string { return filepath.Join(s.root, name) }

func (s *sandbox) dir(name string) string {
	s.t.Helper()
	if err := os.MkdirAll(s.path(name), 0o700); err != nil {
		s.t.Fatal(err)
	}
	return s.path(name)
}

func (s *sandbox) write(name, content string) {
	s.t.Helper()
	s.dir(filepath.Dir(name))
	if err := os.WriteFile(s.path(name), []byte(content), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// read is a file's content, empty if there is none.
func (s *sandbox) read(name string) string {
	s.t.Helper()
	raw, err := os.ReadFile(s.path(name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		s.t.Fatal(err)
	}
	return string(raw)
}

// moved puts the paths outside of the sandbox that a plan's script has into it. Each that is named must be there.
func (s *sandbox) moved(script string, paths ...string) string {
	s.t.Helper()
	for _, p := range paths {
		if !strings.Contains(script, p) {
			s.t.Fatalf("the script does not have the path %s", p)
		}
		script = strings.ReplaceAll(script, p, s.root+p)
	}
	return script
}

// ended is how a script ended.
type ended struct {
	code    int
	answers []string
	output  string
}

// run lets a shell run a script from a file, as a guest does.
func (s *sandbox) run(shell, script string) ended {
	s.t.Helper()
	s.write("script", script)
	args := []string{s.path("script")}
	if filepath.Base(shell) == "zsh" {
		args = append([]string{"-f"}, args...) // without the startup files of this machine
	}
	var out bytes.Buffer
	cmd := exec.Command(shell, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr, cmd.Dir = s.env, &out, &out, s.root
	err := cmd.Run()
	if exitErr := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exitErr) {
		s.t.Fatal(err)
	}
	return ended{cmd.ProcessState.ExitCode(), Answers(out.String()), out.String()}
}

// eachShell runs a test with all shells that may run the scripts and are here.
func eachShell(t *testing.T, test func(t *testing.T, shell string)) {
	t.Helper()
	var found []string
	for _, name := range []string{"sh", "bash", "zsh", "dash", "ksh"} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		real, err := filepath.EvalSymlinks(path)
		if err != nil || slices.Contains(found, real) { // sh is often one of the others
			continue
		}
		found = append(found, real)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, path)
		})
	}
	if len(found) == 0 {
		t.Fatal("there is no shell")
	}
}
