package settings

import (
	"path"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// resolveFlag resolves one flag, and says what was expected where the value is not taken.
func resolveFlag(name, value string) (*Settings, bool) {
	s, errs := Resolve(Sources{Flags: map[string]string{name: value}, Defaults: hostDefaults})
	return s, len(errs) == 0
}

func TestSwitches(t *testing.T) {
	for value, want := range map[string]bool{
		"true": true, "1": true, "t": true, "y": true, "f": false, "n": false, "yes": true, "on": true, "TRUE": true, "Yes": true, " on ": true, "oN\n": true,
		"false": false, "0": false, "no": false, "off": false, "False": false, "NO": false, "\toff": false,
	} {
		if s, ok := resolveFlag("softnet", value); !ok || s.Softnet != want {
			t.Errorf("%q: taken %v, %v", value, ok, s.Softnet)
		}
	}
	for _, value := range []string{"", " ", "2", "-1", "00", "enabled", "true false", "ja", "10", "ｔｒｕｅ", "true\x00"} {
		if _, ok := resolveFlag("softnet", value); ok {
			t.Errorf("%q is taken", value)
		}
	}
}

func TestNumbers(t *testing.T) {
	for _, c := range []struct {
		flag, value string
		want        any
		of          func(*Settings) any
	}{
		{"cpu", "0", 0, func(s *Settings) any { return s.CPU }},
		{"cpu", " 16\n", 16, func(s *Settings) any { return s.CPU }},
		{"cpu", "auto", 0, func(s *Settings) any { return s.CPU }},
		{"memory", "auto", 0, func(s *Settings) any { return s.MemoryMB }},
		{"memory", "8192", 8192, func(s *Settings) any { return s.MemoryMB }},
		{"ssh-port", "65535", 65535, func(s *Settings) any { return s.SSHPort }},
		{"timeout", "1", time.Second, func(s *Settings) any { return s.Timeout }},
		{"timeout", "604800", 7 * 24 * time.Hour, func(s *Settings) any { return s.Timeout }},
		{"slot-timeout", "90", 90 * time.Second, func(s *Settings) any { return s.SlotTimeout }},
		{"pull-concurrency", "255", 255, func(s *Settings) any { return s.PullConcurrency }},
	} {
		if s, ok := resolveFlag(c.flag, c.value); !ok || c.of(s) != c.want {
			t.Errorf("--%s %q: taken %v, %v, want %v", c.flag, c.value, ok, c.of(s), c.want)
		}
	}
	for flag, faulty := range map[string][]string{
		"cpu":              {"", "-1", "1025", "four", "4.0", "0x4", "1e3", "4 cores", "99999999999999999999", "４", "Auto", "auto 4"},
		"memory":           {"-1", "8G", "8388609"},
		"ssh-port":         {"0", "65536", "-22"},
		"timeout":          {"0", "-5", "604801", "1m", "9223372036854775807"},
		"concurrency":      {"0", "65"},
		"pull-concurrency": {"-1", "256", "auto"},
	} {
		for _, value := range faulty {
			if _, ok := resolveFlag(flag, value); ok {
				t.Errorf("--%s %q is taken", flag, value)
			}
		}
	}
}

func TestTexts(t *testing.T) {
	for flag, good := range map[string][]string{
		"shell":            {"/bin/zsh", "bash", "/opt/homebrew/bin/fish", "/usr/bin/python3.12", "./x", "_x", "/a+b/c-d"},
		"display":          {"1x1", "1920x1200", "99999x99999", "1024x768pt", "1024x768px"},
		"guest-builds-dir": {"/", "/opt/builds", "/Users/admin/My Builds", "/ünïcode"},
		"state-dir":        {"/Users/ci/.driver"},
		"pull-policy":      {"always", "never", "if-not-present", "always,if-not-present", "always if-not-present", " never ,always, "},
		"mac":              {"random", "image"},
	} {
		for _, value := range good {
			if _, ok := resolveFlag(flag, value); !ok {
				t.Errorf("--%s %q is not taken", flag, value)
			}
		}
	}
	for flag, faulty := range map[string][]string{
		"shell": {"", "-c", "--", "-/bin/sh", "/bin/sh -c", "/bin/sh;x", "$(x)", "`x`", "a'b", "a\nb", "/bin/zsh\n", "~/x", "a\\b", "é", "\x00"},
		"display": {"", "x", "1920", "1920x", "0x1200", "1920x0", "01x1", "1920X1200", "1920x1200 ", "1920x1200pt px", "100000x1", "-1x1",
			"1920x1200\n", "1920x1200cm"},
		"guest-builds-dir": {"", "opt", "~/x", "./x", "/a\nb", "/a\x00", "/a\x1b[1m", "/a\tb", " /a", "-/a"},
		"pull-policy":      {"", ",", " ", "Always", "always,sometimes", "always;never"},
		"mac":              {"", "Random", "slot,image", "00:11:22:33:44:55"},
		"default-ssh-user": {"a\nb", "a\rb", "a\x00b"},
	} {
		for _, value := range faulty {
			if _, ok := resolveFlag(flag, value); ok {
				t.Errorf("--%s %q is taken", flag, value)
			}
		}
	}
	if s, _ := resolveFlag("pull-policy", "always, never"); !slices.Equal(s.PullPolicies, []string{"always", "never"}) {
		t.Errorf("the order of pull policies is %q", s.PullPolicies)
	}
	for written, want := range map[string]string{"$HOME": "~", "${HOME}/b": "~/b", "$HOME/$x": "~/$x", "~/b": "~/b", "/b": "/b", "": ""} {
		if s, ok := resolveFlag("builds-dir", written); !ok || s.BuildsDir != want {
			t.Errorf("--builds-dir %q became %q", written, s.BuildsDir)
		}
	}
	for _, faulty := range []string{"$HOMES", "$HOME2/b", "b/$HOME", "$TMPDIR/b", "${HOME"} {
		if _, ok := resolveFlag("builds-dir", faulty); ok {
			t.Errorf("--builds-dir %q is taken", faulty)
		}
	}
	if s, _ := resolveFlag("registry-password", " p ss' \"$`\\ "); s.RegistryPassword != " p ss' \"$`\\ " {
		t.Errorf("a password became %q", s.RegistryPassword)
	}
}

// FuzzValues gives one value to every setting.
func FuzzValues(f *testing.F) {
	for _, v := range append(slices.Clone(values), "", "-x", "a\nb", "\x00", "/\x1b[2J", "9223372036854775808", "always,never", "é") {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, value string) {
		for _, row := range Table() {
			s := &Settings{}
			if expected := row.set(s, value); expected != "" {
				if !reflect.DeepEqual(s, &Settings{}) {
					t.Errorf("--%s refuses %q, and yet takes it", row.Name, value)
				}
				if strings.ContainsAny(expected, "\n\x00") || row.Secret && len(value) > 3 && strings.Contains(expected, value) {
					t.Errorf("--%s: %q is expected", row.Name, expected)
				}
				continue
			}
			again := &Settings{}
			if row.set(again, value) != "" || !reflect.DeepEqual(s, again) {
				t.Errorf("--%s takes %q differently the second time", row.Name, value)
			}
			checkTexts(t, row, value, s)
			if s.Timeout < 0 || s.SlotTimeout < 0 || s.CPU < 0 || s.MemoryMB < 0 || s.SSHPort < 0 || s.SSHPort > 65535 {
				t.Errorf("--%s %q: %+v", row.Name, value, s)
			}
		}
	})
}

// checkTexts looks at all texts that a value became.
func checkTexts(t *testing.T, row Setting, value string, s *Settings) {
	t.Helper()
	fields := reflect.ValueOf(*s)
	for i := range fields.NumField() {
		if fields.Field(i).Kind() != reflect.String {
			continue
		}
		text := fields.Field(i).String()
		if text == "" {
			continue
		}
		if text != value && text != path.Clean(value) {
			t.Errorf("--%s %q became %q", row.Name, value, text)
		}
		if strings.ContainsAny(text, "\x00\r\n") {
			t.Errorf("--%s takes %q", row.Name, value)
		}
	}
	for what, dir := range map[string]string{"state-dir": s.StateDir, "guest-builds-dir": s.GuestBuildsDir, "guest-cache-dir": s.GuestCacheDir} {
		if dir != "" && (dir[0] != '/' || strings.ContainsFunc(dir, func(r rune) bool { return r < ' ' })) {
			t.Errorf("--%s takes the path %q", what, dir)
		}
	}
	if s.Shell != "" && (s.Shell[0] == '-' || strings.ContainsAny(s.Shell, " '\"$`\\;&|<>()!*?~")) {
		t.Errorf("--shell takes %q", s.Shell)
	}
}

// TestShellsOfGitlabTartExecutor takes what its README has for TART_EXECUTOR_SHELL.
func TestShellsOfGitlabTartExecutor(t *testing.T) {
	for value, want := range map[string]string{"bash -l": "bash", "/bin/zsh  --login ": "/bin/zsh", "/bin/bash": "/bin/bash", "bash -x": "", "bash -l -x": "", "-l": "", " -l": ""} {
		s, errs := Resolve(Sources{Variables: map[string]string{"TART_EXECUTOR_SHELL": value}, Defaults: hostDefaults})
		if want == "" {
			if len(errs) != 1 {
				t.Errorf("%q is taken for %q", value, s.Shell)
			}
			continue
		}
		if len(errs) > 0 || s.Shell != want {
			t.Errorf("%q is %q (%v), want %q", value, s.Shell, errs, want)
		}
	}
}

// TestDirectoriesAreCleaned has one spelling for each directory: what is compared with others is, and gets into paths.
func TestDirectoriesAreCleaned(t *testing.T) {
	for value, want := range map[string]string{"/opt/builds/": "/opt/builds", "/opt//builds": "/opt/builds", "/opt/./x/../builds": "/opt/builds", "/": "/", "/My Builds": "/My Builds"} {
		if s, ok := resolveFlag("guest-builds-dir", value); !ok || s.GuestBuildsDir != want {
			t.Errorf("%q: taken %v, as %q, want %q", value, ok, s.GuestBuildsDir, want)
		}
	}
}
