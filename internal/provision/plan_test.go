package provision

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"gitlab-runner-tart-driver/internal/guest"
)

func TestCheckRunner(t *testing.T) {
	for name, c := range map[string]struct{ runner, want string }{
		"none":           {"", ""},
		"a release":      {"echo 'Version:      18.5.0'; echo 'GO version:   go1.24'", "18.5.0"},
		"a pre-release":  {"echo 'Version:      18.6.0~pre.12.gabc'", "18.6.0~pre.12.gabc"},
		"does not start": {"echo 'Killed: 9' >&2; exit 137", ""},
		"is another":     {"echo hello", ""},
	} {
		t.Run(name, func(t *testing.T) {
			eachShell(t, func(t *testing.T, shell string) {
				s := newSandbox(t, "Darwin")
				if c.runner != "" {
					s.tool("gitlab-runner", c.runner)
				}
				got := s.run(shell, Plan{CheckRunner: true}.Script())
				if got.code != 0 || !slices.Equal(got.answers, []string{"runner=" + c.want}) {
					t.Errorf("got %+v, want %q", got, c.want)
				}
			})
		})
	}
}

// TestStepsStopAtTheFirstThatFails is about the order, too: a job's shares come first.
func TestStepsStopAtTheFirstThatFails(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string) {
		s := newZoneSandbox(t, "Darwin")
		plan := Plan{Mounts: []Mount{{Name: "x", Target: s.path("x"), Title: "share x"}}, Timezone: "No/Such", CheckRunner: true}
		run := func() ended {
			return s.run(shell, s.moved(plan.Script(), macShares, "/usr/share/zoneinfo", "/etc/localtime", "/etc/timezone"))
		}
		if got := run(); got.code != ExitMount || len(got.answers) != 1 || !strings.HasPrefix(got.answers[0], "share x") {
			t.Errorf("got %+v", got)
		}
		s.dir(macShares + "/x")
		if got := run(); got.code != ExitTimezone || len(got.answers) != 1 || !strings.Contains(got.answers[0], "No/Such") {
			t.Errorf("got %+v", got)
		}
		plan.Timezone = zone
		if got := run(); got.code != 0 || !slices.Equal(got.answers, []string{"runner="}) || s.zone() != zone {
			t.Errorf("got %+v, the zone is %q", got, s.zone())
		}
	})
}

func TestAnswerIsTheLast(t *testing.T) {
	answers := []string{"runner=1", "how=curl", "runner=2=3", "runners=4", "x runner=5", "empty="}
	for key, want := range map[string]string{"runner": "2=3", "how": "curl", "runners": "4", "empty": "", "run": "", "": ""} {
		if got := Answer(answers, key); got != want {
			t.Errorf("%q: got %q, want %q", key, got, want)
		}
	}
}

func FuzzAnswers(f *testing.F) {
	f.Add("noise\ngrtd: runner=18.5.0\r\ngrtd: how=host\n", "runner")
	f.Add("grtd: =\ngrtd: ", "")
	f.Fuzz(func(t *testing.T, output, key string) {
		answers := Answers(output)
		for _, a := range answers {
			if strings.Contains(a, "\n") || strings.HasSuffix(a, "\r") || !strings.Contains(output, "grtd: "+a) {
				t.Errorf("%q gives %q", output, a)
			}
		}
		if v := Answer(answers, key); v != "" && !slices.Contains(answers, key+"="+v) {
			t.Errorf("%q: the answer %q to %q was not given", output, v, key)
		}
	})
}

// FuzzQuote lets the shell tell what arrives.
func FuzzQuote(f *testing.F) {
	for _, s := range []string{"", "it's", `'\''`, "$(id)", "a\nb", `\`, "-n", "\x01\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if strings.Contains(s, "\x00") || len(s) > 10000 {
			return // no argument has that
		}
		out, err := exec.Command("/bin/sh", "-c", "printf '%s.' "+guest.Quote(s)).Output()
		if err != nil || string(out) != s+"." {
			t.Errorf("%q arrives as %q, %v", s, out, err)
		}
	})
}
