//go:build linux

package tartsim_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gitlab-runner-tart-driver/internal/tartsim/simconf"
	"gitlab-runner-tart-driver/internal/tartsim/tarthome"
)

func TestInterruptedAndKilledCalls(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.plain(nil)
	b.sim("fault", "set", simconf.SlowClone, "--after", "1h")
	clone := b.command(filepath.Join(binDir, "tart"), "clone", "base", "vm")
	clone.SysProcAttr.Pdeathsig = 0
	var stderr lockedBuffer
	clone.Stderr = &stderr
	if err := clone.Start(); err != nil {
		t.Fatal(err)
	}
	b.until("the clone is under way", func() error {
		entries, err := os.ReadDir(filepath.Join(b.home, "tmp"))
		if err == nil && len(entries) == 0 {
			err = errors.New("nothing in tmp")
		}
		return err
	})
	_ = clone.Process.Signal(syscall.SIGINT)
	err := clone.Wait()
	if clone.ProcessState.ExitCode() != 1 || stderr.String() != "Error: CancellationError()\n" {
		t.Errorf("interrupted: %v, stderr %q", err, stderr.String())
	}
	if entries, err := os.ReadDir(filepath.Join(b.home, "tmp")); err != nil || len(entries) > 0 {
		t.Errorf("left in tmp: %v, %v", entries, err)
	}

	killed := b.command(filepath.Join(binDir, "tart"), "clone", "base", "vm")
	killed.SysProcAttr.Pdeathsig = 0
	if err := killed.Start(); err != nil {
		t.Fatal(err)
	}
	var calls []simconf.Call
	last := func() simconf.Call { return calls[len(calls)-1] }
	b.until("the call is on record", func() error {
		calls = nil
		if err := json.Unmarshal([]byte(b.sim("calls", "--json")), &calls); err != nil {
			return err
		}
		if last().PID != killed.Process.Pid {
			return errors.New("not yet")
		}
		return nil
	})
	_ = killed.Process.Signal(syscall.SIGTERM)
	_ = killed.Wait()
	if status, ok := killed.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGTERM {
		t.Errorf("SIGTERM: %v", killed.ProcessState)
	}
	if call := last(); call.Exit != nil || call.Env["TART_HOME"] != b.home || strings.Join(call.Argv, " ") != "tart clone base vm" {
		t.Errorf("record of the killed call: %+v", call)
	}
}

func TestLocks(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.plain(nil)
	home := &tarthome.Home{Dir: b.home}
	b.must("clone", "base", "vm")

	// `run` waits for the host-wide lock without a word.
	global, err := home.Global()
	if err != nil {
		t.Fatal(err)
	}
	r := b.start("vm")
	select {
	case <-r.ended:
		t.Fatalf("ended: %q", r.stderr)
	case <-time.After(200 * time.Millisecond):
	}
	if pid, err := home.VM("vm").RunPID(); err != nil || pid != 0 {
		t.Errorf("running before it has the host-wide lock: %d, %v", pid, err)
	}
	// SIGINT is lost this early.
	if err := r.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	global.Close()
	r.record()
	if pid, err := home.VM("vm").RunPID(); err != nil || pid != r.cmd.Process.Pid {
		t.Errorf("holder of the lock: %d, %v; want %d", pid, err, r.cmd.Process.Pid)
	}

	// One pull per registry host.
	host := home.OCI().HostDir("registry.test")
	if err := os.MkdirAll(host, 0o755); err != nil {
		t.Fatal(err)
	}
	lock, err := tarthome.OpenFileLock(host)
	if err != nil {
		t.Fatal(err)
	}
	if err := lock.Lock(); err != nil {
		t.Fatal(err)
	}
	pull := b.command(filepath.Join(binDir, "tart"), "pull", "registry.test/macos/base:latest")
	pull.SysProcAttr.Pdeathsig = 0
	var stdout lockedBuffer
	pull.Stdout = &stdout
	if err := pull.Start(); err != nil {
		t.Fatal(err)
	}
	b.until("the pull waits", func() error {
		if !strings.HasSuffix(stdout.String(), "waiting for lock...\n") {
			return errors.New(stdout.String())
		}
		return nil
	})
	lock.Close()
	if err := pull.Wait(); err != nil || !strings.Contains(stdout.String(), "pulling NVRAM...") {
		t.Errorf("pull: %v, %q", err, stdout.String())
	}
}
