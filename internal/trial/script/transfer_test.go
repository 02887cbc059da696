package script

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestStagesWithNothingToDoAreSkipped(t *testing.T) {
	b := newGuest(t, "bash").build()
	b.Artifacts = []Artifact{{Paths: []string{"out"}, When: "on_failure"}, {Name: "no paths"}}
	b.Cache = []Cache{{Key: "k", Paths: []string{"c"}, When: "on_failure"}}
	b.Dependencies = []Dependency{{ID: 1, Name: "no archive"}}
	for stage, want := range map[string]bool{
		Prepare: true, GetSources: true, ClearWorktree: true, StepScript: true, CleanupFiles: true, RestoreCache: true,
		AfterScript: false, DownloadArtifacts: false, ArchiveCache: false, ArchiveCacheFail: true, UploadOnSuccess: false, UploadOnFailure: true,
	} {
		if _, ok, err := b.Generate(stage); ok != want || err != nil {
			t.Errorf("%s: ok=%v err=%v, want %v", stage, ok, err, want)
		}
	}
	b.Cache, b.ServerURL = nil, ""
	for _, stage := range []string{RestoreCache, ArchiveCacheFail, UploadOnFailure} {
		if _, ok, err := b.Generate(stage); ok || err != nil {
			t.Errorf("%s: ok=%v err=%v, want nothing to do", stage, ok, err)
		}
	}
	if _, _, err := b.Generate("step_release"); err == nil {
		t.Error("a stage without a script was generated")
	}
	b.Cache = []Cache{{Paths: []string{"c"}, Policy: "sometimes"}}
	if _, _, err := b.Generate(RestoreCache); err == nil {
		t.Error("an unknown cache policy was accepted")
	}
}

func TestTransfersNeedARunnerInTheGuest(t *testing.T) {
	inEveryShell(t, func(t *testing.T, g *guest) {
		b := g.build()
		g.must(b, GetSources)
		b.Artifacts = []Artifact{{Paths: []string{"out dir", "b*"}, Exclude: []string{"x"}, Name: "n", ExpireIn: "1 day", Format: "zip", Type: "archive"}}
		b.Cache = []Cache{{Key: "k-$CI", Paths: []string{"vendor"}, Policy: "pull-push"}, {Key: "p", Paths: []string{"x"}, Policy: "pull"}}
		b.Dependencies = []Dependency{{ID: 9, Name: "build", Token: "dep", ArtifactsFile: DependencyFile{Filename: "a.zip"}}}
		// gitlab-runner may be installed on this machine, but not in this guest
		bin := filepath.Join(g.dir, "bin")
		if err := os.Mkdir(bin, 0o700); err != nil {
			t.Fatal(err)
		}
		full := g.path
		g.path = "/usr/bin:/bin"
		out := g.must(b, UploadOnSuccess) + g.must(b, RestoreCache) + g.must(b, ArchiveCache) + g.must(b, DownloadArtifacts)
		for _, action := range []string{"Uploading artifacts", "Extracting cache", "Creating cache", "Artifacts downloading"} {
			if !strings.Contains(out, "Missing gitlab-runner. "+action+" is disabled.") {
				t.Errorf("no word on %s in %s", action, out)
			}
		}
		g.path = bin + ":" + full
		write(t, filepath.Join(bin, "gitlab-runner"), "#!/bin/sh\n[ \"$1\" = --version ] && exit 0\nprintf '<%s>' \"$@\"; echo; [ \"$1\" != cache-archiver ]\n", 0o700)
		out = g.must(b, UploadOnSuccess)
		want := "<artifacts-uploader><--url><https://gitlab.invalid><--token><tok><--id><7><--timeout><1h0m0s><--response-header-timeout><10m0s>" +
			"<--path><out dir><--path><b*><--exclude><x><--name><n><--expire-in><1 day><--artifact-format><zip><--artifact-type><archive>\n"
		if got := withoutEchoes(out); got != want {
			t.Errorf("got %s want %s", got, want)
		}
		if got := withoutEchoes(g.must(b, DownloadArtifacts)); got != "<artifacts-downloader><--url><https://gitlab.invalid><--token><dep><--id><9>\n" {
			t.Error(got)
		}
		if got := g.must(b, RestoreCache); !strings.Contains(got, "<cache-extractor><--file><../../../cache/k-true/cache.zip>") || !strings.Contains(got, "Successfully") {
			t.Error(got)
		}
		// a cache that cannot be saved does not fail the job; a policy can forbid saving
		if got := g.must(b, ArchiveCache); !strings.Contains(got, "Failed to create cache") || !strings.Contains(got, "Not using cache p due to policy") {
			t.Error(got)
		}
	})
}
