// Command meter runs a program in its own place and notes what it took. GitLab Runner's part, as package trial plays it, knows when a stage
// began and ended; processor time and memory only its parent knows, and meter is that parent. It is small, because Linux counts the memory
// of a parent at the moment of its fork as its child's.
//
// usage: meter DIR PROGRAM [ARG]...
//
// The note is DIR/PID.json, with meter's own process id, for that is what GitLab Runner knows.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// exitFailed is the exit code where nothing could be measured; GitLab Runner knows it as no driver's.
const exitFailed = 70

// note is what meter writes. Package main of the benchmark reads it.
type note struct {
	// PID is the program's.
	PID        int
	Start, End time.Time
	CPU        time.Duration
	// MaxRSS is in KiB, as Linux has it.
	MaxRSS int64
}

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: meter DIR PROGRAM [ARG]...")
		os.Exit(exitFailed)
	}
	code, err := measure(os.Args[1], os.Args[2], os.Args[3:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "meter:", err)
	}
	os.Exit(code)
}

func measure(dir, program string, args []string) (exitCode int, err error) {
	// GitLab Runner signals the process group: the program gets the signal as well, and its end is what counts. The signals are caught, and not
	// ignored, because what is ignored would be ignored by the program too.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	cmd := exec.Command(program, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	n := note{Start: time.Now()}
	if err := cmd.Start(); err != nil {
		return exitFailed, err
	}
	n.PID = cmd.Process.Pid
	_ = cmd.Wait() // its exit code is passed on
	n.End = time.Now()
	n.CPU = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		n.MaxRSS = usage.Maxrss
	}
	raw, err := json.Marshal(n)
	if err != nil {
		return exitFailed, err
	}
	if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(os.Getpid())+".json"), raw, 0o600); err != nil {
		return exitFailed, err
	}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return cmd.ProcessState.ExitCode(), nil
}
