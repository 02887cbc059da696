package script

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"

	"gitlab-runner-tart-driver/internal/trial/civar"
	"gitlab-runner-tart-driver/internal/trial/gitsource"
)

const (
	templateDir = "git-template"
	// externalConfig holds credentials outside of the project directory.
	externalConfig = ".gitlab-runner.ext.conf"
	// endOfPack ends the here-document with the packed sources; no line of base64 can look like it.
	endOfPack = "--end-of-pack--"
)

// getSources puts the job's sources into the project directory, as its GIT_STRATEGY says.
func (b *Build) getSources(w *writer) (bool, error) {
	b.exports(w)
	w.export(civar.Public("GIT_TERMINAL_PROMPT", "0"))
	w.export(civar.Public("GCM_INTERACTIVE", "Never"))
	checkout := b.Strategy == "clone" || b.Strategy == "fetch"
	if checkout {
		w.commands(b.PreGetSources)
	}
	lfs := !b.Variables.Bool("GIT_LFS_SKIP_SMUDGE", false)
	if lfs {
		w.export(civar.Public("GIT_LFS_SKIP_SMUDGE", "1"))
	}
	switch b.Strategy {
	case "clone", "fetch":
		if err := b.fetch(w); err != nil {
			return false, err
		}
	case "none":
		w.notice("Skipping Git repository setup")
		w.mkdir(b.ProjectDir)
	case "empty":
		w.notice("Skipping Git repository setup and creating an empty build directory")
		w.rmDir(b.ProjectDir)
		w.mkdir(b.ProjectDir)
	default:
		return false, fmt.Errorf("unknown GIT_STRATEGY %q", b.Strategy)
	}
	if checkout && b.Variables.Bool("GIT_CHECKOUT", true) {
		b.checkout(w)
		if lfs && b.Source.Kind == gitsource.Remote {
			w.ifDo(words("git", "lfs", "version")+" >/dev/null 2>&1", func() { w.command("git", "lfs", "pull") }, nil)
		}
	} else {
		w.notice("Skipping Git checkout")
	}
	b.submodules(w, checkout)
	if checkout {
		w.commands(b.PostGetSources)
	}
	return true, nil
}

// fetch gets the objects of the job's commit into the project directory and ends in it.
func (b *Build) fetch(w *writer) error {
	b.cleanGit(w)
	template := path.Join(b.TmpDir(), templateDir)
	w.mkdir(template)
	for _, setting := range [][2]string{
		{"init.defaultBranch", "none"}, {"fetch.recurseSubmodules", "false"}, {"credential.interactive", "never"}, {"gc.autoDetach", "false"},
	} {
		w.command("git", "config", "-f", path.Join(template, "config"), setting[0], setting[1])
	}
	if b.Source.Kind == gitsource.Local {
		return b.unpack(w, template)
	}
	remote, err := b.externalGitConfig(w, template)
	if err != nil {
		return err
	}
	if b.Strategy == "clone" {
		w.rmDir(b.ProjectDir)
	}
	if b.Source.Depth > 0 {
		w.notice(fmt.Sprintf("Fetching changes with git depth set to %d...", b.Source.Depth))
	} else {
		w.notice("Fetching changes...")
	}
	b.initRepository(w, template, remote)
	args := append([]string{"git", "fetch", "origin", "--no-recurse-submodules"}, b.Source.Refspecs...)
	if b.Source.Depth > 0 {
		args = append(args, "--depth", strconv.Itoa(b.Source.Depth))
	}
	args = append(args, b.flags("GIT_FETCH_EXTRA_FLAGS", "--prune", "--quiet")...)
	if b.Source.Depth > 0 {
		w.command(args...)
		return nil
	}
	w.ifDo("[ -e .git/shallow ]",
		func() { w.command(append(args, "--unshallow")...) },
		func() { w.command(args...) })
	return nil
}

func (b *Build) initRepository(w *writer, template, remote string) {
	args := []string{"git", "init", b.ProjectDir, "--template", template}
	if b.Source.ObjectFormat != "" && b.Source.ObjectFormat != "sha1" {
		args = append(args, "--object-format", b.Source.ObjectFormat)
	}
	w.command(args...)
	w.command("cd", b.ProjectDir)
	w.ifDo(words("git", "remote", "add", "origin", remote)+" >/dev/null 2>&1",
		func() { w.notice("Created fresh repository.") },
		func() { w.command("git", "remote", "set-url", "origin", remote) })
}

// externalGitConfig keeps the credentials of the URL out of the project directory, and returns the URL without them.
func (b *Build) externalGitConfig(w *writer, template string) (string, error) {
	file := w.tmpFile(externalConfig)
	w.rmFile(file)
	remote := b.Source.URL
	u, err := url.Parse(remote)
	if err == nil && u.User != nil {
		without := *u
		without.User = nil
		remote = without.String()
		pattern := "^" + regexp.QuoteMeta(remote) + "$"
		w.linef("git config --file %s --replace-all %s %s %s", double(file), Quote("url."+u.String()+".insteadOf"), Quote(remote), Quote(pattern))
	}
	w.linef("git config --file %s --replace-all include.path %s %s",
		double(absolute(path.Join(template, "config"))), double(file), Quote(regexp.QuoteMeta(externalConfig)+"$"))
	return remote, nil
}

// unpack makes a repository from the pack that the script carries. The guest needs git and base64, and no network.
func (b *Build) unpack(w *writer, template string) error {
	text, pack := double(w.tmpFile("try-source.b64")), double(w.tmpFile("try-source.pack"))
	w.notice("Unpacking the sources that came with this script...")
	w.linef("cat > %s <<'%s'", text, endOfPack)
	writeBase64(w, b.Source.Pack)
	w.line(endOfPack)
	decoders := []string{"base64 --decode", "base64 -d", "base64 -D", "openssl base64 -d"}
	for i, decoder := range decoders {
		decoders[i] = fmt.Sprintf("%s < %s > %s 2>/dev/null", decoder, text, pack)
	}
	w.line(strings.Join(decoders, " || ") + " || { " +
		"echo " + Quote("no base64 in this guest, or no space left for the sources") + " >&2; exit 1; }")
	w.rmDir(b.ProjectDir)
	origin := b.Source.URL
	if u, err := url.Parse(origin); err == nil && u.User != nil {
		u.User = nil
		origin = u.String()
	}
	if origin == "" {
		origin = b.Variables.Value("CI_PROJECT_URL") + ".git"
	}
	b.initRepository(w, template, origin)
	w.linef("git index-pack --stdin < %s > /dev/null", pack)
	if len(b.Source.Shallow) > 0 {
		w.linef("printf '%%s\\n' %s > .git/shallow", words(b.Source.Shallow...))
	}
	w.linef("git update-ref --stdin <<'%s'", endOfPack)
	for _, ref := range b.Source.Refs {
		w.line("create " + ref.Name + " " + ref.SHA)
	}
	w.line(endOfPack)
	w.linef("rm -f %s %s", text, pack)
	return nil
}

// writeBase64 writes data in lines of 76 characters, which every decoder takes.
func writeBase64(w *writer, data []byte) {
	const perLine = 57
	line := make([]byte, base64.StdEncoding.EncodedLen(perLine))
	for len(data) > 0 {
		n := min(perLine, len(data))
		base64.StdEncoding.Encode(line, data[:n])
		w.Write(line[:base64.StdEncoding.EncodedLen(n)])
		w.WriteByte('\n')
		data = data[n:]
	}
}

func (b *Build) checkout(w *writer) {
	c := b.Source.Commit
	what := c.SHA
	if what == "" {
		what = "FETCH_HEAD"
		w.notice("Checking out what the ref points to as detached HEAD...")
	} else {
		w.notice(fmt.Sprintf("Checking out %s as detached HEAD (ref is %s)...", c.ShortSHA(), c.Ref))
	}
	w.command("git", "-c", "submodule.recurse=false", "checkout", "-f", "-q", what)
	if flags := b.flags("GIT_CLEAN_FLAGS", "-ffdx"); len(flags) > 0 {
		w.command(append([]string{"git", "clean"}, flags...)...)
	}
}

func (b *Build) submodules(w *writer, checkout bool) {
	strategy := b.Variables.Value("GIT_SUBMODULE_STRATEGY")
	switch {
	case !checkout || strategy == "" || strategy == "none":
		w.notice("Skipping Git submodules setup")
		return
	case b.Source.Kind == gitsource.Local:
		w.warning("Skipping Git submodules setup: submodules do not travel with the script")
		return
	}
	var recursive []string
	if strategy == "recursive" {
		recursive = []string{"--recursive"}
	}
	w.notice("Updating/initializing submodules...")
	w.command("git", "submodule", "init")
	w.command(append([]string{"git", "submodule", "sync"}, recursive...)...)
	update := append([]string{"git", "submodule", "update", "--init"}, recursive...)
	if depth := b.Variables.Int("GIT_SUBMODULE_DEPTH", b.Source.Depth); depth > 0 {
		update = append(update, "--depth", strconv.Itoa(depth))
	}
	w.command(append(update, b.flags("GIT_SUBMODULE_UPDATE_FLAGS")...)...)
}

// flags reads a variable with flags for git: separated by spaces, "none" for no flags at all.
func (b *Build) flags(key string, otherwise ...string) []string {
	switch value := b.Variables.Value(key); value {
	case "":
		return otherwise
	case "none":
		return nil
	default:
		return strings.Fields(value)
	}
}
