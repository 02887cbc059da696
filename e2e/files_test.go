package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"gitlab-runner-tart-driver/internal/trial"
)

// otherUser is a user of the host that has nothing to do with the driver.
const otherUser = 65534

// asOther runs a shell script as another user, and returns what it says.
func (h *mac) asOther(script string, args ...string) string {
	h.t.Helper()
	cmd := exec.Command("/bin/sh", append([]string{"-c", script, "sh"}, args...)...)
	cmd.Env, cmd.Dir = []string{"PATH=/usr/bin:/bin", "HOME=/nonexistent"}, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: otherUser, Gid: otherUser}}
	out, err := cmd.CombinedOutput()
	if err != nil && !errors.As(err, new(*exec.ExitError)) {
		h.t.Errorf("as another user: %v", err)
	}
	return string(out)
}

// openToAll lets all users come as far as the directories of this test's host.
func (h *mac) openToAll() {
	h.t.Helper()
	for _, dir := range []string{h.dir, h.home(), h.tartHome()} {
		if err := os.Chmod(dir, 0o755); err != nil {
			h.t.Error(err)
		}
	}
}

// withUmask calls every stage with an umask.
func (h *mac) withUmask(umask string) func(*trial.Options) {
	wrapper := filepath.Join(h.dir, "umask-"+umask)
	h.script(wrapper, "umask "+umask+`; exec "$@"`)
	return func(o *trial.Options) {
		for _, e := range []*trial.Exec{&o.Driver.Config, &o.Driver.Prepare, &o.Driver.Run, &o.Driver.Cleanup} {
			e.Args, e.Path = append([]string{e.Path}, e.Args...), wrapper
		}
	}
}

// assertPrivate checks that nobody else can use what is in the state directory, and returns its sockets.
func (h *mac) assertPrivate() (sockets []string) {
	h.t.Helper()
	err := walkLiving(h.state(), func(path string, d fs.DirEntry) error {
		st, err := d.Info()
		if err != nil {
			return err
		}
		switch want := map[fs.FileMode]fs.FileMode{fs.ModeDir: 0o700, 0: 0o600}; st.Mode().Type() {
		case fs.ModeDir, 0:
			if st.Mode().Perm() != want[st.Mode().Type()] {
				h.t.Errorf("%s has mode %v", path, st.Mode())
			}
		case fs.ModeSocket: // its directory keeps others out
			sockets = append(sockets, path)
		default:
			h.t.Errorf("%s is a %v", path, st.Mode())
		}
		return nil
	})
	if err != nil {
		h.t.Error(err)
	}
	return sockets
}

// TestFilesArePrivate looks at the state directory while a job runs, with the eyes of its owner and with those of another user. The umask is
// the one that helps least.
func TestFilesArePrivate(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	h.openToAll()
	looked := false
	j := imageJob(public)
	j.Script = []string{"echo started; sleep 300"}
	r := h.run(j, h.withUmask("0"), when("build_script", "started\n", func(tr *trial.Trial, _ trial.Process) {
		defer tr.Cancel()
		looked = true
		sockets := h.assertPrivate()
		if len(sockets) != 1 {
			t.Errorf("sockets: %q, want that of one keeper", sockets)
			return
		}
		if os.Getuid() != 0 {
			return // only root can be somebody else
		}
		entry := filepath.Dir(sockets[0])
		for what, script := range map[string]string{
			"lists the state directory": `ls "$1"`, "lists the records": `ls "$1/vms"`, "lists a record": `ls "$2"`, "reads a record": `cat "$2/record.json"`,
			"reads a log": `cat "$2/keeper.log"`, "reads a slot": `cat "$1/slots/0"`, "connects to a keeper": `ssh -F none -S "$2/sock" -O exit vm`,
			"makes a file": `touch "$1/x"`, "removes a record": `rm -r "$2/lock"`,
		} {
			if out := h.asOther(script, h.state(), entry); !strings.Contains(out, "Permission denied") {
				t.Errorf("another user %s: %s", what, out)
			}
		}
		for _, stage := range []string{"config", "prepare", "run /etc/passwd build_script", "cleanup"} {
			out := h.asOther(`umask 0; "$1" $2 -x "$3" --state-dir "$4" 2>&1; echo code $?`, built.driver, stage, h.tart, h.state())
			if !strings.Contains(out, "state directory cannot be used") || strings.Contains(out, "code 0") {
				t.Errorf("%s by another user: %s", stage, out)
			}
		}
		if _, err := os.Stat(sockets[0]); err != nil {
			t.Errorf("the job's record: %v", err)
		}
	}))
	want(t, r, trial.Canceled, trial.JobCanceled, 0)
	if !looked {
		t.Error("nothing was looked at")
	}
	if s := r.Stage("cleanup_file_variables"); s == nil || s.ExitCode != 0 {
		t.Errorf("the job's VM is not what it was: %+v", s)
	}
	h.assertPrivate()
	h.assertClean()
}

// TestFilesOfSomebodyElse has something in the place of the state directory.
func TestFilesOfSomebodyElse(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	h.openToAll()
	for name, c := range map[string]struct {
		place func(path string) error
		root  bool // needs another user
		says  string
		code  int
	}{
		"a directory of another user": {func(p string) error {
			return errors.Join(os.Mkdir(p, 0o777), os.Chmod(p, 0o777), os.Chown(p, otherUser, otherUser))
		}, true, "belongs to user id 65534", 102},
		"a link of another user to a directory of his": {func(p string) error {
			return errors.Join(os.Mkdir(p+"-his", 0o777), os.Chown(p+"-his", otherUser, otherUser), os.Symlink(p+"-his", p), os.Lchown(p, otherUser, otherUser))
		}, true, "belongs to user id 65534", 102},
		"a file":                {func(p string) error { return os.WriteFile(p, nil, 0o600) }, false, "state directory cannot be used", 102},
		"a link to nothing":     {func(p string) error { return os.Symlink(p+"-nothing", p) }, false, "state directory cannot be used", 102},
		"a link to itself":      {func(p string) error { return os.Symlink(p, p) }, false, "state directory cannot be used", 102},
		"an open directory":     {func(p string) error { return errors.Join(os.Mkdir(p, 0o777), os.Chmod(p, 0o777)) }, false, `image "none"`, 101},
		"a link to a directory": {func(p string) error { return errors.Join(os.Mkdir(p+"-own", 0o700), os.Symlink(p+"-own", p)) }, false, `image "none"`, 101},
	} {
		if c.root && os.Getuid() != 0 {
			t.Logf("%s: only root can make it", name)
			continue
		}
		dir := filepath.Join(h.home(), strings.ReplaceAll(name, " ", "-"))
		if err := c.place(dir); err != nil {
			t.Fatal(err)
		}
		for _, stage := range []string{"prepare", "cleanup"} {
			r := h.call(stage, responseOf(t, nil), nil, "--state-dir", dir)
			if stage == "cleanup" && c.code == 101 {
				c.code, c.says = 0, ""
			}
			if r.code != c.code || !strings.Contains(r.stderr, c.says) || c.code == 0 && r.stderr != "" {
				t.Errorf("%s: %s ended with %d and said %s", name, stage, r.code, r.stderr)
			}
		}
		if st, err := os.Stat(dir); c.code == 0 && (err != nil || st.Mode().Perm() != 0o700) {
			t.Errorf("%s: %v, %v", name, st, err)
		}
	}
	h.assertClean()
}

// TestFilesBehindLinksOfJobs has jobs put links to the host's files wherever they can write: nothing on the host follows them, neither for
// the next job nor when the directories are removed.
func TestFilesBehindLinksOfJobs(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	if !h.isolated() {
		t.Skip("guests share the host's files here")
	}
	precious, data := filepath.Join(h.dir, "precious"), filepath.Join(h.dir, "data")
	for _, dir := range []string{precious, data} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(precious, "file"), []byte("precious"), 0o640); err != nil {
		t.Fatal(err)
	}
	links := fmt.Sprintf(`ln -sfn %[1]s link; ln -sfn %[1]s/file file-link; ln -sfn ../../../../../../../../..%[1]s up-link`, precious)
	use := `for l in link file-link up-link; do test -L $l || echo no$l; echo spoilt > $l/file; echo spoilt > $l; chmod -R 777 $l; rm -rf $l/; done 2> /dev/null`
	places := `for d in /tmp/data . ` + h.guestCache() + `; do cd "$OLDPWD"; cd "$d" && pwd && { ` + "%s; }; done; true"
	shared := []string{"--volume", data + ":/tmp/data", "--builds-dir", filepath.Join(h.dir, "builds"), "--cache-dir", filepath.Join(h.dir, "cache")}
	for _, c := range []struct {
		flags   []string
		scripts string
	}{{shared, links}, {shared, use}, {append(slices.Clone(shared), "--host-dir"), links + "; " + use}, {append(slices.Clone(shared), "--host-dir"), links}} {
		j := job("set +e; cd .", fmt.Sprintf(places, c.scripts), "echo done")
		r := h.run(j, func(o *trial.Options) {
			o.Driver.Config.Args, o.Driver.Prepare.Args = append(o.Driver.Config.Args, c.flags...), append(o.Driver.Prepare.Args, c.flags...)
			o.EditResponse = func(response map[string]any) {
				response["git_info"].(map[string]any)["repo_url"] = "https://u:p@../../../../" + forged
			}
		})
		want(t, r, trial.Success, "", 0)
		says(t, r, "done", "/tmp/data\n", h.guestCache()+"\n")
		if strings.Contains(string(r.Log), "nolink") {
			t.Errorf("the links of the job before are gone")
		}
	}
	if raw, err := os.ReadFile(filepath.Join(precious, "file")); err != nil || string(raw) != "precious" {
		t.Errorf("a file of the host has %q (%v)", raw, err)
	}
	if st, err := os.Stat(filepath.Join(precious, "file")); err != nil || st.Mode().Perm() != 0o640 {
		t.Errorf("a file of the host is %v (%v)", st, err)
	}
	for _, path := range h.tree() {
		if strings.Contains(path, forged) {
			t.Errorf("there is %s", path)
		}
	}
	if st, err := os.Lstat(filepath.Join(data, "link")); err != nil || st.Mode().Type() != fs.ModeSymlink {
		t.Errorf("the job's link: %v (%v)", st, err)
	}
	h.assertClean()
}

// tree is the paths of all that there is on the host.
func (h *mac) tree() []string {
	h.t.Helper()
	var paths []string
	err := filepath.WalkDir(h.dir, func(path string, _ fs.DirEntry, err error) error {
		paths = append(paths, strings.TrimPrefix(path, h.dir+"/"))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) { // a VM's, which lives, or its guest's
			return nil
		}
		return err
	})
	if err != nil {
		h.t.Error(err)
	}
	return paths
}

// assertUnmoved checks that the host has the same files as before, and none that a hostile value has asked for.
func (h *mac) assertUnmoved(before []string) {
	h.t.Helper()
	for _, path := range h.tree() {
		if !slices.Contains(before, path) || strings.Contains(path, forged) {
			h.t.Errorf("there is a file that was not there before: %q", path)
		}
	}
}

// isolated tells whether guests have files and processes of their own.
func (h *mac) isolated() bool {
	return !regexp.MustCompile(`guests get isolation +none`).MatchString(h.sim("check"))
}
