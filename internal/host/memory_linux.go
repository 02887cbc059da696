package host

import "golang.org/x/sys/unix"

// MemoryMB is the host's memory in MiB, 0 where it can't be told.
func MemoryMB() int {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 0
	}
	return int(uint64(info.Totalram) * uint64(info.Unit) >> 20)
}
