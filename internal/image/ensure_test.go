package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/proc/proctest"
	"gitlab-runner-tart-driver/internal/tart"
)

// outcomes are what a pull may end with, in the words of tart.
const outcomes = `case $outcome in
ok) echo 'pulling disk (1.0 GB compressed)...'; printf '10%%\n20%%\n'; exit 0;;
401|403|404|500|503) echo "Error: UnexpectedHTTPStatusCode(when: \"pulling manifest\", code: $outcome, details: \"\")" >&2; exit 1;;
slow) trap 'echo INT > signal; exit 1' INT; trap 'echo TERM > signal; exit 1' TERM; : > begun; sleep 60 & wait;;
full) echo 'No space left on device' >&2; exit 1;;
name) echo 'failed to parse remote name: x' >&2; exit 1;;
usage) echo "Error: Unknown option '--concurrency'" >&2; exit 64;;
esac
echo "no outcome is left" >&2; exit 99`

// registry is a tart whose pulls end as planned, one after the other.
type registry struct {
	t   *testing.T
	dir string
}

func newRegistry(t *testing.T, plan ...string) *registry {
	t.Helper()
	r := &registry{t: t, dir: t.TempDir()}
	script := "#!/bin/sh\ncd '" + r.dir + "'\necho \"$*\" >> calls\nenv > env\nread -r outcome < plan\nsed 1d plan > rest; mv rest plan\n" + outcomes
	for name, content := range map[string]string{"tart": script, "plan": strings.Join(plan, "\n") + "\n", "calls": ""} {
		if err := proctest.WriteProgram(filepath.Join(r.dir, name), []byte(content), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func (r *registry) file(name string) string {
	r.t.Helper()
	raw, err := os.ReadFile(filepath.Join(r.dir, name))
	if err != nil {
		r.t.Fatal(err)
	}
	return strings.TrimSpace(string(raw))
}

// puller is a puller that writes what it says into *said.
func (r *registry) puller(said *[]string) *Puller {
	r.t.Helper()
	client, err := tart.New(filepath.Join(r.dir, "tart"), []string{"PATH=" + os.Getenv("PATH"), "HOME=" + r.dir})
	if err != nil {
		r.t.Fatal(err)
	}
	return &Puller{Tart: client, Say: func(format string, args ...any) { *said = append(*said, fmt.Sprintf(format, args...)) }}
}

func mustParse(t *testing.T, name string) Reference {
	t.Helper()
	ref, err := Parse(name)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

const pulled = "pull r.example/o/macos:15"

func TestPullPolicies(t *testing.T) {
	for _, c := range []struct {
		policies string
		here     bool
		plan     []string
		pulls    int
		done     string // empty for a failure
	}{
		{"always", true, []string{"ok"}, 1, "pulled"},
		{"always", false, []string{"ok"}, 1, "pulled"},
		{"always", true, []string{"404"}, 1, ""},
		{"if-not-present", true, nil, 0, "cached"},
		{"if-not-present", false, []string{"ok"}, 1, "pulled"},
		{"if-not-present", false, []string{"404"}, 1, ""},
		{"never", true, nil, 0, "cached"},
		{"never", false, nil, 0, ""},
		{"always if-not-present", true, []string{"404"}, 1, "cached"},
		{"always if-not-present", true, []string{"500", "500", "500"}, 3, "cached"},
		{"always if-not-present", false, []string{"404", "404"}, 2, ""},
		{"always never", true, []string{"401"}, 1, "cached"},
		{"never always", false, []string{"ok"}, 1, "pulled"},
		{"never always", true, nil, 0, "cached"},
		{"never if-not-present always", false, []string{"404", "ok"}, 2, "pulled"},
	} {
		r := newRegistry(t, c.plan...)
		var said []string
		done, err := r.puller(&said).Ensure(t.Context(), mustParse(t, "r.example/o/macos:15"), strings.Fields(c.policies), c.here)
		if done != c.done || (err == nil) != (c.done != "") {
			t.Errorf("%s, on the host: %v, registry %q: %q, %v, want %q", c.policies, c.here, c.plan, done, err, c.done)
		}
		want := strings.Repeat(pulled+"\n", c.pulls)
		if got := r.file("calls"); got != strings.TrimSpace(want) {
			t.Errorf("%s, on the host: %v, registry %q: calls %q, want %d pulls", c.policies, c.here, c.plan, got, c.pulls)
		}
	}
}

func TestLocalVMs(t *testing.T) {
	r := newRegistry(t)
	var said []string
	p := r.puller(&said)
	if done, err := p.Ensure(t.Context(), mustParse(t, "base"), []string{"always"}, true); err != nil || done != "local VM" {
		t.Errorf("got %q, %v", done, err)
	}
	_, err := p.Ensure(t.Context(), mustParse(t, "bose"), []string{"always", "if-not-present"}, false)
	if f := (*job.Failure)(nil); !errors.As(err, &f) || !f.Job || !strings.Contains(err.Error(), `"bose"`) || f.Hint == "" {
		t.Errorf("a VM that is missing gives %v", err)
	}
	if calls := r.file("calls"); calls != "" || len(said) > 0 {
		t.Errorf("calls %q, said %q", calls, said)
	}
}

func TestWhoIsToBlameForAFailedPull(t *testing.T) {
	for _, c := range []struct {
		plan  []string
		job   bool
		pulls int
		says  string
	}{
		{[]string{"401"}, true, 1, "wants a login"},
		{[]string{"403"}, true, 1, "wants a login"},
		{[]string{"404"}, true, 1, "does not exist"},
		{[]string{"name"}, true, 1, "r.example/o/macos:15"},
		{[]string{"usage"}, true, 1, "this version of tart"},
		{[]string{"500", "503", "500"}, false, 3, "code: 500"},
		{[]string{"500", "404"}, true, 2, "does not exist"},
		{[]string{"full"}, false, 1, "No space left"},
		{[]string{"500", "full"}, false, 2, "No space left"},
		{[]string{"500", "503", "ok"}, false, 3, ""},
	} {
		r := newRegistry(t, c.plan...)
		var said []string
		_, err := r.puller(&said).Ensure(t.Context(), mustParse(t, "r.example/o/macos:15"), []string{"always"}, false)
		if n := len(strings.Fields(r.file("calls"))) / 2; n != c.pulls {
			t.Errorf("%q: %d pulls, want %d", c.plan, n, c.pulls)
		}
		if c.says == "" {
			if err != nil {
				t.Errorf("%q: %v", c.plan, err)
			}
			continue
		}
		f := (*job.Failure)(nil)
		if !errors.As(err, &f) || f.Job != c.job || !strings.Contains(err.Error(), c.says) || f.Hint == "" {
			t.Errorf("%q: error %v, want one that says %q; the job's fault: %v", c.plan, err, c.says, c.job)
		}
	}
}

func TestPullUsesTheLoginAndNamesItsOrigin(t *testing.T) {
	r := newRegistry(t, "403")
	var said []string
	p := r.puller(&said)
	p.Insecure, p.Concurrency = true, 3
	p.Login = func(context.Context) (*Login, string) {
		return newLogin("r.example", "ci user", "hunter2", "variable CI_REGISTRY_USER"), "a remark"
	}
	_, err := p.Ensure(t.Context(), mustParse(t, "r.example/o/macos:15"), []string{"always"}, false)
	if err == nil || !strings.Contains(err.Error(), `refuses user "ci user" (variable CI_REGISTRY_USER)`) {
		t.Errorf("error %v", err)
	}
	if got := r.file("calls"); got != "pull --insecure --concurrency 3 r.example/o/macos:15" {
		t.Errorf("calls %q", got)
	}
	if env := strings.Split(r.file("env"), "\n"); !slices.Contains(env, "TART_REGISTRY_USERNAME=ci user") || !slices.Contains(env, "TART_REGISTRY_PASSWORD=hunter2") ||
		!slices.Contains(env, "TART_REGISTRY_HOSTNAME=r.example") {
		t.Errorf("tart sees %q", env)
	}
	if said[0] != "warning: a remark" || !strings.Contains(said[1], `user "ci user"`) || strings.Contains(strings.Join(said, "")+fmt.Sprint(err), "hunter2") {
		t.Errorf("said %q, error %v", said, err)
	}
}

func TestPullSaysHowItGoes(t *testing.T) {
	r := newRegistry(t, "500", "ok")
	var said []string
	if _, err := r.puller(&said).Ensure(t.Context(), mustParse(t, "r.example/o/macos:15"), []string{"always"}, false); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"pulling r.example/o/macos:15",
		`pull failed (tart pull: UnexpectedHTTPStatusCode(when: "pulling manifest", code: 500, details: "")); trying again in 0s`,
		"  pulling disk (1.0 GB compressed)...", "  10%", "  20%",
	}
	if !slices.Equal(said, want) {
		t.Errorf("said\n%s\nwant\n%s", strings.Join(said, "\n"), strings.Join(want, "\n"))
	}
}

func TestPullEndsWithItsContext(t *testing.T) {
	r := newRegistry(t, "500", "500", "500", "500", "500", "500")
	var said []string
	p := r.puller(&said)
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("canceled")
	say := p.Say
	p.Say = func(format string, args ...any) {
		say(format, args...)
		if strings.HasPrefix(format, "pull failed") {
			cancel(cause)
		}
	}
	p.RetryPause = 1 << 62 // would be waited for until the end of time
	_, err := p.Ensure(ctx, mustParse(t, "r.example/o/macos:15"), []string{"always", "if-not-present"}, true)
	if !errors.Is(err, cause) {
		t.Errorf("error %v, want the cause", err)
	}
	if got := r.file("calls"); got != pulled {
		t.Errorf("calls %q, want one pull", got)
	}
}

// TestPullEndsBeforeTheDiskIsFull has the disk fill up while the image comes in.
func TestPullEndsBeforeTheDiskIsFull(t *testing.T) {
	t.Parallel()
	r := newRegistry(t, "slow")
	var said []string
	p := r.puller(&said)
	p.Full = func() error {
		if _, err := os.Stat(filepath.Join(r.dir, "begun")); err != nil {
			return nil
		}
		return job.Infrastructure(errors.New("5 GB are free"), "")
	}
	_, err := p.Ensure(t.Context(), mustParse(t, "r.example/o/macos:15"), []string{"always"}, false)
	if f := (*job.Failure)(nil); !errors.As(err, &f) || f.Job || err.Error() != "5 GB are free" {
		t.Errorf("error %v", err)
	}
	if got := r.file("calls"); got != pulled {
		t.Errorf("calls %q, want one pull", got)
	}
	if got := r.file("signal"); got != "INT" {
		t.Errorf("tart got SIG%s, and only SIGINT makes it clear up", got)
	}
}

func TestThrottle(t *testing.T) {
	var said []string
	th := newThrottle(func(format string, args ...any) { said = append(said, strings.TrimSpace(fmt.Sprintf(format, args...))) })
	th.ref = Reference{Name: "r.example/o/macos:15"}
	th.line("pulling r.example/o/macos:15...") // was said when the pull began
	for _, line := range strings.Fields("manifest 0% 1% 9% 10% 11% 19% 25% 29% 30% 30% 99% 100% 100% nvram 0% 5% 12% 100% % x% 5%x") {
		th.line(line)
	}
	want := strings.Fields("manifest 10% 25% 30% 99% 100% nvram 12% 100% % x% 5%x")
	if !slices.Equal(said, want) {
		t.Errorf("got %q, want %q", said, want)
	}
}

// TestTurnAndRoom follows a pull's steps: its turn, room, and the pull itself, in this order.
func TestTurnAndRoom(t *testing.T) {
	full := errors.New("the disk is full")
	for _, c := range []struct {
		policy, plan string
		meanwhile    bool // another job has pulled the image by the time it is our turn
		came         bool // so it has, and only tart can tell
		room         error
		steps        string
		pulls        int
		done         string
	}{
		{"if-not-present", "ok", false, false, nil, "turn room release", 1, "pulled"},
		{"if-not-present", "", true, false, nil, "turn release", 0, "pulled meanwhile by another job"},
		{"if-not-present", "", false, true, nil, "turn release", 0, "pulled meanwhile by another job"},
		{"always", "ok", true, false, nil, "turn room release", 1, "up to date"},
		{"always", "ok", false, true, nil, "turn room release", 1, "pulled"},
		{"always", "", false, false, full, "turn room release", 0, ""},
		{"always", "404", false, false, nil, "turn room release", 1, ""},
		{"never", "", true, false, nil, "", 0, ""},
	} {
		r := newRegistry(t, c.plan)
		var said, steps []string
		p := r.puller(&said)
		p.Turn = func(context.Context) (*os.File, func(), error) {
			steps = append(steps, "turn")
			if c.meanwhile {
				r.cache()
			}
			lock, err := os.Open(os.DevNull)
			return lock, func() { steps = append(steps, "release"); lock.Close() }, err
		}
		p.Came = func(context.Context) bool { return c.came }
		p.Room = func() error { steps = append(steps, "room"); return c.room }
		done, err := p.Ensure(t.Context(), mustParse(t, "r.example/o/macos:15"), []string{c.policy}, false)
		if done != c.done || (err == nil) != (c.done != "") || c.room != nil && !errors.Is(err, c.room) {
			t.Errorf("%+v: got %q, %v", c, done, err)
		}
		if got := strings.Join(steps, " "); got != c.steps {
			t.Errorf("%+v: steps %q", c, got)
		}
		if n := len(strings.Fields(r.file("calls"))) / 2; n != c.pulls {
			t.Errorf("%+v: %d pulls", c, n)
		}
	}
}

// cache puts the image where tart keeps what it has pulled.
func (r *registry) cache() {
	r.t.Helper()
	repository := filepath.Join(r.dir, ".tart/cache/OCIs/r.example/o/macos")
	dir := filepath.Join(repository, digest)
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "config.json"), nil, 0o600)
	}
	if err == nil {
		err = os.Symlink(dir, filepath.Join(repository, "15"))
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

func TestProgressOnATerminal(t *testing.T) {
	r := newRegistry(t, "ok")
	var said []string
	var percents []int
	p := r.puller(&said)
	p.Percent = func(n int) { percents = append(percents, n) }
	if _, err := p.Ensure(t.Context(), mustParse(t, "r.example/o/macos:15"), []string{"always"}, false); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(percents, []int{10, 20}) || slices.Contains(said, "  10%") {
		t.Errorf("percents %v, said %q", percents, said)
	}
}
