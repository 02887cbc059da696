package settings

import (
	"regexp"
	"strings"
	"time"
)

// What most jobs have.
const (
	usualDisplay = "1920x1200"
	usualShell   = "/bin/zsh"
)

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
		{Name: "max-vm-count", Variables: []string{"TART_MAX_VM_COUNT"}, Default: "2", Takes: "N", Stages: prepare,
			Help:  "number of VMs that may run at once; further jobs wait. --concurrency raises the default where that is more. Apple allows two macOS guests a host. A job may only ask for fewer",
			set:   number(func(s *Settings) *int { return &s.MaxVMs }, 1, 64, ""),
			bound: atMost(func(s *Settings) int { return s.MaxVMs }, (*Settings).Slots, "max-vm-count")},
		{Name: "slot-timeout", Default: "3600", Takes: "SECONDS", Stages: prepare,
			Help: "how long a job waits for its turn when the host runs as many VMs as it may, in each of the three attempts that GitLab Runner makes",
			set:  seconds(func(s *Settings) *time.Duration { return &s.SlotTimeout })},
		{Name: "hold-on-failure", Variables: []string{"TART_HOLD_ON_FAILURE"}, Default: "0", Takes: "DURATION", Stages: prepare,
			Help:  "how long to keep the VM of a job that has failed, such as 30m, so that `ssh JOB` gets in; it goes earlier if a job needs its place. A job may ask for up to --max-hold",
			set:   duration(func(s *Settings) *time.Duration { return &s.HoldOnFailure }),
			bound: noLongerThan(func(s *Settings) time.Duration { return s.HoldOnFailure }, func(s *Settings) time.Duration { return s.MaxHold }, "max-hold")},
		{Name: "max-hold", Default: "1h", Takes: "DURATION", Stages: prepare,
			Help: "for how long a job may have its VM kept when it has failed; 0 lets jobs have none kept",
			set:  duration(func(s *Settings) *time.Duration { return &s.MaxHold })},
		{Name: "tart-run-env", Takes: "NAME[=VALUE]", Stages: prepare, List: true,
			Help: "an environment variable for `tart run`; without a value, the runner's own",
			set:  list(func(s *Settings) *[]string { return &s.TartRunEnv }, `^[A-Za-z_][A-Za-z0-9_]*(=.*)?$`, "NAME or NAME=VALUE")},
		{Name: "lock", Takes: "SETTING", Stages: allStages, List: true,
			Help: "a setting that jobs may not set, whatever variable it has",
			set:  names(func(s *Settings) *[]string { return &s.Lock })},
		{Name: "unlock", Takes: "SETTING", Stages: allStages, List: true,
			Help: "a setting that jobs may set although it is closed to them by default",
			set:  names(func(s *Settings) *[]string { return &s.Unlock })},
		{Name: "log-days", Default: "7", Takes: "DAYS", Stages: prepare,
			Help: "how long the logs of VMs that are gone are kept; 0 keeps none beyond the next job's start",
			set:  number(func(s *Settings) *int { return &s.LogDays }, 0, 3650, " of days")},
		{Name: "log-budget", Default: "100", Takes: "MB", Stages: prepare,
			Help: "disk space in MB for logs and events of jobs that are over, the oldest go first; 0 keeps none beyond the next job's start",
			set:  number(func(s *Settings) *int { return &s.LogBudgetMB }, 0, 1<<20, " of MB")},
	}
}

func imageSettings() []Setting {
	prepare := []string{StagePrepare}
	return []Setting{
		{Name: "default-image", Takes: "IMAGE", Stages: prepare,
			Help: "the image of jobs that name none",
			set:  text(func(s *Settings) *string { return &s.DefaultImage }, "an image reference")},
		{Name: "allow-image", Takes: "PATTERN", Stages: prepare, List: true,
			Help: "an image that jobs may use, such as ghcr.io/cirruslabs/*:*; ** stands for any number of path parts. Without any, all are allowed",
			set:  list(func(s *Settings) *[]string { return &s.AllowImages }, `^[^\s]+$`, "a pattern for image references")},
		{Name: "exclude-image-expr", Short: "e", Takes: "REGEX", Stages: prepare, List: true,
			Help: "a regular expression; images in whose name it is found are refused",
			set:  expressions(func(s *Settings) *[]*regexp.Regexp { return &s.ExcludeImages })},
		{Name: "pull-policy", Variables: []string{"TART_PULL_POLICY", "TART_EXECUTOR_ALWAYS_PULL"}, Default: "if-not-present", Takes: "POLICY", Stages: prepare,
			Help:     "when to pull the image: " + strings.Join(PullPolicies, ", ") + "; several are tried in order",
			set:      policies(func(s *Settings) *[]string { return &s.PullPolicies }),
			bound:    within(func(s *Settings) []string { return s.PullPolicies }, func(s *Settings) []string { return s.AllowedPullPolicies }, "allowed-pull-policy"),
			meanings: map[string]func(string) string{"TART_EXECUTOR_ALWAYS_PULL": either("always", "if-not-present")}},
		{Name: "allowed-pull-policy", Takes: "POLICY", Stages: prepare, List: true,
			Help: "a pull policy that jobs may ask for. Without any, all are allowed",
			set:  anyPolicies(func(s *Settings) *[]string { return &s.AllowedPullPolicies })},
		{Name: "registry", Variables: []string{"TART_REGISTRY", "TART_REGISTRY_HOSTNAME"}, Takes: "HOST", Stages: prepare,
			Help: "the registry that --registry-username and --registry-password are for",
			set:  text(func(s *Settings) *string { return &s.RegistryHost }, "a registry's host name")},
		{Name: "registry-username", Variables: []string{"TART_REGISTRY_USERNAME"}, Takes: "NAME", Stages: prepare,
			Help: "user name at the private registry",
			set:  text(func(s *Settings) *string { return &s.RegistryUsername }, "a user name")},
		{Name: "registry-password", Variables: []string{"TART_REGISTRY_PASSWORD"}, Takes: "PASSWORD", Stages: prepare, Secret: true,
			Help: "password at the private registry; as a flag it can be seen by every user of the host: prefer the variable",
			set:  text(func(s *Settings) *string { return &s.RegistryPassword }, "a password")},
		{Name: "insecure-pull", Variables: []string{"TART_EXECUTOR_INSECURE_PULL"}, Default: "false", Closed: true, Stages: prepare,
			Help: "speak plain HTTP to the registry",
			set:  toggle(func(s *Settings) *bool { return &s.InsecurePull })},
		{Name: "pull-concurrency", Variables: []string{"TART_EXECUTOR_PULL_CONCURRENCY"}, Default: "0", Takes: "N", Stages: prepare,
			Help: "layers to pull at once; 0 leaves it to tart",
			set:  number(func(s *Settings) *int { return &s.PullConcurrency }, 0, 255, "")},
		{Name: "auto-prune", Default: "false", Stages: prepare,
			Help: "let tart delete cached images by itself when the disk is nearly full, also those that another job is about to use",
			set:  toggle(func(s *Settings) *bool { return &s.AutoPrune })},
		{Name: "image-budget", Default: "0", Takes: "GB", Stages: prepare,
			Help: "disk space for cached images in GB; beyond, those used least recently go, never one that a job needs. 0 sets no limit",
			set:  number(func(s *Settings) *int { return &s.ImageBudgetGB }, 0, 1<<20, " of GB")},
		{Name: "disk-reserve", Default: "5", Takes: "GB", Stages: prepare,
			Help: "disk space in GB that must be free before an image is pulled or a VM is made",
			set:  number(func(s *Settings) *int { return &s.DiskReserveGB }, 0, 1<<20, " of GB")},
	}
}

func machineSettings() []Setting {
	prepare := []string{StagePrepare}
	return []Setting{
		{Name: "cpu", Variables: []string{"TART_EXECUTOR_CPU"}, Default: "0", Takes: "N", Stages: prepare,
			Help:  "number of CPUs of the VM; 0 or auto leaves it to --auto-resources, or else the image. A job may ask for up to --max-cpu",
			set:   numberOrAuto(func(s *Settings) *int { return &s.CPU }, 1024, ""),
			bound: atMost(func(s *Settings) int { return s.CPU }, func(s *Settings) int { return s.MaxCPU }, "max-cpu")},
		{Name: "memory", Variables: []string{"TART_EXECUTOR_MEMORY"}, Default: "0", Takes: "MB", Stages: prepare,
			Help:  "memory of the VM in megabytes; 0 or auto leaves it to --auto-resources, or else the image. A job may ask for up to --max-memory",
			set:   numberOrAuto(func(s *Settings) *int { return &s.MemoryMB }, 8<<20, " of megabytes"),
			bound: atMost(func(s *Settings) int { return s.MemoryMB }, func(s *Settings) int { return s.MaxMemoryMB }, "max-memory")},
		{Name: "max-cpu", Default: "0", Takes: "N", Stages: prepare,
			Help: "number of CPUs that a job may ask for; 0 lets jobs ask for none",
			set:  number(func(s *Settings) *int { return &s.MaxCPU }, 0, 1024, "")},
		{Name: "max-memory", Default: "0", Takes: "MB", Stages: prepare,
			Help: "memory in megabytes that a job may ask for; 0 lets jobs ask for none",
			set:  number(func(s *Settings) *int { return &s.MaxMemoryMB }, 0, 8<<20, " of megabytes")},
		{Name: "display", Variables: []string{"TART_EXECUTOR_DISPLAY"}, Default: usualDisplay, Takes: "WxH", Stages: prepare,
			Help: "display resolution of the VM, such as 1200x800",
			set:  matchingOr(usualDisplay, func(s *Settings) *string { return &s.Display }, `^[1-9][0-9]{0,4}x[1-9][0-9]{0,4}(pt|px)?$`, "a resolution such as 1920x1200")},
		{Name: "auto-resources", Default: "true", Stages: prepare,
			Help: "divide the host's CPUs and memory equally among --concurrency VMs",
			set:  toggle(func(s *Settings) *bool { return &s.AutoResources })},
		{Name: "mac", Variables: []string{"TART_EXECUTOR_RANDOM_MAC"}, Default: "random", Takes: "random|image", Stages: prepare,
			Help:     "the VM's MAC address: a new one for each VM, or the image's own",
			set:      oneOf(func(s *Settings) *string { return &s.MAC }, "random", "image"),
			meanings: map[string]func(string) string{"TART_EXECUTOR_RANDOM_MAC": either("random", "image")}},
		{Name: "headless", Variables: []string{"TART_EXECUTOR_HEADLESS"}, Default: "true", Stages: prepare,
			Help: "open no window for the VM",
			set:  toggle(func(s *Settings) *bool { return &s.Headless })},
		{Name: "softnet", Variables: []string{"TART_EXECUTOR_SOFTNET_ENABLED", "TART_EXECUTOR_SOFTNET"}, Default: "false", Stages: prepare,
			Help: "use Softnet, which keeps VMs from each other and from the host, instead of shared (NAT) networking",
			set:  toggle(func(s *Settings) *bool { return &s.Softnet }),
			bound: func(_, operator *Settings) string {
				if operator.Softnet {
					return "the operator has turned Softnet on (" + boundOrigin(operator, "softnet") + ")"
				}
				return ""
			}},
		{Name: "softnet-allow", Variables: []string{"TART_EXECUTOR_SOFTNET_ALLOW"}, Takes: "CIDR", Stages: prepare, List: true, Closed: true,
			Help: "a network that the VM may reach in spite of Softnet, such as 10.1.0.0/16; turns Softnet on",
			set:  networks(func(s *Settings) *[]string { return &s.SoftnetAllow })},
		{Name: "bridged", Variables: []string{"TART_EXECUTOR_BRIDGED"}, Takes: "INTERFACE", Stages: prepare, Closed: true,
			Help: "put the VM into the network of one of the host's interfaces, such as en0",
			set:  matchingOrEmpty(func(s *Settings) *string { return &s.Bridged }, `^[A-Za-z0-9][^\x00-\x1f]*$`, "the name of a network interface")},
		{Name: "ip-resolver", Default: "auto", Takes: "auto|dhcp|arp|agent", Stages: prepare,
			Help: "how tart finds the VM's address; auto is arp for bridged networks and dhcp for others",
			set:  oneOf(func(s *Settings) *string { return &s.IPResolver }, "auto", "dhcp", "arp", "agent")},
		{Name: "root-disk-opts", Variables: []string{"TART_EXECUTOR_ROOT_DISK_OPTS"}, Default: "sync=none,caching=cached", Takes: "OPTIONS", Stages: prepare,
			Help: "options of `tart run --root-disk-opts`; the default is fast, and a throw-away disk needs no more",
			set:  matchingOrEmpty(func(s *Settings) *string { return &s.RootDiskOpts }, `^[a-z=,]+$`, "options such as sync=none,caching=cached")},
		{Name: "disk", Takes: "PATH[:OPTIONS]", Stages: prepare, List: true,
			Help: "a further disk for the VM, as `tart run --disk` takes it",
			set:  list(func(s *Settings) *[]string { return &s.Disks }, `^[^-].*$`, "PATH or PATH:OPTIONS")},
		{Name: "nested", Default: "false", Stages: prepare,
			Help: "allow virtual machines inside a Linux VM; needs an M3 or later, and macOS 15",
			set:  toggle(func(s *Settings) *bool { return &s.Nested })},
		{Name: "vnc", Variables: []string{"TART_EXECUTOR_VNC_ENABLED"}, Default: "false", Stages: prepare,
			Help: "offer the VM's own screen sharing; Remote Login must be on in the VM",
			set:  toggle(func(s *Settings) *bool { return &s.VNC })},
		{Name: "timeout", Variables: []string{"TART_EXECUTOR_TIMEOUT"}, Default: "60", Takes: "SECONDS", Stages: []string{StagePrepare, StageRun},
			Help: "how long the VM may take to get an address, and then again to take an SSH login",
			set:  seconds(func(s *Settings) *time.Duration { return &s.Timeout })},
	}
}

func guestSettings() []Setting {
	prepare := []string{StagePrepare}
	return []Setting{
		{Name: "default-ssh-user", Aliases: []string{"default-ssh-username"}, Variables: []string{"TART_SSH_USERNAME", "TART_EXECUTOR_SSH_USERNAME"},
			Default: "admin", Takes: "NAME", Stages: prepare,
			Help: "user name in the VM",
			set:  text(func(s *Settings) *string { return &s.SSHUsername }, "a user name")},
		{Name: "default-ssh-password", Variables: []string{"TART_SSH_PASSWORD", "TART_EXECUTOR_SSH_PASSWORD"},
			Default: "admin", Takes: "PASSWORD", Stages: prepare, Secret: true,
			Help: "password in the VM",
			set:  text(func(s *Settings) *string { return &s.SSHPassword }, "a password")},
		{Name: "ssh-port", Variables: []string{"TART_EXECUTOR_SSH_PORT"}, Default: "22", Takes: "PORT", Stages: prepare,
			Help: "port of the VM's SSH server",
			set:  number(func(s *Settings) *int { return &s.SSHPort }, 1, 65535, "")},
		{Name: "ssh-key", Variables: []string{"TART_EXECUTOR_SSH_KEY"}, Default: "false", Stages: prepare,
			Help: "after the first login, have the VM's SSH server take a key of this job alone, and no password: other VMs and users of the host know the images' passwords. " +
				"The image's user needs sudo without a password",
			set: toggle(func(s *Settings) *bool { return &s.SSHKey }),
			bound: func(_, operator *Settings) string {
				if operator.SSHKey {
					return "the operator has turned it on (" + boundOrigin(operator, "ssh-key") + ")"
				}
				return ""
			}},
		{Name: "shell", Variables: []string{"TART_EXECUTOR_SHELL"}, Default: usualShell, Takes: "PATH", Stages: []string{StagePrepare, StageRun},
			Help:     "the shell that runs the job's scripts, as a login shell",
			set:      matchingOr(usualShell, func(s *Settings) *string { return &s.Shell }, `^[A-Za-z0-9_./][A-Za-z0-9_./+-]*$`, "the path of a shell, such as /bin/bash"),
			meanings: map[string]func(string) string{"TART_EXECUTOR_SHELL": withoutLogin}},
		{Name: "timezone", Variables: []string{"TART_EXECUTOR_TIMEZONE"}, Takes: "ZONE", Stages: prepare,
			Help: "the VM's time zone, such as Europe/Berlin, or auto for the host's; the image's own where it is not set",
			set:  matchingOrEmpty(func(s *Settings) *string { return &s.Timezone }, `^[A-Za-z0-9][A-Za-z0-9_/+-]*$`, "a time zone such as Europe/Berlin, or auto")},
		{Name: "transport", Variables: []string{"TART_EXECUTOR_TRANSPORT"}, Default: "ssh", Takes: "ssh|agent|auto", Stages: prepare,
			Help: "how to reach the VM: by SSH, by Tart's guest agent (tart exec), which needs no network and no password, or by whichever is ready first",
			set:  oneOf(func(s *Settings) *string { return &s.Transport }, "ssh", "agent", "auto")},
		{Name: "install-gitlab-runner", Variables: []string{"TART_EXECUTOR_INSTALL_GITLAB_RUNNER"}, Default: "false", Stages: prepare,
			Help: "install GitLab Runner into the VM where it is missing, which artifacts and caches need. The variable also takes curl, wget, brew or a version",
			set:  installMethod},
		{Name: "force-install-gitlab-runner", Default: "false", Stages: prepare,
			Help: "install GitLab Runner even where the VM has one",
			set:  toggle(func(s *Settings) *bool { return &s.ForceInstallRunner })},
		{Name: "gitlab-runner-version", Takes: "VERSION", Stages: prepare,
			Help: "the version of GitLab Runner to install, such as 18.5.0",
			set:  matchingOrEmpty(func(s *Settings) *string { return &s.RunnerVersion }, `^(latest|v?[0-9]+\.[0-9]+\.[0-9]+)$`, "a version such as 18.5.0, or latest")},
		{Name: "volume", Takes: "HOST:VM[:ro]", Stages: prepare, List: true,
			Help: "a directory of the host that the VM has at a path of its own",
			set:  list(func(s *Settings) *[]string { return &s.Volumes }, `^[^-].*:/.*$`, "HOST:VM or HOST:VM:ro, with an absolute path in the VM")},
		{Name: "dir", Takes: "[NAME:]PATH[:OPTIONS]", Stages: prepare, List: true,
			Help: "a directory of the host as `tart run --dir` takes it; --volume also gives it a path in the VM",
			set:  list(func(s *Settings) *[]string { return &s.Dirs }, `^[^-].*$`, "[NAME:]PATH[:OPTIONS]")},
		{Name: "builds-dir", Takes: "DIR", Stages: []string{StageConfig, StagePrepare},
			Help: "a directory of the host for the builds of all jobs: the next job of a project on the same place finds the last one's checkout",
			set:  hostPath(func(s *Settings) *string { return &s.BuildsDir })},
		{Name: "cache-dir", Takes: "DIR", Stages: []string{StageConfig, StagePrepare},
			Help: "a directory of the host for the caches of all jobs",
			set:  hostPath(func(s *Settings) *string { return &s.CacheDir })},
		{Name: "host-dir", Variables: []string{"TART_EXECUTOR_HOST_DIR"}, Default: "false", Closed: true, Stages: []string{StageConfig, StagePrepare},
			Help: "keep the job's builds in a directory of the host that lives as long as the job, which spares the VM's disk",
			set:  toggle(func(s *Settings) *bool { return &s.HostDir })},
		{Name: "guest-builds-dir", Default: "/opt/builds", Takes: "DIR", Stages: []string{StageConfig, StagePrepare},
			Help: "where jobs are checked out in the VM",
			set:  absolutePath(func(s *Settings) *string { return &s.GuestBuildsDir })},
		{Name: "guest-cache-dir", Default: "/opt/cache", Takes: "DIR", Stages: []string{StageConfig, StagePrepare},
			Help: "where caches are kept in the VM",
			set:  absolutePath(func(s *Settings) *string { return &s.GuestCacheDir })},
	}
}
