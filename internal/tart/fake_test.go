package tart

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gitlab-runner-tart-driver/internal/proc/proctest"
)

// fake is an executable `tart` that writes down how it was called and then does what body says, in the language of /bin/sh.
type fake struct {
	t    *testing.T
	dir  string
	path string
}

func newFake(t *testing.T, body string) *fake {
	t.Helper()
	f := &fake{t: t, dir: t.TempDir()}
	f.path = filepath.Join(f.dir, "tart")
	script := fmt.Sprintf(`#!/bin/sh
here='%s'
{ for a in "$@"; do printf '%%s\037' "$a"; done; echo; } >> "$here/argv"
env > "$here/env.$1"
%s
`, f.dir, body)
	if err := proctest.WriteProgram(f.path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return f
}

// client is a client of the fake whose home is the fake's directory.
func (f *fake) client(extra ...string) *Client {
	f.t.Helper()
	c, err := New(f.path, append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + f.dir}, extra...))
	if err != nil {
		f.t.Fatal(err)
	}
	return c
}

// calls are the argument lists of all calls so far, each joined by spaces. It fails on arguments with spaces in them, which no test
// here passes.
func (f *fake) calls() []string {
	f.t.Helper()
	raw, err := os.ReadFile(filepath.Join(f.dir, "argv"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		f.t.Fatal(err)
	}
	var calls []string
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\x1f")
		if strings.Contains(line, " ") {
			f.t.Fatalf("a single argument has a space: %q", line)
		}
		calls = append(calls, strings.ReplaceAll(line, "\x1f", " "))
	}
	return calls
}

// environ is the environment of the last call of a command.
func (f *fake) environ(command string) []string {
	f.t.Helper()
	raw, err := os.ReadFile(filepath.Join(f.dir, "env."+command))
	if err != nil {
		f.t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(raw)), "\n")
}

// file is the content of a file that the fake wrote, empty if there is none.
func (f *fake) file(name string) string {
	f.t.Helper()
	raw, err := os.ReadFile(filepath.Join(f.dir, name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		f.t.Fatal(err)
	}
	return string(raw)
}

// bell is a named pipe by which the fake tells the test how far it is.
type bell struct {
	t *testing.T
	f *os.File
}

func newBell(t *testing.T, path string) *bell {
	t.Helper()
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	// Open for both, so that opening waits for nobody and reading has a deadline.
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return &bell{t: t, f: f}
}

// await waits for a line.
func (b *bell) await() string {
	b.t.Helper()
	if err := b.f.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		b.t.Fatal(err)
	}
	var line []byte
	for c := make([]byte, 1); !bytes.HasSuffix(line, []byte("\n")); line = append(line, c[0]) {
		if _, err := b.f.Read(c); err != nil {
			b.t.Fatalf("waiting for the fake: %v", err)
		}
	}
	return strings.TrimSpace(string(line))
}
