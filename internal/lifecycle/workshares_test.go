package lifecycle

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"gitlab-runner-tart-driver/internal/host"
	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/provision"
)

// sharing is a preparation with the given flags on place 3, and a directory of the host.
func sharing(t *testing.T, flags map[string]string, volumes ...string) (p *preparation, home string) {
	t.Helper()
	home = t.TempDir()
	s := newStage(t, flags)
	s.Environ = []string{"HOME=" + home}
	s.Job.ProjectID, s.Job.RepoURL = 7, "https://gitlab-ci-token:secret@gitlab.example:8443/g/p.git"
	s.Settings.Volumes = volumes
	if err := os.MkdirAll(filepath.Join(home, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	return &preparation{Stage: s, slot: &host.Slot{Index: 3}, vm: s.State.NewName("42")}, home
}

func TestVolumesBecomeSharesAndMounts(t *testing.T) {
	p, home := sharing(t, nil, "~/data:/opt/data", "~/data:/opt/rd only/:ro")
	p.Settings.Dirs = []string{"x:/y:ro"}
	got, err := p.workOutShares()
	want := shares{
		dirs: []string{"opt__data:" + home + "/data", "opt__rd_only:" + home + "/data:ro", "x:/y:ro"},
		mounts: []provision.Mount{
			{Name: "opt__data", Target: "/opt/data", Title: `volume "~/data:/opt/data"`},
			{Name: "opt__rd_only", Target: "/opt/rd only", ReadOnly: true, Title: `volume "~/data:/opt/rd only/:ro"`},
		},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	p, _ = sharing(t, nil)
	if got, err := p.workOutShares(); err != nil || len(got.dirs)+len(got.mounts) > 0 {
		t.Errorf("without any: got %+v, %v", got, err)
	}
}

func TestDirectoriesOfJobs(t *testing.T) {
	p, home := sharing(t, map[string]string{"builds-dir": "~/b", "cache-dir": "~/c"})
	p.Handover = job.Handover{BuildsDir: "/guest/b", CacheDir: "/guest/c"}
	got, err := p.workOutShares()
	if err != nil || len(got.dirs) != 2 {
		t.Fatalf("got %+v, %v", got, err)
	}
	for i, name := range []string{"builds", "cache"} {
		dir, ok := strings.CutPrefix(got.dirs[i], name+":")
		st, err := os.Stat(dir)
		if !ok || err != nil || st.Mode().Perm() != 0o700 || !strings.HasPrefix(dir, home+"/"+name[:1]+"/gitlab.example") || !strings.HasSuffix(dir, "/project-7/3") {
			t.Errorf("%s: %q, %v", name, got.dirs[i], err)
		}
		if m := got.mounts[i]; m.Name != name || m.Target != "/guest/"+name[:1] || m.ReadOnly {
			t.Errorf("%s: %+v", name, m)
		}
	}
	if strings.Contains(strings.Join(got.dirs, " "), "secret") {
		t.Errorf("a password is in %q", got.dirs)
	}
	again, err := p.workOutShares()
	if err != nil || !slices.Equal(again.dirs, got.dirs) {
		t.Errorf("the next job finds %q, %v", again.dirs, err)
	}
	p.slot = &host.Slot{Index: 4}
	if other, err := p.workOutShares(); err != nil || slices.Equal(other.dirs, got.dirs) {
		t.Errorf("another place has the same, %q, %v", other.dirs, err)
	}
}

func TestHostDirIsAmongTheVMsFiles(t *testing.T) {
	p, _ := sharing(t, map[string]string{"host-dir": "true", "builds-dir": "/not/used"})
	got, err := p.workOutShares()
	want := filepath.Join(p.State.EntryDir(p.vm), "builds")
	if err != nil || !slices.Equal(got.dirs, []string{"builds:" + want}) || len(got.mounts) != 1 || got.mounts[0].Target != p.Settings.GuestBuildsDir {
		t.Errorf("got %+v, %v, want %s", got, err, want)
	}
}

func TestSharesThatCannotBe(t *testing.T) {
	for name, c := range map[string]struct {
		flags   map[string]string
		volumes []string
		says    string
		mistake bool
	}{
		"no syntax":         {volumes: []string{"/a"}, says: `"/a"`, mistake: true},
		"same place":        {volumes: []string{"~/data:/x", "~:/x/"}, says: "the same place", mistake: true},
		"place of builds":   {flags: map[string]string{"builds-dir": "~/b"}, volumes: []string{"~/data:/opt/builds"}, says: "the same place", mistake: true},
		"one in the other":  {volumes: []string{"~/data:/x/y", "~:/x"}, says: "one inside the other", mistake: true},
		"builds inside":     {flags: map[string]string{"builds-dir": "~/b"}, volumes: []string{"~/data:/opt"}, says: "one inside the other", mistake: true},
		"no directory":      {volumes: []string{"~/missing:/x"}, says: "missing", mistake: true},
		"a file":            {volumes: []string{"~/file:/x"}, says: "is not a directory", mistake: true},
		"colon":             {flags: map[string]string{"cache-dir": "~/a:b"}, says: "colon", mistake: true},
		"below a file":      {flags: map[string]string{"builds-dir": "~/file/b"}, says: "builds-dir"},
		"second is missing": {volumes: []string{"~/data:/x", "~/missing:/y"}, says: `volume "~/missing:/y"`, mistake: true},
	} {
		p, home := sharing(t, c.flags, c.volumes...)
		if err := os.WriteFile(filepath.Join(home, "file"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := p.workOutShares()
		f := (*job.Failure)(nil)
		if !errors.As(err, &f) || f.Job != c.mistake || !strings.Contains(err.Error(), c.says) || len(got.dirs)+len(got.mounts) > 0 {
			t.Errorf("%s: got %+v, %v, want an error that says %q", name, got, err, c.says)
		}
	}
}

func TestShareName(t *testing.T) {
	for place, want := range map[string]string{"/data": "data", "/opt/data": "opt__data", "/a/b/c.d-e_f": "a__b__c.d-e_f", "/a b": "a_b", "/é": "_", "/a:b,c": "a_b_c"} {
		if got := shareName(place); got != want {
			t.Errorf("%s: got %q, want %q", place, got, want)
		}
	}
}

func FuzzProjectDir(f *testing.F) {
	for _, u := range []string{"https://gl/g/p.git", "https://../x", "https://./x", "https://.../x", "https://..:1/x", "//..", "https://%2e%2e/x", "https://[::1%25..]/x"} {
		f.Add(u, int64(7))
	}
	f.Fuzz(func(t *testing.T, u string, id int64) {
		dir := projectDir(&job.Job{RepoURL: u, ProjectID: id})
		if !filepath.IsLocal(dir) || strings.Count(dir, "/") != 1 || strings.HasPrefix(dir, ".") || strings.ContainsAny(dir, ":\n\x00 ") {
			t.Errorf("%q: %q", u, dir)
		}
	})
}
