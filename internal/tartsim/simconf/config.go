// Package simconf is the stand-in's own configuration: the host-wide file, the per-image file, faults and their counters, and the
// record of calls. All of it lives in files below TART_HOME, because callers pass tart an environment of their own choosing.
//
// It must not know how guests or commands work.
package simconf

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Names of the stand-in's files, all in TART_HOME except ImageFile, which is beside a VM's config.json.
const (
	ConfigFile   = "tartsim.json"
	CallsFile    = "tartsim-calls.jsonl"
	CountersFile = "tartsim-fault-counts.json"
	ImageFile    = "sim.json"
)

// DefaultVersion is the release of Tart that the stand-in plays unless told otherwise.
const DefaultVersion = "2.35.0"

// Values of Config.Isolation.
const (
	IsolationAuto   = "auto"
	IsolationRoot   = "root"
	IsolationUserNS = "userns"
	IsolationNone   = "none"
)

// Values of Config.Network and Image.Network.
const (
	NetworkLoopback = "loopback"
	NetworkNetNS    = "netns"
)

// Values of Config.SSHServer and Image.SSHServer.
const (
	SSHAuto    = "auto"
	SSHOpenSSH = "openssh"
	SSHBuiltin = "builtin"
)

// Values of Config.ListFormat.
const (
	ListAccessed   = "accessed"     // 2.31 and later: key Accessed
	ListSizeOnDisk = "size-on-disk" // 2.15 to 2.30: key SizeOnDisk
	ListHuman      = "human"        // unreleased: as accessed, sizes with units in text tables
)

// Config is the host-wide configuration, $TART_HOME/tartsim.json. The zero value is the default behaviour.
type Config struct {
	Version      string   `json:"version,omitempty"`
	ListFormat   string   `json:"list_format,omitempty"`
	Isolation    string   `json:"isolation,omitempty"`
	Network      string   `json:"network,omitempty"`
	SSHServer    string   `json:"ssh_server,omitempty"`
	SSHPort      int      `json:"ssh_port,omitempty"`
	Registry     string   `json:"registry,omitempty"`
	MaxVMs       int      `json:"max_vms,omitempty"`
	LeaseTime    Duration `json:"lease_time,omitempty"`
	LeasePool    int      `json:"lease_pool,omitempty"`
	AgentTimeout Duration `json:"agent_timeout,omitempty"`
	Faults       []Fault  `json:"faults,omitempty"`
}

// LoadConfig reads the host-wide configuration; a missing file is the default one.
func LoadConfig(tartHome string) (Config, error) {
	var c Config
	path := filepath.Join(tartHome, ConfigFile)
	if err := readJSON(path, &c); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Config{}, err
	}
	if err := c.Validate(); err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// Validate checks the values that are words, and the faults.
func (c Config) Validate() error {
	for _, check := range []struct {
		name, value string
		allowed     []string
	}{
		{"list_format", c.ListFormat, []string{"", ListAccessed, ListSizeOnDisk, ListHuman}},
		{"isolation", c.Isolation, []string{"", IsolationAuto, IsolationRoot, IsolationUserNS, IsolationNone}},
		{"network", c.Network, []string{"", NetworkLoopback, NetworkNetNS}},
		{"ssh_server", c.SSHServer, []string{"", SSHAuto, SSHOpenSSH, SSHBuiltin}},
	} {
		if !contains(check.allowed, check.value) {
			return fmt.Errorf("%s: unknown value %q, want one of %q", check.name, check.value, check.allowed[1:])
		}
	}
	for i := range c.Faults {
		if err := c.Faults[i].Validate(); err != nil {
			return fmt.Errorf("fault %d: %w", i+1, err)
		}
	}
	return nil
}

// Save writes the host-wide configuration, replacing the file atomically.
func (c Config) Save(tartHome string) error {
	return writeJSON(filepath.Join(tartHome, ConfigFile), c)
}

// TartVersion is the release being played.
func (c Config) TartVersion() string {
	if c.Version == "" {
		return DefaultVersion
	}
	return c.Version
}

// RegistryDir is the directory with the registry's files; a relative setting is relative to TART_HOME.
func (c Config) RegistryDir(tartHome string) string {
	switch {
	case c.Registry == "":
		return filepath.Join(tartHome, "registry")
	case filepath.IsAbs(c.Registry):
		return c.Registry
	default:
		return filepath.Join(tartHome, c.Registry)
	}
}

// Image is how the guests of one image behave: the file sim.json beside a VM's config.json, copied by every clone and pull.
type Image struct {
	User      string   `json:"user,omitempty"`
	Password  string   `json:"password,omitempty"`
	Shell     string   `json:"shell,omitempty"`
	Hostname  string   `json:"hostname,omitempty"`
	Rootfs    string   `json:"rootfs,omitempty"`
	Lease     Duration `json:"lease_delay,omitempty"`
	SSH       Duration `json:"ssh_delay,omitempty"`
	Agent     Duration `json:"agent_delay,omitempty"`
	Clone     Duration `json:"clone_delay,omitempty"`
	Network   string   `json:"network,omitempty"`
	SSHServer string   `json:"ssh_server,omitempty"`
	PAM       bool     `json:"use_pam,omitempty"`
	// HostUname leaves `uname` alone in macOS guests, so that scripts fetch programs that can run here.
	HostUname bool `json:"host_uname,omitempty"`
	// ProductVersion is what sw_vers reports in macOS guests.
	ProductVersion string `json:"product_version,omitempty"`
	// AllocatedBytes is the size `tart list` reports as allocated; 0: what the files really take.
	AllocatedBytes int64 `json:"allocated_bytes,omitempty"`
	// AgentKeeps lets a command run on when its client went away, as older guest agents did; newer ones kill its process group.
	AgentKeeps bool `json:"agent_keeps_on_disconnect,omitempty"`
	// AgentDir is the working directory of commands started by the guest agent; default: the home directory.
	AgentDir string  `json:"agent_dir,omitempty"`
	Faults   []Fault `json:"faults,omitempty"`
}

// LoadImage reads sim.json in a VM's directory; a missing file gives the default guest.
func LoadImage(vmDir string) (Image, error) {
	var i Image
	path := filepath.Join(vmDir, ImageFile)
	if err := readJSON(path, &i); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Image{}, err
	}
	if i.User == "" {
		i.User = "admin"
	}
	if i.Password == "" {
		i.Password = "admin"
	}
	for n := range i.Faults {
		if err := i.Faults[n].Validate(); err != nil {
			return Image{}, fmt.Errorf("%s: fault %d: %w", path, n+1, err)
		}
	}
	return i, nil
}

// Save writes sim.json into a VM's directory.
func (i Image) Save(vmDir string) error {
	return writeJSON(filepath.Join(vmDir, ImageFile), i)
}

func readJSON(path string, into any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// writeJSON replaces a file atomically. The mode keeps passwords of made-up guests from other users all the same.
func writeJSON(path string, value any) error {
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	temp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = temp.Write(append(data, '\n'))
	if closeErr := temp.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(temp.Name())
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func contains(list []string, word string) bool {
	for _, w := range list {
		if w == word {
			return true
		}
	}
	return false
}
