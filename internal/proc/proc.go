// Package proc names processes so that the name stays true: a process is a pid together with its start time and the boot it
// belongs to, because pids are reused within hours on a busy Mac and start over after a reboot.
//
// It only looks and signals; it starts nothing.
package proc

import (
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"
)

// ID identifies one process for ever. The zero ID is no process.
type ID struct {
	PID int `json:"pid"`
	// Start is the start time in the kernel's own unit (clock ticks since boot on Linux, microseconds since 1970 on macOS);
	// only good for comparing.
	Start int64 `json:"start"`
	// Boot is the kernel's name for the current boot.
	Boot string `json:"boot"`
}

// ErrGone means that no such process exists (any more).
var ErrGone = errors.New("no such process")

// info is what the platform tells of a process.
type info struct {
	ppid   int
	start  int64
	zombie bool
}

// Of returns the ID of a living process. A zombie is not living.
func Of(pid int) (ID, error) {
	in, err := lookup(pid)
	if err != nil {
		return ID{}, fmt.Errorf("look up process %d: %w", pid, err)
	}
	if in.zombie {
		return ID{}, fmt.Errorf("look up process %d: %w", pid, ErrGone)
	}
	return ID{PID: pid, Start: in.start, Boot: boot()}, nil
}

// Alive tells whether exactly this process still runs.
func (id ID) Alive() bool {
	if id.PID <= 0 {
		return false
	}
	now, err := Of(id.PID)
	if err != nil {
		return !errors.Is(err, ErrGone) // that it can't be looked up for a moment is no sign of its end
	}
	return now == id
}

// SignalGroup sends sig to the process group that id leads, and does nothing when id is gone.
func (id ID) SignalGroup(sig syscall.Signal) {
	if id.PID > 1 && id.Alive() {
		_ = syscall.Kill(-id.PID, sig)
	}
}

// Signal sends sig to the process alone, and does nothing when it is gone.
func (id ID) Signal(sig syscall.Signal) {
	if id.PID > 1 && id.Alive() {
		_ = syscall.Kill(id.PID, sig)
	}
}

// boot is bootID, which can't change while this process lives.
var boot = sync.OnceValue(bootID)

// WaitGone polls until id has ended or within has passed, and tells whether it has ended. It is for processes that are not our
// children; a child is waited for with exec.Cmd.
func (id ID) WaitGone(within time.Duration) bool {
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if !id.Alive() {
			return true
		}
		select {
		case <-deadline.C:
			return !id.Alive()
		case <-tick.C:
		}
	}
}

// Ancestors returns the chain of living parents of pid, nearest first, without pid itself and without init (pid 1).
func Ancestors(pid int) []ID {
	var chain []ID
	in, err := lookup(pid)
	for err == nil && in.ppid > 1 && len(chain) < 64 { // a bound against a chain that changes under our feet
		pid = in.ppid
		if in, err = lookup(pid); err != nil || in.zombie {
			break
		}
		chain = append(chain, ID{PID: pid, Start: in.start, Boot: boot()})
	}
	return chain
}

// Descendants returns the living processes that pid has started, and those that they have in their turn. One whose parent has ended is not found.
func Descendants(pid int) []ID {
	processes := all()
	found := map[int]bool{pid: true}
	var family []ID
	for grown := true; grown; {
		grown = false
		for child, in := range processes {
			if !in.zombie && found[in.ppid] && !found[child] {
				found[child], grown = true, true
				family = append(family, ID{PID: child, Start: in.start, Boot: boot()})
			}
		}
	}
	return family
}

// Common returns the nearest process that is in both chains. Two stages of one job have their GitLab Runner process (or `try`)
// in common, whatever sudo or wrapper script stands between; what stands between ends with its stage.
func Common(a, b []ID) (ID, bool) {
	for _, id := range a {
		for _, other := range b {
			if id == other {
				return id, true
			}
		}
	}
	return ID{}, false
}
