package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"gitlab-runner-tart-driver/internal/runnerconf"
	"gitlab-runner-tart-driver/internal/trial"
)

// TestDocumentation does what the pages tell people to do, in their order, on one host: every command, every configuration. What it does in another
// way, or not at all, is in tables with the reason (docstable_test.go); what these have in vain is an error, too.
func TestDocumentation(t *testing.T) {
	t.Parallel()
	h := newReader(t)
	started := make(chan struct{})
	tr := h.start(theJob(), func(o *trial.Options) { o.JobID = 4711 },
		when("build_script", "started\n", func(*trial.Trial, trial.Process) { close(started) }))
	await(t, tr, "the script of job 4711 starts", started)
	for _, page := range pages(t) {
		t.Run(strings.TrimPrefix(page, "docs/"), func(t *testing.T) { h.as(t).read(page) })
	}
	tr.Cancel() // in vain, unless a page has failed
	want(t, tr.Wait(), trial.Success, "", 0)
	for i, d := range deviations {
		if !h.used[i] {
			t.Errorf("no page has a command like %s %q (%s)", d.page, d.command, d.why)
		}
	}
	for _, u := range untried {
		if !h.met[u.begins] {
			t.Errorf("%s has no block that begins with %q (%s)", u.page, u.begins, u.why)
		}
	}
	for _, name := range foreign {
		if !h.met[name] {
			t.Errorf("no page names %s, which is not the driver's", name)
		}
	}
	h.assertClean()
}

// theJob is job 4711 of the pages: it runs until somebody lets it go on.
func theJob() *trial.Job {
	j := job("mkdir -p build", "echo '<testsuites/>' > build/report.xml", "echo started", "until [ -e /tmp/go ]; do sleep 0.1; done")
	j.Project.Path = "group/project"
	j.Image.Name = theImage
	j.Variables = variables("TART_EXECUTOR_VNC_ENABLED", "true")
	return j
}

// theImage is that of the pages.
const theImage = "ghcr.io/cirruslabs/macos-sequoia-base:latest"

// reader is somebody who reads the pages, at a host.
type reader struct {
	*mac
	// used are the deviations that a command had.
	used map[int]bool
	// known are the flags and variables that there are, and met the untried and the foreign that a page has.
	known, met map[string]bool
}

// newReader makes a host for the pages. Where a page does something to macOS, files below mac() play it, as in the tests of doctor.
func newReader(t *testing.T) *reader {
	t.Helper()
	h := &reader{mac: newMac(t), used: map[int]bool{}, met: map[string]bool{}}
	if h.sshPort() != "22" || os.Getuid() != 0 {
		t.Skip("the pages are written for guests with the SSH port 22 and a directory /opt, which needs root here")
	}
	for _, image := range theImages {
		h.sim(append([]string{"image", "create", strings.NewReplacer("/", "-", ":", "-").Replace(image[0]), "--registry-only", "--registry"}, image...)...)
	}
	h.playMac()
	for path, text := range map[string]string{
		"project/token": "glrt-abcdefghijklmnop\n", "project/Tools/tool": "a tool\n", "project/README": "a project\n", "t/README": "the /tmp of pages\n",
	} {
		h.write(filepath.Join(h.dir, path), text)
	}
	for _, link := range [][2]string{{built.tartsim, "tartsim"}, {filepath.Join(filepath.Dir(built.runner), "softnet"), "softnet"}, {built.runner, "gitlab-runner"}} {
		if err := os.Symlink(link[0], filepath.Join(h.dir, "bin", link[1])); err != nil {
			t.Fatal(err)
		}
	}
	// setup, doctor and migrate are for a Mac; the other verbs work here. No GitLab answers here, and nobody must be asked for one: TestNewUser has its own.
	h.write(filepath.Join(h.dir, "bin", runnerconf.Name), fmt.Sprintf("#!/bin/sh\nverb=$1\ncase $verb in\n"+
		"setup) shift; HOME=/Users/ci USER=ci exec %[1]s $verb --root %[2]s --driver /usr/local/bin/%[3]s --no-verify \"$@\" ;;\n"+
		"migrate) shift; HOME=/Users/ci USER=ci exec %[1]s $verb --root %[2]s --driver /usr/local/bin/%[3]s \"$@\" ;;\n"+
		"doctor) shift; HOME=/Users/ci USER=ci exec %[1]s doctor --root %[2]s \"$@\" ;;\nesac\nexec %[1]s \"$@\"\n", h.bin, h.played(), runnerconf.Name))
	h.learn()
	return h
}

func (h *reader) project() string { return filepath.Join(h.dir, "project") }
func (h *reader) played() string  { return filepath.Join(h.dir, "played") }

// as is the same reader for a subtest.
func (h *reader) as(t *testing.T) *reader {
	sub := *h
	sub.mac = h.mac.as(t)
	return &sub
}

// write writes a file, with the directories above it. What begins as a script can be run.
func (h *reader) write(path, text string) {
	h.t.Helper()
	mode := os.FileMode(0o644)
	if strings.HasPrefix(text, "#!") {
		mode = 0o755
	}
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path, []byte(text), mode)
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

// playMac makes the Mac of doctor's own test, on which all is well, and shares GitLab Runner's directory with it.
func (h *reader) playMac() {
	const scenario = repository + "/internal/cli/testdata/script/doctor.txtar"
	archive, err := txtar.ParseFile(scenario)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, f := range archive.Files {
		if name, ok := strings.CutPrefix(f.Name, "mac/"); ok {
			h.write(filepath.Join(h.played(), name), string(f.Data))
		}
	}
	for _, program := range []string{"bin/brew", "usr/local/bin/" + runnerconf.Name, "opt/homebrew/bin/gitlab-runner"} {
		h.write(filepath.Join(h.played(), program), "#!/bin/sh\n")
	}
	config := filepath.Join(h.played(), "Users/ci/.gitlab-runner") // the same directory under the reader's own name, here and on the Mac
	links := []string{filepath.Join(h.home(), ".gitlab-runner"), filepath.Join(h.played(), h.home(), ".gitlab-runner")}
	for _, dir := range []string{"Users/ci/.tart/vms", "Users/ci/Library/Logs"} {
		err = errors.Join(err, os.MkdirAll(filepath.Join(h.played(), dir), 0o755))
	}
	err = errors.Join(err, os.Chmod(filepath.Join(config, "config.toml"), 0o600), os.MkdirAll(filepath.Dir(links[1]), 0o755), os.Symlink(config, links[0]), os.Symlink(config, links[1]),
		os.WriteFile(filepath.Join(h.played(), "var/db/dhcpd_leases"), []byte("{\n\tname=ci\n\tip_address=192.168.64.2\n\tlease=0x7fffffff\n}\n"), 0o644))
	if err != nil {
		h.t.Fatal(err)
	}
}

// read does what a page says.
func (h *reader) read(page string) {
	blocks, prose := readPage(h.t, page)
	var script []command
	for i, b := range blocks {
		at := fmt.Sprintf("%s:%d", b.page, b.line)
		switch b.language {
		case "sh", "console":
			script = append(script, b.commands(h.t)...)
		case "toml":
			path := filepath.Join(h.dir, "blocks", fmt.Sprintf("%s-%d.toml", filepath.Base(page), i))
			h.checkTOML(at, path, b.text)
		case "yaml":
			h.checkYAML(at, b.text)
		case "json":
			h.checkJSON(at, b.text)
		case "xml":
			h.checkXML(at, b.text)
		default:
			h.checkUntried(at, b)
		}
	}
	h.typed(script)
	h.checkProse(page, prose)
}

// command runs a program in the project's directory, with what the reader has in PATH.
func (h *reader) command(stdin io.Reader, name string, args ...string) (stdout, stderr string, code int) {
	h.t.Helper()
	const limit = 3 * time.Minute // something hangs
	ctx, cancel := context.WithTimeout(h.t.Context(), limit)
	defer cancel()
	if own := filepath.Join(h.dir, "bin", name); !strings.Contains(name, "/") {
		if _, err := os.Stat(own); err == nil {
			name = own
		}
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = h.project()
	cmd.Env = append(h.environ(), "PATH="+filepath.Join(h.dir, "bin")+":/usr/bin:/bin:/usr/sbin:/sbin", "TMPDIR="+h.temp(), "DIR="+h.dir, "REPO="+h.repository())
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &errs
	cmd.WaitDelay = time.Second // what is left in the background may hold on to its output
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		h.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// repository is the path of this code.
func (h *reader) repository() string {
	path, err := filepath.Abs(repository)
	if err != nil {
		h.t.Fatal(err)
	}
	return path
}
