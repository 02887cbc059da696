// Package settings has every setting of the driver in one table (table.go): its flag, job variables, default, what it takes and
// what it is for. Flags, --help, the reference in docs/ and the resolved Settings all come from that table.
//
// It only parses and checks values. What they lead to is decided elsewhere.
package settings

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Settings are the resolved values. They are not changed after Resolve. What each is for is in the table.
type Settings struct {
	// The host.
	TartExecutable string
	StateDir       string
	Concurrency    int
	MaxVMs         int
	SlotTimeout    time.Duration
	HoldOnFailure  time.Duration
	MaxHold        time.Duration
	TartRunEnv     []string
	// Lock and Unlock name settings that jobs may not, or may, change against the table's rule.
	Lock, Unlock []string
	// LogDays and LogBudgetMB bound what is kept of jobs that are over.
	LogDays, LogBudgetMB int

	// Images.
	DefaultImage        string
	AllowImages         []string
	ExcludeImages       []*regexp.Regexp
	PullPolicies        []string
	AllowedPullPolicies []string
	RegistryHost        string
	RegistryUsername    string
	RegistryPassword    string
	InsecurePull        bool
	PullConcurrency     int
	AutoPrune           bool
	ImageBudgetGB       int
	DiskReserveGB       int

	// The virtual machine.
	CPU           int
	MemoryMB      int
	MaxCPU        int
	MaxMemoryMB   int
	Display       string
	AutoResources bool
	MAC           string
	Headless      bool
	VNC           bool
	Softnet       bool
	SoftnetAllow  []string
	Bridged       string
	IPResolver    string
	RootDiskOpts  string
	Disks         []string
	Nested        bool
	Timeout       time.Duration

	// The guest.
	Transport          string
	SSHUsername        string
	SSHPassword        string
	SSHPort            int
	SSHKey             bool
	Shell              string
	Timezone           string
	InstallRunner      bool
	InstallMethod      string
	ForceInstallRunner bool
	RunnerVersion      string
	Volumes            []string
	Dirs               []string
	BuildsDir          string
	CacheDir           string
	HostDir            bool
	GuestBuildsDir     string
	GuestCacheDir      string

	origins map[string]Origin
}

// Origin says where a value came from, in words for a person, such as "flag --cpu".
type Origin string

const variablePrefix = "variable "

// ofVariable is the origin of a job variable's value.
func ofVariable(name string) Origin { return Origin(variablePrefix + name) }

// IsVariable tells whether a value came from a job variable, and not from the operator.
func (o Origin) IsVariable() bool { return strings.HasPrefix(string(o), variablePrefix) }

// DefaultOrigin is the origin of a value that nobody set.
const DefaultOrigin Origin = "default"

// Origin tells where the value of a setting came from.
func (s *Settings) Origin(name string) Origin { return s.origins[name] }

// FromJob tells whether the job set the setting, and not the operator.
func (s *Settings) FromJob(name string) bool {
	return s.origins[name].IsVariable()
}

// IsDefault tells whether nobody set the setting.
func (s *Settings) IsDefault(name string) bool { return s.origins[name] == DefaultOrigin }

// Slots is the number of VMs that may run on this host at once.
func (s *Settings) Slots() int {
	if !s.IsDefault("max-vm-count") {
		return s.MaxVMs
	}
	return max(s.MaxVMs, s.Concurrency)
}

// Sources are where values come from, later ones before earlier ones: defaults, config file, flags, job variables. A list has its items
// on lines of their own.
type Sources struct {
	// Defaults replace the table's defaults, by the setting's name, where these depend on the host.
	Defaults map[string]string
	// File are the config file's values by the setting's name, and FilePath its path.
	File     map[string]string
	FilePath string
	// Flags by the setting's name; only those that were given.
	Flags map[string]string
	// Variables are the job's variables, without CUSTOM_ENV_.
	Variables map[string]string
}

// Resolve works out every setting: first the operator's, then what the job may change of them. All faulty values are reported, not
// just the first.
func Resolve(src Sources) (*Settings, []error) {
	s := &Settings{origins: map[string]Origin{}}
	var errs []error
	table := Table()
	for _, row := range table {
		value, origin := row.operators(src)
		s.origins[row.Name] = origin
		if expected := row.set(s, value); expected != "" {
			errs = append(errs, &ValueError{Origin: origin, Value: value, Secret: row.Secret, Expected: expected})
		}
	}
	errs = append(errs, s.checkNames(table)...)
	operator := *s
	for _, row := range table {
		value, variable := row.jobs(src)
		if variable == "" {
			continue
		}
		if err := row.setForJob(s, &operator, value, variable); err != nil {
			errs = append(errs, err)
		}
	}
	return s, errs
}

// operators is the value that the operator, or nobody, has set.
func (row Setting) operators(src Sources) (string, Origin) {
	if v, ok := src.Flags[row.Name]; ok {
		return v, Origin("flag --" + row.Name)
	}
	if v, ok := src.File[row.Name]; ok {
		return v, Origin(fmt.Sprintf("%s in %s", row.Name, src.FilePath))
	}
	if v, ok := src.Defaults[row.Name]; ok {
		return v, DefaultOrigin
	}
	return row.Default, DefaultOrigin
}

// jobs is the value that the job has set, and the variable. An empty variable counts as not set, as in the Python driver: GitLab has no
// way to unset an inherited one.
func (row Setting) jobs(src Sources) (value, variable string) {
	for _, name := range row.Variables {
		if v, ok := src.Variables[name]; ok && v != "" {
			if meaning, ok := row.meanings[name]; ok {
				v = meaning(v)
			}
			return v, name
		}
	}
	return "", ""
}

// Unknown names the job's TART_ variables that no setting has, each with the nearest name that one does have.
func Unknown(variables map[string]string) []string {
	var known []string
	for _, row := range Table() {
		known = append(known, row.Variables...)
	}
	var warnings []string
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		if !strings.HasPrefix(name, "TART_") || slices.Contains(known, name) {
			continue
		}
		text := fmt.Sprintf("variable %s is not a setting of this driver and has no effect", shorten(name))
		if near := nearest(name, known); near != "" {
			text += fmt.Sprintf("; did you mean %s?", near)
		}
		warnings = append(warnings, text)
	}
	return warnings
}

// nearest is the known name that takes the fewest edits to get to, if it is near at all.
func nearest(name string, known []string) string {
	best, most := "", len(name)/3
	for _, k := range known {
		if d := distance(name, k); d <= most {
			best, most = k, d-1
		}
	}
	return best
}

// distance is the number of single-byte insertions, deletions and replacements between a and b (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(diagonal+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
