package provision

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

const (
	lockKey  = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHdLbGtrZXlrZXlrZXlrZXlrZXlrZXlrZXlrZXlrZXlr"
	sshdConf = "etc/ssh/sshd_config"
)

// newLockBox is a sandbox for Lock's script. What the script has /bin/sh do, the shell does in its place.
func newLockBox(t *testing.T, shell string) *sandbox {
	t.Helper()
	s := newSandbox(t, "Darwin")
	for _, name := range []string{"id", "grep", "awk"} {
		s.link(name, name)
	}
	if err := os.Symlink(shell, filepath.Join(s.bin, "sh")); err != nil {
		t.Fatal(err)
	}
	s.write(sshdConf, "UsePAM yes\n")
	return s
}

func (s *sandbox) lock(shell string, check bool) ended {
	s.t.Helper()
	return s.run(shell, s.moved(Lock{Key: lockKey, Check: check}.Script(), "/etc/ssh", "/run/s", "/bin/sh"))
}

// sshd asks the real server what it makes of the configuration for a user. It wants a directory that is there only while a server runs, so it gets a
// /run of its own.
func (s *sandbox) sshd(user string) []string {
	s.t.Helper()
	key := s.path("host_key")
	if _, err := os.Stat(key); err != nil {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput(); err != nil {
			s.t.Skipf("no OpenSSH here: %v, %s", err, out)
		}
	}
	const program = `mount -t tmpfs none /run && mkdir -m 755 /run/sshd && PATH=$PATH:/usr/sbin && command -v sshd > /dev/null || exit 77; exec "$(command -v sshd)" "$@"`
	unshare := []string{"--mount", "/bin/sh", "-c", program, "sh", "-T", "-f", s.path(sshdConf), "-h", key, "-C", "user=" + user + ",host=h,addr=192.168.64.1"}
	if os.Getuid() != 0 {
		unshare = append([]string{"--map-root-user"}, unshare...)
	}
	cmd := exec.Command("unshare", unshare...)
	out, err := cmd.CombinedOutput()
	if err != nil && (cmd.ProcessState == nil || cmd.ProcessState.ExitCode() == 77 || strings.HasPrefix(string(out), "unshare:")) {
		s.t.Skipf("no OpenSSH server here, or no namespaces: %v, %s", err, out)
	} else if err != nil {
		s.t.Fatalf("sshd -T: %v, %s; the configuration is\n%s", err, out, s.read(sshdConf))
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// TestLockHoldsAgainstWhatImagesHave asks OpenSSH what the configuration comes to: what the lock is about has its value for everybody, and nothing
// else has another one than before.
func TestLockHoldsAgainstWhatImagesHave(t *testing.T) {
	t.Parallel()
	const open = "PasswordAuthentication yes\nKbdInteractiveAuthentication yes\n"
	for name, c := range map[string]struct{ main, dropIn string }{
		"macOS":                      {"# comment\n\nInclude DROPINS/*\nAuthorizedKeysFile .ssh/authorized_keys\n", "UsePAM yes\nAcceptEnv LANG LC_*\nSubsystem sftp /usr/libexec/sftp-server\n"},
		"Debian":                     {"\nInclude DROPINS/*.conf\n\nKbdInteractiveAuthentication no\nUsePAM yes\nX11Forwarding yes\n", ""},
		"a drop-in that opens":       {"Include DROPINS/*\n", open + "AuthenticationMethods password\n"},
		"a drop-in's Match":          {"include DROPINS/*\nX11Forwarding yes\n", "Match User admin\n" + open + "AuthorizedKeysFile /elsewhere/%u\nMatch all\n" + open},
		"Include behind a value":     {open + "\tInclude DROPINS/*\n", "Match User admin\n" + open},
		"Include within a Match":     {"X11Forwarding yes\nMatch User admin\nInclude DROPINS/*\n", open},
		"no Include":                 {"#Include DROPINS/*\n" + open + "AuthorizedKeysFile /elsewhere/%u\nX11Forwarding yes\n", ""},
		"nothing":                    {"", ""},
		"no end of line":             {"X11Forwarding yes", ""},
		"Match first":                {"Match User admin\n" + open + "X11Forwarding yes\nMatch User root\nPasswordAuthentication yes\n", ""},
		"Match in capitals":          {"X11Forwarding yes\n \tMATCH User admin\n" + open, ""},
		"keys and more":              {"AuthenticationMethods publickey,password\nPasswordAuthentication yes\n", ""},
		"no keys":                    {"PubkeyAuthentication no\nPasswordAuthentication yes\n", ""},
		"no keys, with Include":      {"PubkeyAuthentication no\nInclude DROPINS/*\n", "PubkeyAuthentication no\n"},
		"no keys, for somebody":      {"Match User admin\nPubkeyAuthentication no\n", ""},
		"keys from a command":        {"AuthorizedKeysCommand /bin/echo\nAuthorizedKeysCommandUser nobody\nTrustedUserCAKeys /etc/ssh/ca\n", ""},
		"Match for all, and another": {"Match all\n" + open + "Match Address 192.168.0.0/16\n" + open, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var made sync.Map // what the shells make of the files, which must be the same
			eachShell(t, func(t *testing.T, shell string) {
				s := newLockBox(t, shell)
				s.write(sshdConf, strings.ReplaceAll(c.main, "DROPINS", s.path(sshdConf+".d")))
				s.write(sshdConf+".d/100.conf", c.dropIn)
				var before []string
				first := filepath.Base(shell) == "sh"
				if first {
					before = s.sshd("admin")
				}
				if got := s.lock(shell, false); got.code != 0 || got.output != "" {
					t.Fatalf("got %+v", got)
				}
				if keys := s.read("etc/ssh/grtd_keys"); keys != lockKey+"\n" {
					t.Errorf("keys: %q", keys)
				}
				text := strings.ReplaceAll(s.read(sshdConf)+s.read("etc/ssh/grtd_sshd_config"), s.root, "")
				if other, _ := made.LoadOrStore("", text); other != text {
					t.Errorf("another shell made %q, this one %q", other, text)
				}
				if first {
					s.holds(before)
				}
			})
		})
	}
}

// holds compares what OpenSSH made of the configuration for admin with what it makes of it now.
func (s *sandbox) holds(before []string) {
	s.t.Helper()
	after := map[string][]string{"admin": s.sshd("admin"), "root": s.sshd("root")}
	for _, line := range []string{"authenticationmethods publickey", "pubkeyauthentication yes", "passwordauthentication no", "kbdinteractiveauthentication no",
		"authorizedkeysfile " + s.path("etc/ssh/grtd_keys"), "authorizedkeyscommand none", "trustedusercakeys none"} {
		key, _, _ := strings.Cut(line, " ")
		mine := func(l string) bool { return strings.HasPrefix(l, key+" ") }
		for user, lines := range after {
			if i := slices.IndexFunc(lines, mine); i < 0 || lines[i] != line {
				s.t.Errorf("%s: no %q in\n%s", user, line, strings.Join(lines, "\n"))
			}
			after[user] = slices.DeleteFunc(lines, mine)
		}
		before = slices.DeleteFunc(before, mine)
	}
	if after := after["admin"]; !slices.Equal(before, after) {
		s.t.Errorf("other settings were\n%s\nand are\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
}

func TestLockLeavesFilesAsTheyAre(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string) {
		s := newLockBox(t, shell)
		if err := os.Chmod(s.path(sshdConf), 0o640); err != nil {
			t.Fatal(err)
		}
		for range 2 { // an image may have been made from a job's VM
			if got := s.lock(shell, false); got.code != 0 {
				t.Fatalf("got %+v", got)
			}
		}
		for name, mode := range map[string]fs.FileMode{sshdConf: 0o640, "etc/ssh/grtd_keys": 0o644, "etc/ssh/grtd_sshd_config": 0o644} {
			if info, err := os.Stat(s.path(name)); err != nil || info.Mode().Perm() != mode {
				t.Errorf("%s: %v, %v, want %v", name, info, err, mode)
			}
		}
		entries, err := os.ReadDir(s.path("etc/ssh"))
		if err != nil || len(entries) != 3 {
			t.Errorf("there are %v, %v", entries, err)
		}
		if got := s.read("home/.ssh/authorized_keys"); got != "" {
			t.Errorf("the user's own keys are %q", got)
		}
	})
}

func TestLockSaysWhatIsInItsWay(t *testing.T) {
	for name, c := range map[string]struct {
		before func(s *sandbox)
		check  bool
		code   int
		says   string
	}{
		"sudo wants a password": {before: func(s *sandbox) { s.tool("sudo", "echo 'sudo: a password is required' >&2; exit 1") }, code: ExitNoRoot,
			says: `user "ci" of the VM cannot use sudo without a password`},
		"no sudo":                    {before: func(s *sandbox) { s.remove("bin/sudo") }, code: ExitNoRoot, says: "the VM has no sudo"},
		"no sudo, and no need of it": {before: func(s *sandbox) { s.remove("bin/sudo"); s.tool("id", "echo 0") }},
		"no configuration":           {before: func(s *sandbox) { s.remove(sshdConf) }, code: ExitLock, says: "the VM has no "},
		"it cannot be written":       {before: func(s *sandbox) { s.tool("mv", "echo 'mv: Read-only file system' >&2; exit 1") }, code: ExitLock, says: "cannot be written in the VM"},
		"the server goes by it": {before: func(s *sandbox) {
			s.tool("sshd", `[ "$1 $2 $3" = "-T -C user=ci,host=localhost,addr=127.0.0.1" ] && echo "authenticationmethods publickey"`)
		}, check: true},
		"the server does not":      {before: func(s *sandbox) { s.tool("sshd", "echo authenticationmethods any") }, check: true, code: ExitLock, says: "does not go by "},
		"it wants more than a key": {before: func(s *sandbox) { s.tool("sshd", "echo authenticationmethods publickey,password") }, check: true, code: ExitLock, says: "does not go by "},
		"there is no server":       {before: func(*sandbox) {}, check: true, code: ExitLock, says: "does not take its configuration: "},
		"it has no host keys yet": {before: func(s *sandbox) {
			s.tool("sshd", `[ -e "$ROOT/keys" ] && echo "authenticationmethods publickey"`)
			s.tool("ssh-keygen", `[ "$*" = -A ] && echo > "$ROOT/keys"`)
		}, check: true},
		"a listener without pid file": {before: func(s *sandbox) {
			s.tool("uname", "echo Linux")
			s.tool("pgrep", `[ "$*" = "-x sshd" ]`)
		}, check: true, code: ExitLock, says: "has no pid file"},
		"no listener": {before: func(s *sandbox) {
			s.tool("uname", "echo Linux")
			s.tool("pgrep", "exit 1")
			s.tool("sshd", "echo authenticationmethods publickey")
		}, check: true},
	} {
		t.Run(name, func(t *testing.T) {
			eachShell(t, func(t *testing.T, shell string) {
				s := newLockBox(t, shell)
				s.tool("id", `case $1 in -u) echo 501 ;; *) echo ci ;; esac`)
				c.before(s)
				got := s.lock(shell, c.check)
				if got.code != c.code || c.says == "" && len(got.answers) > 0 || c.says != "" && (len(got.answers) != 1 || !strings.Contains(got.answers[0], c.says)) {
					t.Errorf("got %+v, want exit code %d and %q", got, c.code, c.says)
				}
			})
		})
	}
}

func (s *sandbox) remove(name string) {
	s.t.Helper()
	if err := os.Remove(s.path(name)); err != nil {
		s.t.Fatal(err)
	}
}

// TestLockTellsAListener has a process that makes its pid file anew at SIGHUP, as OpenSSH's does, and one that ends instead.
func TestLockTellsAListener(t *testing.T) {
	for name, c := range map[string]struct {
		then string
		code int
		says string
	}{
		"reads it again": {then: `echo again >> told; echo $$ > run/sshd.pid`},
		"ends":           {then: `exit`, code: ExitLock, says: "did not come back"},
	} {
		t.Run(name, func(t *testing.T) {
			eachShell(t, func(t *testing.T, shell string) {
				s := newLockBox(t, shell)
				if c.code == 0 {
					s.link("sleep", "sleep") // in vain waits one for nothing as well
				}
				s.dir("run")
				listener := exec.Command("/bin/sh", "-c", `trap '`+c.then+`' HUP; echo $$ > run/sshd.pid; echo ready; while :; do read -r line || exit 0; done`)
				listener.Dir = s.root
				stdin, err := listener.StdinPipe()
				if err != nil {
					t.Fatal(err)
				}
				stdout, err := listener.StdoutPipe()
				if err == nil {
					err = listener.Start()
				}
				if err != nil {
					t.Fatal(err)
				}
				defer func() { stdin.Close(); _ = listener.Wait() }()
				var ready string
				if _, err := fmt.Fscan(stdout, &ready); err != nil {
					t.Fatal(err)
				}
				got := s.lock(shell, false)
				if got.code != c.code || c.says != "" && (len(got.answers) != 1 || !strings.Contains(got.answers[0], c.says)) {
					t.Errorf("got %+v, want %d, %q", got, c.code, c.says)
				}
				if c.code == 0 && s.read("told") != "again\n" {
					t.Errorf("it was told %q", s.read("told"))
				}
			})
		})
	}
}
