package proc

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// zombie is SZOMB of <sys/proc.h>.
const zombie = 5

func lookup(pid int) (info, error) {
	kp, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EIO) {
		// An unknown pid yields an empty answer, which x/sys reports as EIO.
		return info{}, ErrGone
	}
	if err != nil {
		return info{}, fmt.Errorf("sysctl kern.proc.pid: %w", err)
	}
	if int(kp.Proc.P_pid) != pid {
		return info{}, ErrGone
	}
	return infoOf(kp), nil
}

func infoOf(kp *unix.KinfoProc) info {
	start := kp.Proc.P_starttime
	return info{
		ppid:   int(kp.Eproc.Ppid),
		start:  start.Sec*1_000_000 + int64(start.Usec),
		zombie: kp.Proc.P_stat == zombie,
	}
}

// all are the processes that can be looked up, by pid.
func all() map[int]info {
	processes := map[int]info{}
	kps, _ := unix.SysctlKinfoProcSlice("kern.proc.all")
	for i := range kps {
		processes[int(kps[i].Proc.P_pid)] = infoOf(&kps[i])
	}
	return processes
}

// bootID uses kern.bootsessionuuid and not kern.boottime, which moves when the clock is set.
func bootID() string {
	id, err := unix.Sysctl("kern.bootsessionuuid")
	if err != nil {
		return ""
	}
	return id
}
