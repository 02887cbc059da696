package e2e

import (
	"strings"
	"syscall"
	"testing"

	"gitlab-runner-tart-driver/internal/trial"
)

// Who is to blame for the end of a job, in GitLab's words, and how often prepare is tried.
const (
	well   = "" // nobody
	script = "script"
	// setup: the job or a setting asks for what can't be. Prepare fails once, as a build failure: another attempt would not help.
	setup = "setup"
	// host: the host, the network, Tart or the VM. Prepare is tried three times; a script whose VM is lost ends at once.
	host   = "host"
	user   = "user" // Cancel in GitLab
	timing = "time" // the job's timeout
)

// ending is a way in which a job can end.
type ending struct {
	flags, vars []string
	image       string
	faults      string // of the stand-in, with a comma between
	script      string
	// once does something when a stage has printed a text, by default "started" in the job's script.
	stage, text string
	once        func(*mac, *trial.Trial, trial.Process)
	// code is what BUILD_EXIT_CODE_FILE tells.
	code int
	says string
}

// started runs until something ends it.
const started = "echo started; sleep 300"

func lose(how string) func(*mac, *trial.Trial, trial.Process) {
	return func(h *mac, _ *trial.Trial, _ trial.Process) { h.sim(how, h.theVM()) }
}

// endings are all of them, by whom they are blamed on. What a stage exits with follows from that: 0 for well, BUILD_FAILURE_EXIT_CODE for script
// and setup, SYSTEM_FAILURE_EXIT_CODE for the rest.
var endings = map[string]map[string]ending{
	well: {
		"the script ends well":            {script: "exit 0"},
		"the image is pulled":             {image: public},
		"a variable is misspelled":        {vars: []string{"TART_EXECUTOR_SHEL", "x"}, says: "did you mean TART_EXECUTOR_SHELL?"},
		"Apple's limit passes":            {faults: "vm-limit --times 2", says: "trying again"},
		"tart's clone loses a race":       {faults: "clone-gc-race --times 1"},
		"tart's list fails once":          {image: public, faults: "exits --command list --times 1"},
		"a stale lease is in the table":   {faults: "stale-lease"},
		"the lease file is torn at first": {faults: "leases-garbage --times 1"},
	},
	script: {
		"the script fails":                 {script: "exit 42", code: 42},
		"a command of it fails":            {script: "false", code: 1},
		"a command is missing":             {script: "no-such-command", code: 127},
		"a signal ends it":                 {script: "kill -KILL $$", code: 137},
		"it exits like a system failure":   {script: "exit 2", code: 2},
		"it speaks like tart":              {script: `echo 'VM "x" is not running' >&2; exit 2`, code: 2},
		"it fills the VM's output, fails":  {script: "head -c 3000000 /dev/zero | tr '\\0' x; exit 3", code: 3},
		"it ends its own process group":    {script: "kill -KILL 0", code: 137},
		"it leaves something behind":       {script: "sleep 300 & exit 4", code: 4},
		"it closes its output, then fails": {script: "exec >&- 2>&-; exit 5", code: 5},
	},
	setup: {
		"no such VM":            {image: "nope", says: `image "nope": no VM of this name`},
		"no such image":         {image: "registry.test/macos/nope", says: `image "registry.test/macos/nope:latest" does not exist`},
		"never pull":            {image: "registry.test/macos/nope", vars: []string{"TART_PULL_POLICY", "never"}, says: "its pull policy is never"},
		"no image reference":    {image: "-x", says: "not an image reference"},
		"image is not allowed":  {flags: []string{"--allow-image", "other"}, says: `image "base" is not allowed on this runner`},
		"value of a variable":   {vars: []string{"TART_PULL_POLICY", "sometimes"}, says: `variable TART_PULL_POLICY: "sometimes": expected`},
		"variable is locked":    {flags: []string{"--lock", "display"}, vars: []string{"TART_EXECUTOR_DISPLAY", "1x1"}, says: "only the operator sets display (flag --lock)"},
		"too many CPUs":         {flags: []string{"--max-cpu", "4"}, vars: []string{"TART_EXECUTOR_CPU", "8"}, says: "not allowed on this runner: at most 4"},
		"too few CPUs":          {flags: []string{"--cpu", "1"}, says: "VM should have 4 CPU cores at minimum"},
		"value of a flag":       {flags: []string{"--cpu", "many"}, says: `flag --cpu: "many": expected a whole number`},
		"flag that is none":     {flags: []string{"--no-such-flag"}, says: "unknown flag: --no-such-flag"},
		"share that is missing": {flags: []string{"--volume", "/nowhere:/data"}, says: "/nowhere"},
		"login is refused":      {vars: []string{"TART_SSH_PASSWORD", "wrong"}, says: `login refused as user "admin"`},
		"time zone":             {vars: []string{"TART_EXECUTOR_TIMEZONE", "Europe/Atlantis"}, says: "the VM does not know the time zone"},
	},
	host: {
		"tart is missing":         {flags: []string{"-x", "/nowhere/tart"}, says: "tart executable not found"},
		"tart's list fails":       {image: public, faults: "exits --command list --text broken", says: "list VMs and images: tart list: broken"},
		"tart's list is garbage":  {image: public, faults: "list-garbage", says: "its JSON is not understood"},
		"clone fails":             {faults: "exits --command clone --text broken", says: `clone image "base": tart clone: broken`},
		"clone fills the disk":    {faults: "clone-enospc", says: "the host's disk is full"},
		"set fails":               {faults: "exits --command set --text broken", says: "set up the VM: tart set: broken"},
		"run fails":               {faults: "start-failure", says: "VZErrorDomain"},
		"keychain is locked":      {faults: "keychain-locked", says: "unlocked login keychain"},
		"Apple's limit stays":     {faults: "vm-limit", flags: []string{"--slot-timeout", "1"}, says: "hint: Apple allows two"},
		"no address":              {faults: "never-gets-address", flags: []string{"--timeout", "2"}, says: "the VM got no IP address within 2s"},
		"no SSH port":             {faults: "sshd-never", flags: []string{"--timeout", "10"}, says: "its SSH port cannot be reached within 10s"},
		"no SSH server":           {faults: "sshd-drops", flags: []string{"--timeout", "10"}, says: "no SSH server answers within 10s"},
		"no agent":                {faults: "agent-down", flags: []string{"--timeout", "2", "--transport", "agent"}, says: "guest agent does not answer within 2s"},
		"VM ends while it boots":  {faults: "never-gets-address, dies-after 100ms killed", says: "the VM ended while it started"},
		"VM powers off":           {script: started, once: lose("poweroff"), says: "guest has stopped the virtual machine"},
		"VM crashes":              {script: started, once: lose("crash"), says: "stopped the virtual machine due to error"},
		"VM is killed":            {script: started, once: lose("kill"), says: "SIGKILL"},
		"VM loses its network":    {script: started, once: lose("disconnect"), says: "network attachment"},
		"keeper is killed":        {script: started, once: func(h *mac, _ *trial.Trial, _ trial.Process) { h.killKeeper() }, says: "keeper"},
		"SSH server is killed":    {script: "echo started; sleep 1; sudo -n pkill -KILL sshd; sleep 300", flags: []string{"--timeout", "20"}, says: "perhaps the script stopped its SSH server"},
		"run is killed":           {script: started, once: func(_ *mac, _ *trial.Trial, p trial.Process) { _ = syscall.Kill(p.PID, syscall.SIGKILL) }},
		"registry is down":        {image: "down.test/macos/base", says: "down.test/macos/base"},
		"state directory is none": {flags: []string{"--state-dir", "/dev/null"}, says: "state directory cannot be used"},
	},
	user: {
		"cancel in prepare":    {stage: "prepare", text: "address is", once: func(_ *mac, tr *trial.Trial, _ trial.Process) { tr.Cancel() }},
		"cancel in the script": {script: started, once: func(_ *mac, tr *trial.Trial, _ trial.Process) { tr.Cancel() }},
		"abort in the script":  {script: started, once: func(_ *mac, tr *trial.Trial, _ trial.Process) { tr.Abort() }},
	},
	timing: {
		"timeout in the script": {script: started, once: func(_ *mac, tr *trial.Trial, _ trial.Process) { tr.Expire() }},
	},
}

// TestEveryEnding is the matrix of invariant 8: every way in which a job can end, and what GitLab is told of it.
func TestEveryEnding(t *testing.T) {
	t.Parallel()
	for blame, rows := range endings {
		for name, e := range rows {
			t.Run(strings.TrimSpace(blame+" "+name), func(t *testing.T) {
				t.Parallel()
				newMac(t).end(blame, e)
			})
		}
	}
}

func (h *mac) end(blame string, e ending) {
	t := h.t
	t.Helper()
	for fault := range strings.SplitSeq(e.faults, ", ") {
		if fault != "" {
			h.sim(append([]string{"fault", "set"}, strings.Fields(fault)...)...)
		}
	}
	if e.script == "" {
		e.script = "echo it runs"
	}
	if e.stage == "" {
		e.stage, e.text = "build_script", "started\n"
	}
	j := job(e.script)
	if e.image != "" {
		j.Image.Name = e.image
	}
	j.Variables = variables(e.vars...)
	r := h.run(j, func(o *trial.Options) {
		o.Driver.Prepare.Args = append(o.Driver.Prepare.Args, e.flags...)
		if e.once != nil {
			when(e.stage, e.text, func(tr *trial.Trial, p trial.Process) { e.once(h, tr, p) })(o)
		}
	})
	scriptRan := e.script != "echo it runs"
	switch blame {
	case well:
		want(t, r, trial.Success, "", 0)
	case script:
		want(t, r, trial.Failed, trial.ScriptFailure, e.code)
	case setup:
		want(t, r, trial.Failed, trial.ScriptFailure, 1)
	case host:
		want(t, r, trial.Failed, trial.RunnerSystemFailure, 0)
	case user:
		want(t, r, trial.Canceled, trial.JobCanceled, 0)
	case timing:
		want(t, r, trial.Failed, trial.JobExecutionTimeout, 0)
	}
	attempts := 1
	if blame == host && !scriptRan {
		attempts = 3
	}
	if r.PrepareAttempts != attempts {
		t.Errorf("%d attempts at prepare, want %d", r.PrepareAttempts, attempts)
	}
	says(t, r, e.says)
	if log := string(r.Log); blame == host && !scriptRan && strings.Count(log, "error: ") != 3 {
		t.Errorf("not one error for each attempt: %s", log)
	}
	h.assertClean()
}
