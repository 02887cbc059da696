// Package provision writes the shell scripts that set a guest up for its job: shares at the paths where the job wants them, GitLab Runner,
// time zone, in one script, because every call into a guest is a round trip; and before that, if wanted, an SSH server that takes one key only.
//
// It only writes scripts and reads their answers; running them is for others.
package provision

import (
	"fmt"
	"strings"
	"time"

	"gitlab-runner-tart-driver/internal/guest"
)

// Plan is what a guest needs. The zero Plan needs nothing.
type Plan struct {
	// Mounts are shares with a place in the guest.
	Mounts []Mount
	// ShareWait is how long a share may take to appear.
	ShareWait time.Duration
	// Timezone is an IANA name; empty leaves the guest's own.
	Timezone string
	// CheckRunner asks which GitLab Runner the guest has.
	CheckRunner bool
}

// Mount is a share of the host with its place in the guest.
type Mount struct {
	// Name is the share's name in `tart run --dir`.
	Name string
	// Target is the absolute path in the guest.
	Target string
	// ReadOnly shares are checked by reading only.
	ReadOnly bool
	// Title is how the user calls it, for messages.
	Title string
}

// Empty tells whether there is nothing to do.
func (p Plan) Empty() bool { return len(p.Mounts) == 0 && p.Timezone == "" && !p.CheckRunner }

// Exit codes of the script by what could not be done.
const (
	ExitMount    = 3
	ExitTimezone = 4
	ExitRunner   = 5
)

// answer begins each line that the script has to say; the rest is what its tools print.
const answer = "grtd: "

// Script is a script for bash or a POSIX sh.
func (p Plan) Script() string {
	var b strings.Builder
	b.WriteString(prologue)
	if len(p.Mounts) > 0 {
		fmt.Fprintf(&b, "share_wait=%d\n%s", p.ShareWait/(100*time.Millisecond), mountFunctions)
		for _, m := range p.Mounts {
			mode := "rw"
			if m.ReadOnly {
				mode = "ro"
			}
			fmt.Fprintf(&b, "share %s %s %s %s || exit %d\n", guest.Quote(m.Name), guest.Quote(m.Target), mode, guest.Quote(m.Title), ExitMount)
		}
	}
	if p.Timezone != "" {
		fmt.Fprintf(&b, "%stimezone %s || exit %d\n", timezoneFunction, guest.Quote(p.Timezone), ExitTimezone)
	}
	if p.CheckRunner {
		b.WriteString(checkFunction + "check_runner\n")
	}
	return b.String()
}

// Install is how GitLab Runner gets into a guest.
type Install struct {
	// Version is a release such as 18.5.0; empty or "latest" takes the newest.
	Version string
	// Methods are tried in order: host, curl, wget, brew. With host, the host's binary must follow the script in the same file.
	Methods []string
}

// Script is a script for bash, zsh or a POSIX sh. What follows it in the same file is not read as script.
func (i Install) Script() string {
	const place = "          " // as wide as the number that takes its place
	head := prologue + checkFunction + installFunction
	call := func(offset string) string {
		return fmt.Sprintf("install_runner %s %s %s || exit %d\nexit 0\n", guest.Quote(i.Version), guest.Quote(strings.Join(i.Methods, " ")), offset, ExitRunner)
	}
	return head + call(fmt.Sprintf("%-*d", len(place), len(head)+len(call(place))+1))
}

// Answer is the value of the last answer of the form key=value.
func Answer(answers []string, key string) string {
	value := ""
	for _, a := range answers {
		if v, ok := strings.CutPrefix(a, key+"="); ok {
			value = v
		}
	}
	return value
}

// Answers picks the script's own lines from its output.
func Answers(output string) []string {
	var lines []string
	for line := range strings.Lines(output) {
		if text, ok := strings.CutPrefix(strings.TrimRight(line, "\r\n"), answer); ok {
			lines = append(lines, text)
		}
	}
	return lines
}
