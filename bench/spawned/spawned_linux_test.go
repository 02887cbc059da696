package spawned

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// names runs a shell script and returns the programs that it started.
func names(t *testing.T, script string, leave func([]string) bool) []string {
	t.Helper()
	programs, err := Run(exec.Command("/bin/sh", "-c", script), leave)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, p := range programs {
		lines = append(lines, strings.Join(p.Argv, " "))
	}
	return lines
}

func follow([]string) bool { return false }

func TestRun(t *testing.T) {
	for name, c := range map[string]struct {
		script string
		want   []string
	}{
		"none":                         {"true; exit 0", nil},
		"two":                          {"/bin/true 1; /bin/true 2; exit 0", []string{"/bin/true 1", "/bin/true 2"}},
		"by another":                   {"/bin/sh -c '/bin/true 1; exit 0'; exit 0", []string{"/bin/sh -c /bin/true 1; exit 0", "/bin/true 1"}},
		"in the background":            {"(/bin/true 1; /bin/true 2; exit 0) & wait; exit 0", []string{"/bin/true 1", "/bin/true 2"}},
		"one that becomes another one": {"/bin/sh -c 'exec /bin/true 1'; exit 0", []string{"/bin/true 1"}},
		"signals are passed on":        {"trap '/bin/true caught' USR1; kill -USR1 $$; exit 0", []string{"/bin/true caught"}},
	} {
		if got := names(t, c.script, follow); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func TestRunLeaves(t *testing.T) {
	got := names(t, "/bin/sh -c '/bin/true 1; exit 0' left; /bin/true 2; exit 0", func(argv []string) bool { return argv[len(argv)-1] == "left" })
	if want := []string{"/bin/sh -c /bin/true 1; exit 0 left", "/bin/true 2"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestRunFails(t *testing.T) {
	if _, err := Run(exec.Command("/bin/sh", "-c", "/bin/true; exit 3"), follow); err == nil {
		t.Error("exit code 3 is no error")
	}
	if _, err := Run(exec.Command("/nonexistent/program"), follow); err == nil {
		t.Error("a program that does not exist is no error")
	}
}
