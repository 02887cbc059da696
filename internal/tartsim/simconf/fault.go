package simconf

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Names of the faults.
const (
	VMLimit         = "vm-limit"
	StartFailure    = "start-failure"
	KeychainLocked  = "keychain-locked"
	DiesAfter       = "dies-after"
	NeverAddress    = "never-gets-address"
	StaleLease      = "stale-lease"
	SSHDNever       = "sshd-never"
	SSHDRefusesAuth = "sshd-refuses-auth"
	SSHDDrops       = "sshd-drops"
	FreezeAfter     = "freeze-after"
	PowerCut        = "powercut"
	SlowBoot        = "slow-boot"
	SigintIgnored   = "sigint-ignored"
	SuspendFails    = "suspend-fails"
	ResumeFails     = "resume-fails"
	TartHangs       = "tart-hangs"
	TartSlow        = "slow"
	TartExits       = "exits"
	CloneENOSPC     = "clone-enospc"
	CloneGCRace     = "clone-gc-race"
	SlowClone       = "slow-clone"
	DeleteFails     = "delete-fails"
	ListGarbage     = "list-garbage"
	LeasesGarbage   = "leases-garbage"
	AgentDown       = "agent-down"
	AgentStreamLost = "agent-stream-lost"
	AgentNoExit     = "agent-no-exit"
)

// FaultInfo describes one fault for `tartsim fault --help` and the documentation.
type FaultInfo struct {
	Name string
	Help string
	// Needs names the fields that must be set, in the order in which `tartsim fault set` takes them as arguments: "command", "after".
	Needs []string
	// Also names the fields that may follow as arguments: "code", "how", "text".
	Also []string
}

// Catalogue lists every fault, in the order of the documentation.
func Catalogue() []FaultInfo {
	return []FaultInfo{
		{VMLimit, "`tart run` of a macOS VM fails with the text of the two-VM limit, as with a leaked slot", nil, nil},
		{StartFailure, "`tart run` fails with Virtualization.framework's start error (text replaces it)", nil, []string{"text"}},
		{KeychainLocked, "`tart run` fails as on a headless host with a locked keychain; `login` and keychain look-ups fail too", nil, nil},
		{DiesAfter, "the guest ends AFTER its start; how: poweroff (default), error, network, killed", []string{"after"}, []string{"how"}},
		{NeverAddress, "the guest never gets a DHCP lease, but is reachable by agent", nil, nil},
		{StaleLease, "an unexpired lease with an address nobody uses is in the table from the moment of `tart run`", nil, nil},
		{SSHDNever, "the SSH port stays closed", nil, nil},
		{SSHDRefusesAuth, "the SSH server refuses every password and key", nil, nil},
		{SSHDDrops, "the SSH port accepts connections and closes them without a banner", nil, nil},
		{FreezeAfter, "all processes of the guest are stopped AFTER its start", []string{"after"}, nil},
		{PowerCut, "AFTER its start the guest is cut off the network without a word, and `tart run` is killed (network: netns)", []string{"after"}, nil},
		{SlowBoot, "lease, SSH and agent come AFTER so much more than the image says", []string{"after"}, nil},
		{SigintIgnored, "`tart run` ignores SIGINT, so `tart stop` gets to its SIGKILL", nil, nil},
		{SuspendFails, "`tart suspend` makes `tart run` fail instead of saving", nil, nil},
		{ResumeFails, "restoring a saved state fails; the state is kept", nil, nil},
		{TartHangs, "`tart COMMAND` never returns (it reacts to signals)", []string{"command"}, nil},
		{TartSlow, "`tart COMMAND` starts its work AFTER so long", []string{"command", "after"}, nil},
		{TartExits, "`tart COMMAND` prints text on stderr and exits with code (default 1)", []string{"command"}, []string{"code", "text"}},
		{CloneENOSPC, "`tart clone` runs out of space while copying", nil, nil},
		{CloneGCRace, "`tart clone` loses its temporary directory to another command's garbage collection", nil, nil},
		{SlowClone, "`tart clone` takes AFTER more for its copy, holding the host-wide lock", []string{"after"}, nil},
		{DeleteFails, "`tart delete` fails and leaves the VM", nil, nil},
		{ListGarbage, "`tart list` prints text in place of what was asked for, exit status 0", nil, []string{"text"}},
		{LeasesGarbage, "the lease file is cut off in the middle whenever `tart ip` reads it", nil, nil},
		{AgentDown, "the guest agent never answers", nil, nil},
		{AgentStreamLost, "the guest agent's stream breaks AFTER the start of every `tart exec` (default: at once)", nil, []string{"after"}},
		{AgentNoExit, "the guest agent ends the stream without an exit status", nil, nil},
	}
}

// Fault is one injected fault: of the host (in Config), or of an image (in Image) and then of every clone of it.
type Fault struct {
	// ID names the fault's counter; `tartsim fault set` makes one up.
	ID   string `json:"id,omitempty"`
	Name string `json:"name"`
	// VM limits a host-wide fault to the VMs whose name matches this pattern (path.Match).
	VM      string   `json:"vm,omitempty"`
	Command string   `json:"command,omitempty"`
	After   Duration `json:"after,omitempty"`
	How     string   `json:"how,omitempty"`
	Text    string   `json:"text,omitempty"`
	Code    int      `json:"code,omitempty"`
	// Times is how often the fault happens; 0: always.
	Times int `json:"times,omitempty"`
	// Skip is how often it is passed by before it first happens.
	Skip int `json:"skip,omitempty"`
}

// Validate checks the name and the fields the fault needs.
func (f *Fault) Validate() error {
	all := Catalogue()
	i := slices.IndexFunc(all, func(info FaultInfo) bool { return info.Name == f.Name })
	if i < 0 {
		names := make([]string, len(all))
		for n := range all {
			names[n] = all[n].Name
		}
		return fmt.Errorf("unknown fault %q, known: %s", f.Name, strings.Join(names, ", "))
	}
	for _, need := range all[i].Needs {
		if need == "command" && f.Command == "" || need == "after" && f.After <= 0 {
			return fmt.Errorf("fault %s needs %s", f.Name, need)
		}
	}
	if f.Name == DiesAfter && !contains([]string{"", "poweroff", "error", "network", "killed"}, f.How) {
		return fmt.Errorf("fault %s: unknown how %q", f.Name, f.How)
	}
	if _, err := path.Match(f.VM, ""); err != nil {
		return fmt.Errorf("fault %s: vm pattern %q: %w", f.Name, f.VM, err)
	}
	return nil
}

// SetField sets a field that Needs names from text.
func (f *Fault) SetField(name, text string) error {
	switch name {
	case "command":
		f.Command = text
	case "after":
		after, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("fault %s: %w", f.Name, err)
		}
		f.After = Duration(after)
	case "how":
		f.How = text
	case "text":
		f.Text = text
	case "code":
		code, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("fault %s: code %q is no number", f.Name, text)
		}
		f.Code = code
	default:
		return fmt.Errorf("fault %s has no field %q", f.Name, name)
	}
	return nil
}

func (f *Fault) covers(vm, command string) bool {
	if f.Command != "" && f.Command != command {
		return false
	}
	if f.VM == "" {
		return true
	}
	matched, err := path.Match(f.VM, vm)
	return err == nil && matched
}

func (f *Fault) counter() string {
	if f.ID != "" {
		return f.ID
	}
	return strings.Join([]string{f.Name, f.VM, f.Command}, "|")
}

// Faults answers whether a fault happens now. Every question about a fault that is limited in number counts as one occurrence.
type Faults struct {
	Home  string // TART_HOME
	Host  []Fault
	Image []Fault
}

// Take returns the fault of that name if it happens now to this VM and command, and counts the occurrence. The image's faults come first.
func (f Faults) Take(name, vm, command string) (*Fault, error) {
	for _, list := range [][]Fault{f.Image, f.Host} {
		for i := range list {
			fault := list[i]
			if fault.Name != name || !fault.covers(vm, command) {
				continue
			}
			happens, err := f.count(&fault)
			if err != nil {
				return nil, err
			}
			if happens {
				return &fault, nil
			}
		}
	}
	return nil, nil
}

func (f Faults) count(fault *Fault) (bool, error) {
	return Occurs(f.Home, fault.counter(), fault.Skip, fault.Times)
}

// Occurs counts an occurrence of something and tells whether it is one of those that count: after the first skip, the next times; 0 times
// means all.
func Occurs(home, counter string, skip, times int) (bool, error) {
	if times == 0 && skip == 0 {
		return true, nil
	}
	happens := false
	err := changeCounters(home, func(counts map[string]int) {
		counts[counter]++
		n := counts[counter]
		happens = n > skip && (times == 0 || n <= skip+times)
	})
	return happens, err
}

// ResetCounters forgets how often the faults of these counters happened; without any, all of them.
func ResetCounters(home string, faults ...Fault) error {
	return changeCounters(home, func(counts map[string]int) {
		if len(faults) == 0 {
			clear(counts)
		}
		for i := range faults {
			delete(counts, faults[i].counter())
		}
	})
}

// changeCounters edits the counters file under a lock of its own.
func changeCounters(home string, change func(map[string]int)) error {
	file := filepath.Join(home, CountersFile)
	handle, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("fault counters: %w", err)
	}
	defer func() { _ = handle.Close() }()
	if err := unix.Flock(int(handle.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("fault counters: lock %s: %w", file, err)
	}
	counts := map[string]int{}
	if err := json.NewDecoder(handle).Decode(&counts); err != nil && !isEmpty(handle) {
		return fmt.Errorf("fault counters: %s: %w", file, err)
	}
	change(counts)
	data, err := json.Marshal(counts)
	if err != nil {
		return fmt.Errorf("fault counters: %w", err)
	}
	if err := handle.Truncate(0); err != nil {
		return fmt.Errorf("fault counters: %w", err)
	}
	if _, err := handle.WriteAt(append(data, '\n'), 0); err != nil {
		return fmt.Errorf("fault counters: %w", err)
	}
	return nil
}

func isEmpty(file *os.File) bool {
	info, err := file.Stat()
	return errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0
}

// NextID makes an identifier that no fault in the list has.
func NextID(faults []Fault) string {
	used := make([]string, 0, len(faults))
	for i := range faults {
		used = append(used, faults[i].ID)
	}
	sort.Strings(used)
	for n := 1; ; n++ {
		if id := fmt.Sprintf("f%d", n); !contains(used, id) {
			return id
		}
	}
}
