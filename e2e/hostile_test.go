package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"gitlab-runner-tart-driver/internal/settings"
	"gitlab-runner-tart-driver/internal/trial"
)

// ended is how a stage that was called by itself has ended.
type ended struct {
	code           int
	stdout, stderr string
}

// call calls a stage by itself: with a job response of any form, or none where it is nil, and with variables as name, value… Programs in the
// directory `helpers` are in its PATH. The job's directory is h.jobDir, or one that goes at once.
func (h *mac) call(stage string, response []byte, vars []string, args ...string) ended {
	h.t.Helper()
	dir := h.jobDir
	if dir == "" {
		var done func()
		dir, done = h.makeJobDir()
		defer done()
	}
	cmd := exec.Command(built.driver, slices.Concat([]string{stage}, h.flags, args)...)
	cmd.Dir = dir
	cmd.Env = append(h.environ(), "PATH="+filepath.Join(h.dir, "helpers")+":/usr/bin:/bin:/usr/sbin:/sbin", "TMPDIR="+dir, "BUILD_FAILURE_EXIT_CODE=101", "SYSTEM_FAILURE_EXIT_CODE=102", "BUILD_EXIT_CODE_FILE="+filepath.Join(dir, "code"),
		"JOB_RESPONSE_FILE="+filepath.Join(dir, "response.json"))
	for i := 0; i+1 < len(vars); i += 2 {
		cmd.Env = append(cmd.Env, "CUSTOM_ENV_"+vars[i]+"="+vars[i+1])
	}
	if response != nil {
		if err := os.WriteFile(filepath.Join(dir, "response.json"), response, 0o600); err != nil {
			h.t.Fatal(err)
		}
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		h.t.Errorf("%s: %v", stage, err)
	}
	return ended{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// makeJobDir makes a directory as GitLab Runner does for an attempt at a job. A keeper ends when it has gone.
func (h *mac) makeJobDir() (dir string, done func()) {
	h.t.Helper()
	dir, err := os.MkdirTemp(h.temp(), "custom-executor")
	if err != nil {
		h.t.Fatal(err)
	}
	return dir, func() { os.RemoveAll(dir) }
}

// responseOf is a job response with fields changed; a name with a dot is a field of an object.
func responseOf(t *testing.T, fields map[string]any) []byte {
	t.Helper()
	r := map[string]any{
		"id": 4711, "token": "token-of-the-job", "job_info": map[string]any{"project_id": 7, "project_full_path": "group/project"}, "image": map[string]any{"name": "none"},
		"git_info": map[string]any{"repo_url": "https://gitlab.example/group/project.git"}, "runner_info": map[string]any{"timeout": 3600},
	}
	for name, value := range fields {
		if object, field, ok := strings.Cut(name, "."); ok {
			r[object].(map[string]any)[field] = value
		} else {
			r[name] = value
		}
	}
	raw, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// forged begins every line, and every name of a file, that only a hostile value could have brought about.
const forged = "forged-by-the-job"

// hostile are values that no program should have to do with, by what is wrong with them.
func (h *mac) hostile() map[string]string {
	mark := filepath.Join(h.dir, forged)
	return map[string]string{
		"up": "../../../../../../etc/passwd", "absolute": "/etc/passwd", "line": "x\n" + forged + "\nerror: " + forged, "return": "x\r\x1b[0K" + forged,
		"section": "section_start:1:x\r\x1b[0K" + forged, "quotes": `'"'"`, "command": "$(touch " + mark + ")", "backticks": "`touch " + mark + "`",
		"sequence": "x; touch " + mark + "; #", "pipe": "x | tee " + mark, "flag": "-x", "help": "--help", "long flag": "--dir=/:rw", "format": "%s%n%!d(MISSING)",
		"long": strings.Repeat("a", 60_000), "no text": "x\xff\xfe", "unicode": "bücher-\u202e\U0001f4a5", "c1": "x\u009b31m", "delete": "x\x7f", "space": " ", "comma": ",", "empty": "",
	}
}

// assertCalledFor checks that tart was called with these arguments only.
func (h *mac) assertCalledFor(commandLines ...string) {
	h.t.Helper()
	for _, argv := range h.calls() {
		if !slices.Contains(commandLines, strings.Join(argv, " ")) {
			h.t.Errorf("tart was called: %.400q", argv)
		}
	}
}

// assertPlain checks that a text has no line that somebody else than the driver has begun, and nothing that a terminal would obey.
func assertPlain(t *testing.T, what, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if !regexp.MustCompile(`^(error|hint|warning): |^  |^waiting for |^pull`).MatchString(line) || strings.HasPrefix(line, "error: "+forged) {
			t.Errorf("%s: a line of the log is not the driver's: %.200q", what, line)
		}
		if i := strings.IndexFunc(line, func(r rune) bool { return r < ' ' && r != '\t' || r >= 0x7f && r < 0xa0 }); i >= 0 {
			t.Errorf("%s: a line of the log has a control character: %.200q", what, line[max(0, i-20):])
		}
	}
	if strings.Contains(strings.ReplaceAll(text, "%s%n%!d(MISSING)", ""), "%!") {
		t.Errorf("%s: a text is used as a format: %.400q", what, text)
	}
}

// expect checks how a stage has ended: with nothing on stdout, and with a log that says a text, or nothing where that is empty.
func (r ended) expect(t *testing.T, what string, code int, says string) {
	t.Helper()
	if r.code != code || r.stdout != "" || !strings.Contains(r.stderr, says) || says == "" && r.stderr != "" {
		t.Errorf("%s: ended with %d, want %d, wrote %.200q and said %.600q, want %q", what, r.code, code, r.stdout, r.stderr, says)
	}
	assertPlain(t, what, strings.TrimPrefix(sections.ReplaceAllString(r.stderr, ""), untrusted))
}

const untrusted = "warning: GitLab Runner gives no JOB_RESPONSE_FILE (it does since 14.1); the job is taken from variables that it can set itself\n"

// sections are the marks around a pull.
var sections = regexp.MustCompile(`section_(start|end):\d+:tart_pull_\d+\r\x1b\[0K(Pulling image \S+\n)?`)

// TestHostileSettings gives every variable of every setting every hostile value, all variables at once since all faults are told of.
// The image does not exist: a prepare whose settings are all accepted ends with that.
func TestHostileSettings(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	h.call("prepare", responseOf(t, nil), nil) // makes the state directory
	before := h.tree()
	anything := []string{"registry", "registry-username", "registry-password", "default-ssh-user", "default-ssh-password"}
	broken := []string{"long", "line", "return", "section", "no text", "c1", "delete"}
	accepted := map[string][]string{ // what is a path, a zone or options for all that can be told on the host
		"shell": {"up", "absolute"}, "root-disk-opts": {"comma"}, "softnet-allow": {"space", "comma"},
	}
	for kind, value := range h.hostile() {
		for nth := range 2 { // some settings have a second variable
			var vars []string
			refused := map[string]bool{}
			for _, row := range settings.Table() {
				if len(row.Variables) <= nth {
					continue
				}
				vars = append(vars, row.Variables[nth], value)
				refused[row.Variables[nth]] = value != "" && !slices.Contains(accepted[row.Name], kind) && (!slices.Contains(anything, row.Name) || slices.Contains(broken, kind))
			}
			r := h.call("prepare", responseOf(t, nil), vars)
			r.expect(t, kind, 101, "error: ")
			for name, want := range refused {
				if got := regexp.MustCompile(`(?m)^error: variable ` + name + `: `).MatchString(r.stderr); got != want {
					t.Errorf("%s: variable %s is refused: %v, want %v", kind, name, got, want)
				}
			}
			if len(r.stderr) > 20_000 {
				t.Errorf("%s: prepare has %d bytes to say", kind, len(r.stderr))
			}
			if nth == 0 && value != "" {
				h.call("config", responseOf(t, nil), vars).expect(t, kind+", config", 101, "error: variable ")
				h.call("cleanup", responseOf(t, nil), vars).expect(t, kind+", cleanup", 0, "")
			}
		}
	}
	h.assertCalledFor("list --format json")
	h.assertUnmoved(before)
	h.assertClean()
}

// TestHostileVariablesOfGitLab overrides what GitLab and the driver's own environment have, and gives variables hostile names.
// None of it means anything where there is a job response.
func TestHostileVariablesOfGitLab(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	names := []string{"CI_JOB_ID", "CI_JOB_IMAGE", "CI_JOB_TOKEN", "CI_JOB_URL", "CI_JOB_TIMEOUT", "CI_PROJECT_PATH", "CI_PROJECT_DIR", "CI_PROJECT_ID", "CI_BUILDS_DIR",
		"CI_CONCURRENT_ID", "CI_CONCURRENT_PROJECT_ID", "CI_RUNNER_ID", "CI_RUNNER_VERSION", "CI_RUNNER_SHORT_TOKEN", "CI_SERVER_URL", "CI_REPOSITORY_URL", "CI_JOB_SERVICES",
		"JOB_RESPONSE_FILE", "BUILD_EXIT_CODE_FILE", "BUILD_FAILURE_EXIT_CODE", "SYSTEM_FAILURE_EXIT_CODE", "TMPDIR", "HOME", "PATH", "USER", "TART_HOME", "TART_DRIVER_VM",
		"TART_DRIVER_STATE_DIR", "TART_DRIVER_BUILDS_DIR", "TART_DRIVER_CACHE_DIR", "TART_DRIVER_ANCESTORS", "LD_PRELOAD", "DYLD_INSERT_LIBRARIES", "BASH_ENV", "ENV",
		"GOTRACEBACK", "GODEBUG", "SSH_AUTH_SOCK", "DOCKER_CONFIG", "TRACEPARENT", "CUSTOM_ENV_CI_JOB_ID", "CONFIG", "TART_EXECUTOR_SHELL\n" + forged, "-x", "--help", " "}
	vm := regexp.MustCompile(`"TART_DRIVER_VM":"grtd-[a-z2-7]{6}-4711-[a-z2-7]{8}"`)
	same := func(r ended) string { // all but the name, which is made up, and the parents
		if !vm.MatchString(r.stdout) {
			t.Errorf("config names no VM of job 4711: %s", r.stdout)
		}
		return regexp.MustCompile(`"TART_DRIVER_(VM|ANCESTORS)":"([^"\\]|\\.)*"`).ReplaceAllString(r.stdout, "")
	}
	plain := h.call("config", responseOf(t, nil), nil)
	if plain.code != 0 || !json.Valid([]byte(plain.stdout)) {
		t.Fatalf("config: %+v", plain)
	}
	h.call("prepare", responseOf(t, nil), nil)
	before := h.tree()
	for kind, value := range h.hostile() {
		var vars []string
		for _, name := range names {
			if kind == "long" && len(vars) > 2*25 { // the kernel has no room for more
				break
			}
			vars = append(vars, name, value)
		}
		r := h.call("config", responseOf(t, nil), vars)
		if r.code != 0 || same(r) != same(plain) || r.stderr != "" {
			t.Errorf("%s: config ended with %d, wrote %q, want %q, and said %q", kind, r.code, r.stdout, plain.stdout, r.stderr)
		}
		h.call("prepare", responseOf(t, nil), vars).expect(t, kind, 101, `error: image "none": no VM of this name on the host`)
		h.call("cleanup", responseOf(t, nil), vars).expect(t, kind+", cleanup", 0, "")
	}
	h.assertCalledFor("list --format json")
	h.assertUnmoved(before)
	h.assertClean()
}

// TestHostileImages names images that are flags, paths, other jobs' VMs or no names at all.
func TestHostileImages(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	h.call("prepare", responseOf(t, nil), nil)
	before := h.tree()
	images := []string{"..", ".", "../vms/base", "base/../base", "/", "//base", "base/", "@", ":", ":latest", "base\x00", "grtd-aaaaaa-1-aaaaaaaa", "x/\x00y:z",
		"registry.test/../base", "registry.test/macos/base:--help", "registry.test/macos/base:-x", "registry.test/macos/base:../x", "registry.test/macos/base@sha256:../x",
		"registry.test//base", "registry.test/--help", "-x/y:z", "--help/y:z", "https://registry.test/macos/base", "user:pw@registry.test/base", "registry.test/macos/base:a b",
		"registry.test/macos/base:$(touch x)", "registry.test/macos/base:\n" + forged, "registry.test/Ma\u0441os/base", "~/vm", "file:///etc/passwd", "base --help", "base\tx"}
	images = slices.AppendSeq(images, maps.Values(h.hostile()))
	images = slices.DeleteFunc(images, func(name string) bool { return strings.TrimSpace(name) == "" }) // no image
	for i, name := range images {
		says := `error: not an image reference: "`
		if strings.HasPrefix(name, "grtd-") {
			says = `error: image "` + name + `" is the VM of a job`
		}
		h.call("prepare", responseOf(t, map[string]any{"image.name": name}), []string{"CI_JOB_IMAGE", "base"}).expect(t, "image "+name, 101, says)
		if i%5 == 0 && !strings.Contains(name, "\x00") { // a GitLab Runner without job responses
			h.call("prepare", nil, []string{"CI_JOB_ID", "4711", "CI_JOB_IMAGE", name}).expect(t, "variable CI_JOB_IMAGE "+name, 101, says)
		}
	}
	h.assertCalledFor("list --format json")
	h.assertUnmoved(before)
	h.assertClean()
}

// TestHostileResponse has job responses that GitLab Runner would not write, and fields that mean nothing to the driver or are the job's.
func TestHostileResponse(t *testing.T) {
	t.Parallel()
	h := newPrivate(t)
	helper := func(name string) []string {
		config, _ := json.Marshal(map[string]any{"credHelpers": map[string]string{"private.test": name}})
		return []string{"DOCKER_AUTH_CONFIG", string(config)}
	}
	auth := func(login string) []string {
		return []string{"DOCKER_AUTH_CONFIG", `{"auths":{"private.test":{"auth":"` + base64.StdEncoding.EncodeToString([]byte(login)) + `"}}}`}
	}
	h.call("prepare", responseOf(t, nil), nil)
	before := append(h.tree(), "home/.gitlab-runner-tart-driver/images")
	type hostileCase struct {
		response []byte
		vars     []string
		code     int
		says     string
	}
	cases := map[string]hostileCase{}
	for i, raw := range []string{"", "null", "[]", "{", "\x00\x00", `{"id":"4711"}`, `{"id":-1}`, `{"id":0}`, `{"id":1e30}`, `{"id":4711.5}`, `{"id":4711,"image":"x"}`,
		`{"id":4711,"image":{"name":"a` + "\n" + forged + `"}}`, `{"id":4711,"token":{"` + "\x1b" + `":1}}`, "\n" + forged + "\r" + forged,
		strings.Repeat("[", 200_000), strings.Repeat("\xff", 1<<20)} {
		cases["damaged "+strconv.Itoa(i)] = hostileCase{[]byte(raw), nil, 102, "error: read the job: JOB_RESPONSE_FILE"}
	}
	for kind, value := range h.hostile() {
		cases["pull policy, "+kind] = hostileCase{responseOf(t, map[string]any{"image.name": public, "image.pull_policy": []string{"never", value}}), nil, 101, "error: image:pull_policy: "}
		cases["without effect, "+kind] = hostileCase{responseOf(t, map[string]any{"token": value, "job_info.project_full_path": value, "job_info.project_name": value,
			"git_info.repo_url": value, "runner_info.timeout": -1 << 60, "credentials": []any{map[string]any{"type": value, "url": value, "username": value, "password": value}}}),
			nil, 101, `error: image "none": no VM of this name`}
		if !slices.Contains([]string{"up", "line", "section", "command", "flag", "format"}, kind) {
			continue // a pull takes its time
		}
		cases["helper, "+kind] = hostileCase{responseOf(t, map[string]any{"image.name": private}), helper(value), 101, "error: pull image"}
		cases["login, "+kind] = hostileCase{responseOf(t, map[string]any{"image.name": private}), auth(value + ":" + value), 101, "error: pull image"}
		cases["the job's login, "+kind] = hostileCase{responseOf(t, map[string]any{"image.name": private,
			"credentials": []any{map[string]any{"type": "registry", "url": "private.test", "username": value, "password": value}}}), nil, 101, "error: pull image"}
	}
	for name, c := range cases {
		h.call("prepare", c.response, append(c.vars, "CI_JOB_ID", "1", "CI_JOB_IMAGE", "base")).expect(t, name, c.code, c.says)
	}
	h.assertCalledFor("list --format json", "pull "+private)
	for _, path := range h.tree() { // what a pull leaves behind
		if strings.HasPrefix(path, "home/.gitlab-runner-tart-driver/images/") || strings.HasPrefix(path, "tart/") && !strings.Contains(path, forged) {
			before = append(before, path)
		}
	}
	h.assertUnmoved(before)
	h.assertClean()
}

// TestHostileJobLeavesAnotherAlone runs a job with every hostile value that gets through, and every variable that programs obey, beside
// another job. Tart is called just as for that one.
func TestHostileJobLeavesAnotherAlone(t *testing.T) {
	t.Parallel()
	h := newMac(t, "--transport", "agent")
	evil, touch := filepath.Join(h.dir, "evil"), "touch "+filepath.Join(h.dir, forged)
	for _, name := range []string{"tart", "sh", "softnet", "ssh", "docker-credential-x", "gitlab-runner", "env"} {
		h.script(filepath.Join(evil, name), touch)
	}
	calls := func() (lines []string) {
		for line := range strings.Lines(h.commandLines()) {
			if line = strings.TrimSpace(line); !strings.HasPrefix(line, "exec ") && !strings.HasPrefix(line, "list ") {
				lines = append(lines, line)
			}
		}
		return lines
	}
	started := make(chan struct{})
	other := imageJob(public, "TART_PULL_POLICY", "always")
	other.Script = []string{"echo started; sleep 300"}
	victim := h.start(other, when("build_script", "started\n", func(*trial.Trial, trial.Process) { close(started) }))
	await(t, victim, "the other job's script starts", started)
	vm, plain := h.theVM(), calls()
	h.forgetCalls()
	j := imageJob(public, "TART_PULL_POLICY", "always", "TART_SSH_USERNAME", "-oProxyCommand="+touch, "TART_SSH_PASSWORD", "$("+touch+")", "TART_REGISTRY", "registry.test",
		"TART_REGISTRY_USERNAME", "--help; "+touch, "TART_REGISTRY_PASSWORD", "`"+touch+"`", "TART_EXECUTOR_SHELL", "../../../../../../etc/passwd", "TART_EXECUTOR_SOFTNET_ALLOW", " ",
		"CI_JOB_ID", strconv.FormatInt(victim.JobID(), 10), "CI_JOB_IMAGE", vm, "CI_PROJECT_PATH", "../../"+forged, "TART_DRIVER_VM", vm, "TART_DRIVER_STATE_DIR", evil,
		"TART_HOME", evil, "PATH", evil+":/usr/sbin:/usr/bin:/sbin:/bin", "LD_PRELOAD", evil+"/x.so", "BASH_ENV", evil+"/env", "ENV", evil+"/env", "GOTRACEBACK", "crash",
		"JOB_RESPONSE_FILE", evil+"/sh", "BUILD_EXIT_CODE_FILE", filepath.Join(h.dir, forged), "DOCKER_CONFIG", evil, "DOCKER_AUTH_CONFIG", `{"credsStore":"x"}`)
	r := h.run(j)
	want(t, r, trial.Success, "", 0)
	says(t, r, "it runs", "scripts run with /bin/bash")
	if got := calls(); !slices.Equal(got, append(slices.Clone(plain), "delete VM")) {
		t.Errorf("tart was called for the hostile job:\n%s\nand for the other one:\n%s", strings.Join(got, "\n"), strings.Join(plain, "\n"))
	}
	if strings.Contains(strings.Join(h.tree(), "\n"), forged) {
		t.Error("the job has run a command on the host")
	}
	if got := h.vms(); !slices.Equal(got, []string{vm}) {
		t.Errorf("VMs: %v, want %s only", got, vm)
	}
	victim.Cancel()
	if s := victim.Wait().Stage("cleanup_file_variables"); s == nil || s.ExitCode != 0 {
		t.Errorf("the other job's VM is not what it was: %+v", s)
	}
	h.assertClean()
}
