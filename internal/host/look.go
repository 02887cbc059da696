package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"gitlab-runner-tart-driver/internal/history"
	"gitlab-runner-tart-driver/internal/proc"
)

// ErrNoState means that there is no state directory, since no job has run with it.
var ErrNoState = errors.New("there is no state directory")

// Look opens a state directory that is there, and changes nothing about it.
func Look(dir string) (*State, error) {
	if !filepath.IsAbs(dir) {
		return nil, fmt.Errorf("%w: %q is not an absolute path", ErrStateDir, dir)
	}
	s := &State{dir: filepath.Clean(dir)}
	s.id = stateID(s.dir)
	switch _, err := os.ReadDir(s.vmsDir()); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w %s", ErrNoState, s.dir)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrStateDir, err)
	}
	st, err := os.Stat(s.dir)
	if err == nil {
		err = ownedByUs(s.dir, st)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStateDir, err)
	}
	return s, nil
}

// History is what stays of jobs that are over.
func (s *State) History() history.Store { return history.At(s.dir) }

// archive hands what is worth keeping of a record's directory to the history, and notes the end of the VM.
func (s *State) archive(r Record, dir string) {
	event := history.Event{
		Time: time.Now(), Kind: history.VMRemoved, JobID: r.JobID, Project: r.Project, VM: r.VM, Image: r.Image, PID: os.Getpid(),
		LastWords: history.LastLine(filepath.Join(dir, filepath.Base(s.KeeperLog(r.VM)))),
	}
	if self, err := proc.Of(os.Getpid()); err == nil {
		event.Start = self.Start
	}
	s.History().Keep(r.VM, dir)
	s.History().Note(event)
}

// SlotUse is a slot that is taken.
type SlotUse struct {
	// Index counts from 0.
	Index int
	Holder
}

// Slots tells which slots are taken, whatever number of them the host may have.
func (s *State) Slots() []SlotUse {
	files, err := os.ReadDir(s.slotsDir())
	if err != nil {
		return nil
	}
	var taken []SlotUse
	for _, f := range files {
		i, err := strconv.Atoi(f.Name())
		if err != nil {
			continue
		}
		if lockHeld(s.slotPath(i)) {
			taken = append(taken, SlotUse{Index: i, Holder: readHolder(s.slotPath(i))})
		}
	}
	return taken
}

// Ticket is a job's place in the line for a slot.
type Ticket struct {
	// Since is when it got in line, and PID the prepare that waits.
	Since time.Time
	PID   int
	// Slots is how many slots it lets be in use.
	Slots int
}

// Queue is the line for a slot, the next first.
func (s *State) Queue() []Ticket {
	files, err := os.ReadDir(s.queueDir()) // sorted by time
	if err != nil {
		return nil
	}
	var line []Ticket
	for _, f := range files {
		parts := strings.Split(f.Name(), "-")
		if len(parts) != 3 || !lockHeld(filepath.Join(s.queueDir(), f.Name())) {
			continue
		}
		at, err1 := strconv.ParseInt(parts[0], 10, 64)
		pid, err2 := strconv.Atoi(parts[1])
		slots, err3 := strconv.Atoi(parts[2])
		if errors.Join(err1, err2, err3) == nil {
			line = append(line, Ticket{Since: time.Unix(0, at), PID: pid, Slots: slots})
		}
	}
	return line
}
