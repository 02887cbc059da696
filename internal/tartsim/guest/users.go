package guest

import (
	"fmt"
	"strconv"
	"strings"
)

// firstOrdinaryUID is where people's accounts start; those of the host stay out of the guest.
const (
	firstOrdinaryUID = 1000
	nobodyUID        = 65534
)

// passwdFile is the guest's /etc/passwd: the system's accounts of the base, and the guest's user.
func passwdFile(base string, s *Spec) string {
	var b strings.Builder
	for _, line := range strings.Split(base, "\n") {
		fields := strings.Split(line, ":")
		if len(fields) < 7 || fields[0] == s.User {
			continue
		}
		uid, err := strconv.Atoi(fields[2])
		if err != nil || uid == s.UID || uid >= firstOrdinaryUID && uid != nobodyUID {
			continue
		}
		if uid == 0 && s.mac() {
			fields[5] = "/var/root"
		}
		fields[1] = "x"
		b.WriteString(strings.Join(fields, ":") + "\n")
	}
	fmt.Fprintf(&b, "%s:x:%d:%d:%s:%s:%s\n", s.User, s.UID, s.GID, s.User, s.HomeDir, s.Shell)
	return b.String()
}

// shadowFile is the guest's /etc/shadow for a passwd file. It has no password of the host; the user's is hash.
func shadowFile(passwd, user, hash string) string {
	var b strings.Builder
	for _, line := range strings.Split(passwd, "\n") {
		name, _, found := strings.Cut(line, ":")
		if !found {
			continue
		}
		secret := "*"
		if name == user {
			secret = hash
		}
		fmt.Fprintf(&b, "%s:%s:19000:0:99999:7:::\n", name, secret)
	}
	return b.String()
}

// groupFile is the guest's /etc/group: the base's, with the user's primary group under the name it has on the guest's system.
func groupFile(base string, s *Spec) string {
	primary := s.User
	if s.mac() {
		primary = "staff"
	}
	var b strings.Builder
	for _, line := range strings.Split(base, "\n") {
		fields := strings.Split(line, ":")
		if len(fields) < 4 || fields[0] == primary || fields[2] == strconv.Itoa(s.GID) {
			continue
		}
		fields[1], fields[3] = "x", ""
		b.WriteString(strings.Join(fields, ":") + "\n")
	}
	fmt.Fprintf(&b, "%s:x:%d:\n", primary, s.GID)
	return b.String()
}
