package settings

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestPolicy(t *testing.T) {
	for name, c := range map[string]struct {
		flags, variables map[string]string
		refused          string // "" for allowed
	}{
		"locked":               {map[string]string{"lock": "shell"}, map[string]string{"TART_EXECUTOR_SHELL": "/bin/sh"}, "only the operator sets shell (flag --lock)"},
		"locked, the same":     {map[string]string{"lock": "shell", "shell": "/bin/sh"}, map[string]string{"TART_EXECUTOR_SHELL": "/bin/sh"}, ""},
		"another locked":       {map[string]string{"lock": "vnc,headless"}, map[string]string{"TART_EXECUTOR_SHELL": "/bin/sh"}, ""},
		"closed":               {nil, map[string]string{"TART_EXECUTOR_BRIDGED": "en0"}, "unless it is named with --unlock"},
		"closed, unlocked":     {map[string]string{"unlock": "bridged"}, map[string]string{"TART_EXECUTOR_BRIDGED": "en0"}, ""},
		"both":                 {map[string]string{"unlock": "bridged", "lock": "bridged"}, map[string]string{"TART_EXECUTOR_BRIDGED": "en0"}, "flag --lock"},
		"no bound":             {nil, map[string]string{"TART_EXECUTOR_CPU": "8"}, "the operator has set no --max-cpu"},
		"within the bound":     {map[string]string{"max-cpu": "8"}, map[string]string{"TART_EXECUTOR_CPU": "8"}, ""},
		"beyond the bound":     {map[string]string{"max-cpu": "8"}, map[string]string{"TART_EXECUTOR_CPU": "9"}, `"9" is not allowed on this runner: at most 8 (flag --max-cpu)`},
		"memory":               {map[string]string{"max-memory": "8192"}, map[string]string{"TART_EXECUTOR_MEMORY": "16384"}, "at most 8192"},
		"the key off":          {map[string]string{"ssh-key": "true"}, map[string]string{"TART_EXECUTOR_SSH_KEY": "0"}, "the operator has turned it on (flag --ssh-key)"},
		"Softnet off":          {map[string]string{"softnet": "true"}, map[string]string{"TART_EXECUTOR_SOFTNET": "0"}, "the operator has turned Softnet on (flag --softnet)"},
		"Softnet on":           {nil, map[string]string{"TART_EXECUTOR_SOFTNET": "1"}, ""},
		"plain HTTP":           {nil, map[string]string{"TART_EXECUTOR_INSECURE_PULL": "1"}, "unless it is named with --unlock"},
		"fewer VMs":            {nil, map[string]string{"TART_MAX_VM_COUNT": "1"}, ""},
		"more VMs":             {nil, map[string]string{"TART_MAX_VM_COUNT": "3"}, "at most 2 (the default of --max-vm-count)"},
		"held":                 {nil, map[string]string{"TART_HOLD_ON_FAILURE": "1h"}, ""},
		"held for longer":      {nil, map[string]string{"TART_HOLD_ON_FAILURE": "90m"}, `"90m" is not allowed on this runner: at most 1h (the default of --max-hold)`},
		"held, never":          {map[string]string{"max-hold": "0"}, map[string]string{"TART_HOLD_ON_FAILURE": "1s"}, "none at all (flag --max-hold)"},
		"held, not at all":     {map[string]string{"max-hold": "0"}, map[string]string{"TART_HOLD_ON_FAILURE": "0"}, ""},
		"held as all are":      {map[string]string{"hold-on-failure": "2h"}, map[string]string{"TART_HOLD_ON_FAILURE": "2h"}, ""},
		"pull policy":          {map[string]string{"allowed-pull-policy": "never\nif-not-present"}, map[string]string{"TART_PULL_POLICY": "never,always"}, "one of never, if-not-present (flag --allowed-pull-policy)"},
		"another driver's way": {map[string]string{"allowed-pull-policy": "never"}, map[string]string{"TART_EXECUTOR_ALWAYS_PULL": "true"}, `"always" is not allowed`},
	} {
		_, errs := Resolve(Sources{Flags: c.flags, Variables: c.variables, Defaults: map[string]string{"state-dir": "/s"}})
		policy := (*PolicyError)(nil)
		switch {
		case c.refused == "" && len(errs) > 0:
			t.Errorf("%s: %v", name, errs)
		case c.refused != "" && (len(errs) != 1 || !errors.As(errs[0], &policy) || !strings.Contains(policy.Error(), c.refused)):
			t.Errorf("%s: %v, want %q", name, errs, c.refused)
		}
	}
}

func TestUnknownNamesAreNotLocked(t *testing.T) {
	_, errs := Resolve(Sources{Flags: map[string]string{"lock": "shel", "unlock": "volume"}, Defaults: map[string]string{"state-dir": "/s"}})
	if len(errs) != 2 || !strings.Contains(errs[0].Error(), `flag --lock: "shel"`) || !strings.Contains(errs[1].Error(), `flag --unlock: "volume"`) {
		t.Errorf("errors: %v", errs)
	}
}

func TestOtherDriversVariables(t *testing.T) {
	s, errs := Resolve(Sources{Variables: map[string]string{
		"TART_EXECUTOR_ALWAYS_PULL": "1", "TART_EXECUTOR_RANDOM_MAC": "false", "TART_EXECUTOR_INSTALL_GITLAB_RUNNER": "18.5.0", "TART_EXECUTOR_SSH_USERNAME": "u",
	}, Defaults: map[string]string{"state-dir": "/s"}})
	if len(errs) > 0 || !slices.Equal(s.PullPolicies, []string{"always"}) || s.MAC != "image" || !s.InstallRunner || s.RunnerVersion != "18.5.0" || s.SSHUsername != "u" {
		t.Errorf("%+v %v", s, errs)
	}
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "driver.toml")
	content := "concurrency = 2\nauto-resources = false\nshell = '/bin/bash'\nvolume = ['/a b:/c', '/d:/e:ro']\npull-policy = ['always', 'never']\nlock = 'vnc'\n"
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s, errs := Resolve(Sources{File: file, FilePath: path, Flags: map[string]string{"concurrency": "3"}, Defaults: map[string]string{"state-dir": "/s"}})
	if len(errs) > 0 || s.Concurrency != 3 || s.AutoResources || s.Shell != "/bin/bash" || !slices.Equal(s.Volumes, []string{"/a b:/c", "/d:/e:ro"}) ||
		!slices.Equal(s.PullPolicies, []string{"always", "never"}) || !slices.Equal(s.Lock, []string{"vnc"}) {
		t.Errorf("%+v %v", s, errs)
	}
	if got := s.Origin("shell"); got != Origin("shell in "+path) {
		t.Errorf("origin: %q", got)
	}
}

func TestFaultyFiles(t *testing.T) {
	for content, want := range map[string]string{
		"shel = '/bin/sh'":          `"shel" is not a setting; did you mean "shell"?`,
		"shell = ":                  "line 1",
		"shell = ['/bin/sh']":       "shell: one value is expected",
		"volume = [1]":              "volume: a list of texts",
		"cpu = 1.5":                 "cpu: a text, a number",
		"[shell]\na = 1":            "shell: a text",
		"cpu = 1\ncpu = 2":          "line",
		"zzz = 1\nconcurency = '2'": `did you mean "concurrency"`,
	} {
		if _, err := parseFile([]byte(content)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", content, err, want)
		}
	}
}

func FuzzFile(f *testing.F) {
	f.Add([]byte("shell = '/bin/sh'\nvolume = ['a']"))
	f.Fuzz(func(_ *testing.T, raw []byte) {
		values, err := parseFile(raw)
		if err == nil {
			Resolve(Sources{File: values, Defaults: map[string]string{"state-dir": "/s"}})
		}
	})
}
