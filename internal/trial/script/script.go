// Package script writes the shell scripts that GitLab Runner would send into the guest, one for each stage of a job.
//
// The form of the scripts (frame, quoting, order of exports, what a stage does and when there is nothing to do) follows GitLab Runner's
// bash generator, because drivers depend on it. The package computes text; it starts nothing and reads no files.
//
// Source: https://docs.gitlab.com/runner/shells/ and https://docs.gitlab.com/runner/executors/custom/#run
package script

import (
	"fmt"
	"path"
	"strconv"

	"gitlab-runner-tart-driver/internal/trial/civar"
	"gitlab-runner-tart-driver/internal/trial/gitsource"
)

// Names of GitLab Runner's stages. StepScript is called "build_script" when it is handed to a driver.
//
// Source: https://docs.gitlab.com/runner/executors/custom/#run
const (
	Prepare           = "prepare_script"
	GetSources        = "get_sources"
	ClearWorktree     = "clear_worktree"
	RestoreCache      = "restore_cache"
	DownloadArtifacts = "download_artifacts"
	StepScript        = "step_script"
	AfterScript       = "after_script"
	ArchiveCache      = "archive_cache"
	ArchiveCacheFail  = "archive_cache_on_failure"
	UploadOnSuccess   = "upload_artifacts_on_success"
	UploadOnFailure   = "upload_artifacts_on_failure"
	CleanupFiles      = "cleanup_file_variables"
)

// gitlabEnv is the file through which one stage hands variables to the next.
const gitlabEnv = "gitlab_runner_env"

// Build is what the scripts of one job are made from. Paths are paths in the guest.
type Build struct {
	// Shell is "bash" or "sh".
	Shell string
	// Hostname is what the driver's config stage names as the host, "" for nothing.
	Hostname string
	// RootDir is builds_dir, ProjectDir the directory of the sources, CacheDir the project's part of cache_dir.
	RootDir, ProjectDir, CacheDir string
	// Variables are all variables of the job, expanded.
	Variables civar.List
	// Script and AfterScript are the user's commands.
	Script, AfterScript []string
	// PreGetSources and PostGetSources are the commands of "hooks:".
	PreGetSources, PostGetSources []string
	// Source is where the sources come from.
	Source gitsource.Source
	// Strategy is the job's GIT_STRATEGY: clone, fetch, none or empty.
	Strategy string
	// Cache, Artifacts and Dependencies are served by a GitLab Runner inside the guest, if there is one.
	Cache        []Cache
	Artifacts    []Artifact
	Dependencies []Dependency
	// JobName, JobID, Token and ServerURL are what that GitLab Runner needs to reach GitLab.
	JobName, Token, ServerURL string
	JobID                     int64
}

// TmpDir is the directory beside the project directory in which GitLab Runner keeps its own files.
func (b *Build) TmpDir() string { return b.ProjectDir + ".tmp" }

// Generate returns the script of a stage. ok is false where the stage has nothing to do: GitLab Runner then skips it.
func (b *Build) Generate(stage string) (text string, ok bool, err error) {
	w := &writer{tmpDir: b.TmpDir()}
	write, known := map[string]func(*writer) (bool, error){
		Prepare:           b.prepare,
		GetSources:        b.getSources,
		ClearWorktree:     b.clearWorktree,
		RestoreCache:      b.restoreCache,
		DownloadArtifacts: b.downloadArtifacts,
		StepScript:        b.userScript,
		AfterScript:       b.afterScript,
		ArchiveCache:      func(w *writer) (bool, error) { return b.archiveCache(w, true) },
		ArchiveCacheFail:  func(w *writer) (bool, error) { return b.archiveCache(w, false) },
		UploadOnSuccess:   func(w *writer) (bool, error) { return b.uploadArtifacts(w, true) },
		UploadOnFailure:   func(w *writer) (bool, error) { return b.uploadArtifacts(w, false) },
		CleanupFiles:      b.cleanup,
	}[stage]
	if !known {
		return "", false, fmt.Errorf("no script for stage %q", stage)
	}
	if ok, err = write(w); err != nil || !ok {
		return "", false, err
	}
	return w.finish(b.Shell, b.Variables.Bool("CI_DEBUG_TRACE", false), b.Variables.Bool("FF_USE_LEGACY_BASH_EVAL", false)), true, nil
}

func (b *Build) prepare(w *writer) (bool, error) {
	on := "Running on $(hostname)..."
	if b.Hostname != "" {
		on = "Running on $(hostname) via " + b.Hostname + "..."
	}
	w.line("echo " + strconv.Quote(on))
	w.rmFile(w.tmpFile(gitlabEnv))
	w.rmFile(w.tmpFile("masking.db"))
	return true, nil
}

// exports makes the job's variables known. Every stage does it: nothing else survives between two stages.
func (b *Build) exports(w *writer) {
	for _, v := range b.Variables {
		w.export(v)
	}
	file := double(w.tmpFile(gitlabEnv))
	w.linef("export GITLAB_ENV=%s", file)
	w.linef("mkdir -p %s", double(absolute(w.tmpDir)))
	w.linef("touch %s", file)
	w.linef(`while read -r line; do export "$line"; done < %s`, file)
}

// enter starts a stage that works in the project directory.
func (b *Build) enter(w *writer) {
	b.exports(w)
	w.command("cd", b.ProjectDir)
}

func (b *Build) userScript(w *writer) (bool, error) {
	b.enter(w)
	w.commands(b.Script)
	return true, nil
}

func (b *Build) afterScript(w *writer) (bool, error) {
	if len(b.AfterScript) == 0 {
		return false, nil
	}
	b.enter(w)
	w.notice("Running after script...")
	w.commands(b.AfterScript)
	return true, nil
}

func (b *Build) clearWorktree(w *writer) (bool, error) {
	w.notice("Deleting tracked and untracked files...")
	w.ifDo(fmt.Sprintf("[ -d %s ]", double(b.ProjectDir)), func() {
		w.command("cd", b.ProjectDir)
		w.command("git", "rm", "-rf", "--ignore-unmatch", "--quiet", ".")
		w.command("git", "clean", "-ffdx", "-q")
	}, nil)
	return true, nil
}

// cleanup removes what must not stay in the guest: file-type variables and the credentials of the repository.
func (b *Build) cleanup(w *writer) (bool, error) {
	var files []string
	for _, v := range b.Variables {
		if v.File {
			// the files were written by the stages before; rewriting them only to remove them would be a waste
			files = append(files, w.tmpFile(v.Key))
			v.Value, v.File = w.tmpFile(v.Key), false
		}
		w.export(v)
	}
	for _, name := range []string{gitlabEnv, "masking.db", externalConfig} {
		w.rmFile(w.tmpFile(name))
	}
	for _, file := range files {
		w.rmFile(file)
	}
	b.cleanGit(w)
	return true, nil
}

// cleanGit removes what an interrupted git leaves and what a job could plant for the next one.
func (b *Build) cleanGit(w *writer) {
	dir := path.Join(b.ProjectDir, ".git")
	for _, name := range []string{"index.lock", "shallow.lock", "HEAD.lock", "hooks/post-checkout", "config.lock"} {
		w.rmFile(path.Join(dir, name))
	}
	w.rmFound(path.Join(dir, "refs"), "*.lock")
	if b.Strategy == "none" {
		return
	}
	for _, d := range []string{path.Join(b.TmpDir(), templateDir), dir} {
		w.rmFile(path.Join(d, "config"))
		w.rmDir(path.Join(d, "hooks"))
	}
}
