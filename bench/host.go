package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"gitlab-runner-tart-driver/bench/report"
	"gitlab-runner-tart-driver/internal/tartsim/simconf"
)

// host is a host of its own for the benchmark: a directory with programs, a home directory, and a TART_HOME of the stand-in.
type host struct {
	dir      string
	programs programs
	// isolation, sshServer and port are what the stand-in's guests have on this machine.
	isolation, sshServer string
	port                 int
	images               []string
}

// registryImage is an image that has to be pulled before it can be cloned.
const registryImage = "registry.test/macos/base:latest"

// newHost builds what is needed and makes a host.
func newHost(ctx context.Context) (*host, error) {
	if runtime.GOOS != "linux" {
		return nil, errors.New("the stand-in's guests need Linux")
	}
	dir, err := os.MkdirTemp("", "bench-") // short, for the paths of Unix sockets
	if err != nil {
		return nil, err
	}
	h := &host{dir: dir}
	if err := h.furnish(ctx); err != nil {
		return nil, errors.Join(err, h.close())
	}
	return h, nil
}

func (h *host) furnish(ctx context.Context) error {
	// Guests run as other users, and must be able to start what is theirs.
	if err := os.Chmod(h.dir, 0o755); err != nil {
		return err
	}
	for _, d := range []string{h.home(), h.tartHome(), filepath.Dir(h.tart()), h.temp()} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	var err error
	if h.programs, err = build(ctx, h.dir); err != nil {
		return err
	}
	if _, err := h.sim(ctx, "install", filepath.Dir(h.tart())); err != nil {
		return err
	}
	for _, d := range bootDelays() {
		// Little CPU and memory, so that any host's share is enough.
		args := []string{"image", "create", imageName(d), "--boot-delay", d.String(), "--cpu", "1", "--memory", "512"}
		if d == bootDelays()[0] {
			args = append(args, "--registry", registryImage)
		}
		if _, err := h.sim(ctx, args...); err != nil {
			return err
		}
		h.images = append(h.images, imageName(d))
	}
	return h.check(ctx)
}

// bootDelays are how long the stand-in's guests take to get an address and an SSH server, beyond what it takes to make them. The first is the
// one of all figures that say nothing else.
func bootDelays() []time.Duration {
	return []time.Duration{300 * time.Millisecond, 700 * time.Millisecond, 2450 * time.Millisecond}
}

// imageName is the image whose guests have a boot delay.
func imageName(delay time.Duration) string {
	if delay == bootDelays()[0] {
		return "base"
	}
	return fmt.Sprintf("base-%dms", delay.Milliseconds())
}

// check asks the stand-in what its guests are on this machine.
func (h *host) check(ctx context.Context) error {
	out, err := h.sim(ctx, "check", "--json")
	if err != nil {
		return err
	}
	var found struct {
		Isolation string `json:"isolation"`
		SSHServer string `json:"ssh_server"`
		SSHPort   int    `json:"ssh_port"`
	}
	if err := json.Unmarshal([]byte(out), &found); err != nil {
		return fmt.Errorf("tartsim check: %w", err)
	}
	h.isolation, h.sshServer, h.port = found.Isolation, found.SSHServer, found.SSHPort
	return nil
}

func (h *host) home() string     { return filepath.Join(h.dir, "home") }
func (h *host) tartHome() string { return filepath.Join(h.dir, "tarthome") }
func (h *host) temp() string     { return filepath.Join(h.dir, "tmp") }
func (h *host) tart() string     { return filepath.Join(h.dir, "bin", "tart") }
func (h *host) state() string    { return filepath.Join(h.home(), ".gitlab-runner-tart-driver") }

// environ is the environment of the host's GitLab Runner.
func (h *host) environ() []string {
	return []string{"HOME=" + h.home(), "TART_HOME=" + h.tartHome(), "PATH=" + filepath.Dir(h.tart()) + ":/usr/bin:/bin:/usr/sbin:/sbin", "USER=ci", "LANG=C.UTF-8"}
}

// sim calls the stand-in's administration and returns what it prints.
func (h *host) sim(ctx context.Context, args ...string) (string, error) {
	return h.output(ctx, h.programs.tartsim, args...)
}

// output runs a program on the host and returns what it prints.
func (h *host) output(ctx context.Context, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = h.environ()
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
	}
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", filepath.Base(program), strings.Join(args, " "), err)
	}
	return string(out), nil
}

// ownDriver is this project's driver, set up as its README says.
func (h *host) ownDriver() *driver {
	d := &driver{name: "gitlab-runner-tart-driver", column: report.Driver, path: h.programs.driver,
		words: []string{"prepare:--concurrency=2"}}
	if h.port != 22 {
		d.words = append(d.words, "--ssh-port="+strconv.Itoa(h.port))
	}
	if os.Getuid() != 0 { // then a guest has no /opt of its own
		d.words = append(d.words, "--guest-builds-dir=/tmp/builds", "--guest-cache-dir=/tmp/cache")
	}
	return d
}

// guests describes the stand-in's guests.
func (h *host) guests() (string, error) {
	if h.isolation == "" {
		return "", errors.New("the stand-in can make no guests here; `tartsim check` says why")
	}
	return fmt.Sprintf("guests with isolation %q and SSH server %q", h.isolation, h.sshServer), nil
}

// vms are the names of the host's VMs that are no images.
func (h *host) vms() []string {
	dirs, err := os.ReadDir(filepath.Join(h.tartHome(), "vms"))
	if err != nil {
		return nil
	}
	var names []string
	for _, d := range dirs {
		if !slices.Contains(h.images, d.Name()) {
			names = append(names, d.Name())
		}
	}
	return names
}

// vmFile is a file in a VM's directory.
func (h *host) vmFile(vm, name string) string {
	return filepath.Join(h.tartHome(), "vms", vm, name)
}

// forgetCalls starts the record of tart's calls anew.
func (h *host) forgetCalls() error {
	err := os.Truncate(filepath.Join(h.tartHome(), simconf.CallsFile), 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// close ends whatever of the host still runs, and removes it.
func (h *host) close() error {
	err := h.endAll(30 * time.Second)
	return errors.Join(err, os.RemoveAll(h.dir))
}
