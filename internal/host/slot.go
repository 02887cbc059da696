package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"gitlab-runner-tart-driver/internal/crash"
)

// Holder says who has a slot. It is advice for people; the lock alone decides.
type Holder struct {
	VM      string    `json:"vm"`
	JobID   string    `json:"job_id"`
	Project string    `json:"project,omitempty"`
	Since   time.Time `json:"since"`
	// HeldUntil is until when the VM may be kept although its job is over; it goes earlier if a job needs the slot.
	HeldUntil time.Time `json:"held_until,omitzero"`
}

// Slot is one of the host's places for a running VM, taken.
type Slot struct {
	// Index counts from 0.
	Index int
	lock  *Lock
}

// File is the locked descriptor, for the VM's keeper and its `tart run`.
func (s *Slot) File() *os.File { return s.lock.File() }

// Release gives up this process's hold on the slot.
func (s *Slot) Release() { s.lock.Release() }

// AdoptSlot takes over a slot whose locked descriptor this process inherited.
func AdoptSlot(index int, lock *os.File) *Slot { return &Slot{Index: index, lock: inheritedLock(lock)} }

// Waiting describes a wait for a slot.
type Waiting struct {
	// Position is 1 for the next in line.
	Position int
	// Holders are those who have the slots.
	Holders []Holder
}

// turnTaking is how long jobs that come in one moment may take to get their slots one after the other. That is no wait worth a word, nor a look at who has
// the slots.
const turnTaking = 100 * time.Millisecond

// tellAgain is how often at most somebody is told how a wait goes on.
const tellAgain = 10 * time.Second

// TakeSlot waits in line until one of the first n slots is free, and takes it. Jobs are served in the order in which they came: a job leaves a slot to
// each of those in front that wants one of these, and need not wait until they have come to it. waiting is called when it turns out that it takes
// longer, and now and then when the position or the holders have changed.
func (s *State) TakeSlot(ctx context.Context, n int, who Holder, waiting func(Waiting)) (*Slot, error) {
	ticket, name, err := s.drawTicket(n)
	if err != nil {
		return nil, fmt.Errorf("queue for a slot: %w", err)
	}
	crash.Point("slot: ticket drawn")
	defer func() {
		crash.Point("slot: ticket not yet given back")
		os.Remove(filepath.Join(s.queueDir(), name))
		ticket.Release()
	}()
	var slot *Slot
	var told string
	next := time.Now().Add(turnTaking)
	err = poll(ctx, func() (bool, error) {
		front, position, err := s.front(name)
		if err != nil {
			return false, err
		}
		markWaiting(ticket, false)
		slot, err = s.tryTake(front, n, who)
		if slot != nil || err != nil {
			return slot != nil, err
		}
		markWaiting(ticket, true)
		if time.Now().Before(next) {
			return false, nil
		}
		w := Waiting{Position: position, Holders: s.Holders(n)}
		if now := fmt.Sprint(w); now != told {
			told, next = now, time.Now().Add(tellAgain)
			waiting(w)
		}
		return false, nil
	})
	return slot, err
}

// drawTicket queues up for the first n slots. Tickets sort by time of arrival, and are locked as long as the one who waits lives.
func (s *State) drawTicket(n int) (*Lock, string, error) {
	var err error
	for range 5 {
		name := fmt.Sprintf("%020d-%d-%d", time.Now().UnixNano(), os.Getpid(), n)
		var lock *Lock
		if lock, err = tryLock(filepath.Join(s.queueDir(), name), true); err == nil {
			return lock, name, nil
		}
		if !errors.Is(err, errBusy) && !errors.Is(err, fs.ErrNotExist) {
			break
		}
		// Somebody took the ticket for a dead one's in the instant before it was locked.
	}
	return nil, "", err
}

// markWaiting notes on a ticket whether there was no slot for it. During a try it is not noted: who gets a slot keeps the ticket for a moment, which must not
// look like a wait for another slot.
func markWaiting(ticket *Lock, waits bool) {
	size := int64(0)
	if waits {
		size = 1
	}
	_ = ticket.f.Truncate(size) // takes no room on a disk; where it fails, a held VM gives way to nobody until its time is over
}

// waits tells whether somebody has a ticket, and there was no slot for it.
func (s *State) waits(ticket string) bool {
	path := filepath.Join(s.queueDir(), ticket)
	st, err := os.Stat(path)
	return err == nil && st.Size() > 0 && lockHeld(path)
}

// front says how many slots each of those in front of a ticket queues up for, and the ticket's place, 1 for the next in line. Tickets of the dead in front of
// it are removed.
func (s *State) front(mine string) (slots []int, position int, err error) {
	tickets, err := os.ReadDir(s.queueDir()) // sorted
	if err != nil {
		return nil, 0, err
	}
	position = 1
	for _, t := range tickets {
		if t.Name() >= mine {
			break
		}
		if len(slots) >= slotsOf(mine) { // no slot is left for us; the rest is counted, not probed
			position++
			continue
		}
		path := filepath.Join(s.queueDir(), t.Name())
		switch lock, err := tryLock(path, false); {
		case err == nil:
			os.Remove(path)
			lock.Release()
		case errors.Is(err, errBusy):
			position++
			slots = append(slots, slotsOf(t.Name()))
		}
	}
	return slots, position, nil
}

// slotsOf is how many slots a ticket is for; all of them where that can't be told.
func slotsOf(ticket string) int {
	n, err := strconv.Atoi(ticket[strings.LastIndex(ticket, "-")+1:])
	if err != nil || strings.Count(ticket, "-") != 2 {
		return math.MaxInt
	}
	return n
}

// tryTake takes one of the first n slots that is free and that nobody in front gets, or none.
func (s *State) tryTake(front []int, n int, who Holder) (*Slot, error) {
	for i := range n {
		lock, err := tryLock(s.slotPath(i), true)
		if errors.Is(err, errBusy) || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("take slot %d: %w", i, err)
		}
		if first := slices.IndexFunc(front, func(slots int) bool { return i < slots }); first >= 0 {
			front = slices.Delete(front, first, first+1)
			lock.Release()
			continue
		}
		if err := writeHolder(lock.f, who); err != nil {
			lock.Release()
			return nil, fmt.Errorf("take slot %d: %w", i, err)
		}
		crash.Point("slot: taken")
		return &Slot{Index: i, lock: lock}, nil
	}
	return nil, nil
}

// Holders tells who has the taken ones of n slots.
func (s *State) Holders(n int) []Holder {
	var holders []Holder
	for i := range n {
		if lockHeld(s.slotPath(i)) {
			holders = append(holders, readHolder(s.slotPath(i)))
		}
	}
	return holders
}

// writeHolder says in a lock's file who has the lock: in place, not by a new file, for the lock is on this one.
func writeHolder(f *os.File, h Holder) error {
	raw, err := json.Marshal(h)
	if err == nil {
		_, err = f.WriteAt(append(raw, '\n'), 0)
	}
	if err == nil {
		err = f.Truncate(int64(len(raw)) + 1)
	}
	return err
}

func readHolder(path string) Holder {
	var h Holder
	if raw, err := os.ReadFile(path); err == nil {
		_ = json.Unmarshal(raw, &h) // half-written just now, or damaged: the holder stays nameless
	}
	return h
}

func (s *State) slotPath(i int) string { return filepath.Join(s.slotsDir(), strconv.Itoa(i)) }

// Describe names the holder for a person.
func (h Holder) Describe() string {
	if h.JobID == "" {
		return "a job that is just starting or ending"
	}
	r := Record{JobID: h.JobID, Project: h.Project}
	if !h.HeldUntil.IsZero() {
		return r.Describe() + ", which is over and whose VM is held"
	}
	return r.Describe()
}
