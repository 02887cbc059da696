package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A Lock is a flock(2) on a file. It belongs to the open file description, so a child that inherits the descriptor keeps it after
// its parent is gone; that is how `tart run` keeps its slot and a keeper keeps its record.
type Lock struct {
	mu sync.Mutex // held while f goes
	f  *os.File
}

// errBusy means that somebody living holds the lock.
var errBusy = errors.New("lock is held")

// tryLock opens path, making it when create is set, and locks it at once or fails with errBusy.
func tryLock(path string, create bool) (*Lock, error) {
	flags := os.O_RDWR
	if create {
		flags |= os.O_CREATE
	}
	return openLocked(path, flags, unix.LOCK_EX)
}

// trySharedLock is tryLock for those who can hold a lock together.
func trySharedLock(path string) (*Lock, error) {
	return openLocked(path, os.O_RDWR|os.O_CREATE, unix.LOCK_SH)
}

func openLocked(path string, flags, how int) (*Lock, error) {
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = errBusy
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	// The file may have been removed by its former holder between our open and our lock: then we hold nothing that others see.
	if same, err := sameFile(f, path); err != nil || !same {
		f.Close()
		if err == nil {
			err = os.ErrNotExist
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return &Lock{f: f}, nil
}

func sameFile(f *os.File, path string) (bool, error) {
	held, err := f.Stat()
	if err != nil {
		return false, err
	}
	named, err := os.Stat(path)
	if err != nil {
		return false, err
	}
	return os.SameFile(held, named), nil
}

// lockHeld tells whether somebody living holds the lock of a file alone.
func lockHeld(path string) bool {
	lock, err := tryLock(path, false)
	lock.Release()
	return errors.Is(err, errBusy)
}

// inheritedLock takes over a locked descriptor from a parent process.
func inheritedLock(f *os.File) *Lock { return &Lock{f: f} }

// File is the locked descriptor, to hand on to a child.
func (l *Lock) File() *os.File { return l.f }

// Release gives up this process's hold. Children that inherited the descriptor still hold the lock.
func (l *Lock) Release() {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f != nil {
		l.f.Close()
		l.f = nil
	}
}

// awaitLock waits for a lock on a file, which it makes where it is missing; busy is called once if that takes more than one try.
func awaitLock(ctx context.Context, path string, busy func()) (lock *Lock, err error) {
	told := false
	err = poll(ctx, func() (bool, error) {
		var err error
		lock, err = tryLock(path, true)
		switch {
		case errors.Is(err, errBusy):
			if !told {
				told = true
				busy()
			}
			return false, nil
		case errors.Is(err, fs.ErrNotExist): // removed between open and lock
			return false, nil
		}
		return err == nil, err
	})
	return lock, err
}

// poll calls try at once and then at a pace that slows down from 10 ms to 250 ms, until it is done, fails, or ctx ends.
func poll(ctx context.Context, try func() (done bool, err error)) error {
	pause := 10 * time.Millisecond
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timer.C:
		}
		done, err := try()
		if done || err != nil {
			return err
		}
		timer.Reset(pause)
		pause = min(pause*5/4, 250*time.Millisecond)
	}
}
