package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// usage is what a process took, from its start to its exit and the end of its output.
type usage struct{ wall, cpu time.Duration }

// measure runs a command whose output is read and thrown away, and fails if it fails.
func measure(cmd *exec.Cmd) (usage, error) {
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = io.Discard, &said
	began := time.Now()
	err := cmd.Run()
	if err != nil {
		return usage{}, fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(said.String()))
	}
	return usage{wall: time.Since(began), cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}, nil
}

// output is what is known of a command's output.
type output struct {
	usage
	bytes int64
	// first and last are when the first and the last piece of it arrived, head is the first piece.
	first, last time.Time
	head        []byte
}

// observe runs a command and reads its output through a pipe, as GitLab Runner does.
func observe(cmd *exec.Cmd) (o output, err error) {
	var said strings.Builder
	cmd.Stderr = &said
	r, w, err := os.Pipe()
	if err != nil {
		return o, err
	}
	defer r.Close()
	cmd.Stdout = w
	began := time.Now()
	err = cmd.Start()
	w.Close()
	if err != nil {
		return o, err
	}
	buf := make([]byte, 32<<10)
	for {
		n, rerr := r.Read(buf)
		if n > 0 {
			o.last = time.Now()
			if o.bytes == 0 {
				o.first, o.head = o.last, append([]byte(nil), buf[:n]...)
			}
			o.bytes += int64(n)
		}
		if rerr != nil {
			break
		}
	}
	err = cmd.Wait()
	o.wall = time.Since(began)
	if err != nil {
		return o, fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(said.String()))
	}
	o.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return o, nil
}
