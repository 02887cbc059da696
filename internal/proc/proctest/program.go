// Package proctest has what tests need that start programs of their own.
package proctest

import (
	"os"
	"syscall"
)

// WriteProgram is os.WriteFile for what is to be started afterwards. Whoever starts a process meanwhile would have the new process keep the file open for
// writing until its own program begins, and the kernel starts no such file: ETXTBSY.
//
// Source: https://go.dev/issue/22315
func WriteProgram(name string, data []byte, perm os.FileMode) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return os.WriteFile(name, data, perm)
}
