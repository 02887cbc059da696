//go:build linux

package tartsim_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"gitlab-runner-tart-driver/internal/tartsim/guest"
	"gitlab-runner-tart-driver/internal/tartsim/simconf"
)

// nobody is who calls tart in tests without privileges, when the tests themselves have them.
const nobody = 65534

// levels runs a test at every level of isolation, as the user that it is meant for.
func levels(t *testing.T, test func(t *testing.T, b *bench, level guest.Level)) {
	for _, level := range []guest.Level{guest.LevelRoot, guest.LevelUserNS, guest.LevelNone} {
		t.Run(string(level), func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.isolate(level)
			test(t, b, level)
		})
	}
}

// isolate makes the bench use a level, or skips the test where the level can't be had.
func (b *bench) isolate(level guest.Level) {
	b.t.Helper()
	root := os.Geteuid() == 0
	if level == guest.LevelRoot && !root {
		b.t.Skip("isolation root needs root")
	}
	if root && level != guest.LevelRoot {
		b.uid = nobody
		if err := os.Chown(b.home, nobody, nobody); err != nil {
			b.t.Fatal(err)
		}
	}
	b.configure(map[string]any{"isolation": level})
	out := b.call(program, "", "check")
	if !strings.Contains(out.stdout, "ok  isolation "+string(level)) {
		b.t.Skipf("isolation %s does not work here: %s%s", level, out.stdout, out.stderr)
	}
	b.sim("init")
}

func TestGuestHasItsOwnWorld(t *testing.T) {
	t.Parallel()
	levels(t, func(t *testing.T, b *bench, level guest.Level) {
		b.must("clone", "base", "vm")
		r := b.start("vm")
		if record := r.record(); record.Isolation != string(level) {
			t.Fatalf("isolation %s, want %s", record.Isolation, level)
		}
		client := r.login()
		marker := filepath.Join(b.home, "marker")
		if err := os.WriteFile(marker, []byte("host"), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := mustShell(t, client, "echo out; sw_vers -productName; uname -sm"); got != "out\nmacOS\nDarwin arm64" {
			t.Errorf("first command: %q", got)
		}
		mustShell(t, client, "echo mine > ~/file && cat ~/file")
		if level == guest.LevelNone {
			return
		}
		for _, check := range []struct{ command, want string }{
			{"id -un; id -u; pwd", "admin\n501\n/Users/admin"},
			{"hostname", "admins-Virtual-Machine.local"},
			{"cat " + marker + " 2>/dev/null || echo hidden", "hidden"},
			{"tr -d '\\0' < /proc/1/cmdline", guest.InitName},
			{"touch /usr/bin/guest-was-here 2>/dev/null; ls /root /home 2>&1 | grep -c .ssh", "0"},
			{"grep -c . /etc/shadow 2>/dev/null || sudo grep -c admin: /etc/shadow", ""},
		} {
			out, _, _ := shell(t, client, check.command)
			if check.want != "" && strings.TrimSpace(out) != check.want {
				t.Errorf("%s: %q, want %q", check.command, out, check.want)
			}
		}
	})
}

func TestRootOfTheGuestCannotTouchTheHost(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.isolate(guest.LevelRoot)
	b.must("clone", "base", "vm")
	client := b.start("vm").login()
	if got := mustShell(t, client, "sudo id -u"); got != "0" {
		t.Fatalf("sudo id -u: %q", got)
	}
	mustShell(t, client, "sudo touch /usr/bin/guest-was-here /etc/guest-was-here")
	for _, path := range []string{"/usr/bin/guest-was-here", "/etc/guest-was-here"} {
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is on the host: %v", path, err)
		}
	}
	for _, command := range []string{
		"sudo sh -c 'echo 0 > /proc/sys/kernel/printk'", "sudo mount -t tmpfs none /mnt", "sudo mknod /tmp/disk b 8 0",
		"sudo sh -c 'echo h > /proc/sysrq-trigger'", "sudo hostname other",
	} {
		if out, _, err := shell(t, client, command); err == nil {
			t.Errorf("%s: works: %q", command, out)
		}
	}
	if got := mustShell(t, client, "sudo cat /etc/shadow | cut -d: -f2 | sort -u | grep -v '^\\$6\\$rounds=1000\\$' || true"); got != "*" {
		t.Errorf("password fields in the guest's /etc/shadow: %q, want only %q and the guest's own", got, "*")
	}
}

func TestSessionsBehaveLikeOpenSSH(t *testing.T) {
	t.Parallel()
	levels(t, func(t *testing.T, b *bench, _ guest.Level) {
		b.must("clone", "base", "vm")
		client := b.start("vm").login()
		_, _, err := shell(t, client, "exit 7")
		var exit *ssh.ExitError
		if !errors.As(err, &exit) || exit.ExitStatus() != 7 {
			t.Errorf("exit 7: %v", err)
		}
		_, _, err = shell(t, client, "kill -TERM $$")
		if !errors.As(err, &exit) || exit.Signal() != "TERM" && exit.ExitStatus() != 128+15 {
			t.Errorf("kill -TERM $$: %v", err)
		}
		out, errOut, err := shell(t, client, "echo one; echo two >&2")
		if out != "one\n" || errOut != "two\n" || err != nil {
			t.Errorf("streams: %q, %q, %v", out, errOut, err)
		}
		if _, err := ssh.Dial("tcp", client.RemoteAddr().String(), clientConfig("admin", "wrong")); err == nil {
			t.Error("a wrong password is accepted")
		}
		if ok, _, err := client.SendRequest("keepalive@openssh.com", true, nil); ok || err != nil {
			t.Errorf("keepalive: %v, %v; want a refusal", ok, err)
		}
		signalled(t, client)
		terminal(t, client)
	})
}

// signalled sends a signal to a running command; it has to reach the whole process group.
func signalled(t *testing.T, client *ssh.Client) {
	session, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = session.Close() }()
	pipe, err := session.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	// What tells of itself is a program of its own: a shell may lose a signal between the fork and the start of one.
	if err := session.Start(`sh -c 'sh -c "echo ready; exec sleep 1000"; exit 3'`); err != nil {
		t.Fatal(err)
	}
	ready := make([]byte, 6)
	if _, err := pipe.Read(ready); err != nil {
		t.Fatal(err)
	}
	if err := session.Signal(ssh.SIGTERM); err != nil {
		t.Fatal(err)
	}
	err = session.Wait()
	var exit *ssh.ExitError
	if !errors.As(err, &exit) || exit.Signal() != "TERM" && exit.ExitStatus() != 128+15 {
		t.Errorf("after SIGTERM: %v", err)
	}
}

func terminal(t *testing.T, client *ssh.Client) {
	session, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = session.Close() }()
	if err := session.RequestPty("xterm", 24, 81, ssh.TerminalModes{}); err != nil {
		t.Fatal(err)
	}
	out, err := session.Output("tty && stty size && echo $TERM")
	if err != nil || !strings.Contains(string(out), "/dev/pts/") || !strings.Contains(string(out), "24 81") || !strings.Contains(string(out), "xterm") {
		t.Errorf("terminal: %q, %v", out, err)
	}
}

func TestEverythingDiesWithTheRun(t *testing.T) {
	t.Parallel()
	levels(t, func(t *testing.T, b *bench, level guest.Level) {
		for _, how := range []string{"stop", "sigkill", "sigterm", "frozen"} {
			b.must("clone", "base", "vm")
			r := b.start("vm")
			client := r.login()
			token := fmt.Sprintf("%d", 100000+time.Now().UnixNano()%100000)
			mustShell(t, client, "(setsid nohup sh -c 'trap \"\" TERM HUP; sleep "+token+"; :' >/dev/null 2>&1 &) ; echo started")
			b.until("the guest's daemon runs", func() error { return wantSleeping(token, true) })
			switch how {
			case "stop":
				b.must("stop", "vm")
				if code := r.wait(); code != 0 || r.stdout.String() != "Stopping VM...\n" {
					t.Errorf("after stop: exit status %d, stdout %q", code, r.stdout)
				}
				if err := wantSleeping(token, false); err != nil {
					t.Errorf("after stop: %v", err)
				}
			case "frozen":
				b.sim("freeze", "vm")
				_ = r.cmd.Process.Kill()
				r.wait()
			case "sigkill":
				_ = r.cmd.Process.Kill()
				r.wait()
			case "sigterm":
				_ = r.cmd.Process.Signal(syscall.SIGTERM)
				if code := r.wait(); code != 128+15 {
					t.Errorf("after SIGTERM: exit status %d", code)
				}
			}
			b.until("the guest's processes are gone", func() error { return wantSleeping(token, false) })
			if out := b.must("list", "--quiet"); !strings.Contains(out, "vm\n") {
				t.Errorf("list after %s: %q", how, out)
			}
			if mounts := readAll(t, "/proc/self/mounts"); strings.Contains(mounts, b.home) {
				t.Errorf("after %s mounts are left: %s", how, mounts)
			}
			b.must("delete", "vm")
			if _, err := os.Stat(filepath.Join(b.home, "vms", "vm")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("after delete: %v", err)
			}
		}
	})
}

// wantSleeping looks for a process that sleeps for so many seconds.
func wantSleeping(token string, want bool) error {
	out, err := exec.Command("pgrep", "-f", "^sleep "+token+"$").Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return err
	}
	if found := len(out) > 0; found != want {
		return fmt.Errorf("sleep %s runs: %v", token, found)
	}
	return nil
}

func TestDiskSurvivesRestartAndGoesIntoClones(t *testing.T) {
	t.Parallel()
	levels(t, func(t *testing.T, b *bench, level guest.Level) {
		b.must("clone", "base", "golden")
		r := b.start("golden")
		mustShell(t, r.login(), "echo kept > ~/file; mkdir -p ~/dir/sub; ln -s file ~/link")
		if level == guest.LevelRoot {
			mustShell(t, r.login(), "sudo rm /usr/bin/env; sudo sh -c 'echo changed > /etc/issue'")
		}
		b.must("stop", "golden")
		r.wait()
		b.must("clone", "golden", "copy")
		for _, name := range []string{"golden", "copy"} {
			client := b.start(name).login()
			if got := mustShell(t, client, "cat ~/link"); got != "kept" {
				t.Errorf("%s: file: %q", name, got)
			}
			if level != guest.LevelRoot {
				continue
			}
			if got := mustShell(t, client, "ls /usr/bin/env 2>/dev/null; cat /etc/issue"); got != "changed" {
				t.Errorf("%s: deleted and changed files: %q", name, got)
			}
		}
		if _, err := os.Stat("/usr/bin/env"); err != nil {
			t.Errorf("the host's /usr/bin/env: %v", err)
		}
	})
}

func TestBootSequence(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.configure(map[string]any{"isolation": simconf.IsolationNone, "ssh_port": 2222})
	b.sim("image", "create", "late", "--lease-delay", "1h", "--ssh-delay", "1h")
	b.sim("image", "create", "base", "--lease-delay", "300ms", "--ssh-delay", "600ms")
	b.must("clone", "late", "waits")
	b.must("clone", "base", "vm")
	waits := b.start("waits")
	address := waits.address()
	r := b.start("vm")
	if got := b.must("ip", "vm", "--wait", "120"); got != r.record().Address+"\n" {
		t.Errorf("ip: %q, want %s", got, r.record().Address)
	}
	mustShell(t, r.login(), "true")
	// The one that was started first has nothing of that yet.
	if _, err := ssh.Dial("tcp", address, clientConfig("admin", "admin")); err == nil || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("SSH before its time: %v, want connection refused", err)
	}
	if out := b.tart("ip", "waits"); out.code != 1 || out.stdout != "" {
		t.Errorf("ip before its time: %+v", out)
	}
}

func TestRebootAndShutdownFromInside(t *testing.T) {
	t.Parallel()
	levels(t, func(t *testing.T, b *bench, level guest.Level) {
		b.must("clone", "base", "vm")
		r := b.start("vm")
		client := r.login()
		if level == guest.LevelRoot {
			if _, errOut, err := shell(t, client, "shutdown -h now"); err == nil || !strings.Contains(errOut, "NOT super-user") {
				t.Errorf("shutdown without sudo: %v, %q", err, errOut)
			}
		}
		_, _, _ = shell(t, client, "sudo reboot")
		if err := client.Wait(); err == nil {
			t.Error("the connection survives a reboot in good order")
		}
		client = r.login()
		mustShell(t, client, "true")
		_, _, _ = shell(t, client, "sudo shutdown -h now")
		if code := r.wait(); code != 0 || r.stdout.String() != "guest has stopped the virtual machine\n" {
			t.Errorf("after shutdown: exit status %d, stdout %q", code, r.stdout)
		}
	})
}

func TestSudo(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.isolate(guest.LevelRoot)
	b.must("clone", "base", "vm")
	client := b.start("vm").login()
	for command, want := range map[string]string{
		"sudo -n id -u":                          "0",
		"sudo sh -c 'echo $0 $1' a b":            "a b",
		"sudo X=1 env | grep -c '^X=1$'":         "1",
		"LEAK=1 sudo env | grep -c LEAK || true": "0",
		"echo in | sudo cat":                     "in",
		"sudo sh -c 'exit 5'; echo $?":           "5",
		"sudo mkdir /opt/x && stat -c %U /opt/x": "root",
	} {
		if got := mustShell(t, client, command); got != want {
			t.Errorf("%s: %q, want %q", command, got, want)
		}
	}
}
