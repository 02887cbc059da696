package guest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gitlab-runner-tart-driver/internal/proc"
)

// started is a program of ours that runs in a session of its own, as an SSH server starts it.
type started struct {
	*exec.Cmd
	out, err bytes.Buffer
}

// sh makes a command of one of the programs.
func sh(t *testing.T, program, stdin string, args ...string) *started {
	t.Helper()
	s := &started{Cmd: exec.Command("/bin/sh", append([]string{"-c", program, "grtd"}, args...)...)}
	s.Stdin, s.Stdout, s.Stderr = strings.NewReader(stdin), &s.out, &s.err
	s.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "LC_ALL=C"}
	s.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return s
}

// status is how it ended, as an SSH server would tell.
func (s *started) status(t *testing.T, err error) Status {
	t.Helper()
	if exitErr := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exitErr) {
		t.Fatal(err)
	}
	ws := s.ProcessState.Sys().(syscall.WaitStatus)
	if ws.Signaled() {
		return Status{Code: 128 + int(ws.Signal()), Signal: map[syscall.Signal]string{syscall.SIGALRM: "ALRM", syscall.SIGTERM: "TERM",
			syscall.SIGKILL: "KILL"}[ws.Signal()]}
	}
	return Status{Code: ws.ExitStatus()}
}

// runScript runs a script by runProgram with a file that is not there yet.
func runScript(t *testing.T, shell, script string) (s *started, file string, status Status) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "f")
	s = sh(t, sshPrologue+runProgram, input(shell, script, len(script)), file)
	return s, file, s.status(t, s.Run())
}

// input is what runProgram reads.
func input(shell, script string, size int) string {
	return fmt.Sprintf("%s\n%d\n%s", shell, size, script)
}

// over waits until nothing is left of a script. What removes it is another process, which nobody else waits for.
func over(t *testing.T, file string) {
	t.Helper()
	for _, path := range []string{file, file + ".sh"} {
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
				break
			}
			if time.Now().After(deadline) {
				t.Errorf("%s is still there", path)
				return
			}
		}
	}
}

func gone(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is still there (%v)", path, err)
	}
}

func TestRunProgramHandsTheExitStatusOn(t *testing.T) {
	for _, code := range []int{0, 1, 2, 42, 125, 127, 128, 142, 143, 254, 255} {
		script := fmt.Sprintf("echo out; echo err >&2; exit %d\n", code)
		s, file, status := runScript(t, "/bin/sh", script)
		if status != (Status{Code: code}) || s.out.String() != "out\n" || s.err.String() != "err\n" {
			t.Errorf("exit %d: got %+v, %q, %q", code, status, s.out.String(), s.err.String())
		}
		over(t, file)
	}
}

// TestProgramsInBash: macOS's /bin/sh is bash, in its POSIX mode.
func TestProgramsInBash(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip(err)
	}
	inBash := func(s *started) *started {
		s.Path, s.Args = bash, append([]string{"sh"}, s.Args[1:]...) // bash is POSIX's shell under that name
		return s
	}
	file, script := filepath.Join(t.TempDir(), "f"), "echo out; echo err >&2; exit 3\n"
	s := inBash(sh(t, sshPrologue+runProgram, input("/bin/sh", script, len(script)), file))
	if status := s.status(t, s.Run()); status.Code != 3 || s.out.String() != "out\n" || s.err.String() != "err\n" {
		t.Errorf("run: got %+v, %q, %q", status, s.out.String(), s.err.String())
	}
	over(t, file)
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s = inBash(sh(t, sshPrologue+runProgram, input("/bin/sh", script, len(script)), file))
	if status := s.status(t, s.Run()); status.Signal != "ALRM" {
		t.Errorf("run with a file that is there: got %+v", status)
	}
	s = inBash(sh(t, sshPrologue+runProgram, input("/bin/sh", script, len(script)+1), file+"2"))
	if status := s.status(t, s.Run()); status.Signal != "ALRM" {
		t.Errorf("run that was cut short: got %+v", status)
	}
	file, processes, ended := running(t, "sleep 600 > /dev/null 2>&1 & echo $$ $!; wait")
	s = inBash(sh(t, endProgram, "", file, "20"))
	if status := s.status(t, s.Run()); status.Code != 0 || s.err.String() != "" {
		t.Errorf("end: got %+v, %q", status, s.err.String())
	}
	<-ended
	for _, id := range processes {
		if !id.WaitGone(time.Minute) {
			t.Errorf("process %d still runs", id.PID)
		}
	}
	s = inBash(sh(t, surveyProgram, "", "/bin/sh", t.TempDir()))
	if status := s.status(t, s.Run()); status.Code != 0 || s.err.String() != "" {
		t.Errorf("survey: got %+v, %q", status, s.err.String())
	}
	if info, complete := parseSurvey(s.out.String()); !complete || info.Shell != "/bin/sh" {
		t.Errorf("survey: got %+v, complete %v", info, complete)
	}
}

func TestRunProgramWithEveryShell(t *testing.T) {
	for shell := range loginShells(t) {
		if strings.HasSuffix(shell, "csh") || strings.HasSuffix(shell, "fish") {
			continue // GitLab Runner's scripts are not for them
		}
		for script, want := range map[string]int{
			"set -e; (exit 7); true\n": 7,
			"kill -TERM $$":            143,
			"":                         0,
		} {
			_, file, status := runScript(t, shell, script)
			if status != (Status{Code: want}) {
				t.Errorf("%s: %q: got %+v, want code %d", shell, script, status, want)
			}
			over(t, file)
		}
	}
}

func TestRunProgramKeepsScriptAndInputApart(t *testing.T) {
	// Were the rest of the script its input, cat would print it. A large one does not fit into a pipe.
	rest := "echo \"args: $#\"\n" + strings.Repeat("# "+strings.Repeat("x", 998)+"\n", 1000) + "echo end"
	s, _, status := runScript(t, "/bin/sh", "cat\nread -r line && echo \"read $line\"\n"+rest)
	if status.Code != 0 || s.out.String() != "args: 0\nend\n" || s.err.String() != "" {
		t.Errorf("got %+v, %.200q, %.200q", status, s.out.String(), s.err.String())
	}
}

func TestRunProgramIsForTheOwnerOnly(t *testing.T) {
	s, _, _ := runScript(t, "/bin/sh", `ls -l "$0"`)
	if !strings.HasPrefix(s.out.String(), "-rw-------") {
		t.Errorf("the script is %q, %q", s.out.String(), s.err.String())
	}
}

// TestRunProgramLeavesTheUmaskAlone is about what a script makes: it is for whoever the user's own umask says.
func TestRunProgramLeavesTheUmaskAlone(t *testing.T) {
	const set, show = "umask 026; ", "umask"
	direct := sh(t, set+"exec /bin/sh -l -c "+show, "")
	if err := direct.Run(); err != nil {
		t.Fatal(err)
	}
	s := sh(t, set+sshPrologue+runProgram, input("/bin/sh", show, len(show)), filepath.Join(t.TempDir(), "f"))
	if status := s.status(t, s.Run()); status.Code != 0 || s.out.String() != direct.out.String() {
		t.Errorf("got %+v, umask %q, want %q", status, s.out.String(), direct.out.String())
	}
}

func TestWhatFailsBeforeTheScriptIsNoExitStatus(t *testing.T) {
	marker := filepath.Join(t.TempDir(), "ran")
	script := "echo > '" + marker + "'\n"
	taken, linked := filepath.Join(t.TempDir(), "f"), filepath.Join(t.TempDir(), "f")
	if err := errors.Join(os.WriteFile(taken, []byte("mine"), 0o600), os.Symlink(taken, linked+".sh")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, file string
		size       int
	}{
		{"cut short", filepath.Join(t.TempDir(), "f"), len(script) + 1},
		{"too long", filepath.Join(t.TempDir(), "f"), len(script) - 1},
		{"file is there", taken, len(script)},
		{"somebody's link is there", linked, len(script)},
		{"file cannot be made", filepath.Join(t.TempDir(), "no", "f"), len(script)},
	} {
		s := sh(t, sshPrologue+runProgram, input("/bin/sh", script, c.size), c.file)
		if status := s.status(t, s.Run()); status.Signal != "ALRM" {
			t.Errorf("%s: got %+v, want SIGALRM", c.name, status)
		}
		gone(t, marker)
		if c.file != taken {
			over(t, c.file)
		}
	}
	if kept, err := os.ReadFile(taken); string(kept) != "mine" {
		t.Errorf("somebody else's file is %q, %v", kept, err)
	}
}

func TestAScriptThatWasEndedBeforeItBeganDoesNotRun(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	end := sh(t, endProgram, "", file, "1")
	if status := end.status(t, end.Run()); status.Code != 0 {
		t.Errorf("end: got %+v, %s", status, end.err.String())
	}
	marker := filepath.Join(t.TempDir(), "ran")
	script := "echo > '" + marker + "'\n"
	run := sh(t, sshPrologue+runProgram, input("/bin/sh", script, len(script)), file)
	if status := run.status(t, run.Run()); status.Signal != "ALRM" {
		t.Errorf("run: got %+v, want SIGALRM", status)
	}
	gone(t, marker)
}

// running starts a script and waits until it has written the pids of its processes. It returns these, and the script's end.
func running(t *testing.T, script string) (file string, processes []proc.ID, ended <-chan Status) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "f")
	s := sh(t, sshPrologue+runProgram, input("/bin/sh", script, len(script)), file)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s.Stdout = w
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	status := make(chan Status, 1)
	go func() { status <- s.status(t, s.Wait()) }()
	if err := r.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	var line []byte
	for b := make([]byte, 1); !bytes.HasSuffix(line, []byte("\n")); line = append(line, b[0]) {
		if _, err := r.Read(b); err != nil {
			t.Fatalf("the script does not begin: %v, %s", err, s.err.String())
		}
	}
	for _, word := range strings.Fields(string(line)) {
		pid, err := strconv.Atoi(word)
		if err != nil {
			t.Fatal(err)
		}
		id, err := proc.Of(pid)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { id.Signal(syscall.SIGKILL) })
		processes = append(processes, id)
	}
	return file, processes, status
}

func TestEndProgramEndsEverythingOfAScript(t *testing.T) {
	done := filepath.Join(t.TempDir(), "done")
	for name, script := range map[string]string{
		"willing":                          "sleep 600 > /dev/null 2>&1 & echo $$ $!; wait",
		"ignores SIGTERM":                  "trap '' TERM; sleep 600 > /dev/null 2>&1 & echo $$ $!; wait",
		"child of a child ignores SIGTERM": `(trap "" TERM; sleep 600 > /dev/null 2>&1 & echo $$ $!; wait) & wait`,
		"clears up":                        "trap 'echo > " + done + "; kill -KILL $!; exit 3' TERM; sleep 600 > /dev/null 2>&1 & echo $$ $!; wait",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file, processes, ended := running(t, script)
			patience := "20" // tenths of a second
			if strings.Contains(name, "ignores") {
				patience = "3"
			}
			end := sh(t, endProgram, "", file, patience)
			if status := end.status(t, end.Run()); status.Code != 0 || end.err.String() != "" {
				t.Errorf("got %+v, %s", status, end.err.String())
			}
			if status := <-ended; status.Code < 128 {
				t.Errorf("the script ended with %+v", status)
			}
			for _, id := range processes {
				if !id.WaitGone(time.Minute) {
					t.Errorf("process %d still runs", id.PID)
				}
			}
			over(t, file)
			if _, err := os.Lstat(done); name == "clears up" && err != nil {
				t.Errorf("it was given no time to clear up: %v", err)
			}
		})
	}
}

// TestEndProgramSparesOthers is about process groups that are nobody's, or everybody's. So it has a kill that does nothing.
func TestEndProgramSparesOthers(t *testing.T) {
	const harmless = `kill() { echo "kill $*"; }; `
	for group, want := range map[string]bool{"0": false, "1": false, "-1": false, "-5": false, " ": false, "0x": false, "4711": true,
		"0 4711": true, "0 1": false, "0 0": false, "0 -5": false, "-1 4711": true} {
		file := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(file, []byte(group+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		end := sh(t, harmless+endProgram, "", file, "0")
		status := end.status(t, end.Run())
		if killed := strings.Contains(end.out.String(), "kill"); killed != want || status.Signal != "" {
			t.Errorf("group %q: got %+v, %q", group, status, end.out.String())
		}
	}
}

// TestEndLeavesTheServerAlone: not every SSH server starts its commands in a process group of their own.
func TestEndLeavesTheServerAlone(t *testing.T) {
	if _, err := exec.LookPath("ps"); err != nil {
		t.Skip(err)
	}
	file, script := filepath.Join(t.TempDir(), "f"), "sleep 600 > /dev/null 2>&1 & echo $!; wait"
	server := exec.Command("/bin/sh", "-c", `"$@"; echo still here`, "server", "/bin/sh", "-c", sshPrologue+runProgram, "grtd", file)
	server.Stdin = strings.NewReader(input("/bin/sh", script, len(script)))
	server.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	stdout, err := server.StdoutPipe()
	if err == nil {
		err = server.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(-server.Process.Pid, syscall.SIGKILL) }()
	out := bufio.NewReader(stdout)
	line, err := out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	child, err := proc.Of(pid)
	if err != nil {
		t.Fatal(err)
	}
	end := sh(t, endProgram, "", file, "20")
	if status := end.status(t, end.Run()); status.Code != 0 {
		t.Errorf("end: got %+v, %q", status, end.err.String())
	}
	rest, _ := io.ReadAll(out)
	if err := server.Wait(); err != nil || string(rest) != "still here\n" {
		t.Errorf("the server ended with %v and said %q", err, rest)
	}
	if !child.WaitGone(time.Minute) {
		t.Errorf("process %d of the script still runs", pid)
	}
}
