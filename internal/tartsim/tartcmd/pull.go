package tartcmd

import (
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"gitlab-runner-tart-driver/internal/tartsim/registry"
	"gitlab-runner-tart-driver/internal/tartsim/tarthome"
)

func (a *app) registry() registry.Registry {
	return registry.Registry{Dir: a.config.RegistryDir(a.home.Dir), Home: a.home.Dir}
}

func (a *app) pull() error {
	name := a.args.Arg("remote-name")
	if a.home.VM(name).Complete() {
		a.println("%q is a local image, nothing to pull here!", name)
		return nil
	}
	remote, err := tarthome.ParseRemoteName(name)
	if err != nil {
		return err
	}
	a.println("pulling %s...", remote)
	return a.pullImage(remote)
}

// pullImage brings an image into the cache. It asks the registry in any case and holds the registry host's lock while it downloads.
func (a *app) pullImage(name tarthome.RemoteName) error {
	a.println("pulling manifest...")
	repository, digest, image, err := a.manifest(name)
	if err != nil {
		return err
	}
	cache, digestName := a.home.OCI(), name.WithDigest(digest)
	if cache.Has(digestName) && (name == digestName || cache.LinkedTo(name, digestName)) {
		a.println("%s image is already cached and linked!", digestName)
		return nil
	}
	host := cache.HostDir(name.Host)
	if err := os.MkdirAll(host, 0o755); err != nil {
		return tarthome.System("%v", err)
	}
	lock, err := tarthome.OpenFileLock(host)
	if err != nil {
		return err
	}
	defer lock.Close()
	free, err := lock.TryLock()
	if err != nil {
		return err
	}
	if !free {
		a.println("waiting for lock...")
		if err := lock.Lock(); err != nil {
			return err
		}
	}
	if cache.Has(digestName) {
		a.println("%s image is already cached! creating a symlink...", digestName)
	} else if err := a.download(repository, image, name, digestName); err != nil {
		return err
	}
	return a.link(name, digestName)
}

func (a *app) link(name, digestName tarthome.RemoteName) error {
	cache := a.home.OCI()
	if name == digestName {
		if err := os.WriteFile(filepath.Join(cache.Path(name), tarthome.ExplicitMark), nil, 0o644); err != nil {
			return tarthome.System("%v", err)
		}
	} else if err := cache.Link(name, digestName); err != nil {
		return err
	}
	cache.VM(digestName).SetAccessed(time.Now())
	return nil
}

// manifest asks the registry what a name stands for.
func (a *app) manifest(name tarthome.RemoteName) (*registry.Repository, string, registry.Image, error) {
	const when = "pulling manifest"
	repository, err := a.open(name, when)
	if err != nil {
		return nil, "", registry.Image{}, err
	}
	digest, image, found := repository.Resolve(name)
	if !found {
		return nil, "", registry.Image{}, httpError(when, 404, manifestUnknown)
	}
	return repository, digest, image, nil
}

const (
	manifestUnknown = `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}`
	nameUnknown     = `{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known to registry"}]}`
)

// open finds a repository and gets past its failures and its authentication.
func (a *app) open(name tarthome.RemoteName, when string) (*registry.Repository, error) {
	registry := a.registry()
	repository, hostKnown, err := registry.Find(name)
	switch {
	case err != nil:
		return nil, err
	case !hostKnown:
		return nil, tarthome.System("Error Domain=NSURLErrorDomain Code=-1003 \"A server with the specified hostname could not be found.\" "+
			"UserInfo={NSErrorFailingURLStringKey=https://%s/v2/, NSLocalizedDescription=A server with the specified hostname could not be found.}", name.Host)
	case repository == nil:
		return nil, httpError(when, 404, nameUnknown)
	}
	failure, err := registry.Failing(repository, when)
	if err != nil {
		return nil, err
	}
	if failure != nil {
		return nil, httpError(when, failure.Status, failure.Details)
	}
	if repository.Username == "" {
		return repository, nil
	}
	user, password := a.credentials(name.Host)
	if !repository.Allows(user, password) {
		return nil, authFailed()
	}
	return repository, nil
}

func httpError(when string, code int, details string) error {
	return tarthome.System("UnexpectedHTTPStatusCode(when: %q, code: %d, details: %q)", when, code, details)
}

func authFailed() error {
	return tarthome.System("AuthFailed(why: \"received unexpected HTTP status code 401 while retrieving an authentication token\", details: %q)",
		`{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
}

// pullAttempts is how often Tart tries a pull whose connection breaks.
const pullAttempts = 5

// partialName holds how far a pull got, in its temporary directory.
const partialName = "tartsim-percent"

// download plays the transfer of an image. What has been transferred stays in tmp when it fails, for the next pull of the same name.
func (a *app) download(repository *registry.Repository, image registry.Image, name, digestName tarthome.RemoteName) error {
	cache := a.home.OCI()
	if cache.Has(name) {
		cache.VM(name).SetAccessed(time.Unix(0, 0))
	}
	sum := md5.Sum([]byte(name.String()))
	dir, lock, err := a.home.TempDir(hex.EncodeToString(sum[:]))
	if err != nil {
		return err
	}
	defer lock.Close()
	a.cancelWith(func() { _ = tarthome.RemoveTree(dir) })
	for attempt := 1; ; attempt++ {
		broken, err := a.transfer(repository, image, dir)
		if err != nil {
			return err
		}
		if !broken {
			break
		}
		const lost = "The network connection was lost."
		a.println("Error pulling disk layer 1: \"%s\", attempting to re-try...", lost)
		if attempt == pullAttempts {
			return tarthome.System("Error Domain=NSURLErrorDomain Code=-1005 \"%s\" UserInfo={NSLocalizedDescription=%s}", lost, lost)
		}
		a.println("Error pulling image: \"%s\", attempting to re-try...", lost)
	}
	a.println("pulling NVRAM...")
	if err := os.Remove(filepath.Join(dir, partialName)); err != nil {
		return tarthome.System("%v", err)
	}
	if err := tarthome.CopyVM(a.registry().Template(image), dir); err != nil {
		return err
	}
	return cache.Place(dir, digestName, a.home.Tmp())
}

// transfer plays the disk's way over the network and reports whether it broke on the way.
func (a *app) transfer(repository *registry.Repository, image registry.Image, dir string) (broken bool, err error) {
	failure, err := a.registry().Failing(repository, "pulling blob")
	if err != nil {
		return false, err
	}
	if failure != nil {
		return false, httpError("pulling blob", failure.Status, failure.Details)
	}
	a.println("pulling disk (%.1f GB compressed)...", float64(image.Size)/gigabyte)
	record := filepath.Join(dir, partialName)
	start := 0
	if data, err := os.ReadFile(record); err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(data))); err == nil && n <= 100 {
			start = n
		}
	}
	step := repository.Duration.D() / 100
	a.progress(start)
	shown, last := start, time.Now()
	for percent := start; percent <= 100; percent++ {
		if percent > start {
			wait(step)
		}
		if err := os.WriteFile(record, []byte(strconv.Itoa(percent)), 0o644); err != nil {
			return false, tarthome.System("%v", err)
		}
		if drops, err := a.registry().Drops(repository, percent); err != nil || drops {
			return drops, err
		}
		if percent > shown && (percent == 100 || time.Since(last) >= time.Second) {
			a.update(percent)
			shown, last = percent, time.Now()
		}
	}
	return false, nil
}

// progress prints the first line of a progress display, update the later ones: with CI in the environment as plain lines, and else over
// the line before, even where the output is no terminal.
func (a *app) progress(percent int) { a.println("%d%%", percent) }

func (a *app) update(percent int) {
	if _, ci := a.env["CI"]; !ci {
		a.print("\x1b[1A\r\x1b[J")
	}
	a.print(fmt.Sprintf("%d%%\n", percent))
}

func (a *app) fqn() error {
	name := a.args.Arg("name")
	remote, err := tarthome.ParseRemoteName(name)
	if err != nil {
		a.println("%s", name)
		return nil
	}
	digest, err := a.home.OCI().Digest(remote)
	if err != nil {
		return err
	}
	a.println("%s", remote.WithDigest(digest))
	return nil
}
