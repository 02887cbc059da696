package tart

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gitlab-runner-tart-driver/internal/proc"
)

func TestArgumentsOfEachCommand(t *testing.T) {
	ctx := t.Context()
	creds := &Credentials{Host: "r.example:5000", Username: "user", Password: "pass word"}
	for _, c := range []struct {
		call func(*Client) error
		want string // empty for no call at all
	}{
		{func(c *Client) error { _, err := c.List(ctx); return err }, "list --format json"},
		{func(c *Client) error { _, err := c.Version(ctx); return err }, "--version"},
		{func(c *Client) error { return c.Pull(ctx, "r.example/a:b", PullOptions{}) }, "pull r.example/a:b"},
		{func(c *Client) error {
			return c.Pull(ctx, "r.example/a:b", PullOptions{Insecure: true, Concurrency: 7, Credentials: creds})
		}, "pull --insecure --concurrency 7 r.example/a:b"},
		{func(c *Client) error { return c.Clone(ctx, "r.example/a:b", "vm") }, "clone r.example/a:b vm"},
		{func(c *Client) error { _, err := c.FQN(ctx, "r.example/a:b"); return err }, "fqn r.example/a:b"},
		{func(c *Client) error { return c.Set(ctx, "vm", SetOptions{}) }, ""},
		{func(c *Client) error { return c.Set(ctx, "vm", SetOptions{CPU: 4}) }, "set vm --cpu 4"},
		{func(c *Client) error {
			return c.Set(ctx, "vm", SetOptions{CPU: 4, MemoryMB: 8192, Display: "800x600px", RandomMAC: true})
		}, "set vm --cpu 4 --memory 8192 --display 800x600px --random-mac"},
		{func(c *Client) error { _, err := c.IP(ctx, "vm", 0, ""); return err }, "ip --wait 0 vm"},
		{func(c *Client) error { _, err := c.IP(ctx, "vm", 90*time.Second, "arp"); return err }, "ip --wait 90 --resolver arp vm"},
		{func(c *Client) error { return c.Stop(ctx, "vm", 5*time.Second) }, "stop --timeout 5 vm"},
		{func(c *Client) error { return c.Delete(ctx, "vm") }, "delete vm"},
		{func(c *Client) error { return c.Destroy(ctx, "vm") }, "delete vm"},
	} {
		f := newFake(t, `case $1 in --version) echo 2.35.0;; list) echo '[]';; ip) echo 192.168.64.7;; esac`)
		if err := c.call(f.client()); err != nil {
			t.Errorf("%s: %v", c.want, err)
		}
		if got := strings.Join(f.calls(), "\n"); got != c.want {
			t.Errorf("got the call %q, want %q", got, c.want)
		}
	}
}

// TestSecretsReachOnlyPull compares whole environments: a secret in any variable would show.
func TestSecretsReachOnlyPull(t *testing.T) {
	f := newFake(t, `case $1 in list) echo '[]';; --version) echo SNAPSHOT;; ip) echo 10.0.0.1;; esac`)
	client := f.client(hostile...)
	ctx := t.Context()
	run := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	run(client.Pull(ctx, "r.example/a:b", PullOptions{Credentials: &Credentials{Host: "r.example:5000", Username: "user", Password: "pa=ss word"}}))
	pull := f.environ("pull")
	for _, want := range []string{"TART_REGISTRY_HOSTNAME=r.example:5000", "TART_REGISTRY_USERNAME=user", "TART_REGISTRY_PASSWORD=pa=ss word"} {
		if !slices.Contains(pull, want) {
			t.Errorf("pull with credentials does not see %s", want)
		}
	}
	run(client.Clone(ctx, "a", "b"))
	_, err := client.List(ctx)
	run(err)
	_, err = client.Version(ctx)
	run(err)
	_, err = client.IP(ctx, "b", 0, "")
	run(err)
	run(client.Set(ctx, "b", SetOptions{RandomMAC: true}))
	run(client.Stop(ctx, "b", time.Second))
	run(client.Delete(ctx, "b"))
	// The shell adds variables of its own; what the client may pass is known.
	allowed := []string{"PATH", "HOME", "CI", "TART_NO_AUTO_PRUNE", "PWD", "OLDPWD", "SHLVL", "_"}
	for _, command := range []string{"pull", "clone", "list", "--version", "ip", "set", "stop", "delete"} {
		env := f.environ(command)
		for _, kv := range env {
			name, value, _ := strings.Cut(kv, "=")
			fromCredentials := command == "pull" && strings.HasPrefix(name, "TART_REGISTRY_")
			if strings.Contains(value, "secret") || !slices.Contains(allowed, name) && !fromCredentials {
				t.Errorf("%s sees %s", command, kv)
			}
		}
		if !slices.Contains(env, "CI=1") || !slices.Contains(env, "TART_NO_AUTO_PRUNE=1") {
			t.Errorf("%s sees neither CI=1 nor TART_NO_AUTO_PRUNE=1, or only one of them: %q", command, env)
		}
	}
	run(client.Pull(ctx, "r.example/a:b", PullOptions{}))
	if env := strings.Join(f.environ("pull"), "\n"); strings.Contains(env, "TART_REGISTRY") {
		t.Error("the credentials of one pull are still there in the next")
	}
	if argv := strings.Join(f.calls(), "\n"); strings.Contains(argv, "ss word") {
		t.Error("a password is in the arguments")
	}
}

func TestAnswersThatAreNotUnderstood(t *testing.T) {
	f := newFake(t, `case $1 in --version) echo 'two point three';; list) echo 'waiting for lock...'; echo '[]';; ip) echo 'nowhere';; esac`)
	client := f.client()
	if v, err := client.Version(t.Context()); err == nil {
		t.Errorf("version %q", v)
	}
	if vms, err := client.List(t.Context()); err == nil {
		t.Errorf("list %v", vms)
	}
	if addr, err := client.IP(t.Context(), "vm", 0, ""); err == nil {
		t.Errorf("address %v", addr)
	}
}

func TestAnswers(t *testing.T) {
	f := newFake(t, `case $1 in --version) printf ' 2.35.0\n\n';; fqn) echo 'r.example/a@sha256:00';; ip) printf '192.168.64.7\n';; list) echo '[{"Name":"x","Source":"local"}]';; esac`)
	client := f.client()
	ctx := t.Context()
	if v, err := client.Version(ctx); v != "2.35.0" || err != nil {
		t.Errorf("version %q, %v", v, err)
	}
	if d, err := client.FQN(ctx, "r.example/a:b"); d != "r.example/a@sha256:00" || err != nil {
		t.Errorf("fqn %q, %v", d, err)
	}
	if a, err := client.IP(ctx, "vm", 0, ""); a != netip.MustParseAddr("192.168.64.7") || err != nil {
		t.Errorf("ip %v, %v", a, err)
	}
	if l, err := client.List(ctx); len(l) != 1 || err != nil {
		t.Errorf("list %v, %v", l, err)
	}
}

func TestFailuresAreTyped(t *testing.T) {
	f := newFake(t, `echo 'progress'; echo 'the specified VM "vm" does not exist' >&2; exit 2`)
	err := f.client().Delete(t.Context(), "vm")
	typed := (*Error)(nil)
	if !errors.As(err, &typed) || typed.Kind != KindNoSuchVM || typed.ExitCode != 2 || typed.Command != "delete" {
		t.Errorf("got %#v", err)
	}
	gone := f.client()
	if err := os.Remove(f.path); err != nil {
		t.Fatal(err)
	}
	if err := gone.Clone(t.Context(), "a", "b"); KindOf(err) != KindCannotRun {
		t.Errorf("an executable that is gone gives %v, kind %d", err, KindOf(err))
	}
}

// TestAChildThatKeepsTheOutputOpen has something that tart started outlive it.
func TestAChildThatKeepsTheOutputOpen(t *testing.T) {
	t.Parallel()
	c := newFake(t, `sleep 10 & if [ "$1" = fqn ]; then echo r.example/o/i@sha256:0; else echo 'the specified VM "x" does not exist' >&2; exit 2; fi`).client()
	if got, err := c.FQN(t.Context(), "r.example/o/i:1"); err != nil || got != "r.example/o/i@sha256:0" {
		t.Errorf("a call that ended well gives %q, %v", got, err)
	}
	err := c.Delete(t.Context(), "x")
	if e := (*Error)(nil); !errors.As(err, &e) || e.Kind != KindNoSuchVM || e.ExitCode != 2 {
		t.Errorf("a call that failed gives %v", err)
	}
}

func TestPullTellsEachLine(t *testing.T) {
	f := newFake(t, `printf 'pulling manifest...\n10%%\r20%%\n\n'; echo 'AuthFailed(why: "401")' >&2; exit 1`)
	var lines []string
	err := f.client().Pull(t.Context(), "r.example/a:b", PullOptions{Line: func(s string) { lines = append(lines, s) }})
	if KindOf(err) != KindAuth {
		t.Errorf("error %v", err)
	}
	if want := []string{"pulling manifest...", "10%", "20%"}; !slices.Equal(lines, want) {
		t.Errorf("lines %q, want %q", lines, want)
	}
}

// TestAnEndedContextEndsTart checks the signal, too: SIGINT would make tart delete what it has downloaded. (The fake ends its own child by
// SIGKILL: another signal is lost on a child that has not become `sleep` yet.)
func TestAnEndedContextEndsTart(t *testing.T) {
	f := newFake(t, `for s in TERM INT HUP; do trap "echo $s >> '$here/signals'; kill -KILL \$!; exit 143" $s; done
sleep 600 < /dev/null > /dev/null 2>&1 &
echo started > "$here/bell"
wait`)
	bell := newBell(t, filepath.Join(f.dir, "bell"))
	for _, call := range []func(context.Context, *Client) error{
		func(ctx context.Context, c *Client) error { return c.Pull(ctx, "r.example/a:b", PullOptions{}) },
		func(ctx context.Context, c *Client) error {
			return c.Pull(ctx, "r.example/a:b", PullOptions{Line: func(string) {}})
		},
		func(ctx context.Context, c *Client) error { _, err := c.List(ctx); return err },
	} {
		if err := os.RemoveAll(filepath.Join(f.dir, "signals")); err != nil {
			t.Fatal(err)
		}
		cause := errors.New("the job was canceled")
		ctx, cancel := context.WithCancelCause(t.Context())
		failed := make(chan error, 1)
		go func() { failed <- call(ctx, f.client()) }()
		bell.await()
		cancel(cause)
		err := <-failed
		if KindOf(err) != KindInterrupted || !errors.Is(err, cause) {
			t.Errorf("error %v of kind %d, want KindInterrupted with the cause", err, KindOf(err))
		}
		if got := f.file("signals"); got != "TERM\n" {
			t.Errorf("tart got the signals %q, want TERM alone", got)
		}
	}
}

// TestAnEndedContextEndsTheTartOfAScript has a script in tart's place, which is what many a Mac has in its PATH.
func TestAnEndedContextEndsTheTartOfAScript(t *testing.T) {
	f := newFake(t, `sh -c 'echo $$ > "$0/bell"; exec sleep 600' "$here"; exit $?`)
	bell := newBell(t, filepath.Join(f.dir, "bell"))
	for name, call := range map[string]func(context.Context, *Client) error{
		"list": func(ctx context.Context, c *Client) error { _, err := c.List(ctx); return err },
		"exec": func(ctx context.Context, c *Client) error {
			_, err := c.Exec(ctx, "vm", []string{"true"}, ExecStreams{})
			return err
		},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		failed := make(chan error, 1)
		go func() { failed <- call(ctx, f.client()) }()
		pid, err := strconv.Atoi(strings.TrimSpace(bell.await()))
		if err != nil {
			t.Fatal(err)
		}
		id, err := proc.Of(pid)
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		if err := <-failed; KindOf(err) != KindInterrupted {
			t.Errorf("%s: error %v", name, err)
		}
		if !id.WaitGone(time.Minute) {
			t.Errorf("%s: the script's own tart goes on", name)
			id.Signal(syscall.SIGKILL)
		}
	}
}

func TestAnEndedContextStartsNothing(t *testing.T) {
	f := newFake(t, "")
	cause := errors.New("too late")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if err := f.client().Clone(ctx, "a", "b"); KindOf(err) != KindInterrupted || !errors.Is(err, cause) {
		t.Errorf("error %v", err)
	}
	if calls := f.calls(); len(calls) != 0 {
		t.Errorf("tart was called: %q", calls)
	}
}

func TestInheritedDescriptors(t *testing.T) {
	f := newFake(t, `cat <&3 > "$here/three"; cat <&4 > "$here/four" || true`)
	var files []*os.File
	for _, text := range []string{"third", "fourth"} {
		path := filepath.Join(f.dir, text)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		files = append(files, file)
	}
	base := f.client()
	one := base.Inheriting(files[0])
	two := one.Inheriting(files[1])
	if err := two.Delete(t.Context(), "vm"); err != nil {
		t.Fatal(err)
	}
	if f.file("three") != "third" || f.file("four") != "fourth" {
		t.Errorf("descriptors 3 and 4 are %q and %q", f.file("three"), f.file("four"))
	}
	if len(base.inherit) != 0 || len(one.inherit) != 1 {
		t.Error("Inheriting changed the client that it was called on")
	}
}

func TestRetryIsForRacesOnly(t *testing.T) {
	race := &Error{Kind: KindRace}
	for _, c := range []struct {
		name  string
		errs  []error
		calls int
	}{
		{"success", []error{nil}, 1},
		{"a race, then success", []error{race, nil}, 2},
		{"races, then something else", []error{race, race, &Error{Kind: KindNoSpace}}, 3},
		{"nothing but races", slices.Repeat([]error{race}, raceTries), raceTries},
		{"something else", []error{&Error{Kind: KindNoSpace}}, 1},
	} {
		calls := 0
		err := Retry(t.Context(), func(context.Context) error { calls++; return c.errs[calls-1] })
		if calls != c.calls || err != c.errs[len(c.errs)-1] {
			t.Errorf("%s: %d calls, error %v", c.name, calls, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	_ = Retry(ctx, func(context.Context) error { calls++; cancel(); return race })
	if calls != 1 {
		t.Errorf("called %d times, although the context had ended", calls)
	}
}

// TestListOutlivesADeletion has a VM go while tart walks over the VMs, which fails the whole of it.
func TestListOutlivesADeletion(t *testing.T) {
	t.Parallel()
	gone := `echo "Error: The file \"config.json\" couldn't be opened because there is no such file." >&2; exit 1`
	f := newFake(t, `[ $(wc -l < "$here/argv") -gt 2 ] && echo '[{"Source":"local","Name":"vm","State":"stopped"}]' && exit; `+gone)
	vms, err := f.client().List(t.Context())
	if err != nil || len(vms) != 1 || vms[0].Name != "vm" {
		t.Errorf("got %v, %v", vms, err)
	}
	f = newFake(t, gone)
	if _, err := f.client().List(t.Context()); KindOf(err) != KindRace {
		t.Errorf("a failure that stays: %v", err)
	}
	if n := len(f.calls()); n != listAttempts {
		t.Errorf("%d calls", n)
	}
}

// TestCallsThatHang end by their limits, a pull by its silence only.
func TestCallsThatHang(t *testing.T) {
	t.Parallel()
	c := newFake(t, "exec sleep 600").client()
	c.limits = map[string]time.Duration{}
	for command := range limits {
		c.limits[command] = 100 * time.Millisecond
	}
	ctx := t.Context()
	for command, call := range map[string]func() error{
		"list":      func() error { _, err := c.List(ctx); return err },
		"--version": func() error { _, err := c.Version(ctx); return err },
		"clone":     func() error { return c.Clone(ctx, "image", "vm") },
		"set":       func() error { return c.Set(ctx, "vm", SetOptions{CPU: 4}) },
		"fqn":       func() error { _, err := c.FQN(ctx, "r.example/o/i:1"); return err },
		"ip":        func() error { _, err := c.IP(ctx, "vm", 0, ""); return err },
		"stop":      func() error { return c.Stop(ctx, "vm", 0) },
		"delete":    func() error { return c.Delete(ctx, "vm") },
	} {
		if err := call(); KindOf(err) != KindInterrupted || !strings.Contains(err.Error(), "tart "+command+" did not end within 100ms") {
			t.Errorf("%s: %v", command, err)
		}
	}
	done := make(chan struct{})
	bctx, alive, stop := bound(ctx, "pull", 0, time.Hour)
	go func() { <-bctx.Done(); close(done) }()
	alive()
	if bctx.Err() != nil {
		t.Error("a pull that makes progress is ended")
	}
	stop()
	<-done
	if _, err := c.run(ctx, options{line: func(string) {}, silence: 100 * time.Millisecond}, "pull", "r.example/o/i:1"); err == nil || !strings.Contains(err.Error(), "no progress for 100ms") {
		t.Errorf("a silent pull: %v", err)
	}
}
