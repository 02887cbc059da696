package tart

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestExecHandsArgumentsOnUnchanged(t *testing.T) {
	argv := []string{"/bin/sh", "-c", "echo \"$1\"; exit", "it's", "", " ", "a b", "-i", "--", "-t", "$HOME", "x\ny", `\`, "é"}
	for name, c := range map[string]struct {
		stdin io.Reader
		want  []string
	}{
		"without input": {nil, []string{"exec", "vm"}},
		"with input":    {strings.NewReader("x"), []string{"exec", "-i", "vm"}},
		"empty input":   {strings.NewReader(""), []string{"exec", "-i", "vm"}},
	} {
		f := newFake(t, `cat > "$here/stdin"; exit 0`)
		code, err := f.client().Exec(t.Context(), "vm", argv, ExecStreams{Stdin: c.stdin})
		if code != 0 || err != nil {
			t.Errorf("%s: got %d, %v", name, code, err)
		}
		want := strings.Join(append(c.want, argv...), "\x1f") + "\x1f\n"
		if got := f.file("argv"); got != want {
			t.Errorf("%s: called with %q, want %q", name, got, want)
		}
	}
	if len(argv) != 14 || argv[0] != "/bin/sh" {
		t.Errorf("the caller's argv is now %q", argv)
	}
}

func TestExecStreams(t *testing.T) {
	var all []byte
	for i := range 200000 {
		all = append(all, byte(i), byte(i>>8))
	}
	f := newFake(t, `echo oops >&2; cat`)
	var out, errs bytes.Buffer
	code, err := f.client().Exec(t.Context(), "vm", []string{"cat"}, ExecStreams{Stdin: bytes.NewReader(all), Stdout: &out, Stderr: &errs})
	if code != 0 || err != nil || !bytes.Equal(out.Bytes(), all) || errs.String() != "oops\n" {
		t.Errorf("got %d, %v, %d bytes, %q", code, err, out.Len(), errs.String())
	}
	if env := f.environ("exec"); !slices.Contains(env, "CI=1") {
		t.Errorf("environment %q", env)
	}
}

func TestExecWithoutInputReadsNothing(t *testing.T) {
	f := newFake(t, `cat; echo end`)
	var out bytes.Buffer
	if code, err := f.client().Exec(t.Context(), "vm", []string{"cat"}, ExecStreams{Stdout: &out}); code != 0 || err != nil || out.String() != "end\n" {
		t.Errorf("got %d, %v, %q", code, err, out.String())
	}
}

func TestExecExitCodes(t *testing.T) {
	for _, want := range []int{0, 1, 2, 42, 93, 94, 95, 96, 126, 127, 128, 143, 255} {
		f := newFake(t, fmt.Sprintf("echo something >&2; exit %d", want))
		if code, err := f.client().Exec(t.Context(), "vm", []string{"true"}, ExecStreams{}); code != want || err != nil {
			t.Errorf("exit %d: got %d, %v", want, code, err)
		}
	}
	f := newFake(t, "kill -TERM $$")
	if code, err := f.client().Exec(t.Context(), "vm", []string{"true"}, ExecStreams{}); code != -1 || err != nil {
		t.Errorf("ended by a signal: got %d, %v", code, err)
	}
}

func TestExecErrorsOfTartItself(t *testing.T) {
	for name, c := range map[string]struct {
		code int
		says string
		kind Kind
	}{
		"no agent":    {1, "Failed to connect to the VM using its control socket: x, is the Tart Guest Agent running?", KindNoAgent},
		"not running": {2, `VM "vm" is not running`, KindNotRunning},
		"no VM":       {2, `the specified VM "vm" does not exist`, KindNoSuchVM},
		"no command":  {64, "Error: Unknown subcommand 'exec'", KindUsage},
	} {
		f := newFake(t, fmt.Sprintf("echo %s >&2; exit %d", shellQuote(c.says), c.code))
		var errs bytes.Buffer
		code, err := f.client().Exec(t.Context(), "vm", []string{"true"}, ExecStreams{Stderr: &errs})
		e := (*Error)(nil)
		if code != c.code || !errors.As(err, &e) || e.Kind != c.kind || e.Command != "exec" || e.ExitCode != c.code || e.Text == "" {
			t.Errorf("%s: got %d, %+v, want kind %d", name, code, err, c.kind)
		}
		if errs.String() != c.says+"\n" {
			t.Errorf("%s: stderr has %q", name, errs.String())
		}
		// The same words of a command that succeeds are its own.
		f = newFake(t, fmt.Sprintf("echo %s >&2", shellQuote(c.says)))
		if code, err := f.client().Exec(t.Context(), "vm", []string{"true"}, ExecStreams{}); code != 0 || err != nil {
			t.Errorf("%s, exit code 0: got %d, %v", name, code, err)
		}
	}
	// What breaks in the middle is no error of a kind: it may as well be the command's.
	f := newFake(t, "echo 'Error: unavailable (14): stream closed' >&2; exit 1")
	if code, err := f.client().Exec(t.Context(), "vm", []string{"true"}, ExecStreams{}); code != 1 || err != nil {
		t.Errorf("got %d, %v", code, err)
	}
}

func TestExecFindsTheErrorBehindMuchOutput(t *testing.T) {
	f := newFake(t, `i=0; while [ $i -lt 1000 ]; do echo "line $i of the command's own"; i=$((i+1)); done >&2; echo 'VM "vm" is not running' >&2; exit 2`)
	if _, err := f.client().Exec(t.Context(), "vm", []string{"true"}, ExecStreams{}); KindOf(err) != KindNotRunning {
		t.Errorf("got %v", err)
	}
}

func TestExecOfWhatCannotBeRun(t *testing.T) {
	f := newFake(t, "exit 0")
	c := f.client()
	c.path += "-missing"
	if code, err := c.Exec(t.Context(), "vm", []string{"true"}, ExecStreams{}); code != -1 || KindOf(err) != KindCannotRun {
		t.Errorf("got %d, %v", code, err)
	}
}

func TestExecEndsWithItsContext(t *testing.T) {
	t.Parallel()
	cause := errors.New("canceled")
	f := newFake(t, `echo begun > "$here/bell"; exec sleep 600`)
	begun := newBell(t, f.dir+"/bell")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		begun.await()
		cancel(cause)
	}()
	code, err := f.client().Exec(ctx, "vm", []string{"true"}, ExecStreams{})
	if code != -1 || KindOf(err) != KindInterrupted || !errors.Is(err, cause) {
		t.Errorf("got %d, %v", code, err)
	}
	f = newFake(t, "exit 0")
	if code, err := f.client().Exec(ctx, "vm", []string{"true"}, ExecStreams{}); code != -1 || !errors.Is(err, cause) || f.calls() != nil {
		t.Errorf("after the end: got %d, %v, calls %q", code, err, f.calls())
	}
}

// goneReader is a reader of the job log that is gone.
type goneReader struct{}

func (goneReader) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestExecEndsWhenNobodyReadsItsOutput(t *testing.T) {
	f := newFake(t, "while echo y; do :; done; exit 7")
	code, err := f.client().Exec(t.Context(), "vm", []string{"true"}, ExecStreams{Stdout: goneReader{}})
	if code == 0 && err == nil {
		t.Error("a command whose output was lost counts as a success")
	}
}

// slowReader takes longer for its first piece than a child's pipes may stay open after its end.
type slowReader struct {
	bytes.Buffer
	begun bool
}

func (s *slowReader) Write(p []byte) (int, error) {
	if !s.begun {
		s.begun = true
		time.Sleep(killDelay + time.Second)
	}
	return s.Buffer.Write(p)
}

func TestExecWaitsForASlowReader(t *testing.T) {
	t.Parallel()
	f := newFake(t, "i=0; while [ $i -lt 9000 ]; do echo $i; i=$((i+1)); done; exit 3") // fits into a pipe
	var out slowReader
	code, err := f.client().Exec(t.Context(), "vm", []string{"true"}, ExecStreams{Stdout: &out})
	if code != 3 || err != nil || !bytes.HasSuffix(out.Bytes(), []byte("\n8999\n")) {
		t.Errorf("got %d, %v, %d bytes", code, err, out.Len())
	}
}

// TestExecEndsThoughItsOutputIsHeld has a tart that leaves something behind when it is killed.
func TestExecEndsThoughItsOutputIsHeld(t *testing.T) {
	t.Parallel()
	f := newFake(t, `sleep 600 & echo $! > "$here/bell"; wait`)
	begun := newBell(t, f.dir+"/bell")
	ctx, cancel := context.WithCancel(t.Context())
	var left int
	go func() {
		left, _ = strconv.Atoi(begun.await())
		cancel()
	}()
	code, err := f.client().Exec(ctx, "vm", []string{"true"}, ExecStreams{})
	if code != -1 || KindOf(err) != KindInterrupted {
		t.Errorf("got %d, %v", code, err)
	}
	if err := syscall.Kill(left, syscall.SIGKILL); err != nil {
		t.Errorf("what is left behind: %v", err)
	}
}
