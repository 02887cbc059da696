package tart

import (
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestErrorsAreToldByCodeAndText(t *testing.T) {
	const usage = "Usage: tart clone <source-name> <new-name> [--insecure]\n  See 'tart clone --help' for more information.\n"
	for _, c := range []struct {
		stdout, stderr string
		code           int
		kind           Kind
		text           string // as shown; empty for the same as stderr
	}{
		{stderr: `the specified VM "a" does not exist`, code: 2, kind: KindNoSuchVM},
		{stderr: `Error: the specified VM "a" does not exist`, code: 1, kind: KindNoSuchVM, text: `the specified VM "a" does not exist`},
		{stderr: `VM "a" is not running`, code: 2, kind: KindNotRunning},
		{stderr: `VM "VM "a" is not running" is not running`, code: 2, kind: KindNotRunning},
		{stderr: `VM "a" is already running!`, code: 2, kind: KindRunning},
		{stderr: `VM "a" is running`, code: 1, kind: KindRunning},
		{stderr: `already locked`, code: 1, kind: KindRunning},
		{stderr: `cannot remove VM a: already locked`, code: 1, kind: KindRunning},
		{stderr: "Error: Unknown option '--stacked'\n" + usage, code: 64, kind: KindUsage, text: "Unknown option '--stacked'"},
		{stderr: "Error: <new-name> should be a local name\n" + usage, code: 64, kind: KindUsage, text: "<new-name> should be a local name"},
		{stderr: "Error: CancellationError()", code: 1, kind: KindOther, text: "CancellationError()"},
		{stderr: "Fatal error: failed to get terminal size", code: -1, kind: KindOther},

		{stderr: "no IP address found", code: 1, kind: KindNoAddress},
		{stderr: "no IP address found, is your VM running?", code: 1, kind: KindNoAddress},
		{stderr: "no IP address found (also make sure that Guest agent for Tart is running inside of a VM)", code: 1, kind: KindNoAddress},

		{stderr: `Error: AuthFailed(why: "received unexpected HTTP status code 401")`, code: 1, kind: KindAuth,
			text: `AuthFailed(why: "received unexpected HTTP status code 401")`},
		{stderr: `Error: UnexpectedHTTPStatusCode(when: "pulling manifest", code: 401, details: "")`, code: 1, kind: KindAuth,
			text: `UnexpectedHTTPStatusCode(when: "pulling manifest", code: 401, details: "")`},
		{stderr: `UnexpectedHTTPStatusCode(when: "pulling manifest", code: 403, details: "denied")`, code: 1, kind: KindAuth},
		{stderr: `invalid credentials: no colon`, code: 1, kind: KindAuth},
		{stderr: `UnexpectedHTTPStatusCode(when: "pulling manifest", code: 404, details: "{\"errors\":[]}")`, code: 1, kind: KindImageNotFound},
		{stderr: `UnexpectedHTTPStatusCode(when: "pulling manifest", code: 4040, details: "")`, code: 1, kind: KindRegistry},
		{stderr: `UnexpectedHTTPStatusCode(when: "pulling manifest", code: 500, details: "")`, code: 1, kind: KindRegistry},
		{stderr: `UnexpectedHTTPStatusCode(when: "pulling blob", code: 429, details: "toomanyrequests")`, code: 1, kind: KindRegistry},
		{stderr: `Error Domain=NSURLErrorDomain Code=-1004 "Could not connect to the server."`, code: 1, kind: KindRegistry},
		{stderr: `The network connection was lost.`, code: 1, kind: KindRegistry},
		{stderr: `The request timed out.`, code: 1, kind: KindRegistry},
		{stderr: `A server with the specified hostname could not be found.`, code: 1, kind: KindRegistry},
		{stderr: `The Internet connection appears to be offline.`, code: 1, kind: KindRegistry},
		{stderr: `failed to parse remote name: mismatched input`, code: 1, kind: KindBadName},
		{stderr: `OCI storage error: a/b:c is not a digest and doesn't point to a digest`, code: 1, kind: KindOther},
		{stderr: `The file “disk.img” couldn’t be saved: Domain=NSPOSIXErrorDomain Code=28 "No space left on device"`, code: 1, kind: KindNoSpace},
		{stderr: "The file “disk.img” couldn’t be copied because there isn’t enough space.", code: 1, kind: KindNoSpace},
		{stderr: "You can’t save the file “disk.img” because the volume “Macintosh HD” is out of space.", code: 1, kind: KindNoSpace},

		{stderr: "Keychain failed to update item: User interaction is not allowed.", code: 1, kind: KindKeychain},
		{stderr: "Keychain returned unsuccessful status -25308", code: 1, kind: KindKeychain},
		{stderr: `VZErrorDomain Code=1 "Internal error" NSUnderlyingError: SecKeyCreateRandomKey_ios failed`, code: 1, kind: KindKeychain},
		{stderr: "Failed to generate keypair", code: 1, kind: KindKeychain},
		{stderr: "The number of VMs exceeds the system limit", code: 1, kind: KindVMLimit},
		{stderr: "The number of VMs exceeds the system limit (other running VMs: a, b)", code: 1, kind: KindVMLimit},
		{stderr: `Error Domain=VZErrorDomain Code=6 "The maximum supported number of active virtual machines has been reached."`, code: 1, kind: KindVMLimit},
		{stderr: "Error: LessThanMinimalResourcesError: VM should have 4 CPU cores at minimum (requested 1)", code: 1, kind: KindResources,
			text: "LessThanMinimalResourcesError: VM should have 4 CPU cores at minimum (requested 1)"},
		{stderr: `Failed("failed to lock /Users/ci/.tart/tmp/AB: Bad file descriptor")`, code: 1, kind: KindRace},
		{stderr: "The file “config.json” couldn’t be opened because there is no such file.", code: 1, kind: KindRace},
		{stderr: "The folder “7F32CFAF-5611-6A8F-B600-917642C6AF3B” doesn’t exist.", code: 1, kind: KindRace},
		{stderr: "“AB” couldn’t be moved to “vms” because either the former doesn’t exist, or the folder containing the latter doesn’t exist.", code: 1, kind: KindRace},

		// Of the two streams stderr counts: a credential provider that fails prints to stdout, and another may yet succeed.
		{stdout: "Keychain returned unsuccessful status -25308\n", stderr: `AuthFailed(why: "401")`, code: 1, kind: KindAuth},
		{stdout: "creating a snapshot...\nFailed to suspend the VM: no\n", code: 1, kind: KindOther, text: "creating a snapshot...; Failed to suspend the VM: no"},
		{code: 3, kind: KindOther},
	} {
		err := newError(call{args: []string{"clone", "a", "b"}, stdout: []byte(c.stdout), stderr: []byte(c.stderr), exitCode: c.code}, &exec.ExitError{})
		want := c.text
		if want == "" {
			want = c.stderr
		}
		if err.Kind != c.kind || err.Text != want || err.ExitCode != c.code || err.Command != "clone" {
			t.Errorf("exit code %d with %q:\n got kind %d, code %d, text %q\nwant kind %d, text %q", c.code, c.stderr, err.Kind, err.ExitCode, err.Text, c.kind, want)
		}
		if KindOf(fmt.Errorf("outer: %w", err)) != c.kind {
			t.Errorf("KindOf does not find the kind of %v behind another error", err)
		}
	}
}

func TestErrorText(t *testing.T) {
	for _, c := range []struct {
		err  *Error
		want string
	}{
		{&Error{Command: "clone", Text: "no", Err: fs.ErrClosed}, "tart clone: no"},
		{&Error{Command: "clone", ExitCode: 3}, "tart clone: exit code 3"},
		{&Error{Command: "list", Err: fs.ErrClosed}, "tart list: file already closed"},
		{&Error{Kind: KindInterrupted, Command: "pull", Text: "50%", Err: fs.ErrClosed}, "tart pull: file already closed"},
	} {
		if got := c.err.Error(); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
	if !errors.Is(&Error{Err: fs.ErrClosed}, fs.ErrClosed) {
		t.Error("the underlying error is not in the chain")
	}
	if KindOf(nil) != KindOther || KindOf(fs.ErrClosed) != KindOther {
		t.Error("an error that is not tart's has a kind")
	}
}

func TestLastWords(t *testing.T) {
	long := strings.Repeat("é", 1000)
	for in, want := range map[string]string{
		"":                                 "",
		"\n \n\t\n":                        "",
		"one\n":                            "one",
		"one":                              "one",
		"one\r\ntwo\r\n":                   "one; two",
		"1\n2\n3\n4\n5\n":                  "3; 4; 5",
		"pulling disk...\n0%\n50%\n100%\n": "pulling disk...",
		"0%\n":                             "",
		"9999%\n":                          "9999%",
		"half 50%\n":                       "half 50%",
		"Error: a\nError: b\n":             "a; b",
		"Error: bad\nUsage: tart x\nmore":  "bad",
		"Error: bad\n  See 'tart x --help' for more information.\n": "bad",
		"bad \xff byte": "bad \uFFFD byte",
		long:            strings.Repeat("é", 300) + "…",
		"x" + long:      "x" + strings.Repeat("é", 299) + "…",
	} {
		if got := LastWords([]byte(in)); got != want {
			t.Errorf("LastWords(%.60q) = %.60q, want %.60q", in, got, want)
		}
	}
}

func FuzzLastWords(f *testing.F) {
	f.Add([]byte("Error: x\nUsage: y\n"))
	f.Add([]byte("10%\n\xff\r\n"))
	f.Fuzz(func(t *testing.T, out []byte) {
		got := LastWords(out)
		if strings.Contains(got, "\n") || !utf8.ValidString(got) || len(got) > 610 {
			t.Errorf("LastWords(%q) = %q: more than one line, not UTF-8, or %d bytes long", out, got, len(got))
		}
		for code := range 3 { // and no text may upset the classification
			classify(code, got)
		}
	})
}
