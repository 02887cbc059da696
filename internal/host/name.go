package host

import (
	"crypto/rand"
	"strings"

	"gitlab-runner-tart-driver/internal/lazy"
)

// A VM's name says whose it is: NamePrefix, the state directory that made it, the job's id and a random part, joined by dashes.
// It is never used twice, because `tart clone` silently replaces a VM of the same name.
const NamePrefix = "grtd-"

var namePattern = lazy.Regexp(`^grtd-([a-z2-7]{6})-([0-9]{1,20})-([a-z2-7]{8})$`)

// NewName makes a new VM name for a job. Whatever is not a digit in jobID is left out.
func (s *State) NewName(jobID string) string {
	digits := strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, jobID)
	if digits == "" {
		digits = "0"
	}
	if len(digits) > 20 {
		digits = digits[:20]
	}
	var raw [5]byte
	_, _ = rand.Read(raw[:]) // never fails: https://pkg.go.dev/crypto/rand#Read
	return NamePrefix + s.id + "-" + digits + "-" + short(raw[:], 8)
}

// Owns tells whether a VM of this name was made by way of this state directory.
func (s *State) Owns(name string) bool {
	m := namePattern().FindStringSubmatch(name)
	return m != nil && m[1] == s.id
}

// IsJobVM tells whether name has the form of any driver's job VM, this state directory's or another's. macOS's file system does not tell cases
// apart.
func IsJobVM(name string) bool { return namePattern().MatchString(strings.ToLower(name)) }
