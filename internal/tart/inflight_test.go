package tart

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestSettle waits for a call that takes its time to end.
func TestSettle(t *testing.T) {
	t.Parallel()
	f := newFake(t, `trap 'read -r go < "$here/go"; exit 1' TERM; echo > "$here/runs"; while :; do sleep 0.01; done`)
	for _, pipe := range []string{"runs", "go"} {
		if err := unix.Mkfifo(filepath.Join(f.dir, pipe), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := f.client()
	if !c.Settle(0) {
		t.Error("waits for no call")
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = c.Inheriting().IP(ctx, "vm", 0, "")
	}()
	if _, err := os.ReadFile(filepath.Join(f.dir, "runs")); err != nil {
		t.Fatal(err)
	}
	cancel()
	if c.Settle(10 * time.Millisecond) {
		t.Error("a call that goes on counts as ended")
	}
	settled := make(chan bool)
	go func() { settled <- c.Settle(time.Minute) }()
	if err := os.WriteFile(filepath.Join(f.dir, "go"), []byte("\n"), 0); err != nil {
		t.Fatal(err)
	}
	if !<-settled {
		t.Error("a call that has ended counts as going on")
	}
	<-ended
	if !c.Settle(0) {
		t.Error("still waits for a call that has ended")
	}
}
