//go:build linux

package tartsim_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

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
	b.until("the clone is under way", func() error { // its directory is there earlier than what removes it
		if entries, err := os.ReadDir(filepath.Join(b.home, "tmp")); err != nil || len(entries) == 0 {
			return errors.Join(errors.New("nothing in tmp"), err)
		}
		lock, err := tarthome.OpenFileLock(b.home)
		if err != nil {
			return err
		}
		defer lock.Close()
		if free, err := lock.TryLock(); free || err != nil {
			return errors.Join(errors.New("it has no lock"), err)
		}
		return nil
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

// waitsForLock fails unless a process waits for somebody else's lock now.
func waitsForLock(t *testing.T, pid int) error {
	t.Helper()
	// https://man7.org/linux/man-pages/man5/proc_locks.5.html: 1: -> FLOCK ADVISORY WRITE 4711 08:01:123 0 EOF
	for line := range strings.Lines(readAll(t, "/proc/locks")) {
		if fields := strings.Fields(line); len(fields) > 5 && fields[1] == "->" && fields[5] == strconv.Itoa(pid) {
			return nil
		}
	}
	return fmt.Errorf("%d waits for no lock", pid)
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
	b.until("the run waits for the host-wide lock", func() error {
		select {
		case <-r.ended:
			t.Fatalf("ended: %q", r.stderr)
		default:
		}
		return waitsForLock(t, r.cmd.Process.Pid)
	})
	if pid, err := home.VM("vm").RunPID(); err != nil || pid != 0 {
		t.Errorf("running before it has the host-wide lock: %d, %v", pid, err)
	}
	// SIGINT is lost this early.
	if err := r.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	global.Close()
	r.record()
	if out := r.stdout.String(); out != "" {
		t.Errorf("after a SIGINT that it does not hear: %q", out)
	}
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
