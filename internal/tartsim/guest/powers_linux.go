//go:build linux

package guest

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// guestPowers are the capabilities that root has in a guest. What is missing would let it change the host: mounts, devices, the
// network's configuration, the clock, kernel modules.
var guestPowers = []uintptr{
	unix.CAP_AUDIT_WRITE, unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_KILL,
	unix.CAP_NET_BIND_SERVICE, unix.CAP_NET_RAW, unix.CAP_SETFCAP, unix.CAP_SETGID, unix.CAP_SETPCAP, unix.CAP_SETUID, unix.CAP_SYS_CHROOT,
}

// dropPowers limits what processes started by the calling thread can ever have. The others keep their powers: shares are mounted later.
func dropPowers(level Level) error {
	switch {
	case level == LevelUserNS:
		if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
			return fmt.Errorf("clear ambient capabilities: %w", err)
		}
	case os.Geteuid() == 0:
		for capability := uintptr(0); capability <= unix.CAP_LAST_CAP; capability++ {
			if keeps(capability) {
				continue
			}
			err := unix.Prctl(unix.PR_CAPBSET_DROP, capability, 0, 0, 0)
			if err != nil && !errors.Is(err, unix.EINVAL) { // EINVAL: a kernel without this capability
				return fmt.Errorf("drop capability %d: %w", capability, err)
			}
		}
	}
	return nil
}

func keeps(capability uintptr) bool {
	for _, kept := range guestPowers {
		if kept == capability {
			return true
		}
	}
	return false
}

// killRounds bounds the hunt for descendants: each round finds what the last one's victims had just started.
const killRounds = 200

// killDescendants ends everything below this process, orphans included: it has to be their reaper.
func killDescendants() {
	for range killRounds {
		children := descendants(os.Getpid())
		if len(children) == 0 {
			return
		}
		for _, pid := range children {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				continue
			}
		}
		timer := time.NewTimer(2 * time.Millisecond)
		<-timer.C
	}
}

// descendants lists the living processes below a process.
func descendants(root int) []int {
	parents := map[int]int{}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if parent, alive := parentOf(pid); alive {
			parents[pid] = parent
		}
	}
	var found []int
	for pid := range parents {
		for up := parents[pid]; up != 0; up = parents[up] {
			if up == root {
				found = append(found, pid)
				break
			}
		}
	}
	return found
}

// parentOf reads a process's parent; a zombie counts as dead.
func parentOf(pid int) (int, bool) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, false
	}
	text := string(data)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 2 || fields[0] == "Z" {
		return 0, false
	}
	parent, err := strconv.Atoi(fields[1])
	return parent, err == nil
}
