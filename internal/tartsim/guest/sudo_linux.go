//go:build linux

package guest

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// SudoName is argv[0] of the guest's substitute for sudo.
const SudoName = "sudo"

// sudoPath is the search path of a command run as root.
const sudoPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// RunSudo runs a command as root where this process can become it, and else as the same user. It returns only on failure.
//
// pathFirst, if not empty, is searched before the system's directories: without isolation the helper commands must not give way to the
// host's own, such as its shutdown.
//
// It knows the options scripts use (-n, -E, -H, -S, -k, -v, -u USER, -i, -s, --) and assignments before the command.
func RunSudo(args, environ []string, pathFirst string, errOut io.Writer) int {
	keepEnv, shell, user := false, false, "root"
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		option := args[0]
		args = args[1:]
		switch option {
		case "-E", "--preserve-env":
			keepEnv = true
		case "-i", "-s":
			shell = true
		case "-u":
			if len(args) == 0 {
				return sudoFail(errOut, "option requires an argument -- 'u'")
			}
			user, args = args[0], args[1:]
		case "-v", "-k", "-K":
			if len(args) == 0 {
				return 0
			}
		case "-n", "-H", "-S", "-A", "-b":
		default:
			if option != "--" {
				return sudoFail(errOut, "unsupported option %s", option)
			}
		}
		if option == "--" {
			break
		}
	}
	env := sudoEnv(environ, keepEnv)
	if pathFirst != "" && slices.ContainsFunc(args, func(arg string) bool { return strings.Contains(arg, sshDir) }) {
		return sudoFail(errOut, "%s is this machine's, for the guest has no isolation", sshDir)
	}
	if pathFirst != "" {
		env[0] = "PATH=" + pathFirst + ":" + sudoPath
	}
	for len(args) > 0 && strings.Contains(args[0], "=") && !strings.Contains(args[0], "/") {
		env, args = append(env, args[0]), args[1:]
	}
	if shell {
		args = append([]string{"/bin/sh"}, shellArgs(args)...)
	}
	if len(args) == 0 {
		return sudoFail(errOut, "a command is required")
	}
	if err := becomeRoot(user); err != nil {
		return sudoFail(errOut, "%v", err)
	}
	path, err := lookPath(args[0], env)
	if err != nil {
		return sudoFail(errOut, "%s: command not found", args[0])
	}
	return sudoFail(errOut, "%v", unix.Exec(path, args, env))
}

func shellArgs(args []string) []string {
	if len(args) == 0 {
		return nil
	}
	return []string{"-c", strings.Join(args, " ")}
}

func sudoFail(errOut io.Writer, format string, args ...any) int {
	_, _ = fmt.Fprintf(errOut, "sudo: "+format+"\n", args...)
	return 1
}

// becomeRoot changes the user of the process; without set-user-id it stays who it is.
func becomeRoot(user string) error {
	if os.Geteuid() != 0 || user != "root" {
		return nil
	}
	if err := unix.Setgroups([]int{0}); err != nil {
		return fmt.Errorf("set groups: %w", err)
	}
	if err := unix.Setresgid(0, 0, 0); err != nil {
		return fmt.Errorf("set group: %w", err)
	}
	return unix.Setresuid(0, 0, 0)
}

// sudoEnv is the environment sudo gives a command: a few variables of the caller's, the rest reset.
func sudoEnv(environ []string, keep bool) []string {
	env := []string{"PATH=" + sudoPath, "USER=root", "LOGNAME=root", "SUDO_USER=" + lookup(environ, "USER"), fmt.Sprintf("SUDO_UID=%d", os.Getuid())}
	kept := []string{"TERM", "LANG", "DISPLAY"}
	if isDir("/Users") {
		kept = append(kept, "HOME") // macOS's sudoers keeps it
	} else {
		env = append(env, "HOME=/root")
	}
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		set := slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, name+"=") })
		if !set && (keep || slices.Contains(kept, name) || strings.HasPrefix(name, "LC_")) {
			env = append(env, entry)
		}
	}
	return env
}

func lookup(environ []string, name string) string {
	for _, entry := range environ {
		if value, found := strings.CutPrefix(entry, name+"="); found {
			return value
		}
	}
	return ""
}
