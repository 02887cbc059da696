package provision

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gitlab-runner-tart-driver/internal/proc/proctest"
)

// shells are those that may run a script in a guest, as far as this machine has them.
func shells(t *testing.T) []string {
	t.Helper()
	var found []string
	for _, name := range []string{"sh", "bash", "zsh"} {
		if path, err := exec.LookPath(name); err == nil {
			found = append(found, path)
		}
	}
	return found
}

// runFile runs a script as the keeper does: as a file.
func runFile(t *testing.T, shell string, content []byte, env ...string) (output string, code int) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(shell, file)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// tools is a directory for PATH with programs of the test's own in front.
func tools(t *testing.T, programs map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, body := range programs {
		if err := proctest.WriteProgram(filepath.Join(dir, name), []byte("#!/bin/sh\n"+body+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return "PATH=" + dir + ":" + os.Getenv("PATH")
}

func TestAnEmptyPlanNeedsNothing(t *testing.T) {
	if !(Plan{}).Empty() || (Plan{CheckRunner: true}).Empty() || (Plan{Timezone: "UTC"}).Empty() || (Plan{Mounts: []Mount{{}}}).Empty() {
		t.Error("the wrong plans are empty")
	}
}

func TestCheckFindsTheRunner(t *testing.T) {
	for _, shell := range shells(t) {
		path := tools(t, map[string]string{"gitlab-runner": `printf 'Version:      19.0.1\nGit revision: abc\n'`})
		out, code := runFile(t, shell, []byte(Plan{CheckRunner: true}.Script()), path)
		if code != 0 || Answer(Answers(out), "runner") != "19.0.1" {
			t.Errorf("%s: exit code %d, output %q", shell, code, out)
		}
	}
}

func TestAnswers(t *testing.T) {
	out := "noise\ngrtd: runner=1\r\nmore grtd: not this\ngrtd: runner=2\ngrtd: a sentence\n"
	got := Answers(out)
	if strings.Join(got, "|") != "runner=1|runner=2|a sentence" || Answer(got, "runner") != "2" || Answer(got, "none") != "" {
		t.Errorf("answers: %q", got)
	}
}
