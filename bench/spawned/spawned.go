// Package spawned counts the programs that a program starts, directly or through others, by watching it as a debugger would. Counting
// needs no cooperation and misses none, however short it lives.
//
// It is for single runs whose time does not count. Programs that it is told not to follow are counted and let go, so that what runs under
// them is not slowed down or hindered: a traced program can't gain rights by setuid, for example.
package spawned

import "errors"

// Program is a program that was started.
type Program struct {
	// PID is the process. One that becomes another program is one process, and listed once, as what it became last.
	PID int
	// Argv is its command line.
	Argv []string
}

// ErrUnsupported means that this system can't be asked.
var ErrUnsupported = errors.New("processes can be counted on Linux only")
