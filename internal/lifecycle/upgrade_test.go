package lifecycle

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"gitlab-runner-tart-driver/internal/host"
	"gitlab-runner-tart-driver/internal/proc"
	"gitlab-runner-tart-driver/internal/proc/proctest"
	"gitlab-runner-tart-driver/internal/tart"
)

// TestKeeperOfAnotherVersion was started by a binary whose protocol this one does not speak: its VM is destroyed all the same.
func TestKeeperOfAnotherVersion(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "upgrade-") // t.TempDir is too long for a Unix socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	state, err := host.Open(filepath.Join(dir, "state"))
	if err != nil {
		t.Fatal(err)
	}
	entry, err := state.Create(host.Record{VM: state.NewName("1"), JobKey: "key", JobID: "1", Created: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	vm := entry.Record.VM
	listener, err := state.Listen(vm)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = bufio.NewReader(conn).ReadString('\n')
			fmt.Fprintln(conn, `{"version":99,"outcome":{"what":"no idea"}}`)
			conn.Close()
		}
	}()
	old := exec.Command("sleep", "600")
	old.ExtraFiles = []*os.File{entry.LockFile()} // and with it the record
	if err := old.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = old.Wait(); close(ended) }()
	id, err := proc.Of(old.Process.Pid)
	if err == nil {
		err = entry.Update(func(r *host.Record) { r.Keeper = id })
	}
	if err != nil {
		t.Fatal(err)
	}
	rec := entry.Record
	entry.Release()

	fake := filepath.Join(dir, "tart")
	if err := proctest.WriteProgram(fake, []byte("#!/bin/sh\necho \"$*\" >> '"+dir+"/calls'\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	client := func() (*tart.Client, error) { return tart.New(fake, []string{"HOME=" + dir, "PATH=/usr/bin:/bin"}) }
	if err := destroyJob(t.Context(), state, client, rec, false); err != nil {
		t.Error(err)
	}
	<-ended
	if state.HasRecord(vm) {
		t.Error("the record is left")
	}
	if calls, _ := os.ReadFile(filepath.Join(dir, "calls")); string(calls) != "delete "+vm+"\n" {
		t.Errorf("tart was called: %q", calls)
	}
}
