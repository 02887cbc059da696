package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"gitlab-runner-tart-driver/internal/trial"
)

const (
	private  = "private.test/macos/app:15"
	public   = "registry.test/macos/base:latest"
	password = secret + "-registry"
)

// imageJob is a job with an image of a registry.
func imageJob(image string, vars ...string) *trial.Job {
	j := job("echo it runs")
	j.Image.Name = image
	j.Variables = variables(vars...)
	return j
}

func TestAllowedImages(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	for _, c := range []struct {
		image string
		flags []string
		says  string
	}{
		{"base", []string{"--allow-image", "registry.test/macos/*:*"}, `image "base" is not allowed on this runner: allowed are registry.test/macos/*:* (flag --allow-image)`},
		{"registry.test/macos/base", []string{"--allow-image", "registry.test/macos/base:1*", "--allow-image", "x"}, "allowed are registry.test/macos/base:1*, x (flag --allow-image)"},
		{"REGISTRY.test/macos/base", []string{"--exclude-image-expr", "^registry.test/"}, `"^registry.test/" is found in its name (flag --exclude-image-expr)`},
		{"base", []string{"-e", "^ba"}, `is excluded on this runner`},
		{"base", []string{"--allow-image", "[base"}, `pattern "[base"`},
	} {
		r := h.run(imageJob(c.image), func(o *trial.Options) { o.Driver.Prepare.Args = append(o.Driver.Prepare.Args, c.flags...) })
		want(t, r, trial.Failed, trial.ScriptFailure, 1)
		says(t, r, c.says)
	}
	if h.called("clone") != 0 || h.called("pull") != 0 {
		t.Error("an image that is not allowed was touched")
	}
	allowed := []string{"--allow-image", "registry.test/**", "--allow-image", "base", "-e", "tahoe"}
	for _, image := range []string{"base", "registry.test/macos/base"} {
		want(t, h.run(imageJob(image), func(o *trial.Options) { o.Driver.Prepare.Args = append(o.Driver.Prepare.Args, allowed...) }), trial.Success, "", 0)
	}
	h.assertClean()
}

// TestPullPolicyOfTheImage tries `image: pull_policy:` against what the operator allows.
func TestPullPolicyOfTheImage(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	for _, c := range []struct {
		policies []string
		flags    []string
		says     string // empty for success
		pulls    int
	}{
		{[]string{"never"}, nil, "is not on the host, and its pull policy is never", 0},
		{[]string{"never"}, []string{"--allowed-pull-policy", "always"}, `image:pull_policy: "never" is not allowed on this runner: one of always (flag --allowed-pull-policy)`, 0},
		{[]string{"always", "never"}, []string{"--allowed-pull-policy", "always"}, `"never" is not allowed`, 0},
		{[]string{"always"}, []string{"--lock", "pull-policy"}, "only the operator sets pull-policy (flag --lock)", 0},
		{[]string{"never", "if-not-present"}, []string{"--allowed-pull-policy", "never,if-not-present"}, "", 1},
		{[]string{"never"}, nil, "", 0},
		{[]string{"if-not-present"}, []string{"--lock", "pull-policy"}, "", 0}, // what the operator has anyway
		{[]string{"always"}, nil, "", 1},
	} {
		h.forgetCalls()
		j := imageJob(public)
		j.Image.PullPolicy = c.policies
		r := h.run(j, func(o *trial.Options) { o.Driver.Prepare.Args = append(o.Driver.Prepare.Args, c.flags...) })
		if c.says == "" {
			want(t, r, trial.Success, "", 0)
		} else {
			want(t, r, trial.Failed, trial.ScriptFailure, 1)
			says(t, r, c.says)
		}
		if n := h.called("pull"); n != c.pulls {
			t.Errorf("%v %v: %d pulls, want %d", c.policies, c.flags, n, c.pulls)
		}
	}
	h.assertClean()
}

// TestPullPolicyList falls back on the cached image when the registry refuses.
func TestPullPolicyList(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	vars := []string{"TART_PULL_POLICY", "always,if-not-present"}
	says(t, h.run(imageJob(public, vars...)), "image "+public+": pulled")
	says(t, h.run(imageJob(public, vars...)), "image "+public+": up to date")
	h.editRegistry(public, func(r map[string]any) { r["username"], r["password"] = "bot", password })
	r := h.run(imageJob(public, vars...))
	want(t, r, trial.Success, "", 0)
	says(t, r, "trying pull policy if-not-present", "image "+public+": cached")
	want(t, h.run(imageJob(public, "TART_PULL_POLICY", "always")), trial.Failed, trial.ScriptFailure, 1)
	h.assertClean()
}

// editRegistry changes the file of an image's repository.
func (h *mac) editRegistry(image string, change func(map[string]any)) {
	h.t.Helper()
	name, _, _ := strings.Cut(image, ":")
	path := filepath.Join(h.tartHome(), "registry", strings.ReplaceAll(name, "/", "+")+".json")
	raw, err := os.ReadFile(path)
	repository := map[string]any{}
	if err == nil {
		err = json.Unmarshal(raw, &repository)
	}
	if err == nil {
		change(repository)
		raw, err = json.Marshal(repository)
	}
	if err == nil {
		err = os.WriteFile(path, raw, 0o600)
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

func TestRegistryFailsOnce(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	h.editRegistry(public, func(r map[string]any) { r["failures"] = []map[string]any{{"status": 503, "times": 1}} })
	r := h.run(imageJob(public))
	want(t, r, trial.Success, "", 0)
	says(t, r, "code: 503", "trying again in 2s", "image "+public+": pulled")
	if n := h.called("pull"); n != 2 || r.PrepareAttempts != 1 {
		t.Errorf("%d pulls, %d attempts", n, r.PrepareAttempts)
	}
	h.assertClean()
}

// TestCachedImageCostsNothingMore counts the calls of tart for a job whose image is cached, its digest included.
func TestCachedImageCostsNothingMore(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	h.tartDo("pull", public)
	digest := strings.TrimSpace(strings.TrimPrefix(h.tartDo("fqn", public), "registry.test/macos/base@"))
	h.forgetCalls()
	r := h.run(imageJob("registry.test/macos/base"))
	want(t, r, trial.Success, "", 0)
	says(t, r, "image "+public+": cached", "\n  "+digest+"\n")
	var commands []string
	for _, argv := range h.calls() {
		if argv[0] != "ip" { // several take turns, beside run
			commands = append(commands, argv[0])
		}
	}
	if got := strings.Join(commands, " "); got != "clone set run delete" {
		t.Errorf("calls: %s", got)
	}
	h.assertClean()
}

// wrapTart puts a script before tart, for what has to happen in the middle of a stage. In it, tart is the real one's path.
func (h *mac) wrapTart(body string) {
	h.t.Helper()
	path := filepath.Join(h.dir, "wrapped", "tart")
	h.script(path, fmt.Sprintf("tart='%s'\ncd '%s'\n%s\nexec \"$tart\" \"$@\"", h.tart, h.dir, body))
	h.flags = append([]string{"-x", path}, h.flags[2:]...)
}

// TestOnePullForAll lets a second job want the image that a first one is pulling.
func TestOnePullForAll(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	gate := filepath.Join(h.dir, "gate")
	h.wrapTart(`if [ "$1" = pull ]; then echo 'at the gate'; until [ -e gate ]; do sleep 0.05; done; fi`)
	pulling := make(chan struct{})
	first := h.start(imageJob(public), when("prepare", "at the gate", func(*trial.Trial, trial.Process) { close(pulling) }))
	await(t, first, "the pull begins", pulling)
	waits := make(chan struct{})
	second := h.start(imageJob(public), when("prepare", "waiting: job ", func(*trial.Trial, trial.Process) { close(waits) }))
	await(t, second, "the second job waits for the pull", waits)
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Error(err)
	}
	r := second.Wait()
	want(t, r, trial.Success, "", 0)
	want(t, first.Wait(), trial.Success, "", 0)
	says(t, first.Wait(), "image "+public+": pulled")
	says(t, r, "waiting: job "+strconv.FormatInt(first.JobID(), 10)+" of try/job pulls image "+public, "image "+public+": pulled meanwhile by another job")
	if n := h.called("pull"); n != 1 {
		t.Errorf("%d pulls", n)
	}
	h.assertClean()
}

// TestCancelWhileAnotherPulls ends the wait for somebody else's pull.
func TestCancelWhileAnotherPulls(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	h.wrapTart(`if [ "$1" = pull ]; then echo 'at the gate'; until [ -e gate ]; do sleep 0.05; done; fi`)
	pulling := make(chan struct{})
	first := h.start(imageJob(public), when("prepare", "at the gate", func(*trial.Trial, trial.Process) { close(pulling) }))
	await(t, first, "the pull begins", pulling)
	second := h.start(imageJob(public), when("prepare", "waiting: job ", func(tr *trial.Trial, _ trial.Process) { tr.Cancel() }))
	want(t, second.Wait(), trial.Canceled, trial.JobCanceled, 0)
	first.Cancel() // its pull ends with it
	want(t, first.Wait(), trial.Canceled, trial.JobCanceled, 0)
	h.assertClean()
}

// TestImageVanishes removes the image between the last look at it and its clone, which tart would answer with a pull of its own.
func TestImageVanishes(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	h.tartDo("pull", public)
	h.wrapTart(`if [ "$1" = clone ] && [ ! -e gone ]; then touch gone; "$tart" delete "$2"; fi`)
	r := h.run(imageJob(public, "TART_PULL_POLICY", "never"))
	want(t, r, trial.Failed, trial.ScriptFailure, 1) // the second attempt finds no image
	says(t, r, `image "`+public+`" was on the host when the job came, and was removed before it could be cloned`, "its pull policy is never")
	if n := h.called("pull"); n != 1 {
		t.Errorf("%d pulls, want only the test's own", n)
	}
	h.tartDo("pull", public)
	if err := os.Remove(filepath.Join(h.dir, "gone")); err != nil {
		t.Fatal(err)
	}
	r = h.run(imageJob(public))
	want(t, r, trial.Success, "", 0)
	says(t, r, "image "+public+" was removed from the host just now", "image "+public+": pulled")
	h.assertClean()
}

func TestNoRoom(t *testing.T) {
	t.Parallel()
	h := newMac(t, "--disk-reserve", "1048576")
	h.sizeOf(public, 70)
	h.tartDo("pull", public)
	h.forgetCalls()
	for _, image := range []string{"base", "registry.test/macos/base:latest", "registry.test/macos/other"} {
		r := h.run(imageJob(image))
		want(t, r, trial.Failed, trial.RunnerSystemFailure, 0)
		says(t, r, "GB are free, and 1048576 GB should be (flag --disk-reserve)", "what takes room: image "+public+" 70 GB", "the disk of "+h.tartHome())
	}
	if h.called("pull") != 0 || h.called("clone") != 0 {
		t.Errorf("calls: %s", h.commandLines())
	}
	h.assertClean()
}

// TestAutoPrune looks at the one variable that keeps tart from pruning.
func TestAutoPrune(t *testing.T) {
	t.Parallel()
	for _, flags := range [][]string{nil, {"--auto-prune"}} {
		h := newMac(t, flags...)
		want(t, h.run(imageJob(public)), trial.Success, "", 0)
		seen := map[string]bool{}
		for _, c := range h.recorded() {
			_, kept := c.Env["TART_NO_AUTO_PRUNE"]
			pulls := c.Argv[1] == "pull" || c.Argv[1] == "clone"
			seen[c.Argv[1]] = true
			if kept == (pulls && len(flags) > 0) && c.Argv[1] != "init" {
				t.Errorf("%v: tart %s is kept from pruning: %v", flags, c.Argv[1], kept)
			}
		}
		if !seen["pull"] || !seen["clone"] || !seen["run"] {
			t.Errorf("calls: %v", seen)
		}
		h.assertClean()
	}
}
