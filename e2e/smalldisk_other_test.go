//go:build !linux

package e2e

// smallDisk puts the state directory on a disk of its own.
func (h *mac) smallDisk() { h.t.Skip("only on Linux") }
