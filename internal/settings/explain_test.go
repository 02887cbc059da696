package settings

import (
	"errors"
	"testing"
)

func TestExplain(t *testing.T) {
	all, errs := Explain(Sources{
		Defaults: map[string]string{"state-dir": "/var/state"}, File: map[string]string{"display": "640x480", "timeout": "30"}, FilePath: "driver.toml",
		Flags:     map[string]string{"max-cpu": "8", "lock": "shell", "unlock": "bridged", "softnet": "true", "allowed-pull-policy": "never\nif-not-present", "registry-password": "hush", "tart-run-env": "A=hush\nB", "concurrency": "4"},
		Variables: map[string]string{"TART_EXECUTOR_CPU": "2", "TART_EXECUTOR_TIMEOUT": "90", "TART_EXECUTOR_MEMORY": "9000", "TART_EXECUTOR_RANDOM_MAC": "no"},
	})
	if len(errs) != 1 || !errors.As(errs[0], new(*PolicyError)) {
		t.Errorf("errors: %v, want one about memory", errs)
	}
	if len(all) != len(Table()) {
		t.Fatalf("%d settings", len(all))
	}
	got := map[string]Explained{}
	for _, e := range all {
		got[e.Setting.Name] = e
	}
	for name, want := range map[string]Explained{
		"state-dir":            {Value: "/var/state", IsSet: true, Origin: DefaultOrigin, Access: OperatorOnly},
		"display":              {Value: "640x480", IsSet: true, Origin: "display in driver.toml", Access: OpenToJobs},
		"timeout":              {Value: "90", IsSet: true, Origin: "variable TART_EXECUTOR_TIMEOUT", Access: OpenToJobs},
		"cpu":                  {Value: "2", IsSet: true, Origin: "variable TART_EXECUTOR_CPU", Access: OpenToJobs, Bound: "at most 8 (flag --max-cpu)"},
		"memory":               {Value: "0", IsSet: true, Origin: DefaultOrigin, Access: OpenToJobs, Bound: "the operator has set no --max-memory"},
		"max-vm-count":         {Value: "4", IsSet: true, Origin: "flag --concurrency", Access: OpenToJobs, Bound: "at most 4 (the default of --max-vm-count)"},
		"pull-policy":          {Value: "if-not-present", IsSet: true, Origin: DefaultOrigin, Access: OpenToJobs, Bound: "one of never, if-not-present (flag --allowed-pull-policy)"},
		"softnet":              {Value: "true", IsSet: true, Origin: "flag --softnet", Access: OpenToJobs, Bound: "the operator has turned Softnet on (flag --softnet)"},
		"mac":                  {Value: "image", IsSet: true, Origin: "variable TART_EXECUTOR_RANDOM_MAC", Access: OpenToJobs},
		"shell":                {Value: "/bin/zsh", IsSet: true, Origin: DefaultOrigin, Access: Locked, Bound: "flag --lock"},
		"bridged":              {Origin: DefaultOrigin, Access: OpenToJobs},
		"softnet-allow":        {Origin: DefaultOrigin, Access: ClosedToJobs, Bound: "--unlock softnet-allow opens it"},
		"registry-password":    {IsSet: true, Origin: "flag --registry-password", Access: OpenToJobs},
		"default-ssh-password": {IsSet: true, Origin: DefaultOrigin, Access: OpenToJobs},
		"tart-run-env":         {Value: "A=…\nB", IsSet: true, Origin: "flag --tart-run-env", Access: OperatorOnly},
	} {
		e := got[name]
		if e.Value != want.Value || e.IsSet != want.IsSet || e.Origin != want.Origin || e.Access != want.Access || e.Bound != want.Bound {
			t.Errorf("%s: value %q (set: %v) from %q, access %s, bound %q\nwant %q (%v) from %q, %s, %q",
				name, e.Value, e.IsSet, e.Origin, e.Access, e.Bound, want.Value, want.IsSet, want.Origin, want.Access, want.Bound)
		}
	}
}

// TestExplainKnowsEveryBound finds a bound wherever the table has one, for an operator who allows as little as possible.
func TestExplainKnowsEveryBound(t *testing.T) {
	all, errs := Explain(Sources{Defaults: map[string]string{"state-dir": "/var/state"}, Flags: map[string]string{"softnet": "true", "ssh-key": "true", "allowed-pull-policy": "never", "max-hold": "0"}})
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	for _, e := range all {
		if e.Setting.bound != nil && e.Access == OpenToJobs && e.Bound == "" {
			t.Errorf("%s has a bound, and it is not told", e.Setting.Name)
		}
	}
}
