package host

import (
	"crypto/rand"
	"strings"
)

// A VM's name says whose it is: NamePrefix, the state directory that made it, the job's id and a random part, joined by dashes.
// It is never used twice, because `tart clone` silently replaces a VM of the same name.
const NamePrefix = "grtd-"

const (
	idLength     = 6
	randomLength = 8
	mostDigits   = 20
	digits       = "0123456789"
)

// nameParts takes a VM's name apart; ok is false if it isn't one that a driver makes.
func nameParts(name string) (id, jobDigits string, ok bool) {
	rest, ok := strings.CutPrefix(name, NamePrefix)
	parts := strings.Split(rest, "-")
	consists := func(part, of string) bool { return part != "" && strings.Trim(part, of) == "" }
	if !ok || len(parts) != 3 || len(parts[0]) != idLength || !consists(parts[0], shortAlphabet) ||
		len(parts[1]) > mostDigits || !consists(parts[1], digits) || len(parts[2]) != randomLength || !consists(parts[2], shortAlphabet) {
		return "", "", false
	}
	return parts[0], parts[1], true
}

// digitsOf is what a VM's name has of a job's id. Whatever is not a digit is left out.
func digitsOf(jobID string) string {
	only := strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, jobID)
	if only == "" {
		return "0"
	}
	return only[:min(len(only), mostDigits)]
}

// NewName makes a new VM name for a job.
func (s *State) NewName(jobID string) string {
	var raw [5]byte
	_, _ = rand.Read(raw[:]) // never fails: https://pkg.go.dev/crypto/rand#Read
	return NamePrefix + s.id + "-" + digitsOf(jobID) + "-" + short(raw[:], randomLength)
}

// Owns tells whether a VM of this name was made by way of this state directory.
func (s *State) Owns(name string) bool {
	id, _, ok := nameParts(name)
	return ok && id == s.id
}

// IsJobVM tells whether name has the form of any driver's job VM, this state directory's or another's. macOS's file system does not tell cases
// apart.
func IsJobVM(name string) bool {
	_, _, ok := nameParts(strings.ToLower(name))
	return ok
}
