package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"gitlab-runner-tart-driver/internal/trial"
)

// newLocked is a host whose guests have an SSH server and files of their own, which --ssh-key needs.
func newLocked(t *testing.T, flags ...string) *mac {
	t.Helper()
	h := newMac(t, append([]string{"--ssh-key"}, flags...)...)
	var has struct {
		Isolation string
		SSHServer string `json:"ssh_server"`
	}
	if err := json.Unmarshal([]byte(h.sim("check", "--json")), &has); err != nil || has.Isolation != "root" || has.SSHServer != "openssh" {
		t.Skipf("guests have no OpenSSH server of their own: %+v, %v", has, err)
	}
	h.sim("image", "create", "--os", "linux", "tux")
	return h
}

// alteredImage makes an image in which a command has been run by root.
func (h *mac) alteredImage(from, name, command string) {
	h.t.Helper()
	h.tartDo("clone", from, name)
	run := h.tartCommand("run", name, "--no-graphics")
	if err := run.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.eventually("the VM runs", func() bool { return h.tartCommand("exec", name, "true").Run() == nil })
	h.tartDo("exec", name, "sudo", "-n", "sh", "-c", command)
	h.tartDo("stop", name)
	_ = run.Wait()
}

// logInFromOutside tries what any process on the host could: the image's well-known password, at the address of the one job's VM.
func (h *mac) logInFromOutside() error {
	h.t.Helper()
	raw, err := os.ReadFile(filepath.Join(h.tartHome(), "vms", h.theVM(), "sim-run.json"))
	var at struct {
		Address string
		Port    int
	}
	if err == nil {
		err = json.Unmarshal(raw, &at)
	}
	if err != nil {
		h.t.Error(err)
	}
	client, err := ssh.Dial("tcp", net.JoinHostPort(at.Address, strconv.Itoa(at.Port)), &ssh.ClientConfig{
		User: "admin", HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: time.Minute,
		Auth: []ssh.AuthMethod{ssh.Password("admin"), ssh.KeyboardInteractive(func(_, _ string, questions []string, _ []bool) ([]string, error) {
			return slices.Repeat([]string{"admin"}, len(questions)), nil
		})},
	})
	if err == nil {
		client.Close()
	}
	return err
}

// refusedOutside wants no password to be so much as asked for.
func (h *mac) refusedOutside(at string) {
	h.t.Helper()
	if err := h.logInFromOutside(); err == nil || !strings.Contains(err.Error(), "attempted methods [none], no supported methods remain") {
		h.t.Errorf("%s: login from outside: %v", at, err)
	}
}

// TestSSHKeyShutsOthersOut runs jobs in both systems, by every transport.
func TestSSHKeyShutsOthersOut(t *testing.T) {
	t.Parallel()
	for _, image := range []string{"base", "tux"} {
		for _, transport := range []string{"ssh", "agent", "auto"} {
			t.Run(image+" "+transport, func(t *testing.T) {
				t.Parallel()
				h := newLocked(t, "--transport", transport)
				j := job("echo started; until [ -e /tmp/go ]; do sleep 0.1; done")
				j.Image.Name = image
				j.AfterScript = []string{"echo afterwards"}
				r := h.run(j, when("build_script", "started\n", func(tr *trial.Trial, _ trial.Process) {
					h.refusedOutside("during the script")
					h.expect(0, "42", "ssh", fmt.Sprint(tr.JobID()), "--", "echo $((40 + 2)); touch /tmp/go")
				}))
				want(t, r, trial.Success, "", 0)
				says(t, r, "nobody else can log in by SSH", "afterwards")
				h.assertClean("tux")
			})
		}
	}
}

// TestWithoutSSHKeyOthersGetIn is what makes the tests above worth something.
func TestWithoutSSHKeyOthersGetIn(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	r := h.run(job("echo started; sleep 300"), when("build_script", "started\n", func(tr *trial.Trial, _ trial.Process) {
		if err := h.logInFromOutside(); err != nil {
			t.Errorf("login from outside: %v", err)
		}
		tr.Cancel()
	}))
	want(t, r, trial.Canceled, trial.JobCanceled, 0)
	h.assertClean()
}

// TestSSHKeyServesTheNextConnection has a script that ends its own connection, and does what takes other keys away.
func TestSSHKeyServesTheNextConnection(t *testing.T) {
	t.Parallel()
	for _, image := range []string{"base", "tux"} {
		t.Run(image, func(t *testing.T) {
			t.Parallel()
			h := newLocked(t)
			j := job("echo started; rm -rf ~/.ssh; chmod 777 ~; sudo -n pkill -KILL -f 'sshd: admin'; sleep 300")
			j.Image.Name = image
			j.AfterScript = []string{"echo after; wards=wards; echo after$wards"}
			r := h.run(j, func(o *trial.Options) {
				o.Hooks.Ended = func(_ *trial.Trial, s trial.StageResult) {
					if s.Name == "after_script" {
						h.refusedOutside("after it")
					}
				}
			})
			want(t, r, trial.Failed, trial.RunnerSystemFailure, 0)
			says(t, r, "connection to the VM lost", "afterwards")
			h.assertClean("tux")
		})
	}
}

// TestSSHKeyStaysInMemory looks for the private key in all that others on the host may see. Every form of it has the public one within.
func TestSSHKeyStaysInMemory(t *testing.T) {
	t.Parallel()
	h := newLocked(t)
	r := h.run(job("cat /etc/ssh/grtd_keys; echo started; until [ -e /tmp/go ]; do sleep 0.1; done"), when("build_script", "started\n", func(tr *trial.Trial, _ trial.Process) {
		out, _, _ := h.person(nil, "ssh", fmt.Sprint(tr.JobID()), "--", "cat /etc/ssh/grtd_keys; touch /tmp/go")
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(out))
		if err != nil {
			t.Errorf("%q: %v", out, err)
			return
		}
		public := key.Marshal()[len(key.Marshal())-32:]
		forms := [][]byte{public, fmt.Appendf(nil, "%x", public), []byte("PRIVATE KEY")}
		for shift := range 3 { // base64 of something that it is somewhere within
			text := base64.StdEncoding.EncodeToString(append(make([]byte, shift), public...))
			forms = append(forms, []byte(text[4:40]))
		}
		has := func(raw []byte) bool {
			return slices.ContainsFunc(forms, func(form []byte) bool { return bytes.Contains(raw, form) })
		}
		if !has([]byte(out)) {
			t.Error("this test does not find the key where it is")
		}
		files, _ := filepath.Glob("/proc/[0-9]*/[ce][mn][dv]*")
		if err := walkLiving(h.state(), func(path string, _ fs.DirEntry) error {
			files = append(files, path)
			return nil
		}); err != nil {
			t.Error(err)
		}
		for _, f := range files {
			if raw, _ := os.ReadFile(f); has(raw) { // some are gone, or no files
				t.Errorf("%s has the key", f)
			}
		}
		if len(files) < 20 {
			t.Errorf("only %d files", len(files))
		}
	}))
	want(t, r, trial.Success, "", 0)
	h.assertClean("tux")
}

// TestSSHKeyInASuspendedImage closes a guest that goes on where it stopped.
func TestSSHKeyInASuspendedImage(t *testing.T) {
	t.Parallel()
	h := newLocked(t)
	h.suspend("alike", "--no-audio", "--no-clipboard")
	j := job("echo it works")
	j.Image.Name = "alike"
	r := h.run(j)
	want(t, r, trial.Success, "", 0)
	says(t, r, "goes on with its own hardware", "nobody else can log in by SSH", "it works")
	h.assertClean("alike", "tux")
}

// TestSSHKeyOrNoJob has images that can't do what the operator wants. Jobs must not run in them.
func TestSSHKeyOrNoJob(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		from, command string
		flags         []string
		says          string
		hint          string
	}{
		"no sudo":               {command: "rm /usr/bin/sudo", says: "the VM has no sudo", hint: "sudo without a password, or do without --ssh-key"},
		"sudo wants a password": {command: `printf '#!/bin/sh\necho "sudo: a password is required" >&2; exit 1\n' > /usr/bin/sudo; chmod 755 /usr/bin/sudo`, says: `user "admin" of the VM cannot use sudo without a password`, hint: "sudo without a password"},
		"no configuration":      {command: "rm /etc/ssh/sshd_config", flags: []string{"--transport", "agent"}, says: "the VM has no /etc/ssh/sshd_config", hint: "look at the SSH server"},
		"it has no effect":      {command: "ln -sf true /usr/bin/mv", says: `the SSH server lets in who has no key: it takes "publickey password"`, hint: "must go by /etc/ssh/sshd_config"},
		"nor in Linux":          {from: "tux", command: "ln -sf true /usr/bin/mv", says: `the SSH server lets in who has no key: it takes "publickey password"`, hint: "must go by /etc/ssh/sshd_config"},
		"nor by agent":          {command: "ln -sf true /usr/bin/mv", flags: []string{"--transport", "agent"}, says: "does not go by /etc/ssh/sshd_config", hint: "look at the SSH server"},
		"no such keys":          {command: "sed -i '1i PubkeyAcceptedAlgorithms rsa-sha2-512' /etc/ssh/sshd_config", says: `login refused as user "admin" with this job's key`, hint: "take ed25519 keys"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newLocked(t, append([]string{"--timeout", "20", "--guest-builds-dir", "/tmp/builds", "--guest-cache-dir", "/tmp/cache"}, c.flags...)...)
			from := c.from
			if from == "" {
				from = "base"
			}
			h.alteredImage(from, "unfit", c.command)
			j := job("echo never; echo ever")
			j.Image.Name = "unfit"
			r := h.run(j)
			want(t, r, trial.Failed, trial.ScriptFailure, 1)
			says(t, r, c.says, "hint: ", c.hint)
			if r.PrepareAttempts != 1 || r.Stage("build_script") != nil {
				t.Errorf("%d attempts, and a script: %v", r.PrepareAttempts, r.Stage("build_script"))
			}
			h.assertClean("tux", "unfit")
		})
	}
}
