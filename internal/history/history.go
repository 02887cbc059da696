// Package history is what stays of jobs when their VMs are gone, for the person who looks after the host: the logs of each VM, and one line for
// everything that happened.
//
// All of it is best effort. Nothing here returns an error to a job, waits for anything, or keeps what the disk has no room for. It lies in the
// state directory, readable by its owner alone, and holds no secret, since neither logs nor records do.
package history

import (
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Store is the history below a state directory:
//
//	events.jsonl      what happened, a line of JSON each; appended to by every stage and keeper
//	events.jsonl.1    the same, before that
//	logs/VM/*.log     what was in the record's directory when the VM was gone
//	logs/VM/record.json
//	logs/pruned       locked by whoever prunes; changed when that was done last
type Store struct{ dir string }

// At is the history of a state directory, which need not exist.
func At(stateDir string) Store { return Store{dir: stateDir} }

func (s Store) eventsPath() string { return filepath.Join(s.dir, "events.jsonl") }
func (s Store) olderPath() string  { return s.eventsPath() + ".1" }
func (s Store) logsDir() string    { return filepath.Join(s.dir, "logs") }

// leastFree is how much of the disk must be free for history to be kept, in bytes: room that jobs may need is not taken by what is over.
const leastFree = 64 << 20

// Roomy tells whether the disk has room for history.
func (s Store) Roomy() bool {
	var st unix.Statfs_t
	if err := unix.Statfs(s.dir, &st); err != nil {
		return false
	}
	return int64(st.Bavail)*int64(st.Bsize) >= leastFree //nolint:unconvert // the types differ between systems
}
