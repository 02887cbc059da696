package host

import (
	"fmt"
	"math"
	"os"
	"time"
)

// MarkHeld notes on a job's slot that its VM is held: it gives way to a job that waits for a slot.
func (s *State) MarkHeld(index int, jobID string, until time.Time) error {
	path := s.slotPath(index)
	h := readHolder(path)
	if h.JobID != jobID {
		return fmt.Errorf("mark slot %d as held: job %q has it, and not %q", index, h.JobID, jobID)
	}
	h.HeldUntil = until
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err == nil {
		defer f.Close()
		err = writeHolder(f, h)
	}
	if err != nil {
		return fmt.Errorf("mark slot %d as held: %w", index, err)
	}
	return nil
}

// SlotWanted tells whether the held VM in a slot must go for the sake of a job that waits. Of several held VMs those that would go
// first give way, no more of them than jobs wait.
func (s *State) SlotWanted(index int) bool {
	tickets, err := os.ReadDir(s.queueDir()) // sorted; nearly always empty
	if err != nil {
		return false
	}
	given := map[int]bool{} // slots that an earlier ticket gets
	for _, t := range tickets {
		n := slotsOf(t.Name())
		if index >= n {
			continue // of no use to that job
		}
		if !s.waits(t.Name()) {
			continue // not any more, or not yet
		}
		slot := s.slotFor(min(n, index+maxSlots), index, given)
		if slot == index {
			return s.waits(t.Name()) // or it has got one that seemed to be taken by somebody else
		}
		given[slot] = true
	}
	return false
}

// maxSlots bounds the number of slots that are looked at beyond one's own, where a ticket does not tell how many there are.
const maxSlots = 64

// slotFor is the slot that a waiting job gets out of the first n: one that is free, or else that of the held VM which would go first, of which
// mine is one. It is -1 if mine is given away already.
func (s *State) slotFor(n, mine int, given map[int]bool) int {
	best, until := -1, time.Time{}
	for i := range n {
		if given[i] {
			continue
		}
		if !lockHeld(s.slotPath(i)) {
			return i
		}
		h := readHolder(s.slotPath(i))
		switch {
		case i == mine && h.HeldUntil.IsZero(): // about to be held: it would go last
			h.HeldUntil = time.Now().Add(math.MaxInt64)
		case i != mine && h.HeldUntil.Before(time.Now()):
			continue // it is a running job's, or a VM's that is going
		}
		if best < 0 || h.HeldUntil.Before(until) {
			best, until = i, h.HeldUntil
		}
	}
	return best
}
