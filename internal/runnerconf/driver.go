package runnerconf

import (
	"bytes"
	"path/filepath"
	"slices"
	"strings"
)

// Driver is whose program a stage calls.
type Driver int

// The drivers that are told apart.
const (
	// DriverNone: the stage is not set.
	DriverNone Driver = iota
	// DriverOther is a program that is not known.
	DriverOther
	// DriverOwn is this driver.
	DriverOwn
	// DriverPython is the Python package of the same name.
	DriverPython
	// DriverTartExecutor is gitlab-tart-executor.
	DriverTartExecutor
)

// Name of this driver's program, which the Python driver shares.
const Name = "gitlab-runner-tart-driver"

// programs are the names that drivers' programs have.
var programs = map[string]Driver{Name: DriverOwn, "gitlab-tart": DriverPython, "gitlab-tart-executor": DriverTartExecutor}

func (d Driver) String() string {
	return [...]string{"none", "another program", "this driver", "the Python driver", "gitlab-tart-executor"}[d]
}

// Call is a stage's command line, taken apart.
type Call struct {
	Driver Driver
	// Program is the driver's, which may stand behind another, such as sudo. Before and Args are what stands in front of it and behind it.
	Program string
	Before  []string
	Args    []string
}

// Call finds out whose program the stage calls. head gives the beginning of a file, or nothing; it tells the Python driver from this one.
func (s Stage) Call(head func(path string) []byte) Call {
	if s.Exec == "" {
		return Call{}
	}
	words := append([]string{s.Exec}, s.Args...)
	i := slices.IndexFunc(words, func(word string) bool { return programs[filepath.Base(word)] != DriverNone })
	if i < 0 {
		return Call{Driver: DriverOther, Program: s.Exec, Args: s.Args}
	}
	call := Call{Driver: programs[filepath.Base(words[i])], Program: words[i], Before: words[:i], Args: words[i+1:]}
	if call.Driver == DriverOwn && isPython(head(words[i])) {
		call.Driver = DriverPython
	}
	return call
}

// isPython tells whether a file begins as the scripts that pip makes.
func isPython(head []byte) bool {
	line, rest, _ := bytes.Cut(head, []byte("\n"))
	if !bytes.HasPrefix(line, []byte("#!")) {
		return false
	}
	// Where the interpreter's path is too long for the kernel, pip lets /bin/sh start it, in the second line.
	// https://github.com/pypa/distlib/blob/master/distlib/scripts.py
	second, _, _ := bytes.Cut(rest, []byte("\n"))
	return bytes.Contains(line, []byte("python")) || bytes.HasPrefix(second, []byte("'''exec'")) && strings.Contains(string(second), "python")
}
