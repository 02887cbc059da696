package proc

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// lookup reads /proc/PID/stat, see proc_pid_stat(5). The command name in parentheses may hold anything, so fields are counted
// from the last parenthesis.
func lookup(pid int) (info, error) {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if errors.Is(err, fs.ErrNotExist) {
		return info{}, ErrGone
	}
	if err != nil {
		if errors.Is(err, syscall.ESRCH) { // it ended between open and read
			return info{}, ErrGone
		}
		return info{}, err
	}
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	const state, ppid, start = 0, 1, 19 // fields 3, 4 and 22 of the manual page
	if len(fields) <= start {
		return info{}, fmt.Errorf("short /proc/%d/stat", pid)
	}
	parent, err := strconv.Atoi(fields[ppid])
	if err != nil {
		return info{}, fmt.Errorf("parent in /proc/%d/stat: %w", pid, err)
	}
	began, err := strconv.ParseInt(fields[start], 10, 64)
	if err != nil {
		return info{}, fmt.Errorf("start time in /proc/%d/stat: %w", pid, err)
	}
	return info{ppid: parent, start: began, zombie: fields[state] == "Z" || fields[state] == "X"}, nil
}

// all are the processes that can be looked up, by pid.
func all() map[int]info {
	processes := map[int]info{}
	dirs, _ := os.ReadDir("/proc")
	for _, d := range dirs {
		if pid, err := strconv.Atoi(d.Name()); err == nil {
			if in, err := lookup(pid); err == nil {
				processes[pid] = in
			}
		}
	}
	return processes
}

func bootID() string {
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(raw))
}
