package main

import (
	"time"

	"golang.org/x/sys/unix"
)

// cpuClock is the processor time that a process has taken so far, to the nanosecond; /proc/PID/stat counts in hundredths of a second. The
// clock's number is made from the process's as clock_getcpuclockid(3) does.
func cpuClock(pid int) (time.Duration, error) {
	const scheduled = 2 // CPUCLOCK_SCHED in include/linux/posix-timers_types.h
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|scheduled), &ts); err != nil {
		return 0, err
	}
	return time.Duration(ts.Nano()), nil
}
