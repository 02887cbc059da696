package job

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestExitCodeOfAnError(t *testing.T) {
	plain := errors.New("x")
	for _, c := range []struct {
		name string
		err  error
		want int
		file string // content of the exit code file; empty for no file
	}{
		{"success", nil, 0, ""},
		{"script", &ScriptError{Code: 42}, 101, "42"},
		{"script, wrapped", fmt.Errorf("stage: %w", &ScriptError{Code: 1}), 101, "1"},
		{"script that a signal ended", &ScriptError{Code: 137}, 101, "137"},
		{"script with the code of a system failure", &ScriptError{Code: 102}, 101, "102"},
		{"the job's mistake", Mistake(plain, "hint"), 101, ""},
		{"the job's mistake, wrapped", fmt.Errorf("stage: %w", Mistake(plain, "")), 101, ""},
		{"infrastructure", Infrastructure(plain, "hint"), 102, ""},
		{"infrastructure, wrapped twice", fmt.Errorf("a: %w", fmt.Errorf("b: %w", Infrastructure(plain, ""))), 102, ""},
		{"infrastructure, joined with a plain error", errors.Join(plain, Infrastructure(plain, "")), 102, ""},
		{"the outermost decides", Infrastructure(Mistake(plain, ""), ""), 102, ""},
		{"anything else", plain, 102, ""},
	} {
		codes := ExitCodes{BuildFailure: 101, SystemFailure: 102, File: filepath.Join(t.TempDir(), "build_exit_code")}
		if got := codes.Of(c.err); got != c.want {
			t.Errorf("%s: exit code %d, want %d", c.name, got, c.want)
		}
		raw, err := os.ReadFile(codes.File)
		if c.file == "" && !errors.Is(err, fs.ErrNotExist) || string(raw) != c.file {
			t.Errorf("%s: the file has %q (%v), want %q", c.name, raw, err, c.file)
		}
		withoutFile := ExitCodes{BuildFailure: 101, SystemFailure: 102}
		if got := withoutFile.Of(c.err); got != c.want {
			t.Errorf("%s, GitLab Runner before 17.9: exit code %d, want %d", c.name, got, c.want)
		}
	}
}

func TestScriptsCodeReplacesALongerOne(t *testing.T) {
	codes := ExitCodes{BuildFailure: 1, SystemFailure: 2, File: filepath.Join(t.TempDir(), "code")}
	codes.Of(&ScriptError{Code: 255})
	codes.Of(&ScriptError{Code: 3})
	if raw, err := os.ReadFile(codes.File); string(raw) != "3" || err != nil {
		t.Errorf("file has %q, %v", raw, err)
	}
}

func TestScriptsCodeThatCannotBeWritten(t *testing.T) {
	codes := ExitCodes{BuildFailure: 1, SystemFailure: 2, File: filepath.Join(t.TempDir(), "no", "such", "dir")}
	if got := codes.Of(&ScriptError{Code: 42}); got != 1 {
		t.Errorf("exit code %d", got)
	}
}

func TestClear(t *testing.T) {
	path := filepath.Join(t.TempDir(), "build_exit_code")
	if err := os.WriteFile(path, []byte("42"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing to remove
		if err := (ExitCodes{File: path}).Clear(); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the file is still there: %v", err)
		}
	}
	if err := (ExitCodes{}).Clear(); err != nil {
		t.Errorf("without a file: %v", err)
	}
	full := t.TempDir()
	if err := os.Mkdir(filepath.Join(full, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := (ExitCodes{File: full}).Clear(); err == nil {
		t.Error("what cannot be removed passes for removed")
	}
}

func TestFailureKeepsItsCause(t *testing.T) {
	f := Mistake(fmt.Errorf("open: %w", fs.ErrNotExist), "try %s, 100%% sure", "this")
	if !f.Job || f.Error() != "open: file does not exist" || !errors.Is(f, fs.ErrNotExist) || f.Hint != "try this, 100% sure" {
		t.Errorf("got %+v", f)
	}
	if i := Infrastructure(fs.ErrClosed, ""); i.Job || i.Hint != "" {
		t.Errorf("got %+v", i)
	}
	if got := (&ScriptError{Code: 3}).Error(); got != "script exited with status 3" {
		t.Errorf("got %q", got)
	}
}
