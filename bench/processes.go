package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// eachProcess calls f for every process but this one.
func eachProcess(f func(pid int, dir string)) {
	dirs, _ := filepath.Glob("/proc/[0-9]*") // the pattern is well-formed
	for _, d := range dirs {
		if pid, err := strconv.Atoi(filepath.Base(d)); err == nil && pid != os.Getpid() {
			f(pid, d)
		}
	}
}

// processes are those that belong to this host: its directory is in their arguments or environment.
func (h *host) processes() map[int]string {
	found := map[int]string{}
	eachProcess(func(pid int, dir string) {
		cmdline, _ := os.ReadFile(filepath.Join(dir, "cmdline")) // the process may be gone
		environ, _ := os.ReadFile(filepath.Join(dir, "environ"))
		if bytes.Contains(cmdline, []byte(h.dir+"/")) || bytes.Contains(environ, []byte(h.dir+"/")) {
			found[pid] = string(bytes.TrimSpace(bytes.ReplaceAll(cmdline, []byte{0}, []byte{' '})))
		}
	})
	return found
}

// endAll kills what is left of this host, and waits until it is gone.
func (h *host) endAll(within time.Duration) error {
	limit := time.NewTimer(within)
	defer limit.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		left := h.processes()
		if len(left) == 0 {
			return nil
		}
		for pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended meanwhile
		}
		select {
		case <-tick.C:
		case <-limit.C:
			return fmt.Errorf("processes are left: %v", left)
		}
	}
}

// residents are the processes of a driver that run now.
func (d *driver) residents() []int {
	var pids []int
	eachProcess(func(pid int, dir string) {
		if exe, err := os.Readlink(filepath.Join(dir, "exe")); err == nil && exe == d.path {
			pids = append(pids, pid)
		}
	})
	return pids
}

// residentMemory is the sum of the processes' resident memory, in bytes.
func residentMemory(pids []int) (sum int64, err error) {
	for _, pid := range pids {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
		if err != nil {
			return 0, err
		}
		fields := bytes.Fields(raw)
		if len(fields) < 2 {
			return 0, fmt.Errorf("/proc/%d/statm: %q", pid, raw)
		}
		pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/%d/statm: %w", pid, err)
		}
		sum += pages * int64(os.Getpagesize())
	}
	return sum, nil
}

// cpuTime is the processor time that the processes have taken so far.
func cpuTime(pids []int) (sum time.Duration, err error) {
	for _, pid := range pids {
		t, err := cpuClock(pid)
		if err != nil {
			return 0, fmt.Errorf("processor time of process %d: %w", pid, err)
		}
		sum += t
	}
	return sum, nil
}
