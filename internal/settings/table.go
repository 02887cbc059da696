package settings

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Stage names, for the stages in whose --help a setting is shown. Every flag is taken by every stage, so that one list of arguments
// can serve all four.
const (
	StageConfig  = "config"
	StagePrepare = "prepare"
	StageRun     = "run"
	StageCleanup = "cleanup"
)

var allStages = []string{StageConfig, StagePrepare, StageRun, StageCleanup}

// Setting is a row of the table.
type Setting struct {
	// Name is the flag without dashes.
	Name string
	// Short is the one-letter flag, if any.
	Short string
	// Aliases are other names of the flag.
	Aliases []string
	// Variables are the job variables that set it, the first found counts. Without any, only the operator can set it.
	Variables []string
	// Default is the value where nobody sets one.
	Default string
	// Takes is what stands for the value in help; empty for a switch.
	Takes string
	// Stages are where --help shows it.
	Stages []string
	// List takes several values.
	List bool
	// Closed settings can be set by a job only where the operator opens them, with --unlock.
	Closed bool
	// Secret values are never shown.
	Secret bool
	// Help says what it is for.
	Help string

	// set stores a value, or says what it expects.
	set func(s *Settings, value string) (expected string)
	// bound says what the operator allows where a job's value is more than that.
	bound func(job, operator *Settings) (allowed string)
	// meanings translate the values of variables that other drivers have for this setting.
	meanings map[string]func(string) string
}

// IsSwitch tells whether the flag takes no value.
func (row Setting) IsSwitch() bool { return row.Takes == "" }

// PullPolicies are the values of the pull policy, as GitLab's Docker executor has them.
var PullPolicies = []string{"always", "if-not-present", "never"}

// Table returns all settings, in the order of the reference.
func Table() []Setting {
	return slices.Concat(hostSettings(), imageSettings(), machineSettings(), guestSettings())
}

func hostSettings() []Setting {
	prepare := []string{StagePrepare}
	return []Setting{
		{Name: "tart-executable", Short: "x", Default: "tart", Takes: "PATH", Stages: allStages,
			Help: "the tart executable; a bare name is looked up in PATH, /opt/homebrew/bin and /usr/local/bin",
			set:  text(func(s *Settings) *string { return &s.TartExecutable }, "the path of the tart executable")},
		{Name: "state-dir", Takes: "DIR", Stages: allStages,
			Help: "where records, slots and sockets are kept; the same for all stages and all runners of the host (default ~/.gitlab-runner-tart-driver)",
			set:  absolutePath(func(s *Settings) *string { return &s.StateDir })},
		{Name: "concurrency", Default: "1", Takes: "N", Stages: prepare,
			Help: "number of jobs at once among which --auto-resources divides the host",
			set:  number(func(s *Settings) *int { return &s.Concurrency }, 1, 64, "")},
		{Name: "max-vm-count", Default: "2", Takes: "N", Stages: prepare,
			Help: "number of VMs that may run at once; further jobs wait. --concurrency raises it where that is more. Apple allows two macOS guests a host",
			set:  number(func(s *Settings) *int { return &s.MaxVMs }, 1, 64, "")},
		{Name: "slot-timeout", Default: "3600", Takes: "SECONDS", Stages: prepare,
			Help: "how long a job waits for its turn when the host runs as many VMs as it may",
			set:  seconds(func(s *Settings) *time.Duration { return &s.SlotTimeout })},
		{Name: "lock", Takes: "SETTING", Stages: allStages, List: true,
			Help: "a setting that jobs may not set, whatever variable it has",
			set:  names(func(s *Settings) *[]string { return &s.Lock })},
		{Name: "unlock", Takes: "SETTING", Stages: allStages, List: true,
			Help: "a setting that jobs may set although it is closed to them by default",
			set:  names(func(s *Settings) *[]string { return &s.Unlock })},
	}
}

func imageSettings() []Setting {
	prepare := []string{StagePrepare}
	return []Setting{
		{Name: "default-image", Takes: "IMAGE", Stages: prepare,
			Help: "the image of jobs that name none",
			set:  text(func(s *Settings) *string { return &s.DefaultImage }, "an image reference")},
		{Name: "pull-policy", Variables: []string{"TART_PULL_POLICY"}, Default: "if-not-present", Takes: "POLICY", Stages: prepare,
			Help: "when to pull the image: " + strings.Join(PullPolicies, ", ") + "; several are tried in order",
			set:  policies(func(s *Settings) *[]string { return &s.PullPolicies })},
		{Name: "registry", Variables: []string{"TART_REGISTRY"}, Takes: "HOST", Stages: prepare,
			Help: "the registry that --registry-username and --registry-password are for",
			set:  text(func(s *Settings) *string { return &s.RegistryHost }, "a registry's host name")},
		{Name: "registry-username", Variables: []string{"TART_REGISTRY_USERNAME"}, Takes: "NAME", Stages: prepare,
			Help: "user name at the private registry",
			set:  text(func(s *Settings) *string { return &s.RegistryUsername }, "a user name")},
		{Name: "registry-password", Variables: []string{"TART_REGISTRY_PASSWORD"}, Takes: "PASSWORD", Stages: prepare, Secret: true,
			Help: "password at the private registry; as a flag it can be seen by every user of the host: prefer the variable",
			set:  text(func(s *Settings) *string { return &s.RegistryPassword }, "a password")},
		{Name: "insecure-pull", Variables: []string{"TART_EXECUTOR_INSECURE_PULL"}, Default: "false", Stages: prepare,
			Help: "speak plain HTTP to the registry",
			set:  toggle(func(s *Settings) *bool { return &s.InsecurePull })},
		{Name: "pull-concurrency", Variables: []string{"TART_EXECUTOR_PULL_CONCURRENCY"}, Default: "0", Takes: "N", Stages: prepare,
			Help: "layers to pull at once; 0 leaves it to tart",
			set:  number(func(s *Settings) *int { return &s.PullConcurrency }, 0, 64, "")},
	}
}

func machineSettings() []Setting {
	prepare := []string{StagePrepare}
	return []Setting{
		{Name: "cpu", Default: "0", Takes: "N", Stages: prepare,
			Help: "number of CPUs of the VM; 0 leaves it to --auto-resources, or else the image",
			set:  number(func(s *Settings) *int { return &s.CPU }, 0, 1024, "")},
		{Name: "memory", Default: "0", Takes: "MB", Stages: prepare,
			Help: "memory of the VM in megabytes; 0 leaves it to --auto-resources, or else the image",
			set:  number(func(s *Settings) *int { return &s.MemoryMB }, 0, 8<<20, " of megabytes")},
		{Name: "display", Variables: []string{"TART_EXECUTOR_DISPLAY"}, Default: "1920x1200", Takes: "WxH", Stages: prepare,
			Help: "display resolution of the VM, such as 1200x800",
			set:  matching(func(s *Settings) *string { return &s.Display }, `^[1-9][0-9]{0,4}x[1-9][0-9]{0,4}(pt|px)?$`, "a resolution such as 1920x1200")},
		{Name: "auto-resources", Default: "true", Stages: prepare,
			Help: "divide the host's CPUs and memory equally among --concurrency VMs",
			set:  toggle(func(s *Settings) *bool { return &s.AutoResources })},
		{Name: "mac", Default: "random", Takes: "random|image", Stages: prepare,
			Help: "the VM's MAC address: a new one for each VM, or the image's own",
			set:  oneOf(func(s *Settings) *string { return &s.MAC }, "random", "image")},
		{Name: "headless", Variables: []string{"TART_EXECUTOR_HEADLESS"}, Default: "true", Stages: prepare,
			Help: "open no window for the VM",
			set:  toggle(func(s *Settings) *bool { return &s.Headless })},
		{Name: "softnet", Variables: []string{"TART_EXECUTOR_SOFTNET_ENABLED", "TART_EXECUTOR_SOFTNET"}, Default: "false", Stages: prepare,
			Help: "use Softnet, which keeps VMs from each other and from the host, instead of shared (NAT) networking",
			set:  toggle(func(s *Settings) *bool { return &s.Softnet })},
		{Name: "vnc", Variables: []string{"TART_EXECUTOR_VNC_ENABLED"}, Default: "false", Stages: prepare,
			Help: "offer the VM's own screen sharing; Remote Login must be on in the VM",
			set:  toggle(func(s *Settings) *bool { return &s.VNC })},
		{Name: "timeout", Variables: []string{"TART_EXECUTOR_TIMEOUT"}, Default: "60", Takes: "SECONDS", Stages: []string{StagePrepare, StageRun},
			Help: "how long the VM may take to get an address, and then again to take an SSH login",
			set:  seconds(func(s *Settings) *time.Duration { return &s.Timeout })},
	}
}

func guestSettings() []Setting {
	both := []string{StagePrepare, StageRun}
	return []Setting{
		{Name: "default-ssh-user", Aliases: []string{"default-ssh-username"}, Variables: []string{"TART_SSH_USERNAME", "TART_EXECUTOR_SSH_USERNAME"},
			Default: "admin", Takes: "NAME", Stages: both,
			Help: "user name in the VM",
			set:  text(func(s *Settings) *string { return &s.SSHUsername }, "a user name")},
		{Name: "default-ssh-password", Variables: []string{"TART_SSH_PASSWORD", "TART_EXECUTOR_SSH_PASSWORD"},
			Default: "admin", Takes: "PASSWORD", Stages: both, Secret: true,
			Help: "password in the VM",
			set:  text(func(s *Settings) *string { return &s.SSHPassword }, "a password")},
		{Name: "ssh-port", Variables: []string{"TART_EXECUTOR_SSH_PORT"}, Default: "22", Takes: "PORT", Stages: both,
			Help: "port of the VM's SSH server",
			set:  number(func(s *Settings) *int { return &s.SSHPort }, 1, 65535, "")},
		{Name: "shell", Variables: []string{"TART_EXECUTOR_SHELL"}, Default: "/bin/zsh", Takes: "PATH", Stages: both,
			Help: "the shell that runs the job's scripts, as a login shell",
			set:  matching(func(s *Settings) *string { return &s.Shell }, `^[A-Za-z0-9_./][A-Za-z0-9_./+-]*$`, "the path of a shell, such as /bin/bash")},
		{Name: "guest-builds-dir", Default: "/opt/builds", Takes: "DIR", Stages: []string{StageConfig, StagePrepare},
			Help: "where jobs are checked out in the VM",
			set:  absolutePath(func(s *Settings) *string { return &s.GuestBuildsDir })},
		{Name: "guest-cache-dir", Default: "/opt/cache", Takes: "DIR", Stages: []string{StageConfig, StagePrepare},
			Help: "where caches are kept in the VM",
			set:  absolutePath(func(s *Settings) *string { return &s.GuestCacheDir })},
	}
}

// The setters below store a value or say what they expect.

func text(field func(*Settings) *string, what string) func(*Settings, string) string {
	return func(s *Settings, v string) string {
		if strings.ContainsAny(v, "\x00\n\r") {
			return what + " on one line"
		}
		*field(s) = v
		return ""
	}
}

func matching(field func(*Settings) *string, pattern, what string) func(*Settings, string) string {
	re := regexp.MustCompile(pattern)
	return func(s *Settings, v string) string {
		if !re.MatchString(v) {
			return what
		}
		*field(s) = v
		return ""
	}
}

func absolutePath(field func(*Settings) *string) func(*Settings, string) string {
	return matching(field, `^/[^\x00-\x1f]*$`, "an absolute path")
}

func oneOf(field func(*Settings) *string, values ...string) func(*Settings, string) string {
	return func(s *Settings, v string) string {
		if !slices.Contains(values, v) {
			return "one of " + strings.Join(values, ", ")
		}
		*field(s) = v
		return ""
	}
}

func number(field func(*Settings) *int, least, most int, unit string) func(*Settings, string) string {
	return func(s *Settings, v string) string {
		n, err := strconv.Atoi(strings.TrimSpace(v))
		if err != nil || n < least || n > most {
			return fmt.Sprintf("a whole number%s from %d to %d", unit, least, most)
		}
		*field(s) = n
		return ""
	}
}

func seconds(field func(*Settings) *time.Duration) func(*Settings, string) string {
	var n int
	check := number(func(*Settings) *int { return &n }, 1, 7*24*3600, " of seconds")
	return func(s *Settings, v string) string {
		if expected := check(s, v); expected != "" {
			return expected
		}
		*field(s) = time.Duration(n) * time.Second
		return ""
	}
}

// toggle takes what people type for yes and no.
func toggle(field func(*Settings) *bool) func(*Settings, string) string {
	return func(s *Settings, v string) string {
		switch strings.ToLower(strings.TrimSpace(v)) {
		case "true", "1", "yes", "on":
			*field(s) = true
		case "false", "0", "no", "off":
			*field(s) = false
		default:
			return "true or false (or 1, 0, yes, no, on, off)"
		}
		return ""
	}
}

// names takes the names of settings, separated by commas or spaces.
func names(field func(*Settings) *[]string) func(*Settings, string) string {
	return func(s *Settings, v string) string {
		*field(s) = items(v)
		return ""
	}
}

// items splits a list of words.
func items(v string) []string {
	return strings.FieldsFunc(v, func(r rune) bool { return r == ',' || unicode.IsSpace(r) })
}

// policies takes pull policies, separated by commas or spaces.
func policies(field func(*Settings) *[]string) func(*Settings, string) string {
	return func(s *Settings, v string) string {
		list := items(v)
		for _, p := range list {
			if !slices.Contains(PullPolicies, p) {
				list = nil
			}
		}
		if len(list) == 0 {
			return "one of " + strings.Join(PullPolicies, ", ") + ", or several of them separated by commas"
		}
		*field(s) = list
		return ""
	}
}
