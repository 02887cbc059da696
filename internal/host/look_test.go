package host

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"gitlab-runner-tart-driver/internal/history"
)

func TestLookMakesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if _, err := Look(dir); !errors.Is(err, ErrNoState) {
		t.Errorf("without a directory: %v", err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("it was made: %v", err)
	}
	if _, err := Look("state"); !errors.Is(err, ErrStateDir) {
		t.Errorf("relative: %v", err)
	}
	opened, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	looked, err := Look(dir)
	if err != nil || looked.id != opened.id || looked.Dir() != opened.Dir() {
		t.Errorf("%+v (%v), want %+v", looked, err, opened)
	}
}

func TestSlotsAndQueue(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	who := Holder{JobID: "42", Project: "g/p", Since: time.Now().UTC()}
	slot, err := s.TakeSlot(t.Context(), 2, who, func(Waiting) {})
	if err != nil {
		t.Fatal(err)
	}
	for name := range map[string]bool{"slots/1": true, "slots/nonsense": true, "queue/00000000000000000001-1-2": true, "queue/nonsense": true} {
		if err := os.WriteFile(filepath.Join(s.Dir(), name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.Slots(); len(got) != 1 || got[0].Index != 0 || got[0].JobID != "42" || got[0].Project != "g/p" {
		t.Errorf("slots: %+v", got)
	}
	if got := s.Queue(); len(got) != 0 {
		t.Errorf("nobody waits: %+v", got)
	}
	lock, _, err := s.drawTicket(3)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Queue(); len(got) != 1 || got[0].PID != os.Getpid() || got[0].Slots != 3 || time.Since(got[0].Since).Abs() > time.Hour {
		t.Errorf("queue: %+v", got)
	}
	lock.Release()
	slot.Release()
	if got := s.Slots(); len(got) != 0 || len(s.Queue()) != 0 {
		t.Errorf("all is free: %+v, %+v", got, s.Queue())
	}
}

// TestRemoveKeepsTheLogs hands what was said to the history, and notes the end.
func TestRemoveKeepsTheLogs(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	vm := s.NewName("42")
	e, err := s.Create(Record{VM: vm, JobID: "42", Project: "g/p", Image: "base"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.KeeperLog(vm), []byte("a\nthe end\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := e.Remove(); err != nil {
		t.Fatal(err)
	}
	if s.HasRecord(vm) {
		t.Error("the record is there")
	}
	events, err := s.History().Events()
	if len(events) != 1 || events[0].Kind != history.VMRemoved || events[0].VM != vm || events[0].JobID != "42" || events[0].LastWords != "the end" {
		t.Errorf("events: %+v (%v)", events, err)
	}
	if logs := history.Logs(s.History().DirOf(vm)); len(logs) != 1 || logs[0].Source != "keeper" {
		t.Errorf("logs: %+v", logs)
	}
}

// TestRemoveWhereNothingCanBeKept removes a record all the same.
func TestRemoveWhereNothingCanBeKept(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"logs", "events.jsonl"} { // neither can be what it should be
		if name == "logs" {
			err = os.WriteFile(filepath.Join(s.Dir(), name), nil, 0o600)
		} else {
			err = os.Mkdir(filepath.Join(s.Dir(), name), 0o700)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	vm := s.NewName("42")
	e, err := s.Create(Record{VM: vm, JobID: "42"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.KeeperLog(vm), []byte("the end\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := e.Remove(); err != nil {
		t.Error(err)
	}
	if names, err := s.Names(); err != nil || len(names) > 0 {
		t.Errorf("left: %v (%v)", names, err)
	}
}
