package e2e

import (
	"os"
	"syscall"
)

// smallDisk puts the state directory on a disk of its own.
func (h *mac) smallDisk() {
	h.t.Helper()
	if os.Getuid() != 0 {
		h.t.Skip("only root may mount a small disk")
	}
	if err := os.MkdirAll(h.state(), 0o700); err != nil {
		h.t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", h.state(), "tmpfs", 0, "size=1m,mode=0700"); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { // before the host is removed
		h.endAll()
		if err := syscall.Unmount(h.state(), 0); err != nil {
			h.t.Error(err)
		}
	})
}
