//go:build !linux

package tarthome

import (
	"fmt"
	"os"
	"runtime"
)

const (
	seekData = 4
	seekHole = 3
)

func cloneFile(_, source *os.File) error {
	return fmt.Errorf("copy %s: no cloning on %s", source.Name(), runtime.GOOS)
}

// CopyTree copies a guest's files; guests exist on Linux only.
func CopyTree(from, _ string) error {
	return fmt.Errorf("copy %s: guests exist on Linux only, not on %s", from, runtime.GOOS)
}
