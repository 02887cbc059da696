//go:build linux

package guest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// shim is one call of a helper command in a guest.
type shim struct {
	socket  string
	args    []string
	environ []string
	out     io.Writer
	err     io.Writer
}

// RunShim carries out a helper command in a guest: `guest-shim SOCKET NAME ARGS...`. It returns the exit status.
func RunShim(args, environ []string, out, errOut io.Writer) int {
	if len(args) < 2 {
		_, _ = fmt.Fprintln(errOut, "guest-shim: want SOCKET NAME")
		return 2
	}
	s := &shim{socket: args[0], args: args[2:], environ: environ, out: out, err: errOut}
	switch name := args[1]; name {
	case "shutdown":
		verb := helperPowerOff
		if slices.Contains(s.args, "-r") {
			verb = helperReboot
		}
		return s.ask(name, helperRequest{Verb: verb})
	case "poweroff", "halt":
		return s.ask(name, helperRequest{Verb: helperPowerOff})
	case "reboot":
		return s.ask(name, helperRequest{Verb: helperReboot})
	case "mount_virtiofs":
		return s.mountTag(name, s.args)
	case "mount":
		return s.mount()
	case "security":
		return s.security()
	case "systemsetup":
		return s.systemSetup()
	case "sudo":
		first := ""
		if s.socket != helperSocket {
			first = filepath.Join(filepath.Dir(s.socket), "bin")
		}
		return RunSudo(s.args, environ, first, errOut)
	default:
		_, _ = fmt.Fprintf(errOut, "guest-shim: unknown command %q\n", name)
		return 2
	}
}

func (s *shim) fail(name, format string, args ...any) int {
	_, _ = fmt.Fprintf(s.err, name+": "+format+"\n", args...)
	return 1
}

func (s *shim) ask(name string, request helperRequest) int {
	conn, err := DialUnix(s.socket)
	if err != nil {
		return s.fail(name, "%v", err)
	}
	defer func() { _ = conn.Close() }()
	if err := json.NewEncoder(conn).Encode(request); err != nil {
		return s.fail(name, "%v", err)
	}
	var reply helperReply
	if err := json.NewDecoder(conn).Decode(&reply); err != nil {
		return s.fail(name, "%v", err)
	}
	switch {
	case reply.Error == "not permitted":
		return s.fail(name, "NOT super-user")
	case reply.Error != "":
		return s.fail(name, "%s", reply.Error)
	}
	return 0
}

// mountTag mounts a share: the last two arguments are the tag and the directory.
func (s *shim) mountTag(name string, args []string) int {
	if len(args) < 2 {
		return s.fail(name, "usage: %s [-o options] fs_tag directory", name)
	}
	tag, dir := args[len(args)-2], args[len(args)-1]
	dir, err := filepath.Abs(dir)
	if err != nil {
		return s.fail(name, "%v", err)
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return s.fail(name, "failed to resolve %s: No such file or directory", dir)
	}
	return s.ask(name, helperRequest{Verb: helperMount, Tag: tag, Dir: dir})
}

// mount plays the part of mount(8) that concerns shares and leaves the rest to the real one.
func (s *shim) mount() int {
	for i, arg := range s.args {
		if arg == "virtiofs" && i > 0 && s.args[i-1] == "-t" || arg == "-tvirtiofs" {
			return s.mountTag("mount", slices.Delete(slices.Clone(s.args), 0, i+1))
		}
	}
	err := unix.Exec(realMountPath, append([]string{"mount"}, s.args...), s.environ)
	return s.fail("mount", "%v", err)
}

func (s *shim) print(format string, args ...any) int {
	_, _ = fmt.Fprintf(s.out, format+"\n", args...)
	return 0
}

// security accepts what scripts do to keychains and finds nothing in them.
func (s *shim) security() int {
	if len(s.args) > 0 && strings.HasPrefix(s.args[0], "find-") {
		s.fail("security", "SecKeychainSearchCopyNext: The specified item could not be found in the keychain.")
		return 44
	}
	return 0
}

const (
	zoneLink = "/etc/localtime"
	zoneDir  = "/usr/share/zoneinfo"
)

func (s *shim) systemSetup() int {
	if len(s.args) == 0 {
		return s.fail("systemsetup", "no command")
	}
	switch strings.ToLower(s.args[0]) {
	case "-gettimezone":
		target, err := os.Readlink(zoneLink)
		if err != nil {
			return s.fail("systemsetup", "%v", err)
		}
		return s.print("Time Zone: %s", strings.TrimPrefix(target, zoneDir+"/"))
	case "-settimezone":
		return s.setTimeZone()
	}
	return s.fail("systemsetup", "unknown command %s", s.args[0])
}

func (s *shim) setTimeZone() int {
	if os.Geteuid() != 0 && len(s.args) > 1 {
		return s.print("You need administrator access to run this tool... exiting!")
	}
	if len(s.args) < 2 || !isFile(filepath.Join(zoneDir, s.args[1])) {
		return s.print("%s is not a valid timezone!", strings.Join(s.args[1:], " "))
	}
	if err := os.Remove(zoneLink); err != nil && !errors.Is(err, os.ErrNotExist) {
		return s.fail("systemsetup", "%v", err)
	}
	if err := os.Symlink(filepath.Join(zoneDir, s.args[1]), zoneLink); err != nil {
		return s.fail("systemsetup", "%v", err)
	}
	return s.print("Set TimeZone: %s", s.args[1])
}
