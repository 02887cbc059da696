package tartcmd

import (
	"cmp"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"gitlab-runner-tart-driver/internal/tartsim/guest"
	"gitlab-runner-tart-driver/internal/tartsim/simconf"
	"gitlab-runner-tart-driver/internal/tartsim/tarthome"
)

// Users of guests: the first account of each system.
const (
	macUID, macGID     = 501, 20
	linuxUID, linuxGID = 1000, 1000
)

const defaultSSHPort = 22

// defaultProductVersion is the macOS that guests claim to be.
const defaultProductVersion = "15.6"

// startGuest starts the guest at the best level that works. On failure it returns the exit status as well.
func (r *runner) startGuest() (int, error) {
	netns := cmp.Or(r.image.Network, r.app.config.Network) == simconf.NetworkNetNS
	if netns {
		if err := guest.CheckNetNS(); err != nil {
			return exitSetup, err
		}
	}
	var err error
	if r.address, err = guest.TakeAddress(r.formerAddress(), netns); err != nil {
		return exitSetup, err
	}
	if err := os.MkdirAll(r.vm.Path(tarthome.MountName), 0o755); err != nil {
		return exitSetup, err
	}
	if r.hostKey, err = HostKey(r.vm.Dir); err != nil {
		return exitSetup, err
	}
	if err := os.Remove(r.vm.Path(tarthome.ControlName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return exitFailure, err
	}
	listener, err := guest.ListenUnix(r.vm.Path(tarthome.ControlName), 0o600)
	if err != nil {
		return exitFailure, err
	}
	defer func() { _ = listener.Close() }()
	spec := r.spec(netns)
	if err := r.tryLevels(spec, listener); err != nil {
		return exitSetup, err
	}
	r.started = time.Now()
	return 0, r.serveOrders()
}

func (r *runner) tryLevels(spec guest.Spec, listener *net.UnixListener) error {
	failed := errors.New("no level of isolation to try")
	for _, level := range guest.Levels(r.app.config.Isolation) {
		if spec.Link != nil && level != guest.LevelRoot {
			break
		}
		spec.Level = level
		spec.SSHServer, spec.SSHD = r.sshServer(level)
		machine, err := guest.Start(spec, listener, r.log.file)
		if err != nil {
			failed = fmt.Errorf("isolation %s: %w", level, err)
			r.log.printf("%v", failed)
			continue
		}
		r.machine = machine
		r.log.printf("isolation %s, ssh server %s, address %s port %d, system files of %s", level, spec.SSHServer, spec.Address, spec.Port, cmp.Or(spec.Rootfs, "the host"))
		return r.record(spec)
	}
	return failed
}

// spec describes the guest, except for what depends on the level.
func (r *runner) spec(netns bool) guest.Spec {
	s := guest.Spec{
		Name: r.vm.Name, OS: r.config.OS, VMDir: r.vm.Dir, Tool: r.Self,
		User: r.image.User, Password: r.image.Password, UID: macUID, GID: macGID, HomeDir: "/Users/" + r.image.User,
		Hostname: cmp.Or(r.image.Hostname, r.image.User+"s-Virtual-Machine.local"),
		Rootfs:   r.image.Rootfs, Hide: []string{r.home.Dir, r.env["HOME"]},
		Address: r.address.IP.String(), HostKey: r.hostKey, PAM: r.image.PAM,
		SSHDelay: r.image.SSH.D(), AgentDelay: r.image.Agent.D(), AgentKeeps: r.image.AgentKeeps, AgentDir: r.image.AgentDir,
		Shares: r.shares, HostUname: r.image.HostUname, ProductVersion: cmp.Or(r.image.ProductVersion, defaultProductVersion),
	}
	if r.config.OS == tarthome.Linux {
		s.UID, s.GID, s.HomeDir = linuxUID, linuxGID, "/home/"+r.image.User
		s.Hostname = cmp.Or(r.image.Hostname, "linux-vm")
	}
	s.Shell = r.shell()
	if netns {
		s.Port = cmp.Or(r.app.config.SSHPort, defaultSSHPort)
		sum := sha256.Sum256([]byte(r.home.Dir + "\x00" + r.vm.Name))
		s.Link = &guest.Link{Gateway: "192.168.64.1", Prefix: 24, Host: "tsim" + hex.EncodeToString(sum[:5]), Guest: "eth0", MAC: r.config.MAC}
	} else {
		s.Port = guest.SSHPort(r.app.config.SSHPort, r.address)
	}
	r.specFaults(&s)
	return s
}

func (r *runner) specFaults(s *guest.Spec) {
	switch {
	case r.fault(simconf.SSHDNever) != nil:
		s.SSHFault = guest.SSHNever
	case r.fault(simconf.SSHDDrops) != nil:
		s.SSHFault = guest.SSHDrops
	case r.fault(simconf.SSHDRefusesAuth) != nil:
		s.SSHFault = guest.SSHRefuses
	}
	if fault := r.fault(simconf.SlowBoot); fault != nil {
		s.SSHDelay += fault.After.D()
		s.AgentDelay += fault.After.D()
		r.image.Lease += fault.After
	}
	s.AgentDown = r.fault(simconf.AgentDown) != nil
	s.AgentNoExit = r.fault(simconf.AgentNoExit) != nil
	if fault := r.fault(simconf.AgentStreamLost); fault != nil {
		s.AgentStreamLost = &fault.After
	}
}

// shell is the image's login shell, or macOS's or Linux's usual one if the guest has it.
func (r *runner) shell() string {
	candidates := []string{"/bin/zsh", "/usr/bin/zsh", "/bin/bash", "/bin/sh"}
	if r.config.OS == tarthome.Linux {
		candidates = candidates[2:]
	}
	if r.image.Shell != "" {
		return r.image.Shell
	}
	for _, shell := range candidates {
		if _, err := os.Stat(filepath.Join("/", r.image.Rootfs, shell)); err == nil {
			return shell
		}
	}
	return "/bin/sh"
}

// sshServer chooses the SSH server: OpenSSH's needs root and has to be installed.
func (r *runner) sshServer(level guest.Level) (server, path string) {
	wanted := cmp.Or(r.image.SSHServer, r.app.config.SSHServer)
	if wanted == simconf.SSHBuiltin || level != guest.LevelRoot {
		return simconf.SSHBuiltin, ""
	}
	path, err := guest.FindSSHD(r.image.Rootfs)
	if err != nil {
		r.log.printf("%v: using the built-in SSH server", err)
		return simconf.SSHBuiltin, ""
	}
	return simconf.SSHOpenSSH, path
}

// HostKey reads the SSH host key beside a VM's files and makes one if there is none. Clones of an image share it, as real ones do.
func HostKey(dir string) ([]byte, error) {
	path := filepath.Join(dir, tarthome.HostKeyName)
	data, err := os.ReadFile(path)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return data, err
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make host key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		return nil, fmt.Errorf("encode host key: %w", err)
	}
	data = pem.EncodeToMemory(block)
	return data, os.WriteFile(path, data, 0o600)
}

// RunRecord is what a run leaves in sim-run.json: what a real VM would have been started with.
type RunRecord struct {
	PID       int           `json:"pid"`
	Argv      []string      `json:"argv"`
	Started   time.Time     `json:"started"`
	Isolation string        `json:"isolation"`
	SSHServer string        `json:"ssh_server"`
	Address   string        `json:"address"`
	Port      int           `json:"port"`
	MAC       string        `json:"mac"`
	Network   string        `json:"network"` // what Tart would use: nat, softnet, host or bridged
	Shares    []guest.Share `json:"shares,omitempty"`
	Disks     []string      `json:"disks,omitempty"`
}

func (r *runner) record(spec guest.Spec) error {
	network := "nat"
	switch {
	case r.softnet():
		network = "softnet"
	case r.args.Has("net-host"):
		network = "host"
	case r.args.Has("net-bridged"):
		network = "bridged"
	}
	record := RunRecord{
		PID: os.Getpid(), Argv: append([]string{tool}, r.Args...), Started: time.Now(), Isolation: string(spec.Level), SSHServer: spec.SSHServer,
		Address: spec.Address, Port: spec.Port, MAC: r.config.MAC, Network: network, Shares: r.shares, Disks: r.args.Values("disk"),
	}
	data, err := json.MarshalIndent(record, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(r.vm.Path(tarthome.RunName), append(data, '\n'), 0o644)
}

// LoadRunRecord reads the record of a VM's last run.
func LoadRunRecord(vm *tarthome.VM) (RunRecord, error) {
	var record RunRecord
	data, err := os.ReadFile(vm.Path(tarthome.RunName))
	if err != nil {
		return record, err
	}
	return record, json.Unmarshal(data, &record)
}

// runLog is sim-run.log: what the stand-in has to say, while `tart run` itself is silent.
type runLog struct{ file *os.File }

func (l *runLog) printf(format string, args ...any) {
	_, _ = fmt.Fprintf(l.file, time.Now().Format("15:04:05.000 ")+strings.TrimSpace(format)+"\n", args...)
}

func (l *runLog) close() { _ = l.file.Close() }

func (r *runner) openLog() error {
	file, err := os.OpenFile(r.vm.Path(tarthome.LogName), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	r.log = &runLog{file: file}
	r.log.printf("tart %s", strings.Join(r.Args, " "))
	r.dir, err = os.Open(r.vm.Dir)
	return err
}
