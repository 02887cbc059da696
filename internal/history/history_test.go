package history

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"
)

// newStore is a history on a disk with room.
func newStore(t *testing.T) Store {
	t.Helper()
	s := At(t.TempDir())
	if !s.Roomy() {
		t.Skip("the disk of this machine is nearly full")
	}
	return s
}

// finish keeps a log of a VM that ended at a time.
func (s Store) finish(t *testing.T, vm string, ended time.Time, size int) {
	t.Helper()
	from := t.TempDir()
	for name, data := range map[string]string{
		"keeper.log": strings.Repeat("x", size), "record.json": `{"vm":"` + vm + `","job_id":"42","project":"g/p","image":"base"}`, "sock": "", "setup": "a script",
	} {
		if err := os.WriteFile(filepath.Join(from, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.Keep(vm, from)
	if err := os.Chtimes(s.DirOf(vm), ended, ended); err != nil {
		t.Fatal(err)
	}
}

// kept are the VMs whose logs there are, the last first.
func (s Store) kept(t *testing.T) (vms []string) {
	t.Helper()
	all, err := s.Finished()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		vms = append(vms, f.VM)
	}
	return vms
}

// TestKindsAreDocumented looks for each kind of event where scripts that read them are told of these.
func TestKindsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/debugging.md")
	if err != nil {
		t.Fatal(err)
	}
	code, err := os.ReadFile("event.go")
	if err != nil {
		t.Fatal(err)
	}
	kinds := regexp.MustCompile(`Kind = "([a-z_]+)"`).FindAllSubmatch(code, -1)
	if len(kinds) == 0 {
		t.Error("no kinds")
	}
	for _, kind := range kinds {
		if !bytes.Contains(page, fmt.Appendf(nil, "`%s`", kind[1])) {
			t.Errorf("docs/debugging.md does not name %s", kind[1])
		}
	}
}

func TestKeepTakesLogsAndRecordOnly(t *testing.T) {
	s, now := newStore(t), time.Now()
	s.finish(t, "vm-1", now, 10)
	all, err := s.Finished()
	if err != nil || len(all) != 1 {
		t.Fatalf("%+v (%v)", all, err)
	}
	if f := all[0]; f.VM != "vm-1" || f.JobID != "42" || f.Project != "g/p" || f.Image != "base" {
		t.Errorf("kept as %+v", f)
	}
	files, _ := filepath.Glob(filepath.Join(all[0].Dir, "*"))
	for i := range files {
		files[i] = filepath.Base(files[i])
	}
	if !slices.Equal(files, []string{"keeper.log", "record.json"}) {
		t.Errorf("kept: %v", files)
	}
	for _, path := range []string{s.logsDir(), all[0].Dir} {
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v (%v)", path, st.Mode(), err)
		}
	}
	s.Keep("vm-2", t.TempDir()) // without logs there is nothing to keep
	if got := s.kept(t); len(got) != 1 {
		t.Errorf("kept: %v", got)
	}
}

func TestKeepDoesNotFollowLinks(t *testing.T) {
	s, from := newStore(t), t.TempDir()
	if err := os.Symlink("/etc/passwd", filepath.Join(from, "keeper.log")); err != nil {
		t.Fatal(err)
	}
	s.Keep("vm-1", from)
	if got := s.kept(t); len(got) > 0 {
		t.Errorf("kept: %v", got)
	}
}

func TestPrune(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		name   string
		limits Limits
		want   []string
	}{
		{"all is within", Limits{Days: 7, BudgetMB: 100}, []string{"new", "day", "week"}},
		{"too old", Limits{Days: 6, BudgetMB: 100}, []string{"new", "day"}},
		{"too much", Limits{Days: 30, BudgetMB: 1}, []string{"new"}},
		{"no days", Limits{BudgetMB: 100}, nil},
		{"no budget", Limits{Days: 7}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStore(t)
			s.finish(t, "week", now.Add(-6*24*time.Hour-time.Minute), 10)
			s.finish(t, "day", now.Add(-24*time.Hour), 700<<10)
			s.finish(t, "new", now, 700<<10)
			s.Prune(c.limits, now)
			if got := s.kept(t); !slices.Equal(got, c.want) {
				t.Errorf("kept: %v, want %v", got, c.want)
			}
		})
	}
}

// TestPruneNowAndThen looks seldom, but again when the clock was set back.
func TestPruneNowAndThen(t *testing.T) {
	s, now := newStore(t), time.Now()
	limits := Limits{Days: 7, BudgetMB: 100}
	old := func(vm string) { s.finish(t, vm, now.Add(-30*24*time.Hour), 10) }
	s.Prune(limits, now)
	old("a")
	s.Prune(limits, now.Add(time.Minute))
	if got := s.kept(t); len(got) != 1 {
		t.Errorf("pruned again after a minute: %v", got)
	}
	s.Prune(limits, now.Add(time.Hour))
	if got := s.kept(t); len(got) != 0 {
		t.Errorf("not pruned after an hour: %v", got)
	}
	old("b")
	s.Prune(limits, now)
	if got := s.kept(t); len(got) != 0 {
		t.Errorf("not pruned by a clock that was set back: %v", got)
	}
}

func TestPruneTakesSoMuchAtATime(t *testing.T) {
	s, now := newStore(t), time.Now()
	for i := range pruneAtOnce + 1 {
		s.finish(t, fmt.Sprintf("vm-%d", i), now.Add(-30*24*time.Hour), 1)
	}
	s.Prune(Limits{Days: 7, BudgetMB: 100}, now)
	if got := s.kept(t); len(got) != 1 {
		t.Errorf("%d are left", len(got))
	}
}

func TestEventsRotateWithinTheBudget(t *testing.T) {
	s, now := newStore(t), time.Now()
	share := int64(1<<20) / eventsShare
	for i := range 3 {
		for sizeOf(s.eventsPath()) <= share {
			s.Note(Event{Time: now, Kind: Waiting, JobID: fmt.Sprint(i), Error: strings.Repeat("e", 900)})
		}
		s.Prune(Limits{Days: 7, BudgetMB: 1}, now.Add(time.Duration(i)*time.Hour))
		if sizeOf(s.eventsPath()) != 0 || sizeOf(s.olderPath()) > share+maxLine {
			t.Fatalf("%d and %d bytes", sizeOf(s.eventsPath()), sizeOf(s.olderPath()))
		}
	}
	events, err := s.Events()
	if err != nil || len(events) == 0 || events[0].JobID != "2" {
		t.Errorf("%d events (%v)", len(events), err)
	}
	s.Prune(Limits{Days: 7}, now)
	if events, err := s.Events(); err != nil || len(events) > 0 {
		t.Errorf("without a budget there are %d events (%v)", len(events), err)
	}
}

func TestAReaderOutlivesRotation(t *testing.T) {
	s, now := newStore(t), time.Now()
	r := s.Reader()
	defer r.Close()
	var got []string
	next := func() {
		t.Helper()
		if err := r.Next(func(e Event) error { got = append(got, e.JobID); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	next()
	s.Note(Event{Time: now, Kind: Waiting, JobID: "1"})
	next()
	s.Note(Event{Time: now, Kind: Waiting, JobID: "2"})
	if err := os.Rename(s.eventsPath(), s.olderPath()); err != nil {
		t.Fatal(err)
	}
	s.Note(Event{Time: now, Kind: Waiting, JobID: "3"})
	next()
	next()
	if !slices.Equal(got, []string{"1", "2", "3"}) {
		t.Errorf("read: %v", got)
	}
}

// TestManyNoteAtOnce has lines of many writers, none of them torn.
func TestManyNoteAtOnce(t *testing.T) {
	s := newStore(t)
	const writers, each = 8, 50
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			for range each {
				s.Note(Event{Time: time.Now(), Kind: ScriptEnded, JobID: fmt.Sprint(i), Error: strings.Repeat("x", 500*(i%3))})
			}
		})
	}
	wg.Wait()
	raw, err := os.ReadFile(s.eventsPath())
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range bytes.Lines(raw) {
		if !json.Valid(line) {
			t.Errorf("torn: %.100s", line)
		}
		n++
	}
	if n != writers*each {
		t.Errorf("%d lines", n)
	}
}

func TestTornLines(t *testing.T) {
	s := newStore(t)
	text := `{"time":"2026-02-23T12:00:00Z","event":"waiting","jo{"time":"2026-02-23T12:00:01Z","event":"swept","vms":["a"]}` + "\n\nnonsense\n{}\n"
	if err := os.WriteFile(s.eventsPath(), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	events, err := s.Events()
	if err != nil || len(events) != 1 || events[0].Kind != Swept {
		t.Errorf("%+v (%v)", events, err)
	}
}

// TestNothingIsMade leaves a state directory that is not there alone.
func TestNothingIsMade(t *testing.T) {
	s := At(filepath.Join(t.TempDir(), "state"))
	s.Note(Event{Kind: Swept})
	s.Prune(Limits{Days: 7, BudgetMB: 100}, time.Now())
	s.Keep("vm-1", t.TempDir())
	if _, err := os.Stat(s.dir); !os.IsNotExist(err) {
		t.Errorf("made: %v", err)
	}
	if events, err := s.Events(); err != nil || events != nil {
		t.Errorf("%v (%v)", events, err)
	}
}

func FuzzLine(f *testing.F) {
	f.Add("ä", "error", 3)
	f.Add(strings.Repeat("\x00<&>ä", 900), strings.Repeat("\xff", 5000), 200)
	f.Fuzz(func(t *testing.T, text, other string, n int) {
		e := Event{Time: time.Unix(0, 0), Kind: PrepareEnded, JobID: text, VM: other, Image: text, Error: other, LastWords: text}
		for range min(max(n, 0), 300) {
			e.Steps = append(e.Steps, Step{text, 1})
			e.VMs = append(e.VMs, other)
			e.Running = append(e.Running, text)
		}
		line := e.line()
		if len(line) > maxLine || bytes.Count(line, []byte("\n")) != 1 || !utf8.Valid(line) {
			t.Fatalf("%d bytes: %q", len(line), line)
		}
		if back, ok := parse(line); !ok || back.Kind != e.Kind {
			t.Fatalf("read back as %+v from %q", back, line)
		}
	})
}

func TestLastLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	for text, want := range map[string]string{"": "", "a\nb\n": "b", "a": "a", "\n": "", strings.Repeat("x", 9000) + "\nlast\n": "last"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := LastLine(path); got != want {
			t.Errorf("last line of %.20q: %q, want %q", text, got, want)
		}
	}
	if got := LastLine(path + "nowhere"); got != "" {
		t.Errorf("of no file: %q", got)
	}
}
