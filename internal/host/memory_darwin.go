package host

import "golang.org/x/sys/unix"

// MemoryMB is the host's memory in MiB, 0 where it can't be told.
func MemoryMB() int {
	n, err := unix.SysctlUint64("hw.memsize")
	if err != nil {
		return 0
	}
	return int(n >> 20)
}
