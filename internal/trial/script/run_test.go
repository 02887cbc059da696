package script

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"gitlab-runner-tart-driver/internal/trial/civar"
)

// guest is a directory that plays the guest: its file system is where the scripts run.
type guest struct {
	t     *testing.T
	shell string
	dir   string
	path  string
}

func newGuest(t *testing.T, shell string) *guest {
	t.Helper()
	return &guest{t: t, shell: shell, dir: t.TempDir(), path: os.Getenv("PATH")}
}

// build returns a job whose project directory is in the guest.
func (g *guest) build() *Build {
	project := filepath.Join(g.dir, "builds", "my group", "app")
	return &Build{
		Shell: "bash", RootDir: filepath.Join(g.dir, "builds"), ProjectDir: project, CacheDir: filepath.Join(g.dir, "cache"), Strategy: "none",
		Variables: civar.List{civar.Public("CI", "true"), civar.Public("CI_PROJECT_DIR", project)},
		JobName:   "test", JobID: 7, Token: "tok", ServerURL: "https://gitlab.invalid",
	}
}

// run executes the script of a stage the way a driver that copies it into the guest does.
func (g *guest) run(b *Build, stage string) (out string, exit int) {
	g.t.Helper()
	text, ok, err := b.Generate(stage)
	if err != nil || !ok {
		g.t.Fatalf("%s: ok=%v err=%v", stage, ok, err)
	}
	file := filepath.Join(g.dir, "script")
	if err := os.WriteFile(file, []byte(text), 0o700); err != nil {
		g.t.Fatal(err)
	}
	cmd := exec.Command(g.shell, file)
	cmd.Dir = g.dir
	cmd.Env = []string{"PATH=" + g.path, "HOME=" + g.dir, "GIT_CONFIG_NOSYSTEM=1", "LC_ALL=C.UTF-8"}
	cmd.Stdin = strings.NewReader("must not be read\n")
	var buf bytes.Buffer
	cmd.Stdout, cmd.Stderr = &buf, &buf
	err = cmd.Run()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		g.t.Fatal(err)
	}
	return buf.String(), cmd.ProcessState.ExitCode()
}

// must runs a stage that has to succeed.
func (g *guest) must(b *Build, stage string) string {
	g.t.Helper()
	out, exit := g.run(b, stage)
	if exit != 0 {
		g.t.Fatalf("%s: exit %d\n%s", stage, exit, out)
	}
	return out
}

// inEveryShell runs a test with each shell that a driver may use.
func inEveryShell(t *testing.T, test func(t *testing.T, g *guest)) {
	for _, shell := range shells(t) {
		t.Run(filepath.Base(shell), func(t *testing.T) { test(t, newGuest(t, shell)) })
	}
}

func TestUserScript(t *testing.T) {
	tests := []struct {
		name   string
		script []string
		want   string // what the commands themselves print
		exit   int
	}{
		{"lines in order", []string{"echo one", "echo two"}, "one\ntwo\n", 0},
		{"a failure stops", []string{"echo one", "(exit 42)", "echo two"}, "one\n", 42},
		{"exit code of exit", []string{"exit 3"}, "", 3},
		{"a failure in a pipe stops", []string{"false | cat", "echo two"}, "", 1},
		{"a tested failure does not stop", []string{"if false; then :; else echo no; fi", "false || echo yes"}, "no\nyes\n", 0},
		{"variables survive between lines", []string{"X='a  b'", `echo "$X"`}, "a  b\n", 0},
		{"the directory survives between lines", []string{"mkdir sub", "cd sub", "basename \"$PWD\""}, "sub\n", 0},
		{"several lines in one", []string{"for i in 1 2; do\n  echo $i\ndone\n"}, "1\n2\n", 0},
		{"a here-document", []string{"cat <<EOF\n  two  'words'\n$CI\nEOF"}, "  two  'words'\ntrue\n", 0},
		{"a failure inside several lines stops", []string{"echo a\nfalse\necho b"}, "a\n", 1},
		{"stdin is empty", []string{"cat", "echo done"}, "done\n", 0},
		{"killed by a signal", []string{"sh -c 'kill -KILL $$'"}, "", 137},
		{"project directory", []string{"basename \"$PWD\"", "[ \"$PWD\" = \"$CI_PROJECT_DIR\" ]"}, "app\n", 0},
		{"no arguments", []string{`echo "$#"`}, "0\n", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inEveryShell(t, func(t *testing.T, g *guest) {
				b := g.build()
				g.must(b, GetSources)
				b.Script = tt.script
				out, exit := g.run(b, StepScript)
				if exit != tt.exit {
					t.Errorf("exit %d, want %d\n%s", exit, tt.exit, out)
				}
				if got := withoutEchoes(out); got != tt.want && tt.exit != 137 {
					t.Errorf("printed %q, want %q", got, tt.want)
				}
			})
		})
	}
}

// withoutEchoes removes the green lines that show the commands.
func withoutEchoes(out string) string {
	var kept strings.Builder
	for line := range strings.Lines(out) {
		if !strings.HasPrefix(line, "\x1b[32;1m") {
			kept.WriteString(line)
		}
	}
	return kept.String()
}

func TestCommandsAreShownInGreen(t *testing.T) {
	inEveryShell(t, func(t *testing.T, g *guest) {
		b := g.build()
		g.must(b, GetSources)
		b.Script = []string{"  true  ", "echo a\necho b", ""}
		b.AfterScript = []string{"echo bye"}
		want := "\x1b[32;1m$ true\x1b[0;m\n\x1b[32;1m$ echo a # collapsed multi-line command\x1b[0;m\na\nb\n\n"
		if got := g.must(b, StepScript); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		want = "\x1b[32;1mRunning after script...\x1b[0;m\n\x1b[32;1m$ echo bye\x1b[0;m\nbye\n"
		if got := g.must(b, AfterScript); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestVariablesReachTheScript(t *testing.T) {
	inEveryShell(t, func(t *testing.T, g *guest) {
		b := g.build()
		odd := "it's \"$HOME\" `id` \\ \n\t\xff €"
		b.Variables = append(b.Variables, civar.Public("ODD", odd), civar.Public("EMPTY", ""), civar.Public("TWICE", "a"), civar.Public("TWICE", "b"),
			civar.Variable{Key: "CERT", Value: odd, File: true})
		g.must(b, GetSources)
		b.Script = []string{`printf %s "$ODD" > odd`, `cp "$CERT" cert`, `printf '%s|%s' "${EMPTY-unset}" "$TWICE" > rest`, `echo "$CERT" > where`, `echo 'LATER=a b' >> "$GITLAB_ENV"`}
		g.must(b, StepScript)
		for file, want := range map[string]string{"odd": odd, "cert": odd, "rest": "|b", "where": b.TmpDir() + "/CERT\n"} {
			if got, err := os.ReadFile(filepath.Join(b.ProjectDir, file)); err != nil || string(got) != want {
				t.Errorf("%s is %q, want %q (%v)", file, got, want, err)
			}
		}
		b.AfterScript = []string{`echo "later: $LATER"`}
		if got := withoutEchoes(g.must(b, AfterScript)); got != "later: a b\n" {
			t.Errorf("GITLAB_ENV: %q", got)
		}
		g.must(b, CleanupFiles)
		for _, gone := range []string{"CERT", gitlabEnv} {
			if _, err := os.Stat(filepath.Join(b.TmpDir(), gone)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s is still there: %v", gone, err)
			}
		}
	})
}

func TestPrepareNamesTheHost(t *testing.T) {
	inEveryShell(t, func(t *testing.T, g *guest) {
		b := g.build()
		if out := g.must(b, Prepare); !strings.HasPrefix(out, "Running on ") || strings.Contains(out, " via ") {
			t.Errorf("got %q", out)
		}
		b.Hostname = "mac-mini-1"
		if out := g.must(b, Prepare); !strings.HasSuffix(out, " via mac-mini-1...\n") {
			t.Errorf("got %q", out)
		}
	})
}

func TestStrategies(t *testing.T) {
	inEveryShell(t, func(t *testing.T, g *guest) {
		b := g.build()
		left := filepath.Join(b.ProjectDir, "left")
		g.must(b, GetSources)
		if err := os.WriteFile(left, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		g.must(b, GetSources)
		if _, err := os.Stat(left); err != nil {
			t.Errorf("GIT_STRATEGY none removed a file: %v", err)
		}
		b.Strategy = "empty"
		g.must(b, GetSources)
		if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("GIT_STRATEGY empty kept a file: %v", err)
		}
		b.Strategy = "later"
		if _, _, err := b.Generate(GetSources); err == nil {
			t.Error("an unknown strategy was accepted")
		}
	})
}

func TestScriptEndsOnTerm(t *testing.T) {
	inEveryShell(t, func(t *testing.T, g *guest) {
		b := g.build()
		g.must(b, GetSources)
		// "ready" comes from the command itself: a signal between a shell's fork and its child's exec would be lost
		b.Script = []string{"sh -c 'echo ready; exec sleep 600'", "echo not reached"}
		text, _, err := b.Generate(StepScript)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(g.dir, "script")
		if err := os.WriteFile(file, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(g.shell, file)
		cmd.Env = []string{"PATH=" + g.path, "HOME=" + g.dir}
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if cmd.ProcessState == nil {
				syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			}
		}()
		scanner := bufio.NewScanner(out)
		for scanner.Scan() && scanner.Text() != "ready" {
		}
		if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		for scanner.Scan() {
			if scanner.Text() == "not reached" {
				t.Error("the script went on")
			}
		}
		if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 1 {
			t.Errorf("ended with %v, want exit status 1", err)
		}
	})
}
