package script

import (
	"fmt"
	"path"
	"path/filepath"
	"strconv"
)

// Artifact is what a job uploads at its end. JSON names are those of GitLab's job response.
type Artifact struct {
	Name      string   `json:"name"`
	Untracked bool     `json:"untracked"`
	Paths     []string `json:"paths"`
	Exclude   []string `json:"exclude"`
	When      string   `json:"when"`
	Type      string   `json:"artifact_type"`
	Format    string   `json:"artifact_format"`
	ExpireIn  string   `json:"expire_in"`
}

// Cache is what a job keeps for the next one. JSON names are those of GitLab's job response.
type Cache struct {
	Key          string   `json:"key"`
	Untracked    bool     `json:"untracked"`
	Policy       string   `json:"policy"`
	Paths        []string `json:"paths"`
	When         string   `json:"when"`
	FallbackKeys []string `json:"fallback_keys"`
}

// Dependency is another job whose artifacts a job needs. JSON names are those of GitLab's job response.
type Dependency struct {
	ID            int64          `json:"id"`
	Token         string         `json:"token"`
	Name          string         `json:"name"`
	ArtifactsFile DependencyFile `json:"artifacts_file"`
}

// DependencyFile describes another job's artifacts.
type DependencyFile struct {
	Filename string `json:"filename"`
	Size     int64  `json:"size"`
}

// runner is the name by which the scripts call GitLab Runner inside the guest.
const runner = "gitlab-runner"

// guard runs do only where GitLab Runner is there. Without it a job goes on and says what it left out.
func guard(w *writer, action string, do func()) {
	w.ifDo(words(runner, "--version")+" >/dev/null 2>&1", do,
		func() { w.warning(fmt.Sprintf("Missing %s. %s is disabled.", runner, action)) })
}

// applies tells whether a "when:" of an artifact or a cache covers a job that succeeded or failed.
func applies(when string, success bool) bool {
	return when == "always" || success == (when == "" || when == "on_success")
}

func (b *Build) downloadArtifacts(w *writer) (bool, error) {
	b.enter(w)
	var wanted []Dependency
	for _, d := range b.Dependencies {
		if d.ArtifactsFile.Filename != "" {
			wanted = append(wanted, d)
		}
	}
	if len(wanted) == 0 {
		return false, nil
	}
	guard(w, "Artifacts downloading", func() {
		for _, d := range wanted {
			w.notice(fmt.Sprintf("Downloading artifacts for %s (%d)...", d.Name, d.ID))
			w.command(runner, "artifacts-downloader", "--url", b.ServerURL, "--token", d.Token, "--id", strconv.FormatInt(d.ID, 10))
		}
	})
	return true, nil
}

func (b *Build) uploadArtifacts(w *writer, success bool) (bool, error) {
	if b.ServerURL == "" {
		return false, nil
	}
	b.enter(w)
	found := false
	for _, a := range b.Artifacts {
		args := pathArgs(a.Paths, a.Exclude, a.Untracked)
		if !applies(a.When, success) || len(args) == 0 {
			continue
		}
		found = true
		args = append([]string{runner, "artifacts-uploader", "--url", b.ServerURL, "--token", b.Token, "--id", strconv.FormatInt(b.JobID, 10),
			"--timeout", "1h0m0s", "--response-header-timeout", "10m0s"}, args...)
		for _, option := range [][2]string{
			{"--name", a.Name}, {"--expire-in", a.ExpireIn}, {"--artifact-format", a.Format}, {"--artifact-type", a.Type},
		} {
			if option[1] != "" {
				args = append(args, option[0], option[1])
			}
		}
		guard(w, "Uploading artifacts", func() {
			w.notice("Uploading artifacts...")
			w.command(args...)
		})
	}
	return found, nil
}

func pathArgs(paths, exclude []string, untracked bool) []string {
	var args []string
	for _, p := range paths {
		args = append(args, "--path", p)
	}
	for _, p := range exclude {
		args = append(args, "--exclude", p)
	}
	if untracked {
		args = append(args, "--untracked")
	}
	return args
}

func (b *Build) restoreCache(w *writer) (bool, error) {
	b.enter(w)
	return b.eachCache(w, "pull", func(Cache) bool { return true }, func(key, file string, _ []string) {
		guard(w, "Extracting cache", func() {
			w.notice(fmt.Sprintf("Checking cache for %s...", key))
			w.ifDo(words(runner, "cache-extractor", "--file", file, "--timeout", "10"),
				func() { w.notice("Successfully extracted cache") },
				func() { w.warning("Failed to extract cache") })
		})
	})
}

func (b *Build) archiveCache(w *writer, success bool) (bool, error) {
	b.enter(w)
	return b.eachCache(w, "push", func(c Cache) bool { return applies(c.When, success) }, func(key, file string, paths []string) {
		guard(w, "Creating cache", func() {
			w.notice(fmt.Sprintf("Creating cache %s...", key))
			args := append([]string{runner, "cache-archiver", "--file", file, "--timeout", "10"}, paths...)
			w.ifDo(words(args...), func() { w.notice("Created cache") }, func() { w.warning("Failed to create cache") })
		})
	})
}

// eachCache calls do for every cache that has paths, is wanted, and whose policy allows the direction.
func (b *Build) eachCache(w *writer, direction string, wanted func(Cache) bool, do func(key, file string, paths []string)) (bool, error) {
	found := false
	for _, c := range b.Cache {
		paths := pathArgs(c.Paths, nil, c.Untracked)
		if len(paths) == 0 || !wanted(c) {
			continue
		}
		found = true
		key := b.Variables.ExpandValue(c.Key)
		if key == "" {
			key = path.Join(b.JobName, b.Source.Commit.Ref)
		}
		switch policy := b.Variables.ExpandValue(c.Policy); policy {
		case "", "pull-push", direction:
		case "pull", "push":
			w.notice(fmt.Sprintf("Not using cache %s due to policy", key))
			continue
		default:
			return false, fmt.Errorf("unknown cache policy %s for %s", policy, key)
		}
		file, err := filepath.Rel(b.ProjectDir, path.Join(b.CacheDir, key, "cache.zip"))
		if err != nil {
			return false, fmt.Errorf("cache %s: %w", key, err)
		}
		do(key, file, paths)
	}
	return found, nil
}
