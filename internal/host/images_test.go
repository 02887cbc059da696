package host

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

const anImage = "r.example/o/macos:15"

func take(t *testing.T, s *State, names ...string) func() {
	t.Helper()
	release, ok, err := s.TakeImage(names...)
	if err != nil {
		t.Fatal(err)
	}
	if !ok {
		return nil
	}
	return release
}

func TestHoldAndTakeImages(t *testing.T) {
	s := open(t)
	if s.ImageHeld(anImage) {
		t.Error("an image that nobody knows is held")
	}
	var holds []*Lock
	for range 2 {
		hold, err := s.HoldImage(t.Context(), anImage)
		if err != nil {
			t.Fatal(err)
		}
		holds = append(holds, hold)
	}
	for _, hold := range holds {
		if !s.ImageHeld(anImage) || take(t, s, "r.example/other:1", anImage) != nil {
			t.Error("an image that is held is taken")
		}
		hold.Release()
	}
	release := take(t, s, "r.example/other:1", anImage)
	if release == nil {
		t.Fatal("an image that nobody holds is not taken")
	}
	if take(t, s, anImage) != nil {
		t.Error("an image is taken twice")
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("canceled")
	cancel(gone)
	if _, err := s.HoldImage(ctx, anImage); !errors.Is(err, gone) {
		t.Errorf("holding an image that is being removed: %v", err)
	}
	release()
	if s.ImageHeld(anImage) {
		t.Error("held by nobody, and yet held")
	}
}

// TestHoldOutlivesRemoval forgets an image while somebody waits for it: the waiter must not hold a lock that nobody else sees.
func TestHoldOutlivesRemoval(t *testing.T) {
	s := open(t)
	for range 20 {
		release := take(t, s, anImage)
		held := make(chan *Lock, 1)
		go func() {
			hold, err := s.HoldImage(t.Context(), anImage)
			if err != nil {
				t.Error(err)
			}
			held <- hold
		}()
		s.ForgetImage(anImage)
		release()
		hold := <-held
		if take(t, s, anImage) != nil {
			t.Fatal("an image that is held is taken")
		}
		hold.Release()
	}
}

func TestTurnToPull(t *testing.T) {
	s := open(t)
	me := Holder{JobID: "1", Project: "g/p"}
	quiet := func(h Holder) { t.Errorf("there is nothing to wait for, not even %+v", h) }
	first, err := s.TurnToPull(t.Context(), anImage, me, quiet)
	if err != nil {
		t.Fatal(err)
	}
	other, err := s.TurnToPull(t.Context(), "r.example/o/macos:16", me, quiet) // another image has nothing to do with it
	if err != nil {
		t.Fatal(err)
	}
	other.Release()
	told := make(chan Holder, 1)
	second := make(chan *Lock, 1)
	go func() {
		lock, err := s.TurnToPull(t.Context(), anImage, Holder{JobID: "2"}, func(h Holder) { told <- h })
		if err != nil {
			t.Error(err)
		}
		second <- lock
	}()
	if h := <-told; h != me {
		t.Errorf("waits for %+v", h)
	}
	select {
	case <-second:
		t.Fatal("two pull at once")
	default:
	}
	first.Release()
	(<-second).Release()
}

func TestTurnToPullIsBounded(t *testing.T) {
	s := open(t)
	first, err := s.TurnToPull(t.Context(), anImage, Holder{}, func(Holder) {})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Release()
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("canceled")
	if _, err := s.TurnToPull(ctx, anImage, Holder{}, func(Holder) { cancel(gone) }); !errors.Is(err, gone) {
		t.Errorf("error %v", err)
	}
}

func TestImageUses(t *testing.T) {
	s := open(t)
	if uses := s.ImageUses(); len(uses) != 0 {
		t.Errorf("uses of a new state directory: %v", uses)
	}
	early, late := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)
	for _, at := range []time.Time{early, late} {
		if err := s.NoteImageUse(anImage, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.NoteImageUse("r.example/other:1", early); err != nil {
		t.Fatal(err)
	}
	// Damaged files, and one that speaks of another image, are left out.
	for name, content := range map[string]string{"x.json": `{"image":"r.example/x:1","used":"2026-01-01T00:00:00Z"}`, "y.json": "{", ".tmp-1": "{}"} {
		if err := os.WriteFile(filepath.Join(s.imagesDir(), name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	uses := s.ImageUses()
	if len(uses) != 2 || !uses[anImage].Equal(late) || !uses["r.example/other:1"].Equal(early) {
		t.Errorf("uses %v", uses)
	}
	s.ForgetImage(anImage)
	if uses := s.ImageUses(); len(uses) != 1 {
		t.Errorf("uses after one is forgotten: %v", uses)
	}
}

func FuzzImageUse(f *testing.F) {
	f.Add([]byte(`{"image":"r/x:1","used":"2026-01-01T00:00:00Z"}`))
	f.Add([]byte("null"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if use, ok := parseImageUse(raw); ok && (use.Image == "" || use.Used.IsZero()) {
			t.Errorf("%q: %+v", raw, use)
		}
	})
}

func TestFreeBytes(t *testing.T) {
	dir := t.TempDir()
	here, err := FreeBytes(dir)
	if err != nil || here <= 0 {
		t.Fatalf("got %d, %v", here, err)
	}
	if below, err := FreeBytes(filepath.Join(dir, "not", "yet")); err != nil || below <= 0 {
		t.Errorf("below a directory that is not there: %d, %v", below, err)
	}
	if _, err := FreeBytes("/dev/null/x"); err == nil {
		t.Error("below a file there is room")
	}
}
