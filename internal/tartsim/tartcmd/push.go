package tartcmd

import (
	"strings"

	"gitlab-runner-tart-driver/internal/tartsim/registry"
	"gitlab-runner-tart-driver/internal/tartsim/tarthome"
)

// push copies a VM into the registry's directory. Pushing a cached image only makes new tags, as with Tart.
func (a *app) push() error {
	local := a.args.Arg("local-name")
	vm, err := a.home.OpenAny(local)
	if err != nil {
		return err
	}
	// Tart looks whether the VM runs and then loses its own lock by reading the file; so nothing is kept here either.
	pid, err := vm.RunPID()
	if err != nil {
		return err
	}
	if pid != 0 {
		return tarthome.IsRunning(local)
	}
	var names []tarthome.RemoteName
	for _, text := range a.args.Args("remote-names") {
		name, err := tarthome.ParseRemoteName(text)
		if err != nil {
			return err
		}
		names = append(names, name)
	}
	for _, group := range groupByRepository(names) {
		if err := a.pushTo(vm, local, group); err != nil {
			return err
		}
	}
	return nil
}

func groupByRepository(names []tarthome.RemoteName) [][]tarthome.RemoteName {
	var groups [][]tarthome.RemoteName
	index := map[string]int{}
	for _, name := range names {
		key := name.Host + "/" + name.Namespace
		i, known := index[key]
		if !known {
			i = len(groups)
			index[key] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], name)
	}
	return groups
}

func (a *app) pushTo(vm *tarthome.VM, local string, names []tarthome.RemoteName) error {
	var references []string
	for _, name := range names {
		references = append(references, strings.TrimPrefix(name.String(), name.Host+"/"+name.Namespace))
	}
	shown := references[0]
	if len(references) > 1 {
		shown = "{" + strings.Join(references, ",") + "}"
	}
	a.println("pushing %s to %s/%s%s...", local, names[0].Host, names[0].Namespace, shown)
	if err := a.mayPush(names[0]); err != nil {
		return err
	}
	digest, err := a.upload(vm, local, names[0])
	if err != nil {
		return err
	}
	repository, _, err := a.registry().Find(names[0])
	if err != nil {
		return err
	}
	for _, name := range names {
		a.println("pushing manifest for %s...", name.Reference())
		if name.Digest == "" {
			repository.Tags[name.Tag] = digest
		}
	}
	if err := repository.Save(); err != nil {
		return err
	}
	if !a.args.Has("populate-cache") {
		return nil
	}
	return a.populate(vm, digest, names)
}

// mayPush plays the authentication; a repository that doesn't exist yet is open.
func (a *app) mayPush(name tarthome.RemoteName) error {
	repository, _, err := a.registry().Find(name)
	if err != nil || repository == nil {
		return err
	}
	failure, err := a.registry().Failing(repository, "pushing manifest")
	if err != nil {
		return err
	}
	if failure != nil {
		return httpError("pushing manifest", failure.Status, failure.Details)
	}
	if user, password := a.credentials(name.Host); !repository.Allows(user, password) {
		return authFailed()
	}
	return nil
}

// upload puts the image into the registry, unless it came from there.
func (a *app) upload(vm *tarthome.VM, local string, name tarthome.RemoteName) (string, error) {
	if remote, err := tarthome.ParseRemoteName(local); err == nil {
		digest, err := a.home.OCI().Digest(remote)
		if err != nil {
			return "", err
		}
		repository, _, err := a.registry().Find(name)
		if err != nil {
			return "", err
		}
		if repository == nil {
			return "", httpError("pulling manifest", 404, nameUnknown)
		}
		if _, known := repository.Images[digest]; !known {
			return "", httpError("pulling manifest", 404, manifestUnknown)
		}
		return digest, nil
	}
	a.println("pushing config...")
	a.println("pushing disk... this will take a while...")
	a.progress(0)
	logical, _, err := vm.Sizes()
	if err != nil {
		return "", err
	}
	digest, err := a.registry().Publish(vm.Dir, name, logical/3, func(*registry.Repository) {})
	if err != nil {
		return "", err
	}
	a.update(100)
	a.println("pushing NVRAM...")
	return digest, nil
}

func (a *app) populate(vm *tarthome.VM, digest string, names []tarthome.RemoteName) error {
	cache, digestName := a.home.OCI(), names[0].WithDigest(digest)
	if !cache.Has(digestName) {
		dir, lock, err := a.home.TempDir(tarthome.UUID())
		if err != nil {
			return err
		}
		defer lock.Close()
		if err := tarthome.CopyVM(vm.Dir, dir); err != nil {
			return err
		}
		if err := cache.Place(dir, digestName, a.home.Tmp()); err != nil {
			return err
		}
	}
	for _, name := range names {
		if err := a.link(name, digestName); err != nil {
			return err
		}
	}
	return nil
}
