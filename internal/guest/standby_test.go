package guest

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// runIn runs a script and returns what it printed.
func runIn(t *testing.T, s *SSH, script string) (status Status, out string) {
	t.Helper()
	var b bytes.Buffer
	status, err := s.RunScript(t.Context(), "/bin/sh", strings.NewReader(script), int64(len(script)), &b, &b)
	if err != nil {
		t.Errorf("%q: %v", script, err)
	}
	return status, b.String()
}

func TestStandBy(t *testing.T) {
	t.Parallel()
	c, files := realServer(t)
	c.StandBy()
	c.StandBy()
	file := c.standby.file
	if status, out := runIn(t, c, "echo out; cat; exit 7"); status.Code != 7 || out != "out\n" {
		t.Errorf("got %+v, %q", status, out)
	}
	if used := files(); len(used) != 1 || used[0] != file {
		t.Errorf("commands with %q, want one with %q", used, file)
	}
	over(t, file)
	// The next one is without.
	if status, out := runIn(t, c, "echo again"); status.Code != 0 || out != "again\n" || len(files()) != 2 {
		t.Errorf("got %+v, %q, commands with %q", status, out, files())
	}
}

// TestSessionOfAnEndedScript is still there when the next script comes, on a server that has room for one only.
func TestSessionOfAnEndedScript(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(_ string, s *session) { s.exit(3) }, nil)
	c := s.connect()
	s.noRoom.Store(2)
	status, err := c.RunScript(t.Context(), "/bin/sh", strings.NewReader(""), 0, nil, nil)
	if err != nil || status.Code != 3 {
		t.Errorf("got %+v, %v", status, err)
	}
	s.noRoom.Store(1)
	if _, err := c.Exec(t.Context(), "true", Streams{}); err == nil {
		t.Error("other commands wait, too: nobody could end a script at once")
	}
}

// TestStandByThatDies has something in the guest end the shell that waits: the script knows nothing of it.
func TestStandByThatDies(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGALRM} {
		c, files, begun := watchedServer(t)
		c.StandBy()
		b := c.standby
		if err := syscall.Kill(-<-begun, signal); err != nil {
			t.Fatal(err)
		}
		<-b.begun
		<-b.x.ended
		if status, out := runIn(t, c, "echo once; exit 5"); status.Code != 5 || out != "once\n" {
			t.Errorf("%s: got %+v, %q", signal, status, out)
		}
		for _, file := range files() {
			over(t, file)
		}
	}
}

// TestStandByRunsNoScriptTwice has scripts that end the shell that waited for them.
func TestStandByRunsNoScriptTwice(t *testing.T) {
	t.Parallel()
	for signal, code := range map[string]int{"KILL": 137, "TERM": 143} {
		c, _ := realServer(t)
		c.StandBy()
		marker := filepath.Join(t.TempDir(), "ran")
		status, out := runIn(t, c, "echo x >> "+marker+"; echo once; kill -"+signal+" $PPID $$")
		if ran, _ := os.ReadFile(marker); status.Code != code || out != "once\n" || string(ran) != "x\n" {
			t.Errorf("%s: got %+v, %q, ran %q", signal, status, out, ran)
		}
	}
}

func TestStandByIsEndedWithItsScript(t *testing.T) {
	t.Parallel()
	c, files := realServer(t)
	c.StandBy()
	cause := errors.New("canceled")
	ctx, cancel := context.WithCancelCause(t.Context())
	out := &waiting{came: make(chan struct{})}
	script := "sleep 600 > /dev/null 2>&1 & echo begun; wait"
	go func() {
		<-out.came
		cancel(cause)
	}()
	if status, err := c.RunScript(ctx, "/bin/sh", strings.NewReader(script), int64(len(script)), out, out); !errors.Is(err, ErrEnded) || !errors.Is(err, cause) {
		t.Errorf("got %+v, %v", status, err)
	}
	for _, file := range files() {
		over(t, file)
	}
	if status, out := runIn(t, c, "echo next"); status.Code != 0 || out != "next\n" {
		t.Errorf("got %+v, %q", status, out)
	}
}
