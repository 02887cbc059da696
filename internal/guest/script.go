package guest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// The programs below run in the guest. Each is handed to /bin/sh by whatever login shell the user has, in single quotes: so they
// are one line each and hold no single quote, no exclamation mark and no newline, which csh and fish would see something in.

// runProgram receives the path of a shell, the length of a script in bytes, and the script on its stdin, the first two as a line each. It takes the
// script whole before it starts it, for a shell that reads its program from a pipe reads it byte by byte and shares it with the script's own commands. It leaves
// its process group's number where endProgram finds it. The first file is the agreement between the two: whoever makes it first decides whether the script runs at all. What fails
// before the script starts ends in `no`, which the transport defines, so that no exit status of a script can be mistaken for it. So does
// the transport define t, as 0 and the process, where that can't lead a group: then it is the process tree that is to be ended.
//
// A script is waited for, so there are few processes beside it: dd takes the script and tells its length (its seventh word, on every system), and what
// removes the files is waited for by nobody.
//
//	$1 file
const runProgram = `k=$1; ` +
	`if kill -s 0 -- -$$ 2> /dev/null; then g=$$; elif [ -r /proc/$$/stat ]; then read -r _ _ _ _ g _ < /proc/$$/stat; else g=$(ps -o pgid= -p $$); fi; ` +
	`IFS= read -r h && read -r n || no; ` +
	`set -C; { echo ${t:-$g} > "$k"; } 2> /dev/null || no; ` +
	`set -- $(umask 077; LC_ALL=C exec dd bs=65536 2>&1 > "$k.sh"); set +C; ` +
	`[ "$7" = $n ] || { rm -f "$k" "$k.sh"; no; } 2> /dev/null; ` +
	`"$h" -l "$k.sh" < /dev/null; s=$?; rm -f "$k" "$k.sh" < /dev/null > /dev/null 2>&1 & exit $s`

// endProgram ends a script that runProgram runs: SIGTERM to its process group or process tree, and SIGKILL to what is left after a while.
//
//	$1 file  $2 tenths of a second between the two
const endProgram = `k=$1; set -C; { echo 0 > "$k"; } 2> /dev/null && exit 0; set +C; ` +
	`tree() { for c in $(ps -A -o pid= -o ppid= | while read -r p q; do [ $q -eq $1 ] && echo $p; done); do tree $c; done; echo $1; }; ` +
	`alive() { for p in $g; do kill -s 0 -- $p 2> /dev/null && return; done; return 1; }; ` +
	`n=0; until [ -s "$k" ] || [ $n -ge 50 ]; do sleep 0.1; n=$((n+1)); done; ` +
	`g=; r=; read -r g r 2> /dev/null < "$k"; g=$((g+0)); r=$((r+0)); ` +
	`if [ $g -gt 1 ]; then g=-$g; elif [ $r -gt 1 ]; then g=$(tree $r); else exit 0; fi; ` +
	`kill -s TERM -- $g 2> /dev/null; n=0; while alive && [ $n -lt $2 ]; do sleep 0.1; n=$((n+1)); done; ` +
	`kill -s KILL -- $g 2> /dev/null; rm -f "$k" "$k.sh"; exit 0`

// surveyProgram finds out what the guest is, and makes the directories that jobs need: with mkdir where the user may write, else with sudo.
//
//	$1 wanted shell  $2... directories
const surveyProgram = `w=$1; shift; me=${USER:-$(id -un)}; set -- "$@" "$(uname -snm)"; n=$#; m=; ` + // all of this is waited for: few processes, and sudo at most once
	`while [ $n -gt 1 ]; do d=$1; shift; n=$((n-1)); [ -d "$d" ] && [ -w "$d" ] && continue; ` +
	`set -- "$@" "$d"; until [ -e "${d:-/}" ]; do d=${d%/*}; done; [ -w "${d:-/}" ] && m=1; done; ` +
	`u=$1; shift; [ -z "$m" ] || mkdir -p "$@" 2> /dev/null; n=$#; ` +
	`while [ $n -gt 0 ]; do d=$1; shift; n=$((n-1)); { [ -d "$d" ] && [ -w "$d" ]; } || set -- "$@" "$d"; done; ` +
	`[ $# -eq 0 ] || sudo -n install -d -o "$me" "$@" > /dev/null 2>&1 || { sudo -n mkdir -p "$@" && sudo -n chown "$me" "$@"; } > /dev/null 2>&1; ` +
	`echo; echo grtd:os=${u%% *}; echo grtd:arch=${u##* }; u=${u#* }; echo grtd:host=${u% *}; ` +
	`v=; k=; p=/System/Library/CoreServices/SystemVersion.plist; if [ -r $p ]; then ` +
	`while read -r l; do case $l in *ProductVersion*) k=1;; *string*) [ "$k" ] && { l=${l#*>}; v=${l%%<*}; break; };; esac; done < $p; fi; ` +
	`echo grtd:version=${v:-$(sw_vers -productVersion 2> /dev/null || (. /etc/os-release && echo $NAME $VERSION_ID) 2> /dev/null)}; ` +
	`for d in "$@"; do { [ -d "$d" ] && [ -w "$d" ]; } || echo "grtd:unwritable=$d"; done; ` +
	`for s in "$w" /bin/bash bash /bin/sh; do p=$(command -v "$s" 2> /dev/null) && [ -f "$p" ] && [ -x "$p" ] && break; done; echo grtd:shell=$p; ` +
	`echo grtd:user=$me; echo grtd:end=`

// ErrNotStarted means that a script could not even be started.
var ErrNotStarted = errors.New("the script could not be started in the VM: /tmp there cannot be written")

// ErrEnded means that a script was ended on request.
var ErrEnded = errors.New("the script was ended")

// termGrace is the time between SIGTERM and SIGKILL for a script that is to end.
const termGrace = 10 * time.Second

// endPatience is how long the end of a script that was ended may take to be heard of.
const endPatience = 2 * time.Second

// Info is what the guest says of itself.
type Info struct {
	// OS and Arch are uname's: Darwin or Linux, arm64, aarch64 or x86_64.
	OS, Arch string
	// Version is the operating system's, such as 15.3.1.
	Version  string
	Hostname string
	User     string
	// Shell is the wanted shell, or the one that takes its place.
	Shell string
	// Unwritable are directories that the user can't write to, even with sudo.
	Unwritable []string
}

// Guest is a guest that can be reached, by whatever transport.
type Guest interface {
	// Survey asks the guest what it is, finds a shell, and makes directories. It succeeds only when the guest runs commands.
	Survey(ctx context.Context, shell string, dirs ...string) (Info, error)
	// RunScript runs a script of size bytes with a login shell. When ctx ends, the script's process group is ended before RunScript
	// returns ErrEnded, so that the next script finds a quiet guest.
	RunScript(ctx context.Context, shell string, script io.ReaderAt, size int64, stdout, stderr io.Writer) (Status, error)
	// StandBy tells that there may be another script, which can then begin at once. It does not wait.
	StandBy()
	// Lost is closed when the guest can't be reached any more; Cause then says why, and is nil before.
	Lost() <-chan struct{}
	Cause() error
	// Close ends the connection and everything that waits on it.
	Close()
}

// programs is how a transport runs one of the programs above.
type programs interface {
	run(ctx context.Context, program string, args []string, streams Streams) (Status, error)
}

// Survey implements Guest.
func (s *SSH) Survey(ctx context.Context, shell string, dirs ...string) (Info, error) {
	return surveyIn(ctx, s, shell, dirs...)
}

// sshPrologue defines how a program ends that could not begin: by a signal of its own, which the server tells from an exit status.
// OpenSSH starts each command in a session of its own. In the group of a server that doesn't are its other commands, and perhaps the server: there a script is
// ended by its process tree, for which ps is needed.
const sshPrologue = `t=; kill -s 0 -- -$$ 2> /dev/null || { command -v ps > /dev/null && t="0 $$"; }; no() { kill -ALRM $$; exit 1; }; `

// run hands a program to whatever login shell the user has.
func (s *SSH) run(ctx context.Context, program string, args []string, streams Streams) (Status, error) {
	return begun(s.Exec(ctx, programLine(program, args...), streams))
}

// begun tells a program that could not begin from what else may end one.
func begun(status Status, err error) (Status, error) {
	if err == nil && status.Signal == "ALRM" {
		err = ErrNotStarted
	}
	return status, err
}

func programLine(program string, args ...string) string {
	return commandLine(sshPrologue+program, args...)
}

func surveyIn(ctx context.Context, in programs, shell string, dirs ...string) (Info, error) {
	var out, errs capped
	status, err := in.run(ctx, surveyProgram, append([]string{shell}, dirs...), Streams{Stdout: &out, Stderr: &errs})
	if out.full || errs.full {
		return Info{}, fmt.Errorf("%w: %q", errFlood, lastLine(errs.String()+out.String()))
	}
	if err != nil {
		return Info{}, err
	}
	info, complete := parseSurvey(out.String())
	if !complete {
		return Info{}, fmt.Errorf("the VM does not run commands properly: exit status %d, it said %q", status.Code, lastLine(errs.String()+out.String()))
	}
	return info, nil
}

// Ask runs a short script by /bin/sh, and returns the little that it prints.
func Ask(ctx context.Context, g Guest, script string) (string, Status, error) {
	var out, errs capped
	status, err := g.RunScript(ctx, "/bin/sh", strings.NewReader(script), int64(len(script)), &out, &errs)
	said := out.String() + errs.String()
	if out.full || errs.full {
		err = fmt.Errorf("%w: %q", errFlood, lastLine(said))
	}
	return said, status, err
}

// capped keeps what a guest says, and takes no more than a short answer can be.
type capped struct {
	strings.Builder
	full bool
}

// maxAnswer is in bytes.
const maxAnswer = 64 << 10

var errFlood = errors.New("the VM prints without end instead of an answer; look at the startup files of the user's shell")

func (c *capped) Write(p []byte) (int, error) {
	if c.full = c.full || c.Len()+len(p) > maxAnswer; c.full {
		return 0, errFlood
	}
	return c.Builder.Write(p)
}

// parseSurvey picks the program's lines from whatever else the user's shell prints when it starts.
func parseSurvey(out string) (info Info, complete bool) {
	for line := range strings.Lines(out) {
		kv, ok := strings.CutPrefix(strings.TrimRight(line, "\r\n"), "grtd:")
		if !ok {
			continue
		}
		k, v, _ := strings.Cut(kv, "=")
		switch k {
		case "os":
			info.OS = v
		case "arch":
			info.Arch = v
		case "version":
			info.Version = v
		case "host":
			info.Hostname = v
		case "user":
			info.User = v
		case "shell":
			info.Shell = v
		case "unwritable":
			info.Unwritable = append(info.Unwritable, v)
		case "end":
			complete = true
		}
	}
	return info, complete && info.Shell != ""
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

// scriptInput is what runProgram reads.
func scriptInput(shell string, script io.ReaderAt, size int64) io.Reader {
	return io.MultiReader(strings.NewReader(shell+"\n"+strconv.FormatInt(size, 10)+"\n"), io.NewSectionReader(script, 0, size))
}

// scriptRun is how a script is run by runProgram, and ended.
type scriptRun struct {
	in   programs
	file string // runProgram's
	run  func(context.Context) (Status, error)
	// signal sends a signal to the script's process group in a way that needs neither the file nor another command in the guest; nil where there is none.
	signal func(name string)
}

// scriptEnd is how a script has ended.
type scriptEnd struct {
	status Status
	err    error
}

// do runs the script, and ends it when ctx does.
func (s scriptRun) do(ctx context.Context) (Status, error) {
	// The script's output is taken until it has ended, also after a cancel: it may have something to say about that.
	rctx, drop := context.WithCancel(context.WithoutCancel(ctx))
	defer drop()
	ended := make(chan scriptEnd, 1)
	go func() {
		status, err := s.run(rctx)
		ended <- scriptEnd{status, err}
	}()
	var e scriptEnd
	select {
	case e = <-ended:
		if !errors.Is(e.err, errOutput) {
			return e.status, e.err
		}
	case <-ctx.Done():
	}
	endErr := s.end(context.WithoutCancel(ctx))
	if e.err == nil {
		seen := false
		if e, seen = s.insist(ended); !seen {
			drop()
			e = <-ended
		} else if s.signal != nil && !errors.Is(e.err, ErrLost) {
			endErr = nil // whatever became of endProgram
		}
	}
	if endErr != nil {
		return Status{}, fmt.Errorf("%w, but perhaps not all of it: %w", ErrEnded, endErr)
	}
	if cause := context.Cause(ctx); cause != nil {
		return Status{}, fmt.Errorf("%w: %w", ErrEnded, cause)
	}
	return Status{}, fmt.Errorf("%w: %w", ErrEnded, e.err)
}

// end ends the script by endProgram.
func (s scriptRun) end(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 3*termGrace)
	defer cancel()
	_, err := s.in.run(ctx, endProgram, []string{s.file, strconv.Itoa(int(termGrace / (100 * time.Millisecond)))}, Streams{})
	return err
}

// insist waits for the end of a script after endProgram, which may have done nothing: the script may have removed the file, and a server may have no room
// for another command. seen is false where the script goes on all the same.
func (s scriptRun) insist(ended <-chan scriptEnd) (e scriptEnd, seen bool) {
	wait := func(d time.Duration) bool {
		limit := time.NewTimer(d)
		defer limit.Stop()
		select {
		case e = <-ended:
			return true
		case <-limit.C:
			return false
		}
	}
	if s.signal == nil {
		return e, wait(termGrace)
	}
	if wait(endPatience) {
		return e, true
	}
	for _, name := range []string{"TERM", "KILL"} {
		if s.signal(name); wait(termGrace) {
			return e, true
		}
	}
	return e, false
}

// scriptFile is a new name that nobody in the guest can foresee.
func scriptFile() string {
	var raw [16]byte
	_, _ = rand.Read(raw[:]) // never fails: https://pkg.go.dev/crypto/rand#Read
	return "/tmp/.grtd-" + hex.EncodeToString(raw[:])
}

// commandLine is a command line that any shell takes to /bin/sh.
func commandLine(program string, args ...string) string {
	line := "exec /bin/sh -c " + Quote(program) + " grtd"
	for _, a := range args {
		line += " " + Quote(a)
	}
	return line
}

// Quote puts s in single quotes, for any shell.
func Quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
