package history

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	logSuffix = ".log"
	stampName = "pruned"

	// RecordName is the file of a VM's directory that says whose it is; it is kept with the logs.
	RecordName = "record.json"
)

// Finished is a VM that is gone, whose logs are kept.
type Finished struct {
	VM      string    `json:"vm"`
	JobID   string    `json:"job_id"`
	Project string    `json:"project"`
	Image   string    `json:"image"`
	Created time.Time `json:"created"`
	// Ended is when the VM was gone.
	Ended time.Time `json:"-"`
	// Dir has the logs.
	Dir string `json:"-"`
}

// Keep takes the logs and the record of a VM that is gone out of a directory that is about to be removed. What it can't take stays there.
func (s Store) Keep(vm, from string) {
	names := logNames(from)
	if len(names) == 0 || !s.Roomy() {
		return
	}
	to := s.DirOf(vm)
	if os.MkdirAll(to, 0o700) != nil {
		return
	}
	for _, name := range append(names, RecordName) {
		_ = os.Rename(filepath.Join(from, name), filepath.Join(to, name)) // a VM's name is never used twice: nothing is replaced
	}
}

// logNames are the logs in a directory.
func logNames(dir string) []string {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var names []string
	for _, f := range files {
		if f.Type().IsRegular() && strings.HasSuffix(f.Name(), logSuffix) {
			names = append(names, f.Name())
		}
	}
	return names
}

// Log is one of a VM's logs.
type Log struct {
	// Source says who wrote it: keeper, tart-run or setup.
	Source string
	Path   string
}

// Logs are those in the directory of a VM, living or gone: what the keeper said first.
func Logs(dir string) []Log {
	var logs []Log
	for _, name := range logNames(dir) {
		logs = append(logs, Log{Source: strings.TrimSuffix(name, logSuffix), Path: filepath.Join(dir, name)})
	}
	return logs
}

// DirOf is where the logs of a VM are kept when it is gone.
func (s Store) DirOf(vm string) string { return filepath.Join(s.logsDir(), vm) }

// Finished lists the VMs whose logs are kept, the one that ended last first.
func (s Store) Finished() ([]Finished, error) {
	all, err := s.finished()
	for i := range all {
		f := &all[i]
		vm, ended, dir := f.VM, f.Ended, f.Dir
		if raw, err := os.ReadFile(filepath.Join(dir, RecordName)); err == nil {
			_ = json.Unmarshal(raw, f) // damaged: its name is left
		}
		f.VM, f.Ended, f.Dir = vm, ended, dir
	}
	return all, err
}

// finished is the same without what the records say.
func (s Store) finished() ([]Finished, error) {
	dirs, err := os.ReadDir(s.logsDir())
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	var all []Finished
	for _, d := range dirs {
		if info, err := d.Info(); err == nil && d.IsDir() {
			all = append(all, Finished{VM: d.Name(), Ended: info.ModTime(), Dir: s.DirOf(d.Name())})
		}
	}
	slices.SortStableFunc(all, func(a, b Finished) int { return b.Ended.Compare(a.Ended) })
	return all, nil
}

// Limits of what is kept. With either at 0 no logs are, and with no budget no events either.
type Limits struct {
	Days int `json:"days"`
	// BudgetMB is for everything, in megabytes.
	BudgetMB int `json:"budget_mb"`
}

// None tells whether no logs are to be kept.
func (l Limits) None() bool { return l.Days <= 0 || l.BudgetMB <= 0 }

const (
	// pruneInterval is how often it is worth looking.
	pruneInterval = 10 * time.Minute
	// eventsShare is the part of the budget that each of the two files of events may take, as a divisor.
	eventsShare = 20
	// pruneAtOnce is how many VMs' logs are removed at a time, so that it does not keep the disk busy while a job runs.
	pruneAtOnce = 200
)

// Prune removes what is too old or too much, oldest first. It does so only now and then, and for one caller at a time.
func (s Store) Prune(limits Limits, now time.Time) {
	none := limits.None()
	if !s.Roomy() {
		limits, none = Limits{}, true
	}
	if os.Mkdir(s.logsDir(), 0o700) != nil && !isDir(s.logsDir()) {
		return
	}
	stamp, err := os.OpenFile(filepath.Join(s.logsDir(), stampName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return
	}
	defer stamp.Close()
	if unix.Flock(int(stamp.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return
	}
	st, err := stamp.Stat()
	if err != nil || !none && st.Size() > 0 && now.Sub(st.ModTime()).Abs() < pruneInterval {
		return
	}
	if st.Size() == 0 {
		_, _ = stamp.WriteString("its time of change is when history was pruned last\n")
	}
	_ = os.Chtimes(stamp.Name(), now, now)
	budget := int64(limits.BudgetMB) << 20
	used := s.rotate(budget / eventsShare)
	s.pruneLogs(limits.Days, budget-used, now)
}

func isDir(path string) bool {
	st, err := os.Lstat(path)
	return err == nil && st.IsDir()
}

// rotate begins a new file of events where the current one has more than share bytes, and returns the size of both.
func (s Store) rotate(share int64) int64 {
	size, older := sizeOf(s.eventsPath()), sizeOf(s.olderPath())
	switch {
	case share == 0:
		os.Remove(s.eventsPath())
		os.Remove(s.olderPath())
		return 0
	case size > share:
		if os.Rename(s.eventsPath(), s.olderPath()) == nil {
			size, older = 0, size
		}
	}
	if older > 2*share { // from when there was more of a budget
		os.Remove(s.olderPath())
		older = 0
	}
	return size + older
}

func sizeOf(path string) int64 {
	st, err := os.Lstat(path)
	if err != nil {
		return 0
	}
	return st.Size()
}

// pruneLogs removes the logs of the VMs that ended first, until what is left is no older than days and takes no more than budget bytes.
func (s Store) pruneLogs(days int, budget int64, now time.Time) {
	all, err := s.finished()
	if err != nil {
		return
	}
	total := int64(0)
	sizes := make([]int64, len(all))
	for i, f := range all {
		sizes[i] = treeSize(f.Dir)
		total += sizes[i]
	}
	removed := 0
	for i, f := range slices.Backward(all) {
		old := now.Sub(f.Ended) >= time.Duration(days)*24*time.Hour
		if !old && total <= budget || removed == pruneAtOnce {
			return
		}
		if os.RemoveAll(f.Dir) == nil {
			total -= sizes[i]
			removed++
		}
	}
}

// blockSize is what even the smallest file takes.
const blockSize = 4096

// treeSize is about what a directory takes on the disk.
func treeSize(dir string) int64 {
	total := int64(blockSize)
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if info, err := d.Info(); err == nil {
				total += (info.Size() + blockSize - 1) / blockSize * blockSize
			}
		}
		return nil
	})
	return total
}
