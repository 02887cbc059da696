package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gitlab-runner-tart-driver/internal/trial"
)

// promise is a line of what the README of the Python driver, or gitlab-tart-executor, promises.
type promise struct {
	// flags are for prepare, and variables for the job.
	flags     []string
	variables []string
	// image is `base` unless said otherwise.
	image string
	// script runs in the guest.
	script []string
	// calls are what tart must have been called with, as parts of a command line; never what it must not have been.
	calls, never []string
	// says and refused are texts of the job log; refused also means that the job fails because of a setting.
	says    []string
	refused string
	// root says that the guest must let its user become root, which it can't where this machine's user is an ordinary one.
	root bool
}

// TestPromises runs a whole job for every flag and variable, and looks at what really happened.
func TestPromises(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	h.sim("image", "create", "linux", "--os", "linux")
	data := filepath.Join(h.dir, "data dir")
	if err := os.MkdirAll(data, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, "file"), []byte("from the host\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string]promise{
		"defaults": {calls: []string{"set VM --display 1920x1200 --random-mac", "--no-graphics", "--no-audio --no-clipboard", "--root-disk-opts=sync=none,caching=cached"},
			never: []string{"--vnc", "softnet", "--cpu", "--memory", "--dir"}, says: []string{"logged in as admin", "scripts run with /bin/zsh"}},
		"cpu and memory":           {flags: []string{"--cpu", "6", "--memory", "9000"}, calls: []string{"set VM --cpu 6 --memory 9000"}},
		"display":                  {flags: []string{"--display", "1200x800"}, calls: []string{"--display 1200x800"}},
		"display by variable":      {flags: []string{"--display", "1200x800"}, variables: []string{"TART_EXECUTOR_DISPLAY", "800x600"}, calls: []string{"--display 800x600"}},
		"not headless":             {variables: []string{"TART_EXECUTOR_HEADLESS", "false"}, never: []string{"--no-graphics"}},
		"softnet":                  {variables: []string{"TART_EXECUTOR_SOFTNET_ENABLED", "True"}, calls: []string{"--net-softnet"}},
		"softnet, the other's":     {variables: []string{"TART_EXECUTOR_SOFTNET", "1"}, calls: []string{"--net-softnet"}},
		"softnet allow":            {flags: []string{"--softnet-allow", "10.0.0.0/8"}, calls: []string{"--net-softnet-allow=10.0.0.0/8"}},
		"softnet allow, by a job":  {variables: []string{"TART_EXECUTOR_SOFTNET_ALLOW", "0.0.0.0/0"}, refused: "unless it is named with --unlock"},
		"image's MAC":              {variables: []string{"TART_EXECUTOR_RANDOM_MAC", "false"}, never: []string{"--random-mac"}},
		"disk options":             {variables: []string{"TART_EXECUTOR_ROOT_DISK_OPTS", "caching=cached"}, calls: []string{"--root-disk-opts=caching=cached"}},
		"dir":                      {flags: []string{"--dir", "data:" + data}, calls: []string{"--dir=data:" + data}, script: []string{"cat '/Volumes/My Shared Files/data/file'"}, says: []string{"from the host"}},
		"shell":                    {variables: []string{"TART_EXECUTOR_SHELL", "/bin/bash"}, says: []string{"scripts run with /bin/bash"}},
		"timezone":                 {root: true, variables: []string{"TART_EXECUTOR_TIMEZONE", "Asia/Tokyo"}, script: []string{"echo zone $(date +%Z)"}, says: []string{"zone JST", "time zone Asia/Tokyo"}},
		"no such timezone":         {variables: []string{"TART_EXECUTOR_TIMEZONE", "Mars/Base"}, refused: "does not know the time zone Mars/Base"},
		"locked":                   {flags: []string{"--lock", "shell"}, variables: []string{"TART_EXECUTOR_SHELL", "/bin/bash"}, refused: "only the operator sets shell (flag --lock)"},
		"CPUs within bounds":       {flags: []string{"--max-cpu", "8"}, variables: []string{"TART_EXECUTOR_CPU", "8"}, calls: []string{"--cpu 8"}},
		"CPUs beyond bounds":       {flags: []string{"--max-cpu", "8"}, variables: []string{"TART_EXECUTOR_CPU", "16"}, refused: "at most 8 (flag --max-cpu)"},
		"more VMs":                 {variables: []string{"TART_MAX_VM_COUNT", "5"}, refused: "at most 2"},
		"environment of tart run":  {flags: []string{"--tart-run-env", "FOO=bar"}, says: []string{"is ready"}},
		"volume":                   {flags: []string{"--volume", data + ":/opt/data/models"}, script: []string{"cat /opt/data/models/file", "echo x > /opt/data/models/new && rm /opt/data/models/new"}, says: []string{"from the host", "is at /opt/data/models"}},
		"volume, read-only":        {flags: []string{"--volume", data + ":/opt/data:ro"}, calls: []string{":ro"}, script: []string{"cat /opt/data/file", "touch /opt/data/new || echo read-only"}, says: []string{"from the host", "read-only"}},
		"volume, in one argument":  {flags: []string{"--volume " + data + "/:/opt/data:ro"}, script: []string{"cat /opt/data/file"}, says: []string{"from the host"}},
		"volume, home":             {flags: []string{"--volume", "~:/opt/home:ro"}, script: []string{"ls -d /opt/home/"}, says: []string{"/opt/home/"}},
		"volume, existing target":  {flags: []string{"--volume", data + ":/media:ro"}, script: []string{"cat /media/file"}, says: []string{"from the host"}},
		"volume, space in the VM":  {flags: []string{"--volume", data + ":/opt/my data"}, script: []string{"cat '/opt/my data/file'"}, says: []string{"from the host"}},
		"volumes":                  {flags: []string{"--volume", data + ":/opt/a", "--volume", data + ":/opt/b:ro"}, script: []string{"cat /opt/a/file /opt/b/file"}, says: []string{"is at /opt/a", "is at /opt/b"}},
		"volume that is not there": {flags: []string{"--volume", "/nonexistent:/opt/a"}, refused: `volume "/nonexistent:/opt/a": stat /nonexistent`},
		"volume of nonsense":       {flags: []string{"--volume", data + ":/opt/a:rx"}, refused: "expected HOST:VM or HOST:VM:ro"},
		"two volumes at one place": {flags: []string{"--volume", data + ":/opt/a", "--volume", data + "/:/opt/a/"}, refused: "have the same place in the VM"},
		"host dir":                 {flags: []string{"--host-dir"}, calls: []string{"--dir=builds:"}, script: []string{"pwd; touch here"}, says: []string{"/builds/"}},
		"host dir, by a job":       {variables: []string{"TART_EXECUTOR_HOST_DIR", "true"}, refused: "unless it is named with --unlock"},
		"install runner":           {root: true, image: "linux", flags: []string{"--install-gitlab-runner"}, script: []string{"gitlab-runner --version"}, says: []string{"GitLab Runner 19.0.0-fake installed (host)", "Version:      19.0.0-fake"}},
		"install runner, variable": {root: true, image: "linux", variables: []string{"TART_EXECUTOR_INSTALL_GITLAB_RUNNER", "true"}, script: []string{"gitlab-runner --version"}, says: []string{"installed (host)"}},
		"install runner, bash":     {root: true, image: "linux", variables: []string{"TART_EXECUTOR_INSTALL_GITLAB_RUNNER", "true", "TART_EXECUTOR_SHELL", "/bin/bash"}, script: []string{"gitlab-runner --version"}, says: []string{"installed (host)"}},
		"VNC":                      {variables: []string{"TART_EXECUTOR_VNC_ENABLED", "yes"}, calls: []string{"--vnc"}},
		"bridged, by a job":        {variables: []string{"TART_EXECUTOR_BRIDGED", "en0"}, refused: "unless it is named with --unlock"},
		"disk":                     {flags: []string{"--disk", data + "/file:ro"}, calls: []string{"--disk=" + data + "/file:ro"}},
		"always pull":              {image: "registry.test/macos/base", variables: []string{"TART_EXECUTOR_ALWAYS_PULL", "true"}, calls: []string{"pull registry.test/macos/base:latest"}, says: []string{": pulled ", "  sha256:"}},
		"never pull":               {image: "registry.test/macos/none", variables: []string{"TART_PULL_POLICY", "never"}, refused: "its pull policy is never"},
		"excluded image":           {flags: []string{"-e", "^ba"}, refused: "(flag --exclude-image-expr)"},
		"default image":            {flags: []string{"--default-image", "base"}, image: "-", says: []string{"image base: local VM"}},
		"login":                    {flags: []string{"--default-ssh-user", "nobody"}, variables: []string{"TART_SSH_USERNAME", "admin", "TART_SSH_PASSWORD", "admin"}, says: []string{"logged in as admin"}},
		"wrong port":               {flags: []string{"--timeout", "1"}, variables: []string{"TART_EXECUTOR_SSH_PORT", "0"}, refused: "from 1 to 65535"},
		"Linux guest": {root: true, image: "linux", flags: []string{"--volume", data + ":/opt/data:ro", "--timezone", "Asia/Tokyo"}, script: []string{"cat /opt/data/file; date +%Z"},
			says: []string{"guest is Linux", "from the host", "JST"}},
	} {
		t.Run(name, func(t *testing.T) {
			if p.root && os.Getuid() != 0 {
				t.Skip("guests have no root where this user has not")
			}
			h := h.as(t)
			h.forgetCalls()
			script := p.script
			if script == nil {
				script = []string{"echo fine"}
			}
			j := job(script...)
			if p.image != "" {
				j.Image.Name = strings.TrimPrefix(p.image, "-") // "-" is a job that names none
			}
			j.Variables = variables(p.variables...)
			r := h.run(j, func(o *trial.Options) {
				o.Driver.Prepare.Args = append(o.Driver.Prepare.Args, p.flags...)
				o.Environ = append(o.Environ, "PATH="+h.runnerDir()+":/usr/bin:/bin:/usr/sbin:/sbin")
			})
			if p.refused != "" {
				want(t, r, trial.Failed, trial.ScriptFailure, 1)
				says(t, r, p.refused)
				h.assertClean("linux")
				return
			}
			want(t, r, trial.Success, "", 0)
			says(t, r, p.says...)
			line := h.commandLines()
			for _, call := range p.calls {
				if !strings.Contains(line, call) {
					t.Errorf("tart was not called with %q:\n%s", call, line)
				}
			}
			for _, call := range p.never {
				if strings.Contains(line, call) {
					t.Errorf("tart was called with %q:\n%s", call, line)
				}
			}
			h.assertClean("linux")
		})
	}
}

// TestHostDirectories lets a second job find what the first one left: its checkout, for a fetch in place of a clone, and its cache.
func TestHostDirectories(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	h.flags = append(h.flags, "--builds-dir", filepath.Join(h.dir, "builds"), "--cache-dir", "~/cache")
	first := h.run(job("echo first > marker", "echo cached > "+h.guestCache()+"/entry"))
	want(t, first, trial.Success, "", 0)
	second := h.run(job("cat marker " + h.guestCache() + "/entry; rm marker"))
	want(t, second, trial.Success, "", 0)
	says(t, second, "first", "cached")
	other := job("ls " + h.guestCache() + "; test -e marker || echo nothing of others")
	third := h.run(other, func(o *trial.Options) {
		o.EditResponse = func(response map[string]any) { response["job_info"].(map[string]any)["project_id"] = 4711 }
	})
	want(t, third, trial.Success, "", 0)
	says(t, third, "nothing of others")
	if strings.Contains(string(third.Log), "entry") {
		t.Error("another project sees the cache")
	}
	h.assertClean()
}

// TestConfigFile sets everything in a file, so that config.toml stays short.
func TestConfigFile(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	file := filepath.Join(h.dir, "driver.toml")
	content := "tart-executable = '" + h.tart + "'\nauto-resources = false\ncpu = 5\nshell = '/bin/bash'\nlock = ['shell']\n"
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	rest := h.flags[slices.Index(h.flags, "--no-auto-resources")+1:] // what the machine needs, such as another port
	h.flags = append([]string{"--config", file}, rest...)
	r := h.run(job("echo it works"))
	want(t, r, trial.Success, "", 0)
	says(t, r, "it works", "scripts run with /bin/bash")
	if line := h.commandLines(); !strings.Contains(line, "--cpu 5") {
		t.Errorf("calls:\n%s", line)
	}
	if err := os.WriteFile(file, []byte("shel = '/bin/bash'\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r = h.run(job("echo never"))
	want(t, r, trial.Failed, trial.ScriptFailure, 1)
	says(t, r, "config file "+file+`: "shel" is not a setting; did you mean "shell"?`)
	h.assertClean()
}

// TestAutoResources divides the host.
func TestAutoResources(t *testing.T) {
	t.Parallel()
	h := newMac(t, "--auto-resources", "--concurrency", "1")
	h.sim("image", "create", "small", "--cpu", "1", "--memory", "512")
	j := job("echo it works")
	j.Image.Name = "small"
	want(t, h.run(j), trial.Success, "", 0)
	if line := h.commandLines(); !strings.Contains(line, "--cpu ") || !strings.Contains(line, "--memory ") {
		t.Errorf("calls:\n%s", line)
	}
	// The image `base` wants more than this machine may have to give, and gets its own figures then.
	want(t, h.run(job("echo it works")), trial.Success, "", 0)
	h.assertClean("small")
}
