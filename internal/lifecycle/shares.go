package lifecycle

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/lazy"
	"gitlab-runner-tart-driver/internal/provision"
)

// shares are directories of the host in the VM: as options of `tart run`, and as mounts in the guest.
type shares struct {
	dirs   []string
	mounts []provision.Mount
}

// hostShare is one of them.
type hostShare struct {
	name, host, guest string
	readOnly          bool
	// own says that the directory is the driver's to make.
	own bool
	// title is how the user calls it.
	title string
}

// workOutShares collects what the settings ask for. All mistakes in them are the operator's, who alone sets host paths.
func (p *preparation) workOutShares() (shares, error) {
	var out shares
	taken, named := map[string]string{}, map[string]string{}
	var writable []hostShare
	for _, text := range p.Settings.Dirs {
		if host, ok := dirOf(text, p.homeDir()); ok {
			writable = append(writable, hostShare{host: host, title: fmt.Sprintf("dir %q", text)})
		}
	}
	add := func(s hostShare) error {
		if other, ok := taken[s.guest]; ok {
			return job.Mistake(fmt.Errorf("%s and %s have the same place in the VM, %s", other, s.title, s.guest), "give each its own")
		}
		for place, other := range taken { // a link inside a share would be made on the host
			if strings.HasPrefix(s.guest, place+"/") || strings.HasPrefix(place, s.guest+"/") {
				return job.Mistake(fmt.Errorf("%s, at %s in the VM, and %s, at %s, are one inside the other", other, place, s.title, s.guest), "give each a place of its own")
			}
		}
		taken[s.guest] = s.title
		if other, ok := named[s.name]; ok {
			return job.Mistake(fmt.Errorf("%s and %s would have the same name in the VM, %q", other, s.title, s.name), "give one another place")
		}
		named[s.name] = s.title
		if !filepath.IsAbs(s.host) {
			return job.Mistake(fmt.Errorf("%s: %q is not an absolute path", s.title, s.host), "is HOME set for GitLab Runner?")
		}
		if strings.Contains(s.host, ":") {
			return job.Mistake(fmt.Errorf("%s: tart cannot share a directory with a colon in its path", s.title), "share one without")
		}
		for _, outer := range writable {
			if reachableFrom(outer.host, s.host) {
				return job.Mistake(fmt.Errorf("%s lies in %s, in which jobs may write: one could put a link in its place, to any directory of the host", s.title, outer.title),
					"share one of the two, or the outer one read-only")
			}
		}
		if !s.readOnly {
			writable = append(writable, s)
		}
		if s.own {
			if err := os.MkdirAll(s.host, 0o700); err != nil {
				return job.Infrastructure(fmt.Errorf("%s: %w", s.title, err), "")
			}
		}
		st, err := os.Stat(s.host)
		if err == nil && !st.IsDir() {
			err = fmt.Errorf("%s is not a directory", s.host)
		}
		if err != nil {
			return job.Mistake(fmt.Errorf("%s: %w", s.title, err), "the host must have the directory")
		}
		option := ""
		if s.readOnly {
			option = ":ro"
		}
		out.dirs = append(out.dirs, s.name+":"+s.host+option)
		out.mounts = append(out.mounts, provision.Mount{Name: s.name, Target: s.guest, ReadOnly: s.readOnly, Title: s.title})
		return nil
	}
	var all []hostShare
	for _, text := range p.Settings.Volumes {
		s, err := parseVolume(text, p.homeDir())
		if err != nil {
			return shares{}, err
		}
		all = append(all, s)
	}
	all = append(all, p.jobDirs()...)
	slices.SortStableFunc(all, func(a, b hostShare) int { return len(a.host) - len(b.host) }) // what others lie in comes first
	for _, s := range all {
		if err := add(s); err != nil {
			return shares{}, err
		}
	}
	out.dirs = append(out.dirs, p.Settings.Dirs...)
	return out, nil
}

// reachableFrom tells whether a path leads through a directory of the host, by whatever links.
func reachableFrom(outer, path string) bool {
	real, err := filepath.EvalSymlinks(outer)
	if err != nil {
		return false // not there, so nobody can write in it
	}
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		if at, err := filepath.EvalSymlinks(dir); err == nil && (at == real || strings.HasPrefix(at, strings.TrimSuffix(real, "/")+"/")) {
			return true
		}
		if dir == filepath.Dir(dir) {
			return false
		}
	}
}

// dirOf is the directory of a --dir in tart's syntax, [NAME:]PATH[:OPTIONS], and whether jobs may write in it.
func dirOf(text, home string) (path string, writable bool) {
	for i, part := range strings.Split(text, ":") {
		if strings.HasPrefix(part, "/") || part == "~" || strings.HasPrefix(part, "~/") {
			options := strings.Split(text, ":")[i+1:]
			return expandHome(part, home), !slices.Contains(strings.Split(strings.Join(options, ","), ","), "ro")
		}
	}
	return "", false
}

func (p *preparation) homeDir() string { return job.Environ(p.Environ).Get("HOME") }

// parseVolume reads HOST:VM[:ro], Docker's syntax for a bind mount.
// https://docs.docker.com/engine/storage/bind-mounts/#syntax
func parseVolume(text, home string) (hostShare, error) {
	title := fmt.Sprintf("volume %q", text)
	parts := strings.Split(text, ":")
	s := hostShare{title: title}
	switch {
	case len(parts) == 3 && (parts[2] == "ro" || parts[2] == "rw"):
		s.readOnly = parts[2] == "ro"
	case len(parts) != 2:
		return hostShare{}, job.Mistake(fmt.Errorf("%s: expected HOST:VM or HOST:VM:ro", title), "write it as Docker's --volume")
	}
	s.host, s.guest = expandHome(parts[0], home), filepath.Clean(parts[1])
	if !filepath.IsAbs(s.host) || !filepath.IsAbs(s.guest) || s.guest == "/" {
		return hostShare{}, job.Mistake(fmt.Errorf("%s: both paths must be absolute, and that in the VM not /", title), "write it as Docker's --volume")
	}
	s.host = filepath.Clean(s.host)
	s.name = shareName(s.guest)
	return s, nil
}

func expandHome(path, home string) string {
	if path == "~" {
		return home
	}
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		return filepath.Join(home, rest)
	}
	return path
}

var unsafeInName = lazy.Regexp(`[^A-Za-z0-9._-]`)

// shareName is the place in the VM without its outer slashes, as in the Python driver, so that scripts that know /Volumes/My Shared
// Files/opt__data keep working.
func shareName(guest string) string {
	return unsafeInName().ReplaceAllString(strings.ReplaceAll(strings.Trim(guest, "/"), "/", "__"), "_")
}

// jobDirs are the builds and cache directories. A project has its own for each place on the host, and a place has one VM: so no two
// running VMs share one, and a project finds what it left. A job whose project only its own variables tell has directories that go with its VM.
func (p *preparation) jobDirs() []hostShare {
	s := p.Settings
	var dirs []hostShare
	builds, cache := p.guestDirs()
	withVM := func(name string) string { return filepath.Join(p.State.EntryDir(p.vm), name) }
	ofProject := func(dir, name string) string {
		if p.Job.ProjectID == 0 {
			return withVM(name)
		}
		return filepath.Join(expandHome(dir, p.homeDir()), projectDir(p.Job), strconv.Itoa(p.slot.Index))
	}
	switch {
	case s.HostDir:
		dirs = append(dirs, hostShare{own: true, name: "builds", host: withVM("builds"), guest: builds, title: "the host's directory for builds (host-dir)"})
	case s.BuildsDir != "":
		dirs = append(dirs, hostShare{own: true, name: "builds", host: ofProject(s.BuildsDir, "builds"), guest: builds, title: "builds-dir " + s.BuildsDir})
	}
	if s.CacheDir != "" {
		dirs = append(dirs, hostShare{own: true, name: "cache", host: ofProject(s.CacheDir, "cache"), guest: cache, title: "cache-dir " + s.CacheDir})
	}
	return dirs
}

// guestDirs are the builds and cache directories in the VM, as config has reported them.
func (p *preparation) guestDirs() (builds, cache string) {
	if p.Handover.BuildsDir != "" {
		return p.Handover.BuildsDir, p.Handover.CacheDir
	}
	return p.Settings.GuestBuildsDir, p.Settings.GuestCacheDir
}

// projectDir is a relative path that a project has to itself, on all GitLab instances. It is made from what GitLab says of the job, which a job
// can't change.
func projectDir(j *job.Job) string {
	server := "gitlab"
	if u, err := url.Parse(j.RepoURL); err == nil && strings.Trim(u.Hostname(), ".") != "" {
		server = strings.TrimLeft(u.Host, ".") // no name of a directory above, whoever made the URL
	}
	project := "project-" + strconv.FormatInt(j.ProjectID, 10)
	return filepath.Join(unsafeInName().ReplaceAllString(server, "_"), project)
}

var errNoRunner = errors.New("the host has no gitlab-runner of its own that fits")
