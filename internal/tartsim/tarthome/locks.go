package tarthome

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// FileLock is an flock(2) on a file or directory.
type FileLock struct{ file *os.File }

// OpenFileLock opens a path for locking.
func OpenFileLock(path string) (*FileLock, error) {
	file, err := os.Open(path)
	if err != nil {
		// Tart doesn't notice that the file is gone until it locks the bad descriptor.
		return nil, System("Failed(\"failed to lock file://%s: Bad file descriptor\")", path)
	}
	return &FileLock{file: file}, nil
}

// TryLock takes the lock if it is free.
func (l *FileLock) TryLock() (bool, error) {
	err := unix.Flock(int(l.file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	if err != nil {
		return false, System("Failed(\"failed to lock file://%s: %v\")", l.file.Name(), err)
	}
	return true, nil
}

// Lock waits for the lock, for ever if need be, as tart does.
func (l *FileLock) Lock() error {
	for {
		err := unix.Flock(int(l.file.Fd()), unix.LOCK_EX)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return System("Failed(\"failed to lock file://%s: %v\")", l.file.Name(), err)
		}
		return nil
	}
}

// Close gives the lock back.
func (l *FileLock) Close() { _ = l.file.Close() }

// Global locks TART_HOME itself: the lock around clone's copy and around `run` until it holds its own.
func (h *Home) Global() (*FileLock, error) {
	lock, err := OpenFileLock(h.Dir)
	if err != nil {
		return nil, err
	}
	if err := lock.Lock(); err != nil {
		lock.Close()
		return nil, err
	}
	return lock, nil
}

// PIDLock is the POSIX record lock on a VM's config.json. Its holder's pid can be asked for.
type PIDLock struct{ file *os.File }

// errLockMissing says that there is no config.json to lock.
var errLockMissing = errors.New("no config.json")

func openPIDLock(path string) (*PIDLock, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("lock %s: %w", path, errLockMissing)
	}
	if err != nil {
		return nil, Failure("failed to open lock file %s: %v", path, err)
	}
	return &PIDLock{file: file}, nil
}

// TryLock takes the lock for this process if nobody else has it.
func (l *PIDLock) TryLock() (bool, error) {
	request := unix.Flock_t{Type: unix.F_WRLCK, Whence: 0}
	err := unix.FcntlFlock(l.file.Fd(), unix.F_SETLK, &request)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return false, nil
	}
	if err != nil {
		return false, Failure("failed to lock %s: %v", l.file.Name(), err)
	}
	return true, nil
}

// Holder returns the pid of the process that has the lock; 0: nobody. A process doesn't see its own lock.
func (l *PIDLock) Holder() (int, error) {
	request := unix.Flock_t{Type: unix.F_WRLCK, Whence: 0}
	if err := unix.FcntlFlock(l.file.Fd(), unix.F_GETLK, &request); err != nil {
		return 0, Failure("failed to get lock %s status: %v", l.file.Name(), err)
	}
	if request.Type == unix.F_UNLCK {
		return 0, nil
	}
	return int(request.Pid), nil
}

// Close closes the file and with it gives back every lock this process has on it.
func (l *PIDLock) Close() { _ = l.file.Close() }
