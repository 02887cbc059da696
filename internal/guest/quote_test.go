package guest

import (
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// loginShells are the shells that are here of those that a guest's user may have, each with what it takes for special even between
// single quotes: fish the backslash, csh the exclamation mark and the end of a line. No argument of ours has these.
func loginShells(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for name, special := range map[string]string{"sh": "", "bash": "", "zsh": "", "dash": "", "ksh": "", "ksh93": "", "mksh": "",
		"fish": `\`, "csh": "!\n", "tcsh": "!\n"} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		if real, err := filepath.EvalSymlinks(path); err == nil && filepath.Base(real) != "busybox" { // sh is often one of the others
			path = real
		}
		found[path] = special
	}
	if len(found) == 0 {
		t.Fatal("there is no shell")
	}
	return found
}

// showArgs prints its arguments, each with a zero byte after it.
const showArgs = `for a in "$@"; do printf "%s\0" "$a"; done`

// argumentsBy lets a shell run the command line for args, and returns what arrived.
func argumentsBy(t *testing.T, shell string, args []string) []string {
	t.Helper()
	cmd := exec.Command(shell, "-c", commandLine(showArgs, args...))
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", shell, err)
	}
	return strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
}

func TestEveryShellHandsArgumentsOnUnchanged(t *testing.T) {
	args := []string{"", " ", "'", "''", "'x", "x'", "it's", `"`, `\`, `\\`, `\'`, `'\''`, "$HOME", "$(id)", "`id`", "!", "!!", "a!b", "*", "?", "~", "#x",
		"-n", "--", ";", "&", "|", "<>", "(", "{a,b}", "[a]", "a b  c", "\t", "x\ny", "%s", "\\n", "é", "\x01\x7f", "=", "^", "%self", "/opt/builds"}
	random := rand.New(rand.NewPCG(1, 2))
	alphabet := []rune(`'"\$!` + "`" + ` ab*?[]{}()<>|&;~#%^=-+,./` + "\n\té")
	for range 200 {
		var arg strings.Builder
		for range random.IntN(20) {
			arg.WriteRune(alphabet[random.IntN(len(alphabet))])
		}
		args = append(args, arg.String())
	}
	for shell, special := range loginShells(t) {
		given := slices.DeleteFunc(slices.Clone(args), func(a string) bool { return special != "" && strings.ContainsAny(a, special) })
		if strings.HasSuffix(shell, "csh") || strings.HasSuffix(shell, "fish") { // which take bytes that are no text differently
			given = slices.DeleteFunc(given, func(a string) bool { return strings.ContainsFunc(a, func(r rune) bool { return r > '~' || r < ' ' }) })
		}
		if got := argumentsBy(t, shell, given); !slices.Equal(got, given) {
			for i := range given {
				if i >= len(got) || got[i] != given[i] {
					t.Errorf("%s: %d arguments of %d arrived; argument %d was %q", shell, len(got), len(given), i, given[i])
					break
				}
			}
		}
	}
}

// TestProgramsAreSafeInEveryShell is about what some login shell sees something in, even between single quotes.
func TestProgramsAreSafeInEveryShell(t *testing.T) {
	for name, program := range map[string]string{"prologue": sshPrologue, "run": runProgram, "end": endProgram, "survey": surveyProgram,
		"lead": leadProgram, "led": ledProgram, "beat": beatProgram} {
		for _, c := range program {
			if strings.ContainsRune("'!\\\n\r", c) || c < ' ' || c > '~' {
				t.Errorf("program %s has %q", name, c)
			}
		}
		for shell := range loginShells(t) {
			if strings.HasSuffix(shell, "csh") || strings.HasSuffix(shell, "fish") {
				continue // the program is for /bin/sh
			}
			if out, err := exec.Command(shell, "-n", "-c", program).CombinedOutput(); err != nil {
				t.Errorf("program %s is not understood by %s: %v %s", name, shell, err, out)
			}
		}
	}
}

func FuzzCommandLine(f *testing.F) {
	f.Add("it's", `\'"$x`)
	f.Add("", "a\nb")
	f.Fuzz(func(t *testing.T, a, b string) {
		if strings.ContainsRune(a+b, 0) {
			a, b = strings.ReplaceAll(a, "\x00", "0"), strings.ReplaceAll(b, "\x00", "0") // no argument can have it
		}
		if got := argumentsBy(t, "/bin/sh", []string{a, b}); !slices.Equal(got, []string{a, b}) {
			t.Errorf("%q and %q arrived as %q", a, b, got)
		}
	})
}
