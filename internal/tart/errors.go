package tart

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"gitlab-runner-tart-driver/internal/lazy"
)

// Kind is what went wrong in a tart call, as far as its exit code and text tell.
type Kind int

// The kinds. Exit code 2 alone says little: tart uses it for three of them.
const (
	KindOther Kind = iota
	// KindCannotRun: the executable could not be started.
	KindCannotRun
	// KindInterrupted: the call's context ended; its cause is wrapped.
	KindInterrupted
	// KindNoSuchVM: no local VM of this name.
	KindNoSuchVM
	// KindNotRunning: the VM is not running.
	KindNotRunning
	// KindRunning: the VM is running, and must not be for this.
	KindRunning
	// KindUsage: a flag or value that this version of tart does not take.
	KindUsage
	// KindImageNotFound: the registry does not have the image.
	KindImageNotFound
	// KindAuth: the registry refused the credentials, or wants some.
	KindAuth
	// KindRegistry: the registry could not be reached or failed.
	KindRegistry
	// KindBadName: not a valid image reference.
	KindBadName
	// KindNoSpace: the disk is full.
	KindNoSpace
	// KindVMLimit: Apple's limit of running macOS VMs on one host.
	KindVMLimit
	// KindKeychain: the login keychain is locked or missing, which a macOS guest needs since macOS 15.
	KindKeychain
	// KindNoAddress: the VM has no known IP address (yet).
	KindNoAddress
	// KindResources: CPU or memory below the image's minimum.
	KindResources
	// KindNoAgent: the guest agent does not answer (yet).
	KindNoAgent
	// KindRestore: the state of a suspended guest does not fit this host, or the options of `tart run`.
	KindRestore
	// KindRace: tart's own garbage collection got in the way; once more will do.
	KindRace
)

// Error is a failed tart call.
type Error struct {
	Kind Kind
	// Command is the tart command, such as "clone".
	Command string
	// ExitCode is -1 where there was none.
	ExitCode int
	// Text is what tart said, its last lines, without progress.
	Text string
	// Err is the underlying error.
	Err error
}

func (e *Error) Error() string {
	switch {
	case e.Kind == KindInterrupted:
		return fmt.Sprintf("tart %s: %v", e.Command, e.Err)
	case e.Text != "":
		return fmt.Sprintf("tart %s: %s", e.Command, e.Text)
	case e.Err != nil:
		return fmt.Sprintf("tart %s: %v", e.Command, e.Err)
	default:
		return fmt.Sprintf("tart %s: exit code %d", e.Command, e.ExitCode)
	}
}

func (e *Error) Unwrap() error { return e.Err }

// KindOf is the kind of a tart error in err's chain, KindOther if there is none.
func KindOf(err error) Kind {
	if e := (*Error)(nil); errors.As(err, &e) {
		return e.Kind
	}
	return KindOther
}

// texts are tart's own words, first match wins. The source of each is
// https://github.com/openai/tart/blob/main/Sources/tart/VMStorageHelper.swift unless said otherwise.
var texts = []struct {
	kind    Kind
	pattern func() *regexp.Regexp
}{
	{KindVMLimit, lazy.Regexp(`number of VMs exceeds the system limit|maximum supported number of active virtual machines`)},
	// https://tart.run/faq/#unable-to-start-macos-vm-headlessly-after-updating-to-macos-15
	{KindKeychain, lazy.Regexp(`SecKeyCreateRandomKey_ios failed|Failed to generate keypair|User interaction is not allowed|status -25308`)},
	{KindRestore, lazy.Regexp(`failed to restore|VZErrorDomain Code=12\b`)},
	{KindNoSuchVM, lazy.Regexp(`the specified VM ".*" does not exist`)},
	{KindNotRunning, lazy.Regexp(`VM ".*" is not running`)},
	{KindRunning, lazy.Regexp(`VM ".*" is already running|VM ".*" is running|already locked`)},
	{KindNoAgent, lazy.Regexp(`using its control socket`)},
	{KindNoAddress, lazy.Regexp(`no IP address found`)},
	// The server that gives out tokens being down is no refusal. https://github.com/openai/tart/blob/main/Sources/tart/OCI/Registry.swift
	{KindRegistry, lazy.Regexp(`AuthFailed.*status code (408|429|5\d\d)`)},
	{KindAuth, lazy.Regexp(`AuthFailed|code: 40[13]\b|invalid credentials`)},
	{KindImageNotFound, lazy.Regexp(`code: 404\b|NAME_UNKNOWN|MANIFEST_UNKNOWN`)},
	{KindBadName, lazy.Regexp(`failed to parse remote name`)},
	{KindNoSpace, lazy.Regexp(`(?i)no space left on device|NSFileWriteOutOfSpaceError|(not|n.t) enough (disk )?space|is out of space`)},
	{KindResources, lazy.Regexp(`LessThanMinimalResourcesError`)},
	{KindRegistry, lazy.Regexp(`UnexpectedHTTPStatusCode|NSURLErrorDomain|(?i)connection (was )?(lost|refused|reset)|timed out|could not be found|offline`)},
	// Darwin's words, and Foundation's: https://developer.apple.com/documentation/foundation/nsfilenosuchfileerror
	{KindRace, lazy.Regexp(`(?i)bad file descriptor|failed to lock|no such file|the folder .* doesn.t exist|either the former doesn.t exist`)},
}

func classify(exitCode int, text string) Kind {
	for _, t := range texts {
		if t.pattern().MatchString(text) {
			return t.kind
		}
	}
	if exitCode == 64 { // EX_USAGE, which swift-argument-parser exits with
		return KindUsage
	}
	return KindOther
}

func newError(c call, err error) *Error {
	text := LastWords(c.stderr)
	if text == "" {
		text = LastWords(c.stdout)
	}
	return &Error{Kind: classify(c.exitCode, text), Command: c.args[0], ExitCode: c.exitCode, Text: text, Err: exitError{err, c.exitCode}}
}

// exitError keeps the error of os/exec for errors.As and says it shorter.
type exitError struct {
	error
	code int
}

func (e exitError) Unwrap() error { return e.error }

var progress = lazy.Regexp(`^\d{1,3}%$`)

// LastWords is the end of a program's output, on one line: no empty lines, no progress, no usage help, no "Error: " in front.
func LastWords(out []byte) string {
	const most = 600 // bytes; VZErrorDomain messages are long and have the reason in front
	var words []string
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(strings.ToValidUTF8(line, "\uFFFD"))
		if line == "" || progress().MatchString(line) {
			continue
		}
		if strings.HasPrefix(line, "Usage: ") || strings.HasPrefix(line, "See 'tart ") {
			break
		}
		words = append(words, strings.TrimPrefix(line, "Error: "))
	}
	if n := len(words); n > 3 {
		words = words[n-3:]
	}
	text := strings.Join(words, "; ")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}
