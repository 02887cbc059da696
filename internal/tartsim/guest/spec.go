// Package guest makes the guests of the stand-in: what `tart run` starts in place of a virtual machine.
//
// A guest is a process tree with its own root directory, users, process numbers and host name, an SSH server on its own loopback
// address, and an agent that serves `tart exec`. How much of that is possible depends on what the machine allows; see Level. Everything
// in a guest dies with the process that started it, even when that one is killed.
//
// The package must not know Tart's commands, flags or texts.
package guest

import (
	"path/filepath"
	"strings"
	"time"

	"gitlab-runner-tart-driver/internal/tartsim/simconf"
	"gitlab-runner-tart-driver/internal/tartsim/tarthome"
)

// Level says how a guest is isolated.
type Level string

// The levels, best first.
const (
	// LevelRoot uses namespaces and overlay file systems, set up by root.
	LevelRoot Level = "root"
	// LevelUserNS uses the same inside a user namespace: one user, no root in the guest.
	LevelUserNS Level = "userns"
	// LevelNone is a process tree with a directory of its own and nothing else.
	LevelNone Level = "none"
)

// InitName is argv[0] of the guest's first process: the same binary under another name.
const InitName = "tartsim-guest"

// ToolPath is where a guest finds the stand-in's binary, which its helper commands call.
const ToolPath = "/run/tartsim/tool"

// ShimVerb is the word that calls one of the guest's helper commands: `tool guest-shim NAME ARGS...`.
const ShimVerb = "guest-shim"

// AutomountTag is the tag of shares that macOS guests mount by themselves.
const AutomountTag = "com.apple.virtio-fs.automount"

// AutomountDir is where they do it.
const AutomountDir = "/Volumes/My Shared Files"

// Share is a host directory that the guest may mount.
type Share struct {
	Tag      string `json:"tag"`
	Name     string `json:"name,omitempty"` // empty: the share is the tag's only directory
	Path     string `json:"path"`
	ReadOnly bool   `json:"read_only"`
}

// SSH faults, values of Spec.SSHFault.
const (
	SSHNever   = "never"
	SSHRefuses = "refuses"
	SSHDrops   = "drops"
)

// Link is a guest's own network, used when Spec.Link is not nil.
type Link struct {
	Gateway string `json:"gateway"`
	Prefix  int    `json:"prefix"`
	Host    string `json:"host"`  // the interface on the host's side
	Guest   string `json:"guest"` // the interface in the guest
	MAC     string `json:"mac"`
}

// Spec is everything a guest needs to know. It is handed to the guest's first process as JSON.
type Spec struct {
	Name     string `json:"name"`
	OS       string `json:"os"` // "darwin" or "linux"
	Level    Level  `json:"level"`
	VMDir    string `json:"vm_dir"`
	Tool     string `json:"tool"` // path of this binary on the host
	Hostname string `json:"hostname"`

	User     string `json:"user"`
	Password string `json:"password"`
	UID      int    `json:"uid"`
	GID      int    `json:"gid"`
	HomeDir  string `json:"home_dir"`
	Shell    string `json:"shell"`

	Rootfs string   `json:"rootfs,omitempty"` // empty: the host's own system directories
	Hide   []string `json:"hide,omitempty"`   // host directories the guest must not see

	Address   string        `json:"address"`
	Port      int           `json:"port"`
	SSHServer string        `json:"ssh_server"` // simconf.SSHOpenSSH or simconf.SSHBuiltin
	SSHD      string        `json:"sshd,omitempty"`
	PAM       bool          `json:"use_pam,omitempty"`
	HostKey   []byte        `json:"host_key"`
	SSHDelay  time.Duration `json:"ssh_delay"`
	SSHFault  string        `json:"ssh_fault,omitempty"`

	AgentDelay      time.Duration     `json:"agent_delay"`
	AgentDown       bool              `json:"agent_down,omitempty"`
	AgentStreamLost *simconf.Duration `json:"agent_stream_lost,omitempty"`
	AgentNoExit     bool              `json:"agent_no_exit,omitempty"`
	AgentKeeps      bool              `json:"agent_keeps,omitempty"`
	AgentDir        string            `json:"agent_dir,omitempty"`

	Shares         []Share `json:"shares,omitempty"`
	MapOwner       bool    `json:"map_owner,omitempty"` // descriptor 5 is a user namespace for the shares
	Link           *Link   `json:"link,omitempty"`
	HostUname      bool    `json:"host_uname,omitempty"`
	ProductVersion string  `json:"product_version,omitempty"`
}

// mac reports whether the guest plays macOS.
func (s *Spec) mac() bool { return s.OS != "linux" }

// path is the search path of the guest's sessions: macOS's own, or that of a Linux login.
func (s *Spec) path() string {
	path := "/usr/local/bin:/usr/bin:/bin:/usr/games"
	if s.mac() {
		path = "/usr/bin:/bin:/usr/sbin:/sbin"
	}
	if s.Level == LevelNone {
		path = s.bareBin() + ":" + path
	}
	return path
}

// bareBin is where the helper commands of a guest without isolation are.
func (s *Spec) bareBin() string { return filepath.Join(s.VMDir, tarthome.TreeName, "bin") }

// environment is what a session of the guest's user starts with.
func (s *Spec) environment() []string {
	return []string{"HOME=" + s.HomeDir, "USER=" + s.User, "LOGNAME=" + s.User, "SHELL=" + s.Shell, "PATH=" + s.path()}
}

// agentEnvironment is what commands of the guest agent start with: the one its launchd job gives it.
func (s *Spec) agentEnvironment() []string {
	env := append(s.environment(), "TERM=xterm-256color")
	if !s.mac() {
		return env
	}
	path := "/bin:/usr/bin:/usr/sbin:/usr/local/bin:/opt/homebrew/bin"
	if s.Level == LevelNone {
		path = s.bareBin() + ":" + path
	}
	for i := range env {
		if strings.HasPrefix(env[i], "PATH=") {
			env[i] = "PATH=" + path
		}
	}
	return env
}

// Event is what a guest reports to the process that started it.
type Event struct {
	Kind string `json:"event"`
	Text string `json:"text,omitempty"`
}

// Kinds of events.
const (
	EventReady    = "ready"    // the guest has booted; services come after their delays
	EventFailed   = "failed"   // the guest could not be set up; Text says why
	EventPowerOff = "poweroff" // the guest has shut down
	EventNote     = "note"     // something for the log
	eventDone     = "done"     // a command was carried out
)

// order is what the starting process asks of a guest.
type order struct {
	Verb string `json:"verb"`
}

const (
	orderShutdown = "shutdown"
	orderAddress  = "address"
)
