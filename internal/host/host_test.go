package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gitlab-runner-tart-driver/internal/history"
)

func open(t *testing.T) *State {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestOpenRefusesWhatCannotWork(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{"relative": "state", "a file": file} {
		if _, err := Open(dir); !errors.Is(err, ErrStateDir) {
			t.Errorf("%s: err = %v, want ErrStateDir", name, err)
		}
	}
}

// TestSocketsInDeepDirectories has a state directory whose sockets have longer paths than the kernel takes.
func TestSocketsInDeepDirectories(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), strings.Repeat("deep/", 30)))
	if err != nil {
		t.Fatal(err)
	}
	name := s.NewName("1")
	e, err := s.Create(Record{VM: name})
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	listener, err := s.Listen(name)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := s.Dial(t.Context(), name, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	listener.Close()
	if err := e.Remove(); err != nil {
		t.Error(err)
	}
	if after, err := os.Getwd(); err != nil || after != before {
		t.Errorf("the process is in %s now (%v), and was in %s", after, err, before)
	}
	if _, err := s.Dial(t.Context(), name, time.Minute); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a socket that is gone: %v", err)
	}
}

func TestOpenClosesDirectoryToOthers(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(dir)
	if err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("mode = %v (%v), want 0700", st.Mode(), err)
	}
}

func TestNames(t *testing.T) {
	s, other := open(t), open(t)
	seen := map[string]bool{}
	for range 100 {
		n := s.NewName("42")
		if seen[n] {
			t.Fatalf("%s was made twice", n)
		}
		seen[n] = true
		if !s.Owns(n) || other.Owns(n) || !IsJobVM(n) {
			t.Fatalf("%s: Owns %v, other state owns %v, IsJobVM %v", n, s.Owns(n), other.Owns(n), IsJobVM(n))
		}
	}
	for _, hostile := range []string{"", "../../etc", "-x", strings.Repeat("9", 400), "4 2\n"} {
		if n := s.NewName(hostile); !s.Owns(n) {
			t.Errorf("job id %q makes the name %q, which is not recognised as ours", hostile, n)
		}
	}
	mine := NamePrefix + s.id
	for _, foreign := range []string{"", "grtd-app-12-34-0", "gitlab-42", "base", mine + "-42", s.NewName("1") + "x", s.NewName("1") + "-aaaaaaaa", mine + "--aaaaaaaa",
		mine + "-4x-aaaaaaaa", mine + "-42-aaaaaaa1", mine + "-42-aaaa\naaa", mine + "-" + strings.Repeat("9", 21) + "-aaaaaaaa", mine[1:] + "-42-aaaaaaaa"} {
		if s.Owns(foreign) || IsJobVM(foreign) {
			t.Errorf("%q counts as ours", foreign)
		}
	}
}

func TestRecordsOf(t *testing.T) {
	s := open(t)
	create := func(jobID, key string, age time.Duration) string {
		e, err := s.Create(Record{VM: s.NewName(jobID), JobID: jobID, JobKey: key, Created: time.Unix(1700000000, 0).Add(-age)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(e.Release)
		return e.Record.VM
	}
	older, newer := create("7", "7-abc", time.Hour), create("7", "7-abc", time.Minute)
	create("7", "7-another GitLab's", 0)
	create("7", "", 0)
	create("77", "77-abc", 0)
	recs, err := s.RecordsOf("7", "7-abc")
	if err != nil || len(recs) != 2 || recs[0].VM != newer || recs[1].VM != older {
		t.Errorf("got %+v, %v, want %s and %s", recs, err, newer, older)
	}
	if recs, err := s.RecordsOf("7", ""); err != nil || len(recs) != 0 {
		t.Errorf("a job without a key has %+v, %v", recs, err)
	}
}

func TestRecordLife(t *testing.T) {
	s := open(t)
	name := s.NewName("7")
	e, err := s.Create(Record{VM: name, JobKey: "7-abc", JobID: "7"})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok, err := s.Claim(name); ok || err != nil {
		t.Fatalf("claimed a record that is answered for (%v)", err)
	}
	if err := e.Update(func(r *Record) { r.Image = "base" }); err != nil {
		t.Fatal(err)
	}
	recs, err := s.Records()
	if err != nil || len(recs) != 1 || recs[0].Image != "base" {
		t.Fatalf("records = %+v, %v", recs, err)
	}
	e.Release()
	again, ok, err := s.Claim(name)
	if !ok || err != nil || again.Record.JobKey != "7-abc" {
		t.Fatalf("claim after release: %+v %v %v", again, ok, err)
	}
	if err := again.Remove(); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := s.Claim(name); ok || err != nil || s.HasRecord(name) {
		t.Errorf("a removed record can be claimed (%v, %v)", ok, err)
	}
	assertEmpty(t, s.vmsDir())
}

func TestInheritedDescriptorKeepsRecord(t *testing.T) {
	s := open(t)
	name := s.NewName("7")
	e, err := s.Create(Record{VM: name})
	if err != nil {
		t.Fatal(err)
	}
	dup, err := dupFile(e.LockFile())
	if err != nil {
		t.Fatal(err)
	}
	e.Release()
	if _, ok, _ := s.Claim(name); ok {
		t.Fatal("record was claimed although a copy of its descriptor is open")
	}
	adopted, err := s.Adopt(name, dup)
	if err != nil {
		t.Fatal(err)
	}
	if err := adopted.Remove(); err != nil {
		t.Fatal(err)
	}
}

func TestDamagedRecordCanStillBeClaimed(t *testing.T) {
	s := open(t)
	for _, content := range []string{"", "{", `{"vm":"base"}`, "\x00\xff"} {
		name := s.NewName("7")
		e, err := s.Create(Record{VM: name})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(s.EntryDir(name), "record.json"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		e.Release()
		got, ok, err := s.Claim(name)
		if !ok || err != nil || got.Record.VM != name {
			t.Errorf("%q: claim = %+v %v %v", content, got, ok, err)
		}
	}
}

func TestRemovePartialLeavesLivingOnes(t *testing.T) {
	s := open(t)
	for _, name := range []string{partial + "4194999-1", partial + "junk", removed + "grtd-x", fmt.Sprintf("%s%d-1", partial, os.Getpid())} {
		if err := os.MkdirAll(filepath.Join(s.vmsDir(), name, "sub"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s.RemovePartial()
	left, err := os.ReadDir(s.vmsDir())
	if err != nil || len(left) != 1 || left[0].Name() != fmt.Sprintf("%s%d-1", partial, os.Getpid()) {
		t.Errorf("left: %v (%v), want the living process's only", left, err)
	}
}

// TestRemovePartialKeepsLogs has a crash between the two steps of a removal, and one that still goes on.
func TestRemovePartialKeepsLogs(t *testing.T) {
	s := open(t)
	begin := func() *Entry {
		t.Helper()
		e, err := s.Create(Record{VM: s.NewName("42"), JobID: "42", Project: "g/p"})
		if err == nil {
			err = os.WriteFile(s.KeeperLog(e.Record.VM), []byte("first\nlast words\n"), 0o600)
		}
		if err == nil {
			err = os.Rename(s.EntryDir(e.Record.VM), filepath.Join(s.vmsDir(), removed+e.Record.VM))
		}
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	crashed, living := begin(), begin()
	crashed.Release()
	s.RemovePartial()
	s.RemovePartial()
	left, err := os.ReadDir(s.vmsDir())
	if err != nil || len(left) != 1 || left[0].Name() != removed+living.Record.VM {
		t.Errorf("left: %v (%v), want what is being removed", left, err)
	}
	kept, err := s.History().Finished()
	if err != nil || len(kept) != 1 || kept[0].VM != crashed.Record.VM || kept[0].JobID != "42" || len(history.Logs(kept[0].Dir)) != 1 {
		t.Errorf("kept: %+v (%v)", kept, err)
	}
	events, err := s.History().Events()
	if err != nil || len(events) != 1 || events[0].Kind != history.VMRemoved || events[0].VM != crashed.Record.VM || events[0].LastWords != "last words" {
		t.Errorf("events: %+v (%v)", events, err)
	}
	living.Release()
}

func TestCreateWhileSweepingNeverFails(t *testing.T) {
	s := open(t)
	ctx, stop := context.WithCancel(t.Context())
	var sweeping sync.WaitGroup
	sweeping.Go(func() {
		for ctx.Err() == nil {
			s.RemovePartial()
		}
	})
	for i := range 200 {
		e, err := s.Create(Record{VM: s.NewName(fmt.Sprint(i))})
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Remove(); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	sweeping.Wait()
}

func FuzzParseRecord(f *testing.F) {
	f.Add([]byte(`{"vm":"grtd-aaaaaa-1-bbbbbbbb","created":"2026-01-02T03:04:05Z","run":{"pid":1}}`))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if rec, err := parseRecord(raw); err != nil && rec != (Record{}) {
			t.Errorf("a failed parse yields %+v", rec)
		}
	})
}

func assertEmpty(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Errorf("%s holds %v (%v), want nothing", dir, left, err)
	}
}

// TestRemoveWhatCannotBeWritten removes what a job made read-only in a directory of the host. Root may write anywhere.
func TestRemoveWhatCannotBeWritten(t *testing.T) {
	s := open(t)
	entry, err := s.Create(Record{VM: s.NewName("1"), JobID: "1"})
	if err != nil {
		t.Fatal(err)
	}
	outside := t.TempDir()
	deep := filepath.Join(s.EntryDir(entry.Record.VM), "builds", "mod", "cache")
	if err := errors.Join(os.MkdirAll(deep, 0o700), os.WriteFile(filepath.Join(deep, "file"), nil, 0o400), os.Symlink(outside, filepath.Join(deep, "link")),
		os.Chmod(deep, 0o500), os.Chmod(filepath.Dir(deep), 0o000), os.Chmod(outside, 0o500)); err != nil {
		t.Fatal(err)
	}
	if err := entry.Remove(); err != nil {
		t.Error(err)
	}
	assertEmpty(t, s.vmsDir())
	if st, err := os.Stat(outside); err != nil || st.Mode().Perm() != 0o500 {
		t.Errorf("outside: %v, %v", st, err)
	}
}
