package e2e

import (
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gitlab-runner-tart-driver/internal/trial"
)

// macOS's file system has no case: tart would clone the other job's VM.
func TestImageIsAnotherJobsVMInCapitals(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	for _, name := range []string{"GRTD-AAAAAA-1-AAAAAAAA", "Grtd-aaaaaa-1-aaaaaaaa"} {
		r := h.call("prepare", responseOf(t, map[string]any{"image.name": name}), nil)
		if r.code != 101 || !strings.Contains(r.stderr, "is the VM of a job") {
			t.Errorf("image %s: prepare ended with %d and said %s", name, r.code, r.stderr)
		}
	}
}

// The same for the operator's rules about local VMs and about tags.
func TestExcludedImageInCapitals(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	for _, name := range []string{"BASE", "registry.test/macos/base:Latest"} {
		r := h.call("prepare", responseOf(t, map[string]any{"image.name": name, "image.pull_policy": []string{"never"}}), nil, "-e", "^base$", "-e", ":latest$")
		if r.code != 101 || !strings.Contains(r.stderr, "is excluded on this runner") {
			t.Errorf("image %s: prepare ended with %d and said %s", name, r.code, r.stderr)
		}
	}
}

func TestNULInLogin(t *testing.T) {
	t.Parallel()
	h := newPrivate(t)
	auth := base64.StdEncoding.EncodeToString([]byte("bot:pass\x00word"))
	r := h.call("prepare", responseOf(t, map[string]any{"image.name": private}), []string{"DOCKER_AUTH_CONFIG", `{"auths":{"private.test":{"auth":"` + auth + `"}}}`})
	if r.code != 101 {
		t.Errorf("prepare ended with %d and said %s", r.code, r.stderr)
	}
}

func TestLongImage(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	for _, fields := range []map[string]any{{"image.name": strings.Repeat("a", 1<<20)}, {"image.pull_policy": []string{strings.Repeat("a", 1<<20)}, "image.name": public}} {
		r := h.call("prepare", responseOf(t, fields), nil)
		if r.code != 101 || len(r.stderr) > 20_000 {
			t.Errorf("prepare ended with %d and has %d bytes to say: %.200s", r.code, len(r.stderr), r.stderr)
		}
	}
}

// Values that are longer than anything of their kind, as long as GitLab Runner can still start a stage with them.
func TestLongVariables(t *testing.T) {
	t.Parallel()
	for name, vars := range map[string][]string{
		"password":    {"TART_SSH_PASSWORD", strings.Repeat("<", 120_000)},
		"user":        {"TART_SSH_USERNAME", strings.Repeat("a", 100_000)},
		"shell":       {"TART_EXECUTOR_SHELL", strings.Repeat("a", 130_900)},
		"agent shell": {"TART_EXECUTOR_SHELL", strings.Repeat("a", 130_900), "TART_EXECUTOR_TRANSPORT", "agent"},
		"zone":        {"TART_EXECUTOR_TIMEZONE", strings.Repeat("a", 130_000)},
		"registry":    {"TART_REGISTRY_USERNAME", strings.Repeat("a", 130_000), "TART_REGISTRY_PASSWORD", "x"},
		"unknown":     {"TART_" + strings.Repeat("A", 120_000), "x"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newMac(t, "--timeout", "60")
			r := h.call("prepare", responseOf(t, map[string]any{"image.name": public}), vars)
			if r.code == 102 {
				t.Errorf("the job's variable is a system failure: %.900s", r.stderr)
			}
			if len(r.stderr) > 20_000 {
				t.Errorf("prepare has %d bytes to say", len(r.stderr))
			}
			h.call("cleanup", responseOf(t, nil), nil)
			h.assertClean()
		})
	}
}

func TestOthersDirectoryStaysAsItWas(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can make another user's directory")
	}
	t.Parallel()
	h := newMac(t)
	dir := filepath.Join(h.home(), "his")
	if err := errors.Join(os.Mkdir(dir, 0o777), os.Chown(dir, otherUser, otherUser)); err != nil {
		t.Fatal(err)
	}
	h.call("prepare", responseOf(t, nil), nil, "--state-dir", dir)
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("a refused directory has got %v (%v)", left, err)
	}
}

func TestOpenDirectoryWasFilledByOthers(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can make another user's directory")
	}
	t.Parallel()
	for name, place := range map[string]func(string) error{
		"directory": func(p string) error { return errors.Join(os.Mkdir(p, 0o777), os.Chown(p, otherUser, otherUser)) },
		"link": func(p string) error {
			return errors.Join(os.Mkdir(p+"-his", 0o777), os.Chown(p+"-his", otherUser, otherUser), os.Symlink(p+"-his", p), os.Lchown(p, otherUser, otherUser))
		},
	} {
		h := newMac(t)
		dir := filepath.Join(h.home(), "open")
		if err := errors.Join(os.Mkdir(dir, 0o777), os.Chmod(dir, 0o777), place(filepath.Join(dir, "vms"))); err != nil {
			t.Fatal(err)
		}
		r := h.call("prepare", responseOf(t, nil), nil, "--state-dir", dir)
		if r.code != 102 || !strings.Contains(r.stderr, "state directory cannot be used") {
			t.Errorf("vms is another user's %s: prepare ended with %d and said %s", name, r.code, r.stderr)
		}
	}
}

func TestSocketIsItsOwnersOnly(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	j := imageJob(public)
	j.Script = []string{"echo started; sleep 300"}
	h.run(j, h.withUmask("0"), when("build_script", "started\n", func(tr *trial.Trial, _ trial.Process) {
		defer tr.Cancel()
		for _, s := range h.assertPrivate() {
			if st, err := os.Stat(s); err != nil {
				t.Error(err)
			} else if st.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s: %v", s, st.Mode())
			}
		}
	}))
}

// A share inside another one, which jobs can write to, becomes whatever place of the host they like.
func TestShareInsideAShare(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	data, precious := filepath.Join(h.dir, "data"), filepath.Join(h.dir, "precious")
	if err := errors.Join(os.MkdirAll(filepath.Join(data, "cache"), 0o755), os.Mkdir(precious, 0o755), os.WriteFile(filepath.Join(precious, "file"), []byte("precious"), 0o644)); err != nil {
		t.Fatal(err)
	}
	for name, flags := range map[string][]string{
		"volumes":   {"--volume", data + ":/tmp/data", "--volume", data + "/cache:/tmp/inner"},
		"cache-dir": {"--volume", data + ":/tmp/data", "--cache-dir", data + "/cache"},
	} {
		t.Run(name, func(t *testing.T) {
			h := h.as(t)
			with := func(o *trial.Options) {
				o.Driver.Config.Args, o.Driver.Prepare.Args = append(o.Driver.Config.Args, flags...), append(o.Driver.Prepare.Args, flags...)
			}
			h.run(job("cd /tmp/data && rm -rf cache && ln -s "+precious+" cache"), with)
			inner := map[string]string{"volumes": "/tmp/inner", "cache-dir": h.guestCache()}[name]
			r := h.run(job("ls -R "+inner+"/; cat "+inner+"/file; echo spoilt > "+inner+"/file; echo spoilt > "+inner+"/new"), with)
			t.Logf("%s", r.Log)
			if raw, err := os.ReadFile(filepath.Join(precious, "file")); err != nil || string(raw) != "precious" {
				t.Errorf("a file of the host has %q (%v)", raw, err)
			}
			if left, _ := os.ReadDir(precious); len(left) != 1 {
				t.Errorf("a directory of the host has %v", left)
			}
		})
	}
}

// A GitLab Runner without job responses: the project's path is the job's own.
func TestProjectForgesALine(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	var done func()
	h.jobDir, done = h.makeJobDir()
	vars := []string{"CI_JOB_ID", "4711", "CI_JOB_IMAGE", "base", "CI_PROJECT_PATH", "x\n" + forged + "\n"}
	r := h.call("prepare", nil, vars)
	if r.code != 0 {
		t.Errorf("prepare ended with %d and said %s", r.code, r.stderr)
	}
	h.sim("fault", "set", "delete-fails")
	r = h.call("cleanup", nil, vars)
	if r.code != 102 {
		t.Errorf("cleanup ended with %d", r.code)
	}
	assertPlain(t, "cleanup", r.stderr)
	r = h.call("cleanup", nil, vars) // now without a keeper
	if n := strings.Count(r.stderr, "could not be deleted"); n != 1 {
		t.Errorf("cleanup tries one VM %d times: %s", n, r.stderr)
	}
	h.sim("fault", "clear")
	h.call("cleanup", nil, vars)
	done()
	h.assertClean()
}

// The same, told to another job that waits for its turn.
func TestProjectFloodsAnotherLog(t *testing.T) {
	t.Parallel()
	h := newMac(t, "--max-vm-count", "1", "--slot-timeout", "1")
	vars := []string{"CI_JOB_ID", "4711", "CI_JOB_IMAGE", "base", "CI_PROJECT_PATH", strings.Repeat("a", 100_000)}
	first := h.as(t)
	var done func()
	first.jobDir, done = h.makeJobDir()
	first.call("prepare", nil, vars)
	r := h.call("prepare", responseOf(t, map[string]any{"image.name": "base"}), nil)
	if !strings.Contains(r.stderr, "waiting for a place") {
		t.Errorf("the other job does not wait: %s", r.stderr)
	}
	if len(r.stderr) > 20_000 {
		t.Errorf("prepare has %d bytes to say: %.300s", len(r.stderr), r.stderr)
	}
	first.call("cleanup", nil, vars)
	done()
	h.assertClean()
}
