package trial

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// The test binary is also the driver of the tests. What it does in a stage is in its environment: FAKE_<stage>, or FAKE_run for stages
// that have none of their own, holds operations that are separated by "; ". Several lists separated by " | " are for the first,
// second, … call of the stage; the last one is for all that follow.
const fakeMark = "FAKE_DRIVER"

func TestMain(m *testing.M) {
	if os.Getenv(fakeMark) != "" {
		os.Exit(fakeMain(os.Args[1:]))
	}
	os.Exit(m.Run())
}

func fakeMain(args []string) int {
	if args[0] == "hold" { // a process left behind: it lives until somebody opens the FIFO to write
		os.OpenFile(args[1], os.O_RDONLY, 0)
		return 0
	}
	stage, script := args[0], ""
	if stage == "run" {
		script, stage = args[len(args)-2], args[len(args)-1]
	}
	plan, ok := os.LookupEnv("FAKE_" + stage)
	if !ok && args[0] == "run" {
		plan = os.Getenv("FAKE_run")
	}
	lists := strings.Split(plan, " | ")
	for _, op := range strings.Split(lists[min(fakeCalls(stage), len(lists)-1)], "; ") {
		name, arg, _ := strings.Cut(op, " ")
		if code, done := fakeOp(name, arg, script); done {
			return code
		}
	}
	return 0
}

// fakeCalls counts the calls of a stage and returns how many there were before.
func fakeCalls(stage string) int {
	file := filepath.Join(os.Getenv("FAKE_STATE"), "calls-"+stage)
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	before, err := io.ReadAll(f)
	if err != nil {
		panic(err)
	}
	f.WriteString("x")
	return len(before)
}

func fakeOp(name, arg, script string) (code int, done bool) {
	switch name {
	case "", "ok":
	case "out":
		fmt.Fprint(os.Stdout, arg)
	case "err":
		fmt.Fprint(os.Stderr, arg)
	case "exit":
		code, _ = strconv.Atoi(arg)
		return code, true
	case "code":
		text, _ := strconv.Unquote(arg)
		os.WriteFile(os.Getenv("BUILD_EXIT_CODE_FILE"), []byte(text), 0o600)
	case "uncode":
		os.Remove(os.Getenv("BUILD_EXIT_CODE_FILE"))
	case "kill":
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "hang": // says that it is ready, and ends on SIGTERM with that exit code; "never" stays
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
		fmt.Fprintln(os.Stdout, "ready")
		s := <-signals
		fmt.Fprintf(os.Stdout, "got %v\n", s)
		if arg == "never" {
			select {}
		}
		code, _ = strconv.Atoi(arg)
		return code, true
	case "leave", "leave-in-group": // leaves a process behind, which holds stdout; in a session of its own, or in this process group
		cmd := exec.Command(os.Args[0], "hold", arg)
		cmd.Stdout = os.Stdout
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: name == "leave"}
		if err := cmd.Start(); err != nil {
			panic(err)
		}
	case "facts":
		fakeFacts(arg)
	case "script":
		cmd := exec.Command("bash", script)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		cmd.Run()
		if code := cmd.ProcessState.ExitCode(); code != 0 {
			os.WriteFile(os.Getenv("BUILD_EXIT_CODE_FILE"), []byte(strconv.Itoa(code)), 0o600)
			return 1, true
		}
	default:
		panic("no such operation: " + name)
	}
	return 0, false
}

// facts is what a stage can see of how it was started.
type facts struct {
	Args     []string
	Dir      string
	DirMode  os.FileMode
	Env      []string
	Stdin    string
	PID, PGR int
	Response map[string]any
	RespMode os.FileMode
	Pipes    int // how many of stdout and stderr are pipes, 2 if they are two different ones
}

func fakeFacts(file string) {
	var f facts
	f.Args, f.Env, f.PID, f.PGR = os.Args[1:], os.Environ(), os.Getpid(), syscall.Getpgrp()
	f.Dir, _ = os.Getwd()
	if info, err := os.Stat(f.Dir); err == nil {
		f.DirMode = info.Mode().Perm()
	}
	if info, err := os.Stdin.Stat(); err == nil {
		f.Stdin = info.Mode().Type().String()
		if rest, err := io.ReadAll(os.Stdin); err != nil || len(rest) > 0 {
			f.Stdin = "not empty"
		}
	}
	if text, err := os.ReadFile(os.Getenv("JOB_RESPONSE_FILE")); err == nil {
		json.Unmarshal(text, &f.Response)
		if info, err := os.Stat(os.Getenv("JOB_RESPONSE_FILE")); err == nil {
			f.RespMode = info.Mode().Perm()
		}
	}
	out, err1 := os.Stdout.Stat()
	errs, err2 := os.Stderr.Stat()
	if err1 == nil && err2 == nil && out.Mode()&os.ModeNamedPipe != 0 && errs.Mode()&os.ModeNamedPipe != 0 && !os.SameFile(out, errs) {
		f.Pipes = 2
	}
	text, _ := json.Marshal(f)
	os.WriteFile(file, text, 0o600)
}

// bench is a job with the fake driver.
type bench struct {
	t    *testing.T
	dir  string
	job  *Job
	opts Options
	out  bytes.Buffer
	errs bytes.Buffer
	pid  atomic.Int64 // the running stage
}

// signal sends a signal to the process group of the running stage, as nobody of GitLab Runner would.
func (b *bench) signal(sig syscall.Signal) {
	if err := syscall.Kill(-int(b.pid.Load()), sig); err != nil {
		b.t.Error(err)
	}
}

// newBench makes a job whose stages all succeed. plans are pairs of a stage and its operations.
func newBench(t *testing.T, plans ...string) *bench {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, dir: t.TempDir()}
	temp := filepath.Join(b.dir, "tmp")
	if err := os.Mkdir(temp, 0o700); err != nil {
		t.Fatal(err)
	}
	b.job = &Job{Image: Image{Name: "ghcr.io/o/macos:15"}, Script: []string{"true"}}
	b.opts = Options{
		Hooks:  Hooks{Started: func(_ *Trial, p Process) { b.pid.Store(int64(p.PID)) }},
		Driver: SelfDriver(self), TempDir: temp, Capture: true, Stdout: &b.out, Stderr: &b.errs,
		RetryDelay: time.Nanosecond, StageRetryDelay: time.Nanosecond,
		Environ: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + b.dir, fakeMark + "=1", "GORACE=atexit_sleep_ms=0", "FAKE_STATE=" + b.dir,
			`FAKE_config=out {"builds_dir":"` + b.dir + `/builds","cache_dir":"` + b.dir + `/cache"}`},
	}
	for i := 0; i+1 < len(plans); i += 2 {
		b.opts.Environ = append(b.opts.Environ, "FAKE_"+plans[i]+"="+plans[i+1])
	}
	return b
}

func (b *bench) run() *Result {
	b.t.Helper()
	r, err := Run(b.t.Context(), b.job, b.opts)
	if err != nil {
		b.t.Fatal(err)
	}
	b.checkNothingLeft()
	return r
}

// checkNothingLeft looks for temporary directories.
func (b *bench) checkNothingLeft() {
	b.t.Helper()
	if left, err := os.ReadDir(b.opts.TempDir); err != nil || len(left) > 0 {
		b.t.Errorf("left in the temporary directory: %v %v", left, err)
	}
}

// fifo makes a FIFO on which a process that was left behind waits. The returned function lets it go.
func (b *bench) fifo() (path string, let func()) {
	b.t.Helper()
	path = filepath.Join(b.dir, "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		b.t.Fatal(err)
	}
	let = sync.OnceFunc(func() {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			b.t.Error(err)
			return
		}
		f.Close()
	})
	return path, let
}

// onReady calls act once, when a stage has said that it is ready.
func (b *bench) onReady(stage string, act func(t *Trial)) {
	seen, did := "", false
	b.opts.Hooks.Output = func(t *Trial, name string, stream Stream, data []byte) {
		if name != stage || stream != Stdout || did {
			return
		}
		if seen += string(data); strings.Contains(seen, "ready\n") {
			did = true
			act(t)
		}
	}
}

func (b *bench) facts(name string) facts {
	b.t.Helper()
	text, err := os.ReadFile(filepath.Join(b.dir, name))
	if err != nil {
		b.t.Fatal(err)
	}
	var f facts
	if err := json.Unmarshal(text, &f); err != nil {
		b.t.Fatal(err)
	}
	return f
}

func (f facts) getenv(key string) string {
	for _, e := range f.Env {
		if value, ok := strings.CutPrefix(e, key+"="); ok {
			return value
		}
	}
	return "<unset>"
}
