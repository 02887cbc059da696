//go:build !linux

package spawned

import "os/exec"

// Run is for Linux.
func Run(*exec.Cmd, func(argv []string) bool) ([]Program, error) { return nil, ErrUnsupported }
