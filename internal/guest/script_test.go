package guest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// realServer is an SSH server that runs commands as OpenSSH does: by a shell, in a session of their own. files are those
// that scripts used so far.
func realServer(t *testing.T) (c *SSH, files func() []string) {
	c, files, _ = watchedServer(t)
	return c, files
}

// watchedServer is realServer, which also tells the process groups of commands that have begun.
func watchedServer(t *testing.T) (c *SSH, files func() []string, begun <-chan int) {
	t.Helper()
	pattern := regexp.MustCompile(`/tmp/\.grtd-[0-9a-f]+`)
	var mu sync.Mutex
	var used []string
	groups := make(chan int, 100)
	home := t.TempDir()
	t.Cleanup(func() {
		for _, file := range used {
			_, _ = os.Remove(file), os.Remove(file+".sh")
		}
	})
	s := newServer(t, func(command string, s *session) {
		mu.Lock()
		used = append(used, pattern.FindAllString(command, -1)...)
		mu.Unlock()
		cmd := exec.Command("/bin/sh", "-c", command)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "LC_ALL=C"}
		cmd.Stdout, cmd.Stderr = s, s.Stderr()
		stdin, err := cmd.StdinPipe()
		if err != nil || cmd.Start() != nil {
			return
		}
		groups <- cmd.Process.Pid
		go func() {
			_, _ = io.Copy(stdin, s)
			stdin.Close()
		}()
		_ = cmd.Wait()
		switch ws := cmd.ProcessState.Sys().(syscall.WaitStatus); {
		case !ws.Signaled():
			s.exit(uint32(ws.ExitStatus()))
		case ws.Signal() == syscall.SIGALRM:
			s.exitSignal("ALRM")
		case ws.Signal() == syscall.SIGTERM:
			s.exitSignal("TERM")
		default:
			s.exitSignal("KILL")
		}
	}, nil)
	return s.connect(), func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(used)
	}, groups
}

func TestRunScript(t *testing.T) {
	c, files := realServer(t)
	script := "echo out; echo err >&2; cat; exit 42\n# " + strings.Repeat("x", 200000)
	var out, errs bytes.Buffer
	status, err := c.RunScript(t.Context(), "/bin/sh", strings.NewReader(script), int64(len(script)), &out, &errs)
	if status != (Status{Code: 42}) || err != nil || out.String() != "out\n" || errs.String() != "err\n" {
		t.Errorf("got %+v, %v, %q, %q", status, err, out.String(), errs.String())
	}
	_, err = c.RunScript(t.Context(), "/bin/sh", strings.NewReader("true"), 4, nil, nil)
	if err != nil {
		t.Error(err)
	}
	used := files()
	if len(used) != 2 || used[0] == used[1] {
		t.Errorf("files %q, want two different ones", used)
	}
	for _, file := range used {
		over(t, file)
	}
}

func TestRunScriptThatCannotBeStarted(t *testing.T) {
	c, files := realServer(t)
	// A script that is shorter than announced, as one that is read from a full disk would be.
	status, err := c.RunScript(t.Context(), "/bin/sh", strings.NewReader("echo hello"), 100, nil, nil)
	if !errors.Is(err, ErrNotStarted) {
		t.Errorf("got %+v, %v, want ErrNotStarted", status, err)
	}
	// A script that ends as our own program would is nevertheless a script that ended.
	script := "kill -ALRM $$"
	if status, err := c.RunScript(t.Context(), "/bin/sh", strings.NewReader(script), int64(len(script)), nil, nil); err != nil || status.Code != 142 {
		t.Errorf("got %+v, %v", status, err)
	}
	for _, file := range files() {
		over(t, file)
	}
}

// waiting tells when the first line of output has come.
type waiting struct {
	buffer
	once sync.Once
	came chan struct{}
}

func (w *waiting) Write(p []byte) (int, error) {
	n, err := w.buffer.Write(p)
	if bytes.Contains(w.Bytes(), []byte("\n")) {
		w.once.Do(func() { close(w.came) })
	}
	return n, err
}

func TestRunScriptEndsItsScriptBeforeItReturns(t *testing.T) {
	t.Parallel()
	c, files := realServer(t)
	cause := errors.New("canceled")
	ctx, cancel := context.WithCancelCause(t.Context())
	out := &waiting{came: make(chan struct{})}
	marker := filepath.Join(t.TempDir(), "ended")
	script := "trap 'echo > " + marker + "; kill -KILL $!; exit 1' TERM\nsleep 600 > /dev/null 2>&1 &\necho begun\nwait"
	go func() {
		<-out.came
		cancel(cause)
	}()
	status, err := c.RunScript(ctx, "/bin/sh", strings.NewReader(script), int64(len(script)), out, out)
	if !errors.Is(err, ErrEnded) || !errors.Is(err, cause) {
		t.Errorf("got %+v, %v, want ErrEnded and the cause", status, err)
	}
	if _, err := os.Lstat(marker); err != nil {
		t.Errorf("the script was not ended in peace: %v", err)
	}
	for _, file := range files() {
		over(t, file)
	}
}

func TestRunScriptEndsItsScriptWhenNobodyReadsItsOutput(t *testing.T) {
	c, files := realServer(t)
	script := "while echo y; do :; done"
	_, err := c.RunScript(t.Context(), "/bin/sh", strings.NewReader(script), int64(len(script)), broken{}, nil)
	if !errors.Is(err, ErrEnded) || !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("error %v, want ErrEnded", err)
	}
	for _, file := range files() {
		// The script may have ended by itself, of SIGPIPE, before it was to be ended: then a file keeps it from beginning.
		if raw, err := os.ReadFile(file); err == nil && string(raw) == "0\n" {
			_ = os.Remove(file)
		}
		over(t, file)
	}
}

func TestSurvey(t *testing.T) {
	c, _ := realServer(t)
	base := t.TempDir()
	file := filepath.Join(base, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	made, odd, unwritable := filepath.Join(base, "a", "b"), filepath.Join(base, "it's a \"dir\""), filepath.Join(file, "x")
	info, err := c.Survey(t.Context(), "/bin/sh", made, base, odd, unwritable)
	if err != nil {
		t.Fatal(err)
	}
	if want := map[string]string{"linux": "Linux", "darwin": "Darwin"}[runtime.GOOS]; want != "" && info.OS != want {
		t.Errorf("operating system is %q, want %q", info.OS, want)
	}
	if info.Arch == "" || info.Hostname == "" || info.Version == "" || info.User == "" || info.Shell != "/bin/sh" {
		t.Errorf("got %+v", info)
	}
	for _, dir := range []string{made, odd} {
		if st, err := os.Stat(dir); err != nil || !st.IsDir() {
			t.Errorf("%s was not made: %v", dir, err)
		}
	}
	if !slices.Equal(info.Unwritable, []string{unwritable}) {
		t.Errorf("unwritable are %q, want %q", info.Unwritable, unwritable)
	}
}

func TestSurveyFindsAShell(t *testing.T) {
	c, _ := realServer(t)
	for _, wanted := range []string{"/no/such/shell", "no-such-shell", ""} {
		info, err := c.Survey(t.Context(), wanted)
		if err != nil {
			t.Errorf("%q: %v", wanted, err)
			continue
		}
		if base := filepath.Base(info.Shell); base != "bash" && base != "sh" {
			t.Errorf("in place of %q: %q", wanted, info.Shell)
		}
	}
	if info, err := c.Survey(t.Context(), "sh"); err != nil || !filepath.IsAbs(info.Shell) || filepath.Base(info.Shell) != "sh" {
		t.Errorf("a bare name: %q, %v", info.Shell, err)
	}
}

// TestSurveyOfAMuteServer ends with its context: the server lives, and answers keepalives.
func TestSurveyOfAMuteServer(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(string, *session) {}, nil)
	c := s.connect()
	s.mute.Store(true)
	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(enough)
	if _, err := c.Survey(ctx, "/bin/sh"); !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}
	if err := c.Cause(); err != nil {
		t.Errorf("the connection is lost: %v", err)
	}
}

func TestSurveyOfWhatRunsNoCommands(t *testing.T) {
	s := newServer(t, func(_ string, s *session) {
		_, _ = io.WriteString(s, "welcome\n")
		_, _ = io.WriteString(s.Stderr(), "This account is currently not available.\n")
		s.exit(1)
	}, nil)
	info, err := s.connect().Survey(t.Context(), "/bin/sh")
	if err == nil || !strings.Contains(err.Error(), "exit status 1") {
		t.Errorf("got %+v, %v", info, err)
	}
}

func TestParseSurvey(t *testing.T) {
	const answer = "grtd:os=Darwin\ngrtd:arch=arm64\ngrtd:host=vm.local\ngrtd:version=15.3.1\ngrtd:shell=/bin/zsh\ngrtd:unwritable=/a=b\n" +
		"grtd:unwritable=/c d\ngrtd:user=admin\ngrtd:end=\n"
	want := Info{OS: "Darwin", Arch: "arm64", Hostname: "vm.local", Version: "15.3.1", Shell: "/bin/zsh", User: "admin", Unwritable: []string{"/a=b", "/c d"}}
	for name, out := range map[string]string{
		"plain":            answer,
		"noise around":     "Last login: today\nos=evil\n grtd:os=evil\n\n" + answer + "bye\n",
		"noise between":    strings.ReplaceAll(answer, "\n", "\nnoise\ngrtd:future=1\n"),
		"CR LF":            strings.ReplaceAll(answer, "\n", "\r\n"),
		"no last line end": strings.TrimSuffix(answer, "\n"),
	} {
		got, complete := parseSurvey(out)
		if !complete || got.Shell != want.Shell || got.OS != want.OS || got.Arch != want.Arch || got.Hostname != want.Hostname ||
			got.Version != want.Version || got.User != want.User || !slices.Equal(got.Unwritable, want.Unwritable) {
			t.Errorf("%s: got %+v, %v", name, got, complete)
		}
	}
	for name, out := range map[string]string{
		"nothing":   "",
		"cut short": strings.TrimSuffix(answer, "grtd:end=\n"),
		"no shell":  strings.Replace(answer, "/bin/zsh", "", 1),
		"noise":     "grtd: end=\ngrtd\nend=\n",
	} {
		if got, complete := parseSurvey(out); complete {
			t.Errorf("%s: counts as complete: %+v", name, got)
		}
	}
}

func FuzzParseSurvey(f *testing.F) {
	f.Add("grtd:shell=/bin/sh\r\ngrtd:os=Linux\ngrtd:end=\n")
	f.Fuzz(func(t *testing.T, out string) {
		info, complete := parseSurvey(out)
		if complete && (info.Shell == "" || !strings.Contains(out, "grtd:end")) {
			t.Errorf("%q counts as complete: %+v", out, info)
		}
		for _, v := range append(info.Unwritable, info.OS, info.Arch, info.Version, info.Hostname, info.User, info.Shell) {
			if strings.Contains(v, "\n") || !strings.Contains(out, v) {
				t.Errorf("%q gives %q", out, v)
			}
		}
	})
}
