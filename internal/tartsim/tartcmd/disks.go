package tartcmd

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"gitlab-runner-tart-driver/internal/tartsim/tarthome"
)

// diskOptions are the comma-separated options of a disk; unknown ones are passed over.
type diskOptions struct {
	readOnly      bool
	sync, caching string
	found         bool
}

func parseDiskOptions(text string) diskOptions {
	var o diskOptions
	for _, option := range splitFields(text, ",") {
		if option == "ro" {
			o.readOnly, o.found = true, true
		} else if value, ok := strings.CutPrefix(option, "sync="); ok {
			o.sync, o.found = value, true
		} else if value, ok := strings.CutPrefix(option, "caching="); ok {
			o.caching, o.found = value, true
		}
	}
	return o
}

func (o diskOptions) check() error {
	if !slices.Contains([]string{"", "none", "fsync", "full"}, o.sync) {
		return tarthome.Failure("unsupported disk image synchronization mode: \"%s\"", o.sync)
	}
	if !slices.Contains([]string{"", "automatic", "cached", "uncached"}, o.caching) {
		return tarthome.Failure("unsupported disk image caching mode: \"%s\"", o.caching)
	}
	return nil
}

// checkDisk checks one --disk. The guests of the stand-in don't get to see it.
func (a *app) checkDisk(text string) error {
	fields := splitFields(text, ":")
	if len(fields) == 0 {
		return tarthome.System("invalid --disk %q", text)
	}
	options := parseDiskOptions(fields[len(fields)-1])
	if options.found {
		fields = fields[:len(fields)-1]
	}
	path := strings.Join(fields, ":")
	if scheme, _, ok := strings.Cut(path, "://"); ok && slices.Contains([]string{"nbd", "nbds", "nbd+unix", "nbds+unix"}, scheme) {
		return nil
	}
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		path = filepath.Join(a.env["HOME"], rest)
	}
	if remote, err := tarthome.ParseRemoteName(path); err == nil {
		if !a.home.OCI().Has(remote) {
			return tarthome.NotExist(path)
		}
		return nil
	}
	file, err := os.Open(path)
	if err != nil {
		return tarthome.System("Error Domain=VZErrorDomain Code=2 \"The storage device attachment is invalid.\" "+
			"UserInfo={NSLocalizedFailure=Invalid disk image., NSLocalizedFailureReason=The disk image could not be opened: %s}", path)
	}
	defer func() { _ = file.Close() }()
	if !options.readOnly && unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return tarthome.Failure("disk %s seems to be already in use, unmount it first in Finder", path)
	}
	return options.check()
}

// bridgeInterfaces are the interfaces of the Mac being played: identifier and display name.
func bridgeInterfaces() [][2]string { return [][2]string{{"en0", "Ethernet"}, {"en1", "Wi-Fi"}} }

// checkNetwork checks the network options as far as Tart does before the VM starts.
func (a *app) checkNetwork() error {
	if a.softnet() || a.args.Has("net-host") {
		if a.args.Has("net-softnet-control-fd") {
			if err := checkControlFD(a.args.Value("net-softnet-control-fd", "")); err != nil {
				return err
			}
		}
		if _, err := a.lookPath("softnet"); err != nil {
			return tarthome.System("InitializationFailed(why: \"softnet not found in PATH\")")
		}
	}
	for _, wanted := range a.args.Values("net-bridged") {
		var available []string
		matched := false
		for _, i := range bridgeInterfaces() {
			matched = matched || i[0] == wanted || i[1] == wanted
			available = append(available, strconv.Quote(i[0]+" (or \""+i[1]+"\")"))
		}
		if !matched {
			return tarthome.Invalid("no bridge interfaces matched \"[\"%s\"]\", available interfaces: [%s]",
				strings.Join(a.args.Values("net-bridged"), `", "`), strings.Join(available, ", "))
		}
	}
	return nil
}

func checkControlFD(text string) error {
	fd, err := strconv.Atoi(text)
	if err != nil || fd <= 2 {
		return tarthome.System("InitializationFailed(why: \"Softnet control file descriptor must be greater than 2\")")
	}
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return tarthome.System("InitializationFailed(why: \"Softnet control file descriptor is not a socket: %v\")", err)
	}
	if kind != unix.SOCK_STREAM {
		return tarthome.System("InitializationFailed(why: \"Softnet control file descriptor must be a Unix stream socket\")")
	}
	return nil
}

// lookPath finds a program in the PATH this call was given.
func (a *app) lookPath(name string) (string, error) {
	for _, dir := range filepath.SplitList(a.env["PATH"]) {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", exec.ErrNotFound
}
