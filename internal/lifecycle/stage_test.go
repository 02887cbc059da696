package lifecycle

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"gitlab-runner-tart-driver/internal/host"
	"gitlab-runner-tart-driver/internal/image"
	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/proc"
	"gitlab-runner-tart-driver/internal/proc/proctest"
	"gitlab-runner-tart-driver/internal/settings"
	"gitlab-runner-tart-driver/internal/tart"
)

// newStage is a stage with a state directory of its own and the given flags.
func newStage(t *testing.T, flags map[string]string) *Stage {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	s, errs := settings.Resolve(settings.Sources{Flags: flags, Defaults: map[string]string{"state-dir": dir}})
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	state, err := host.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return &Stage{Settings: s, State: state, Job: &job.Job{ID: "42", Key: "42-abc"}, Version: "1.2.3"}
}

// fakeTart is a tart that a shell script plays, in the home directory of a user of its own.
func fakeTart(t *testing.T, script string) (c *tart.Client, home string) {
	t.Helper()
	home = t.TempDir()
	program := filepath.Join(home, "tart")
	if err := proctest.WriteProgram(program, fmt.Appendf(nil, "#!/bin/sh\ncd '%s'\n%s\n", home, script), 0o700); err != nil {
		t.Fatal(err)
	}
	c, err := tart.New(program, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home})
	if err != nil {
		t.Fatal(err)
	}
	return c, home
}

// callsIn are the words that a script has put into the file calls.
func callsIn(t *testing.T, home string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(home, "calls"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return strings.Join(strings.Fields(string(raw)), " ")
}

func TestChooseImage(t *testing.T) {
	const byDefault = "ghcr.io/o/default:1"
	for _, c := range []struct{ job, standard, want string }{
		{"ghcr.io/o/macos:15", "", "ghcr.io/o/macos:15"},
		{"ghcr.io/o/macos:15", byDefault, "ghcr.io/o/macos:15"},
		{"", byDefault, byDefault},
		{"base", byDefault, "base"},
		{"ghcr.io/o/macos", "", "ghcr.io/o/macos:latest"},
		{"grtd-my-own", "", "grtd-my-own"}, // looks only a little like a job's VM
	} {
		s := newStage(t, map[string]string{"default-image": c.standard})
		s.Job.Image = c.job
		if got, err := (&preparation{Stage: s}).chooseImage(); err != nil || got.Name != c.want {
			t.Errorf("%q, by default %q: got %+v, %v, want %s", c.job, c.standard, got, err, c.want)
		}
	}
	mine := newStage(t, nil).State.NewName("7")
	for _, c := range []struct {
		job, standard, says string
		cause               error
	}{
		{"", "", "names no image", nil},
		{"-x", byDefault, `"-x"`, image.ErrReference},
		{"", "not one", `"not one"`, image.ErrReference},
		{"a/B", "", `"a/B"`, image.ErrReference},
		{mine, "", mine, nil}, // another state directory's, but a job's all the same
		{"", mine, mine, nil},
	} {
		s := newStage(t, map[string]string{"default-image": c.standard})
		s.Job.Image = c.job
		_, err := (&preparation{Stage: s}).chooseImage()
		f := (*job.Failure)(nil)
		if !errors.As(err, &f) || !f.Job || f.Hint == "" || !strings.Contains(err.Error(), c.says) || c.cause != nil && !errors.Is(err, c.cause) {
			t.Errorf("%q, by default %q: got %v, want a mistake that says %s", c.job, c.standard, err, c.says)
		}
	}
}

func TestConfigIsWhatTheLaterStagesFind(t *testing.T) {
	s := newStage(t, map[string]string{"guest-builds-dir": "/b", "guest-cache-dir": "/c"})
	ancestors := []proc.ID{{PID: 7, Start: 8, Boot: "x"}}
	got := s.Config("mac.local", ancestors)
	want := job.Config{BuildsDir: "/b", CacheDir: "/c", Hostname: "mac.local", Driver: job.DriverInfo{Name: "gitlab-runner-tart-driver", Version: "1.2.3"},
		Shell: "bash"}
	env := job.Environ{}
	for name, value := range got.JobEnv {
		env = append(env, name+"="+value)
	}
	h, jobEnv := env.Handover(), got.JobEnv
	got.JobEnv = nil
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if !s.State.Owns(h.VM) || h.StateDir != s.State.Dir() || h.BuildsDir != "/b" || h.CacheDir != "/c" || !slices.Equal(h.Ancestors, ancestors) {
		t.Errorf("handed over is %+v", h)
	}
	if again := s.Config("mac.local", ancestors); maps.Equal(again.JobEnv, jobEnv) {
		t.Error("two jobs get a VM of the same name")
	}
}

func TestFindRecordBelievesOnlyTheKey(t *testing.T) {
	s := newStage(t, nil)
	create := func(key string, age time.Duration) string {
		t.Helper()
		name := s.State.NewName("42")
		entry, err := s.State.Create(host.Record{VM: name, JobKey: key, JobID: "42", Created: time.Unix(1700000000, 0).Add(-age)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(entry.Release)
		return name
	}
	other := create("42-other", 0)
	keyless := create("", 0)
	s.Handover.VM = other
	if got, ok, err := s.findRecord(); ok || err != nil {
		t.Errorf("the VM of another job is found: %+v, %v", got, err)
	}
	create("42-abc", time.Hour)
	newest := create("42-abc", time.Minute)
	if got, ok, err := s.findRecord(); !ok || err != nil || got.VM != newest {
		t.Errorf("got %+v, %v, %v, want the newest, %s", got, ok, err, newest)
	}
	s.Job.Key = ""
	if got, ok, err := s.findRecord(); ok || err != nil {
		t.Errorf("a job without a key finds %+v, %v (%s has none either)", got, err, keyless)
	}
}

// TestWhoseCleanupIsWithoutAJobResponse has the VM's name from config, and what a job may say of itself.
func TestWhoseCleanupIsWithoutAJobResponse(t *testing.T) {
	s := newStage(t, nil)
	name := s.State.NewName("42")
	entry, err := s.State.Create(host.Record{VM: name, JobKey: "42-abc", JobID: "42", Project: "g/p"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(entry.Release)
	for what, c := range map[string]struct {
		vm   string
		says job.Job
		want string
	}{
		"nothing is said":               {name, job.Job{}, "42-abc"},
		"it calls itself another":       {name, job.Job{ID: "1", Key: "1-other"}, "42-abc"},
		"nothing is handed on":          {"", job.Job{}, ""},
		"it says so itself":             {"", job.Job{ID: "42", Key: "42-abc"}, "42-abc"},
		"there is no record":            {s.State.NewName("42"), job.Job{ID: "1", Key: "1-other"}, "1-other"},
		"the job response says another": {name, job.Job{ID: "1", Key: "1-other", Trusted: true}, "1-other"},
	} {
		stage := *s
		stage.Job, stage.Handover.VM = &c.says, c.vm
		stage.recogniseJob()
		if stage.Job.Key != c.want || c.want == "42-abc" && stage.Job.ID != "42" {
			t.Errorf("%s: the job is %+v, want %q", what, stage.Job, c.want)
		}
	}
}

func TestCloneHint(t *testing.T) {
	if hint := cloneHint(&tart.Error{Kind: tart.KindNoSpace}); !strings.Contains(hint, "disk") {
		t.Errorf("no space left: %q", hint)
	}
	if hint := cloneHint(&tart.Error{Kind: tart.KindOther}); hint != "" {
		t.Errorf("anything else: %q", hint)
	}
}

func TestWhenAJobTimesOut(t *testing.T) {
	at := time.Now()
	for timeout, slack := range map[time.Duration]time.Duration{time.Hour: timeoutSlack, 8 * time.Second: 2 * time.Second} {
		if got := timesOut(&job.Job{Described: at, Timeout: timeout}); !got.Equal(at.Add(timeout - slack)) {
			t.Errorf("a timeout of %s is over %s after the beginning", timeout, got.Sub(at))
		}
	}
	if got := timesOut(&job.Job{Timeout: time.Hour}); !got.IsZero() {
		t.Errorf("without a beginning: %s", got)
	}
}
