package host

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestSlotsAreServedInOrder(t *testing.T) {
	s := open(t)
	first, err := s.TakeSlot(t.Context(), 1, Holder{JobID: "1", Project: "g/p"}, func(Waiting) { t.Error("waits for a free slot") })
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, id := range []string{"2", "3", "4"} {
		queued := make(chan struct{})
		var once sync.Once
		wg.Go(func() {
			slot, err := s.TakeSlot(t.Context(), 1, Holder{JobID: id}, func(w Waiting) {
				once.Do(func() {
					if len(w.Holders) != 1 || w.Holders[0].JobID != "1" {
						t.Errorf("job %s is told of holders %+v", id, w.Holders)
					}
					close(queued)
				})
			})
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			order = append(order, id)
			mu.Unlock()
			slot.Release()
		})
		<-queued
	}
	first.Release()
	wg.Wait()
	if got := strings.Join(order, " "); got != "2 3 4" {
		t.Errorf("served in the order %s", got)
	}
	assertEmpty(t, s.queueDir())
}

// TestJobsThatWantFewerSlots wait without keeping others from the slots that they would not take.
func TestJobsThatWantFewerSlots(t *testing.T) {
	s := open(t)
	first, err := s.TakeSlot(t.Context(), 2, Holder{JobID: "1"}, func(Waiting) { t.Error("waits for a free slot") })
	if err != nil || first.Index != 0 {
		t.Fatalf("slot %+v, %v", first, err)
	}
	queued, served := make(chan struct{}), make(chan *Slot)
	var once sync.Once
	go func() {
		slot, err := s.TakeSlot(t.Context(), 1, Holder{JobID: "2"}, func(Waiting) { once.Do(func() { close(queued) }) })
		if err != nil {
			t.Error(err)
		}
		served <- slot
	}()
	<-queued
	second, err := s.TakeSlot(t.Context(), 2, Holder{JobID: "3"}, func(w Waiting) { t.Errorf("waits though a slot is free: %+v", w) })
	if err != nil || second.Index != 1 {
		t.Fatalf("slot %+v, %v", second, err)
	}
	first.Release()
	slot := <-served
	if slot.Index != 0 {
		t.Errorf("slot %d", slot.Index)
	}
	slot.Release()
	second.Release()
}

// TestOneSlotForEachInFront is left free, and what is beyond can be taken before they have.
func TestOneSlotForEachInFront(t *testing.T) {
	s := open(t)
	ticket := func(n int) {
		lock, _, err := s.drawTicket(n)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(lock.Release)
	}
	take := func(n int) *Slot {
		slot, err := s.TakeSlot(t.Context(), n, Holder{}, func(w Waiting) { t.Errorf("waits though a slot is free: %+v", w) })
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(slot.Release)
		return slot
	}
	ticket(3)
	if slot := take(3); slot.Index != 1 {
		t.Errorf("slot %d, not that after the one that is left", slot.Index)
	}
	ticket(1)
	ticket(4)
	if slot := take(5); slot.Index != 3 { // 0 and 2 are left, for those who want 3 and 4; for the one who wants 1 there is none
		t.Errorf("slot %d", slot.Index)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	_, err := s.TakeSlot(ctx, 4, Holder{}, func(w Waiting) {
		if w.Position != 4 || len(w.Holders) != 2 {
			t.Errorf("waits as %+v", w)
		}
		cancel(enough)
	})
	if !errors.Is(err, enough) {
		t.Errorf("took one that is somebody's in front: %v", err)
	}
}

func TestDeadTicketsAreSkipped(t *testing.T) {
	s := open(t)
	if err := os.WriteFile(filepath.Join(s.queueDir(), "00000000000000000001-1"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	slot, err := s.TakeSlot(t.Context(), 1, Holder{}, func(w Waiting) { t.Errorf("waits behind a dead ticket: %+v", w) })
	if err != nil {
		t.Fatal(err)
	}
	slot.Release()
}

func TestWaitForSlotEndsWithContext(t *testing.T) {
	s := open(t)
	slot, err := s.TakeSlot(t.Context(), 1, Holder{}, func(Waiting) {})
	if err != nil {
		t.Fatal(err)
	}
	defer slot.Release()
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	_, err = s.TakeSlot(ctx, 1, Holder{}, func(Waiting) { cancel(cause) })
	if !errors.Is(err, cause) {
		t.Errorf("err = %v, want the context's cause", err)
	}
	assertEmpty(t, s.queueDir())
}

func TestManyWaitersNeverShareASlot(t *testing.T) {
	s := open(t)
	const n, waiters = 2, 40
	var mu sync.Mutex
	taken, most := 0, 0
	var wg sync.WaitGroup
	for range waiters {
		wg.Go(func() {
			slot, err := s.TakeSlot(t.Context(), n, Holder{}, func(Waiting) {})
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			taken++
			most = max(most, taken)
			mu.Unlock()
			s.Holders(n) // probing must never make a taken slot look free
			mu.Lock()
			taken--
			mu.Unlock()
			slot.Release()
		})
	}
	wg.Wait()
	if most > n {
		t.Errorf("%d VMs ran at once in %d slots", most, n)
	}
}
