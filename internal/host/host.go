// Package host keeps what the driver knows about its Mac: the state directory, the record of every VM, the slots for running
// VMs, and the Mac's CPUs and memory.
//
// There is no daemon and no database. Files say what is meant, and the kernel's file locks say who is alive: a lock goes when
// its last holder goes, however it ends. Nothing here calls tart.
package host

import (
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"gitlab-runner-tart-driver/internal/crash"
)

// State is an open state directory:
//
//	vms/NAME/record.json   which VM belongs to which job; written before the VM is made
//	vms/NAME/lock          held by whoever answers for the VM: prepare first, then its keeper
//	vms/NAME/sock          the keeper's socket
//	vms/NAME/*.log         what `tart run` and the keeper said
//	slots/N                one per VM that may run at once; locked while taken, holds who has it
//	queue/TICKET           one per job that waits for a slot, in the order of arrival
//	images/                locks and last use of cached images
//	logs/, events.jsonl    what is kept of finished jobs, see package history
type State struct {
	dir string
	id  string
}

// DefaultDir is the state directory in a home directory, where no flag names another.
func DefaultDir(home string) string { return filepath.Join("/", home, ".gitlab-runner-tart-driver") }

// ErrStateDir marks a state directory that cannot be used.
var ErrStateDir = errors.New("state directory cannot be used")

// Open makes the state directory where it is missing and checks that it can be used. Only its owner can enter it.
func Open(dir string) (*State, error) {
	if !filepath.IsAbs(dir) {
		return nil, fmt.Errorf("%w: %q is not an absolute path", ErrStateDir, dir)
	}
	dir = filepath.Clean(dir)
	s := &State{dir: dir, id: stateID(dir)}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStateDir, err)
	}
	if err := checkOwner(dir); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStateDir, err)
	}
	for _, d := range []string{s.vmsDir(), s.slotsDir(), s.queueDir()} {
		err := os.MkdirAll(d, 0o700)
		if err == nil {
			err = checkPart(d)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrStateDir, err)
		}
	}
	return s, nil
}

// checkOwner refuses a directory that others could have filled: files in it decide which VMs are destroyed, and which processes are ended.
func checkOwner(dir string) error {
	st, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if err := ownedByUs(dir, st); err != nil {
		return err
	}
	if st.Mode().Perm()&0o022 != 0 {
		if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
			return fmt.Errorf("other users can write to %q (mode %v), and may have done so; move it away", dir, st.Mode().Perm())
		}
	}
	if st.Mode().Perm()&0o077 != 0 {
		if err := os.Chmod(dir, 0o700); err != nil {
			return fmt.Errorf("%q is open to other users: %w", dir, err)
		}
	}
	return nil
}

func ownedByUs(dir string, st fs.FileInfo) error {
	if uid, ok := ownerOf(st); ok && uid != os.Getuid() {
		return fmt.Errorf("%q belongs to user id %d and not to this one (%d)", dir, uid, os.Getuid())
	}
	return nil
}

// checkPart refuses a part of the state directory that is not a directory of its own, made by its user.
func checkPart(dir string) error {
	st, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !st.IsDir() {
		return fmt.Errorf("%q is not a directory", dir)
	}
	return checkOwner(dir)
}

// Dir is the state directory's path.
func (s *State) Dir() string { return s.dir }

func (s *State) vmsDir() string   { return filepath.Join(s.dir, "vms") }
func (s *State) slotsDir() string { return filepath.Join(s.dir, "slots") }
func (s *State) queueDir() string { return filepath.Join(s.dir, "queue") }

// stateID is derived from the user and the path, not stored, so that a state directory that was wiped still knows the VMs that
// it made.
func stateID(dir string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d:%s", os.Getuid(), dir))
	return short(sum[:], idLength)
}

// shortAlphabet is what short is made of.
const shortAlphabet = "abcdefghijklmnopqrstuvwxyz234567"

// short is n lower-case letters and digits made from raw bytes.
func short(raw []byte, n int) string {
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(raw))[:n]
}

// writeFileAtomic replaces path by data in one step, readable by the owner only; a crash of the
// process leaves the old file or the new one. It does not wait for the disk: after a power cut a lost or damaged record is made up
// for by its directory's name, and waiting costs tens of milliseconds on macOS.
func writeFileAtomic(path string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // fails after the rename, as it should
	_, err = tmp.Write(data)
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	crash.Point("file: written")
	return os.Rename(tmp.Name(), path)
}
