package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"gitlab-runner-tart-driver/internal/crash"
	"gitlab-runner-tart-driver/internal/history"
	"gitlab-runner-tart-driver/internal/proc"
)

// Record says which VM exists for which job. It holds no secret.
type Record struct {
	// VM is the VM's name and the record's own.
	VM string `json:"vm"`
	// JobKey is what the job is recognised by, see job.Job.
	JobKey string `json:"job_key"`
	// JobID and Project are for people.
	JobID   string `json:"job_id"`
	Project string `json:"project,omitempty"`
	Image   string `json:"image,omitempty"`
	// Created is when prepare began.
	Created time.Time `json:"created"`
	// Prepare and Keeper are the processes that answer, or answered, for the VM; Run is its `tart run`.
	Prepare proc.ID `json:"prepare"`
	Keeper  proc.ID `json:"keeper,omitzero"`
	Run     proc.ID `json:"run,omitzero"`
	// Address is the VM's, once it is known and while the VM runs.
	Address netip.Addr `json:"address,omitzero"`
	// HeldUntil is when the VM of a job that is over goes; zero while the job runs.
	HeldUntil time.Time `json:"held_until,omitzero"`
}

// Describe names the job for a person.
func (r Record) Describe() string {
	if r.Project == "" {
		return "job " + r.JobID
	}
	return fmt.Sprintf("job %s of %s", r.JobID, r.Project)
}

// Entry is a record whose lock this process holds.
type Entry struct {
	Record Record
	state  *State
	lock   *Lock
	mu     sync.Mutex // held while the record changes
}

// lockName is a record's lock, beside the record and the logs.
const lockName = "lock"

// Prefixes of a record directory that is being made (then comes the maker's pid), and of one that is being removed.
const (
	partial = ".partial-"
	removed = ".removed-"
)

// Create writes a record and locks it. It appears under its name in one step, locked: there is no moment in which others could
// take it for abandoned.
func (s *State) Create(rec Record) (e *Entry, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("create record of %s: %w", rec.VM, err)
		}
	}()
	tmp, err := os.MkdirTemp(s.vmsDir(), fmt.Sprintf("%s%d-*", partial, os.Getpid()))
	if err != nil {
		return nil, err
	}
	e = &Entry{Record: rec, state: s}
	e.lock, err = tryLock(filepath.Join(tmp, lockName), true)
	if err == nil {
		err = writeRecord(tmp, rec)
	}
	crash.Point("record: written")
	if err == nil {
		err = os.Rename(tmp, s.EntryDir(rec.VM))
	}
	crash.Point("record: in its place")
	if err != nil {
		os.RemoveAll(tmp)
		e.lock.Release()
		return nil, err
	}
	return e, nil
}

// Adopt takes over a record whose locked descriptor this process inherited.
func (s *State) Adopt(name string, lock *os.File) (*Entry, error) {
	rec, err := s.read(name)
	if err != nil {
		return nil, err
	}
	return &Entry{Record: rec, state: s, lock: inheritedLock(lock)}, nil
}

// Claim takes the record of a VM that nobody answers for any more. ok is false while somebody does, and when there is no such
// record.
func (s *State) Claim(name string) (e *Entry, ok bool, err error) {
	lock, err := tryLock(filepath.Join(s.EntryDir(name), lockName), true)
	if errors.Is(err, errBusy) || errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	rec, err := s.read(name)
	if err != nil {
		// A damaged record still names its VM; that is all that is needed to destroy it.
		rec = Record{VM: name}
	}
	return &Entry{Record: rec, state: s, lock: lock}, true, nil
}

// Names lists all VMs that have a record.
func (s *State) Names() ([]string, error) {
	dirs, err := os.ReadDir(s.vmsDir())
	if err != nil {
		return nil, fmt.Errorf("list records: %w", err)
	}
	var names []string
	for _, d := range dirs {
		if s.Owns(d.Name()) {
			names = append(names, d.Name())
		}
	}
	return names, nil
}

// Records reads all records, newest first. Records that vanish meanwhile are left out.
func (s *State) Records() ([]Record, error) {
	return s.records(func(string) bool { return true })
}

// RecordsOf reads the records of a job, newest first. The key alone says whose they are; a job without one has none.
func (s *State) RecordsOf(jobID, key string) ([]Record, error) {
	wanted := digitsOf(jobID)
	records, err := s.records(func(digits string) bool { return digits == wanted })
	return slices.DeleteFunc(records, func(r Record) bool { return key == "" || r.JobKey != key }), err
}

// records reads those of the VMs whose names have the right digits.
func (s *State) records(of func(jobDigits string) bool) ([]Record, error) {
	names, err := s.Names()
	if err != nil {
		return nil, err
	}
	var recs []Record
	for _, name := range names {
		if _, digits, _ := nameParts(name); !of(digits) {
			continue
		}
		if rec, err := s.read(name); err == nil {
			recs = append(recs, rec)
		}
	}
	slices.SortStableFunc(recs, func(a, b Record) int { return b.Created.Compare(a.Created) })
	return recs, nil
}

// TurnToClaim waits until nobody else on this host writes down at which address a VM was reached, and keeps others from it until the lock is released.
func (s *State) TurnToClaim(ctx context.Context) (*Lock, error) {
	lock, err := awaitLock(ctx, filepath.Join(s.dir, "addresses"), func() {})
	if err != nil {
		return nil, fmt.Errorf("claim an address: %w", err)
	}
	return lock, nil
}

// Held tells whether somebody answers for a VM.
func (s *State) Held(name string) bool { return lockHeld(filepath.Join(s.EntryDir(name), lockName)) }

// HasRecord tells whether a record of this name exists.
func (s *State) HasRecord(name string) bool {
	_, err := os.Lstat(s.EntryDir(name))
	return err == nil
}

// RemovePartial removes what a crash in the middle of Create or Remove left, and keeps of it what Remove would have kept. What it can't remove it leaves to
// the next one.
func (s *State) RemovePartial() {
	dirs, err := os.ReadDir(s.vmsDir())
	if err != nil {
		return
	}
	for _, d := range dirs {
		dir := filepath.Join(s.vmsDir(), d.Name())
		if maker, ok := strings.CutPrefix(d.Name(), partial); ok {
			if pid, _, _ := strings.Cut(maker, "-"); !livingProcess(pid) {
				_ = removeAll(dir)
			}
		} else if vm, ok := strings.CutPrefix(d.Name(), removed); ok {
			s.finishRemoval(vm, dir)
		}
	}
}

// finishRemoval does what is left of a Remove, unless that is still at it: then it holds the lock.
func (s *State) finishRemoval(vm, dir string) {
	lock, err := tryLock(filepath.Join(dir, lockName), false)
	if errors.Is(err, errBusy) {
		return
	}
	defer lock.Release()
	if s.Owns(vm) && len(history.Logs(dir)) > 0 {
		rec := Record{VM: vm}
		if raw, err := os.ReadFile(filepath.Join(dir, history.RecordName)); err == nil {
			if r, err := parseRecord(raw); err == nil && r.VM == vm {
				rec = r
			}
		}
		s.archive(rec, dir)
	}
	_ = removeAll(dir)
}

// removeAll removes a tree even if directories in it can't be written, such as those of Go's module cache that a job leaves in its builds
// directory.
func removeAll(dir string) error {
	err := os.RemoveAll(dir)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error { // a directory comes before it is read; links are not followed
		if err == nil && d.IsDir() {
			_ = os.Chmod(path, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}

func livingProcess(pid string) bool {
	n, err := strconv.Atoi(pid)
	if err != nil {
		return false
	}
	_, err = proc.Of(n)
	return err == nil
}

// EntryDir is the directory of a VM's record, socket and logs.
func (s *State) EntryDir(name string) string { return filepath.Join(s.vmsDir(), name) }

// RunLog is the path of the file that has the output of a VM's `tart run`.
func (s *State) RunLog(name string) string { return filepath.Join(s.EntryDir(name), "tart-run.log") }

// KeeperLog is the path of the file that has what a VM's keeper did.
func (s *State) KeeperLog(name string) string { return filepath.Join(s.EntryDir(name), "keeper.log") }

func (s *State) read(name string) (Record, error) {
	path := filepath.Join(s.EntryDir(name), history.RecordName)
	raw, err := os.ReadFile(path)
	if err != nil {
		return Record{}, fmt.Errorf("read record: %w", err)
	}
	rec, err := parseRecord(raw)
	if err == nil && rec.VM != name {
		err = fmt.Errorf("it names VM %q", rec.VM)
	}
	if err != nil {
		return Record{}, fmt.Errorf("read record %s: %w", path, err)
	}
	return rec, nil
}

func parseRecord(raw []byte) (Record, error) {
	var rec Record
	if err := json.Unmarshal(raw, &rec); err != nil {
		return Record{}, err
	}
	return rec, nil
}

func writeRecord(dir string, rec Record) error {
	raw, err := json.MarshalIndent(rec, "", "  ")
	if err != nil {
		return err
	}
	return writeFileAtomic(filepath.Join(dir, history.RecordName), append(raw, '\n'))
}

// Update changes the record on disk.
func (e *Entry) Update(change func(*Record)) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	rec := e.Record
	change(&rec)
	if err := writeRecord(e.state.EntryDir(rec.VM), rec); err != nil {
		return fmt.Errorf("update record of %s: %w", rec.VM, err)
	}
	e.Record = rec
	return nil
}

// LockFile is the locked descriptor, for a child that is to answer for the VM.
func (e *Entry) LockFile() *os.File { return e.lock.File() }

// Release lets go of the record without removing it: its child answers for the VM now, or a sweep will.
func (e *Entry) Release() { e.lock.Release() }

// Remove deletes the record and all its files. The VM must be gone.
func (e *Entry) Remove() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	defer e.lock.Release()
	dir := e.state.EntryDir(e.Record.VM)
	gone := filepath.Join(e.state.vmsDir(), removed+e.Record.VM)
	err := os.Rename(dir, gone) // in one step, so that no half-removed record is ever seen
	crash.Point("record: out of its place")
	if err == nil {
		e.state.archive(e.Record, gone)
		err = removeAll(gone)
	}
	crash.Point("record: removed")
	if err != nil {
		return fmt.Errorf("remove record of %s: %w", e.Record.VM, err)
	}
	return nil
}
