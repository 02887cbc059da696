package guest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// localAgent is an agent whose guest is this machine. It keeps the group of this process for what it starts, unless own is set, as an agent
// may do it either way. PATH is path.
type localAgent struct {
	t     *testing.T
	path  string
	own   bool
	mu    sync.Mutex
	files []string // status files that it was told, and those of scripts
}

func newLocalAgent(t *testing.T, path string, own bool) (*Agent, *localAgent) {
	t.Helper()
	l := &localAgent{t: t, path: path, own: own}
	t.Cleanup(func() {
		for _, path := range l.files {
			_, _ = os.Remove(path), os.Remove(path+".sh")
		}
	})
	a := NewAgent(l.exec)
	t.Cleanup(a.Close)
	return a, l
}

// exec is an AgentExec. What a signal ended has the code that a shell would give it.
func (l *localAgent) exec(ctx context.Context, argv []string, streams Streams) (int, error) {
	l.mu.Lock()
	for _, a := range argv {
		if strings.HasPrefix(a, "/tmp/.grtd-") {
			l.files = append(l.files, a)
		}
	}
	l.mu.Unlock()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = []string{"PATH=" + l.path, "HOME=" + l.t.TempDir(), "LC_ALL=C"}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = streams.Stdin, streams.Stdout, streams.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: l.own}
	cmd.WaitDelay = time.Second // a client that ends does not wait for what still runs in its guest
	err := cmd.Run()
	if exitErr := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exitErr) {
		return -1, err
	}
	if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); ws.Signaled() {
		return 128 + int(ws.Signal()), nil
	}
	return cmd.ProcessState.ExitCode(), nil
}

func TestAgentTellsHowAScriptEnded(t *testing.T) {
	for _, own := range []bool{false, true} {
		a, _ := newLocalAgent(t, os.Getenv("PATH"), own)
		for _, code := range []int{0, 1, 2, 3, 64, 93, 94, 95, 96, 126, 127, 128, 130, 137, 143, 160, 254, 255} {
			script := fmt.Sprintf("echo out; echo err >&2; exit %d", code)
			var out, errs bytes.Buffer
			status, err := a.RunScript(t.Context(), "/bin/sh", strings.NewReader(script), int64(len(script)), &out, &errs)
			if status != (Status{Code: code}) || err != nil || out.String() != "out\n" || errs.String() != "err\n" {
				t.Errorf("own group %v, exit %d: got %+v, %v, %q, %q", own, code, status, err, out.String(), errs.String())
			}
		}
		for signal, code := range map[string]int{"TERM": 143, "KILL": 137, "INT": 130, "ALRM": 142} {
			script := "kill -" + signal + " $$"
			if status, err := a.RunScript(t.Context(), "/bin/sh", strings.NewReader(script), int64(len(script)), nil, nil); status.Code != code || err != nil {
				t.Errorf("own group %v, SIG%s: got %+v, %v", own, signal, status, err)
			}
		}
	}
}

func TestAgentTellsHowAProgramEnded(t *testing.T) {
	a, _ := newLocalAgent(t, os.Getenv("PATH"), true)
	for _, c := range []struct {
		program string
		status  Status
		err     error
	}{
		{"exit 0", Status{}, nil},
		{"exit 1", Status{Code: 1}, nil},
		{"false", Status{Code: 1}, nil},
		{"exit 93", Status{Code: 93}, nil},
		{"exit 96", Status{Code: 96}, nil},
		{"no", Status{}, ErrNotStarted},
		{"(no)", Status{}, nil}, // a subshell's end is not the program's; what follows is
		{"f=/no/such/directory/status; exit 0", Status{}, nil},
		{"f=/no/such/directory/status; exit 7", Status{}, ErrNoStatus},
		{"rm -f \"$f\"; trap - EXIT; exit 94", Status{}, ErrLost},
		{"trap - EXIT; exit 1", Status{}, ErrLost},
		{"trap - EXIT; exit 2", Status{}, ErrLost},
		{"trap - EXIT; exit 0", Status{}, ErrLost},
		{"kill -KILL $$", Status{Code: 137}, nil},
		{"kill -KILL -$$", Status{Code: 137}, nil}, // with its whole group
		{"kill -TERM 0", Status{Code: 143}, nil},
	} {
		if c.program == "(no)" {
			c.status = Status{Code: 96}
		}
		status, err := a.run(t.Context(), c.program, nil, Streams{})
		if status != c.status || !errors.Is(err, c.err) || err != nil && c.err == nil {
			t.Errorf("%q: got %+v, %v, want %+v, %v", c.program, status, err, c.status, c.err)
		}
	}
}

func TestClientExitCodesAreNoScripts(t *testing.T) {
	cause := errors.New("no such VM")
	for _, code := range []int{-1, 0, 1, 2, 3, 64, 92, 97, 128, 160, 255} {
		a := NewAgent(func(context.Context, []string, Streams) (int, error) { return code, nil })
		if status, err := a.run(t.Context(), "true", nil, Streams{}); status != (Status{}) || !errors.Is(err, ErrLost) || !strings.Contains(err.Error(), strconv.Itoa(code)) {
			t.Errorf("exit code %d: got %+v, %v", code, status, err)
		}
	}
	a := NewAgent(func(context.Context, []string, Streams) (int, error) { return agentOK, cause })
	if status, err := a.run(t.Context(), "true", nil, Streams{}); !errors.Is(err, ErrLost) || !errors.Is(err, cause) {
		t.Errorf("an error of the client: got %+v, %v", status, err)
	}
}

func TestAgentKeepsScriptAndInputApart(t *testing.T) {
	a, l := newLocalAgent(t, os.Getenv("PATH"), false)
	script := "cat; echo end\n# " + strings.Repeat("x", 300000)
	var out bytes.Buffer
	status, err := a.RunScript(t.Context(), "/bin/sh", strings.NewReader(script), int64(len(script)), &out, nil)
	if status.Code != 0 || err != nil || out.String() != "end\n" {
		t.Errorf("got %+v, %v, %q", status, err, out.String())
	}
	// A script that is shorter than announced.
	if status, err := a.RunScript(t.Context(), "/bin/sh", strings.NewReader("echo"), 100, nil, nil); !errors.Is(err, ErrNotStarted) {
		t.Errorf("got %+v, %v, want ErrNotStarted", status, err)
	}
	if len(l.files) < 2 || l.files[0] == l.files[len(l.files)-1] {
		t.Errorf("status files %q, want a new one each time", l.files)
	}
}

func TestAgentSurvey(t *testing.T) {
	a, _ := newLocalAgent(t, os.Getenv("PATH"), false)
	dir := filepath.Join(t.TempDir(), "it's a \"dir\"")
	info, err := a.Survey(t.Context(), "/bin/sh", dir)
	if err != nil || info.Shell != "/bin/sh" || info.OS == "" || info.User == "" || len(info.Unwritable) > 0 {
		t.Errorf("got %+v, %v", info, err)
	}
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		t.Errorf("the directory was not made: %v", err)
	}
}

func TestAgentEndsItsScriptBeforeItReturns(t *testing.T) {
	t.Parallel()
	a, _ := newLocalAgent(t, os.Getenv("PATH"), false)
	cause := errors.New("canceled")
	ctx, cancel := context.WithCancelCause(t.Context())
	out := &waiting{came: make(chan struct{})}
	marker := filepath.Join(t.TempDir(), "ended")
	script := "trap 'echo > " + marker + "; kill -KILL $!; exit 1' TERM\nsleep 600 > /dev/null 2>&1 &\necho begun\nwait"
	go func() {
		<-out.came
		cancel(cause)
	}()
	status, err := a.RunScript(ctx, "/bin/sh", strings.NewReader(script), int64(len(script)), out, io.Discard)
	if !errors.Is(err, ErrEnded) || !errors.Is(err, cause) {
		t.Errorf("got %+v, %v, want ErrEnded and the cause", status, err)
	}
	if _, err := os.Lstat(marker); err != nil {
		t.Errorf("the script was not ended in peace: %v", err)
	}
}

func TestAgentEndsItsScriptWhenNobodyReadsItsOutput(t *testing.T) {
	t.Parallel()
	a, _ := newLocalAgent(t, os.Getenv("PATH"), false)
	for _, script := range []string{"while echo y; do :; done", "echo y; exit 7", "echo y; sleep 600"} {
		status, err := a.RunScript(t.Context(), "/bin/sh", strings.NewReader(script), int64(len(script)), broken{}, nil)
		if !errors.Is(err, ErrEnded) || !errors.Is(err, errOutput) {
			t.Errorf("%q: got %+v, %v, want ErrEnded", script, status, err)
		}
	}
}
