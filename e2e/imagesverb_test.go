package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gitlab-runner-tart-driver/internal/trial"
)

// sizeOf sets the size of an image that is pulled from now on, in GB.
func (h *mac) sizeOf(image string, gb int) {
	h.t.Helper()
	h.editRegistry(image, func(r map[string]any) {
		for _, i := range r["images"].(map[string]any) {
			path := filepath.Join(h.tartHome(), "registry", i.(map[string]any)["template"].(string), "sim.json")
			raw, err := os.ReadFile(path)
			sim := map[string]any{}
			if err == nil {
				err = json.Unmarshal(raw, &sim)
			}
			if err == nil {
				sim["allocated_bytes"] = int64(gb) * 1e9
				raw, err = json.Marshal(sim)
			}
			if err == nil {
				err = os.WriteFile(path, raw, 0o600)
			}
			if err != nil {
				h.t.Fatal(err)
			}
		}
	})
}

// threeImages are the images A, B and C of newThree.
var threeImages = []string{"registry.test/macos/a:1", "registry.test/macos/b:1", "registry.test/macos/c:1"}

// newThree is a host whose registry has three images of 20 GB each.
func newThree(t *testing.T, flags ...string) *mac {
	h := newMac(t, flags...)
	for _, image := range threeImages {
		h.sim("image", "create", "x", "--registry", image, "--registry-only")
		h.sizeOf(image, 20)
	}
	return h
}

// cachedTags are the tags in tart's cache, by the letter of their image.
func (h *mac) cachedTags() string {
	h.t.Helper()
	letters := ""
	for i, image := range threeImages {
		if strings.Contains(h.tartDo("list", "--source", "oci", "--quiet"), image+"\n") {
			letters += string(rune('A' + i))
		}
	}
	return letters
}

// digests counts the images in tart's cache.
func (h *mac) digests() int {
	h.t.Helper()
	return strings.Count(h.tartDo("list", "--source", "oci", "--quiet"), "@sha256:")
}

// driver calls the driver by hand, with the environment of the host and more.
func (h *mac) driver(extra []string, args ...string) (stdout, stderr string, code int) {
	h.t.Helper()
	cmd := exec.Command(h.bin, append(args, "-x", h.tart)...)
	cmd.Env = append(h.environ(), extra...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		h.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// must calls the driver by hand, which has to work.
func (h *mac) must(args ...string) string {
	h.t.Helper()
	out, errs, code := h.driver(nil, args...)
	if code != 0 || errs != "" {
		h.t.Errorf("%v: exit code %d, %s", args, code, errs)
	}
	return out
}

// TestImageBudget keeps to a budget of two images. The one that was used least recently goes, whatever the order of the pulls.
func TestImageBudget(t *testing.T) {
	t.Parallel()
	h := newThree(t, "--image-budget", "45")
	a, b, c := threeImages[0], threeImages[1], threeImages[2]
	for _, image := range []string{a, b, a} {
		want(t, h.run(imageJob(image)), trial.Success, "", 0)
	}
	r := h.run(imageJob(c))
	want(t, r, trial.Success, "", 0)
	says(t, r, "removed image "+b+", of 20 GB, to stay within 45 GB (flag --image-budget)")
	if got := h.cachedTags(); got != "AC" || h.digests() != 2 {
		t.Errorf("cached: %s, %d digests", got, h.digests())
	}
	h.assertClean()
}

// TestImagesInUseStay takes all the budget away while one image is used by a job and another is waited for.
func TestImagesInUseStay(t *testing.T) {
	t.Parallel()
	h := newThree(t, "--max-vm-count", "1")
	a, b, c := threeImages[0], threeImages[1], threeImages[2]
	h.must("images", "pull", a, b, c)
	started, waits := make(chan struct{}), make(chan struct{})
	j := imageJob(a)
	j.Script = []string{"echo started; sleep 300"}
	first := h.start(j, when("build_script", "started\n", func(*trial.Trial, trial.Process) { close(started) }))
	await(t, first, "the script starts", started)
	second := h.start(imageJob(b), when("prepare", "waiting for a place", func(*trial.Trial, trial.Process) { close(waits) }))
	await(t, second, "the second job waits", waits)
	list := h.must("images", "list")
	for _, row := range []string{a, b, c, "of try/job", "a job that is starting"} {
		if !strings.Contains(list, row) {
			t.Errorf("images list does not say %q:\n%s", row, list)
		}
	}
	out := h.must("images", "prune", "--budget", "0")
	if !strings.Contains(out, "removed image "+c) || !strings.Contains(out, "images take 40 GB of 0 GB; what is left is in use") {
		t.Errorf("prune says %s", out)
	}
	if got := h.cachedTags(); got != "AB" {
		t.Errorf("cached: %s", got)
	}
	first.Cancel()
	first.Wait()
	want(t, second.Wait(), trial.Success, "", 0)
	h.must("images", "prune", "--budget", "0")
	if got := h.cachedTags(); got != "" || h.digests() != 0 {
		t.Errorf("cached: %s, %d digests", got, h.digests())
	}
	if !strings.Contains(h.tartDo("list", "--quiet"), "base\n") {
		t.Error("a local VM was removed")
	}
	h.assertClean()
}

func TestImagesVerb(t *testing.T) {
	t.Parallel()
	h := newPrivate(t)
	login := []string{"TART_REGISTRY=private.test", "TART_REGISTRY_USERNAME=bot", "TART_REGISTRY_PASSWORD=" + password}
	for _, c := range []struct {
		env, args []string
		code      int
		out, errs string
	}{
		{login, []string{"pull", private, public}, 0, "image " + private + ": pulled, sha256:", ""},
		{login, []string{"pull", private}, 0, `as user "bot" (variable TART_REGISTRY_USERNAME)`, ""},
		{login, []string{"pull", private, "--registry", "private.test"}, 0, "image " + private + ": up to date", ""},
		{append([]string{"TART_REGISTRY_HOSTNAME=elsewhere.test"}, login[1:]...), []string{"pull", private}, 1, "", "wants a login"},
		{[]string{"DOCKER_AUTH_CONFIG=" + `{"auths":{"private.test":{"username":"bot","password":"` + password + `"}}}`}, []string{"pull", private}, 0, "(variable DOCKER_AUTH_CONFIG)", ""},
		{append(login, "TART_REGISTRY_PASSWORD="+secret), []string{"pull", private, public}, 1, "image " + public + ": up to date", `private.test refuses user "bot"`},
		{nil, []string{"pull", private}, 1, "", "wants a login"},
		{nil, []string{"pull", "registry.test/macos/nope"}, 1, "", "does not exist"},
		{nil, []string{"pull", "base"}, 1, "", "a VM of this host cannot be pulled"},
		{nil, []string{"pull", public, "--disk-reserve", "1048576"}, 2, "", "GB are free"},
		{nil, []string{"pull"}, 64, "", "requires at least 1 arg"},
		{nil, []string{"prune"}, 64, "", "--budget is missing"},
		{nil, []string{"prune", "--budget", "many"}, 64, "", "invalid argument"},
		{nil, []string{"list", "more"}, 64, "", "unknown command"},
		{nil, []string{"list"}, 0, private, ""},
		{nil, []string{"prune", "--budget", "1000", "--dry-run"}, 0, "of 1000 GB", ""},
	} {
		out, errs, code := h.driver(c.env, append([]string{"images"}, c.args...)...)
		if code != c.code || !strings.Contains(out, c.out) || !strings.Contains(errs, c.errs) || c.errs == "" && errs != "" {
			t.Errorf("%q: exit code %d, want %d\n%s\n%s", c.args, code, c.code, out, errs)
		}
		if strings.Contains(out+errs, secret) {
			t.Errorf("%q tells the password", c.args)
		}
	}
	h.assertSecretOnlyInPull()
	assertNoSecretInFiles(t, h.state())
	h.assertClean()
}

func TestImagesListAndPrune(t *testing.T) {
	t.Parallel()
	h := newThree(t)
	a, b, c := threeImages[0], threeImages[1], threeImages[2]
	for _, image := range []string{c, a, b} {
		h.must("images", "pull", image)
	}
	h.tartDo("pull", strings.TrimSpace(h.tartDo("fqn", b))) // pulled by its digest, too: tart keeps it without a tag
	config := filepath.Join(h.dir, "config.toml")
	if err := os.WriteFile(config, []byte("image-budget = 45\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var rows []struct {
		Reference string
		Digest    string
		SizeGB    float64 `json:"size_gb"`
		LastUsed  string  `json:"last_used"`
		Waiting   bool
		Jobs      []any
	}
	if err := json.Unmarshal([]byte(h.must("images", "list", "--json")), &rows); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range rows {
		names = append(names, r.Reference)
		if !strings.HasPrefix(r.Digest, "sha256:") || r.SizeGB != 20 || r.LastUsed == "" || r.Waiting || r.Jobs == nil || len(r.Jobs) > 0 {
			t.Errorf("row %+v", r)
		}
	}
	if !slices.Equal(names, []string{b, a, c}) {
		t.Errorf("listed %q", names)
	}
	if out := h.must("images", "prune", "--dry-run", "--config", config); !strings.Contains(out, "would remove image "+c+", 20 GB") || h.cachedTags() != "ABC" {
		t.Errorf("a dry run says %s, cached are %s", out, h.cachedTags())
	}
	if out := h.must("images", "prune", "--config", config); !strings.Contains(out, "removed image "+c) || h.cachedTags() != "AB" {
		t.Errorf("prune says %s, cached are %s", out, h.cachedTags())
	}
	h.must("images", "prune", "--budget", "0")
	if h.digests() != 0 {
		t.Errorf("%d images are left", h.digests())
	}
}
