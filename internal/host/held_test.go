package host

import (
	"context"
	"strings"
	"testing"
	"time"
)

// taken takes a slot for a job.
func taken(t *testing.T, s *State, n int, job string) *Slot {
	t.Helper()
	slot, err := s.TakeSlot(t.Context(), n, Holder{JobID: job}, func(Waiting) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(slot.Release)
	return slot
}

func TestSlotWanted(t *testing.T) {
	s := open(t)
	for i, job := range []string{"10", "11", "12"} {
		if slot := taken(t, s, 3, job); slot.Index != i {
			t.Fatalf("slot %d, want %d", slot.Index, i)
		}
	}
	wanted := func() (all string) {
		for i := range 3 {
			if s.SlotWanted(i) {
				all += string(rune('0' + i))
			}
		}
		return all
	}
	if got := wanted(); got != "" {
		t.Errorf("nobody waits, and yet slots are wanted: %q", got)
	}
	// Slots 0 and 2 are those of held VMs, of which that in 2 goes first; 1 is a running job's.
	now := time.Now()
	for slot, until := range map[int]time.Time{0: now.Add(2 * time.Hour), 2: now.Add(time.Hour)} {
		if err := s.MarkHeld(slot, []string{"10", "11", "12"}[slot], until); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.MarkHeld(0, "11", now); err == nil {
		t.Error("another job's slot can be marked")
	}
	wait := func(n int) (leave func()) {
		ctx, cancel := context.WithCancel(t.Context())
		waits, left := make(chan Waiting, 8), make(chan struct{})
		go func() {
			defer close(left)
			if slot, err := s.TakeSlot(ctx, n, Holder{JobID: "99"}, func(w Waiting) { waits <- w }); err == nil {
				slot.Release()
			}
		}()
		if w := <-waits; !strings.Contains(w.Holders[0].Describe(), "whose VM is held") {
			t.Errorf("the waiting job is told that %s runs", w.Holders[0].Describe())
		}
		return func() { cancel(); <-left }
	}
	// Each question is put as the keeper of a held VM does, and by that of the running job in slot 1 never.
	// A job that waits tries every now and then, and does not count as waiting meanwhile: the question is repeated until all of them count.
	asked := func(want string) string {
		for deadline := time.Now().Add(time.Minute); ; {
			got := strings.ReplaceAll(wanted(), "1", "")
			if len(got) >= len(want) || time.Now().After(deadline) {
				return got
			}
		}
	}
	leave1 := wait(3)
	if got := asked("2"); got != "2" {
		t.Errorf("one job waits; wanted are %q, not the one that goes first", got)
	}
	leave2 := wait(3)
	if got := asked("02"); got != "02" {
		t.Errorf("two jobs wait; wanted are %q", got)
	}
	leave1()
	leave2()
	leave := wait(1)
	if got := asked("0"); got != "0" {
		t.Errorf("a job waits that lets only one slot be in use; wanted are %q", got)
	}
	leave()
	if got := asked(""); got != "" {
		t.Errorf("nobody waits any more; wanted are %q", got)
	}
}

// TestFreeSlotIsTakenFirst lets a held VM be where another slot is free.
func TestFreeSlotIsTakenFirst(t *testing.T) {
	s := open(t)
	slot := taken(t, s, 2, "10")
	ticket, _, err := s.drawTicket(2)
	if err != nil {
		t.Fatal(err)
	}
	defer ticket.Release()
	markWaiting(ticket, true)
	if s.SlotWanted(slot.Index) {
		t.Error("wanted, although slot 1 is free")
	}
	other, err := s.tryTake(nil, 2, Holder{JobID: "11"}) // past the line
	if err != nil || other == nil {
		t.Fatal(other, err)
	}
	defer other.Release()
	markWaiting(ticket, false)
	if s.SlotWanted(slot.Index) {
		t.Error("wanted by a job that may have got a slot")
	}
	markWaiting(ticket, true)
	if !s.SlotWanted(slot.Index) {
		t.Errorf("not wanted, although slots %d and %d are taken and a job waits", slot.Index, other.Index)
	}
}
