package admin

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"gitlab-runner-tart-driver/internal/tartsim/guest"
	"gitlab-runner-tart-driver/internal/tartsim/simconf"
	"gitlab-runner-tart-driver/internal/tartsim/tartcmd"
	"gitlab-runner-tart-driver/internal/tartsim/tarthome"
)

// finding is one line of `tartsim check`.
type finding struct {
	What  string `json:"what"`
	OK    bool   `json:"ok"`
	Value string `json:"value"`
	Mend  string `json:"mend,omitempty"`
}

// Report is `tartsim check --json`.
type Report struct {
	// Isolation is the level that guests get here; empty: none works.
	Isolation string    `json:"isolation"`
	SSHServer string    `json:"ssh_server"`
	SSHPort   int       `json:"ssh_port"`
	NetNS     bool      `json:"netns"` // whether guests can have networks of their own
	Findings  []finding `json:"findings"`
}

func (t *tool) checkCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "check", Short: "Say what isolation this machine allows, and what is missing", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			home, err := t.home()
			if err != nil {
				return err
			}
			config, err := simconf.LoadConfig(home.Dir)
			if err != nil {
				return err
			}
			report, err := t.inspect(home, config)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd, report)
			}
			for _, f := range report.Findings {
				mark := "ok"
				if !f.OK {
					mark = "--"
				}
				cmd.Printf("%s  %-22s %s\n", mark, f.What, f.Value)
				if f.Mend != "" {
					cmd.Printf("    %-22s %s\n", "", f.Mend)
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// inspect tries every level with a real guest and looks for the programs that guests use.
func (t *tool) inspect(home *tarthome.Home, config simconf.Config) (Report, error) {
	report := Report{SSHServer: simconf.SSHBuiltin}
	address, err := guest.TakeAddress(netip.Addr{}, false)
	if err != nil {
		return report, err
	}
	report.SSHPort = guest.SSHPort(config.SSHPort, address)
	address.Release()
	for _, level := range guest.Levels(config.Isolation) {
		notes, err := t.try(home, level)
		if err != nil {
			report.Findings = append(report.Findings, finding{What: "isolation " + string(level), Value: err.Error(), Mend: mend(level)})
			continue
		}
		f := finding{What: "isolation " + string(level), OK: true, Value: "works"}
		for _, note := range notes {
			f.Value += "; " + note
		}
		report.Findings = append(report.Findings, f)
		if report.Isolation == "" {
			report.Isolation = string(level)
		}
	}
	report.Findings = append(report.Findings, finding{What: "guests get isolation", OK: report.Isolation != "", Value: report.Isolation})
	report.look(config)
	return report, nil
}

// restrictions are settings of the kernel that forbid user namespaces to users without privileges, with the value that allows them.
var restrictions = []struct{ file, allows string }{
	{"kernel/apparmor_restrict_unprivileged_userns", "0"}, {"kernel/unprivileged_userns_clone", "1"},
}

// mend says what makes a level work.
func mend(level guest.Level) string {
	if level == guest.LevelRoot {
		return "needs root with CAP_SYS_ADMIN; in a container: docker run --privileged"
	}
	for _, r := range restrictions {
		data, err := os.ReadFile(filepath.Join("/proc/sys", r.file))
		if err == nil && strings.TrimSpace(string(data)) != r.allows {
			return "sysctl " + strings.ReplaceAll(r.file, "/", ".") + "=" + r.allows
		}
	}
	return ""
}

func (r *Report) look(config simconf.Config) {
	path, err := guest.FindSSHD("")
	sshd := finding{What: "sshd", OK: err == nil, Value: path}
	switch {
	case err != nil:
		sshd.Value, sshd.Mend = "missing: guests use the built-in SSH server", "apt-get install openssh-server"
	case r.Isolation == string(guest.LevelRoot) && config.SSHServer != simconf.SSHBuiltin:
		r.SSHServer = simconf.SSHOpenSSH
	default:
		sshd.Value += " (not used at this isolation: guests use the built-in SSH server)"
	}
	port := finding{What: "SSH port of guests", OK: true, Value: itoa(r.SSHPort)}
	if r.SSHPort != 22 {
		port.Mend = "port 22 can't be had: run as root, or `sysctl net.ipv4.ip_unprivileged_port_start=22`, and stop servers that listen there on all addresses"
	}
	r.Findings = append(r.Findings, sshd, port)
	for _, program := range []struct{ path, use, pack string }{
		{"/bin/zsh", "login shell of macOS guests (else bash)", "zsh"},
		{"/usr/bin/sudo", "sudo in guests (else a substitute)", "sudo"},
	} {
		f := finding{What: filepath.Base(program.path), OK: true, Value: program.path}
		if _, err := os.Stat(program.path); err != nil {
			f.OK, f.Value, f.Mend = false, "missing: "+program.use, "apt-get install "+program.pack
		}
		r.Findings = append(r.Findings, f)
	}
	netns := finding{What: "network netns", OK: true, Value: "guests can have networks of their own"}
	if err := guest.CheckNetNS(); err != nil {
		netns.OK, netns.Value = false, err.Error()
	}
	if netns.OK && r.Isolation != string(guest.LevelRoot) {
		netns.OK, netns.Value = false, "needs isolation root"
	}
	r.NetNS = netns.OK
	r.Findings = append(r.Findings, netns)
}

// try starts a guest at a level and stops it again.
func (t *tool) try(home *tarthome.Home, level guest.Level) ([]string, error) {
	dir, lock, err := home.TempDir("check-" + tarthome.UUID())
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	defer func() { _ = tarthome.RemoveTree(dir) }()
	if err := os.MkdirAll(filepath.Join(dir, tarthome.MountName), 0o755); err != nil {
		return nil, err
	}
	key, err := tartcmd.HostKey(dir)
	if err != nil {
		return nil, err
	}
	address, err := guest.TakeAddress(netip.Addr{}, false)
	if err != nil {
		return nil, err
	}
	defer address.Release()
	listener, err := guest.ListenUnix(filepath.Join(dir, tarthome.ControlName), 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = listener.Close() }()
	log, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	machine, err := guest.Start(guest.Spec{
		Name: "check", OS: tarthome.Darwin, Level: level, VMDir: dir, Tool: t.process.Self, Hostname: "check",
		User: "admin", Password: "admin", UID: 501, GID: 20, HomeDir: "/Users/admin", Shell: "/bin/sh",
		Address: address.IP.String(), Port: 22, SSHServer: simconf.SSHBuiltin, HostKey: key, SSHFault: guest.SSHNever,
	}, listener, log)
	if err != nil {
		return nil, fmt.Errorf("does not work: %w", err)
	}
	machine.Kill()
	var notes []string
	for event := range machine.Events() {
		if event.Kind == guest.EventNote && event.Text != "" {
			notes = append(notes, event.Text)
		}
	}
	return notes, nil
}
