package simconf

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Call is one call of tart, as `tartsim calls --json` shows it: the start record merged with the end record.
type Call struct {
	ID    string    `json:"id"`
	Start time.Time `json:"start"`
	PID   int       `json:"pid"`
	PPID  int       `json:"ppid"`
	Argv  []string  `json:"argv"`
	Dir   string    `json:"dir,omitempty"`
	// Env holds the values of TART_*, CI and TRACEPARENT; EnvNames the names of all variables.
	Env      map[string]string `json:"env,omitempty"`
	EnvNames []string          `json:"env_names,omitempty"`
	// End, Exit and CPU, the processor time of the call's own process up to then, are absent when the call was killed, or still runs.
	End  *time.Time    `json:"end,omitempty"`
	Exit *int          `json:"exit,omitempty"`
	CPU  time.Duration `json:"cpu,omitempty"`
}

// Journal appends calls to $TART_HOME/tartsim-calls.jsonl: one line when a call starts, one when it ends by itself.
type Journal struct {
	path string
	id   string
}

// StartCall records the start of a call. The caller calls End when the call ends by itself.
func StartCall(tartHome string, argv, environ []string) (*Journal, error) {
	now := time.Now()
	j := &Journal{path: filepath.Join(tartHome, CallsFile), id: fmt.Sprintf("%d-%d", now.UnixNano(), os.Getpid())}
	dir, err := os.Getwd()
	if err != nil {
		dir = ""
	}
	call := Call{ID: j.id, Start: now, PID: os.Getpid(), PPID: os.Getppid(), Argv: argv, Dir: dir, Env: map[string]string{}}
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		call.EnvNames = append(call.EnvNames, name)
		if strings.HasPrefix(name, "TART_") || name == "CI" || name == "TRACEPARENT" {
			call.Env[name] = value
		}
	}
	sort.Strings(call.EnvNames)
	return j, j.append(call)
}

// End records the exit status.
func (j *Journal) End(code int) error {
	now := time.Now()
	return j.append(struct {
		ID   string        `json:"id"`
		End  time.Time     `json:"end"`
		Exit int           `json:"exit"`
		CPU  time.Duration `json:"cpu,omitempty"`
	}{j.id, now, code, ownCPU()})
}

// ownCPU is this process's processor time so far.
func ownCPU() time.Duration {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// append writes one line with a single write: concurrent writers to a file opened for appending don't interleave.
func (j *Journal) append(record any) error {
	line, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("record call: %w", err)
	}
	file, err := os.OpenFile(j.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("record call: %w", err)
	}
	_, err = file.Write(append(line, '\n'))
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("record call: %w", err)
	}
	return nil
}

// ReadCalls returns all recorded calls, oldest first.
func ReadCalls(tartHome string) ([]Call, error) {
	path := filepath.Join(tartHome, CallsFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read calls: %w", err)
	}
	data = data[:bytes.LastIndexByte(data, '\n')+1] // a line may just be written
	var calls []Call
	index := map[string]int{}
	for n, line := range bytes.Split(data, []byte("\n")) {
		if len(line) == 0 {
			continue
		}
		var call Call
		if err := json.Unmarshal(line, &call); err != nil {
			return nil, fmt.Errorf("read calls: %s line %d: %w", path, n+1, err)
		}
		if i, known := index[call.ID]; known {
			calls[i].End, calls[i].Exit, calls[i].CPU = call.End, call.Exit, call.CPU
			continue
		}
		index[call.ID] = len(calls)
		calls = append(calls, call)
	}
	return calls, nil
}
