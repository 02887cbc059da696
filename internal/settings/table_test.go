package settings

import (
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
)

// values are tried on every row: each row must take two of them, or one besides its default, or this list needs another.
var values = []string{"true", "false", "7", "8", "/a", "/b", "always", "never", "9", "800x600", "640x480", "random", "image", "10.1.0.0/16", "10.2.0.0/16", "dhcp", "arp", "agent", "/a:/b", "/c:/d", "18.5.0", "1.2.3", "one", "two", "vnc", "headless", "20m", "45m"}

// hostDefaults are what the command line fills in because it depends on the host, and a policy that lets jobs set all they can.
var hostDefaults = map[string]string{"state-dir": "/var/state", "unlock": "bridged,softnet-allow,host-dir,insecure-pull", "max-cpu": "1024", "max-memory": "8000", "concurrency": "64"}

// settingsOf are the resolved values without their origins, to be compared.
func settingsOf(s *Settings) Settings {
	bare := *s
	bare.origins = nil
	return bare
}

func mustResolve(t *testing.T, src Sources) *Settings {
	t.Helper()
	if src.Defaults == nil {
		src.Defaults = hostDefaults
	}
	s, errs := Resolve(src)
	if len(errs) > 0 {
		t.Fatalf("%+v: %v", src, errs)
	}
	return s
}

// taken are two values of a row that lead to different settings, the first of them not the default.
func taken(t *testing.T, row Setting) (a, b string) {
	t.Helper()
	standard := settingsOf(mustResolve(t, Sources{}))
	var found []string
	seen := []Settings{standard}
	for _, v := range values {
		s, errs := Resolve(Sources{Flags: map[string]string{row.Name: v}, Defaults: hostDefaults})
		if len(errs) > 0 || slices.ContainsFunc(seen, func(o Settings) bool { return reflect.DeepEqual(o, settingsOf(s)) }) {
			continue
		}
		seen = append(seen, settingsOf(s))
		found = append(found, v)
	}
	switch {
	case len(found) >= 2:
		return found[0], found[1]
	case len(found) == 1 && row.Default != "": // of two possible values one is the default
		return found[0], row.Default
	}
	t.Fatalf("--%s takes too few of the values that this test tries", row.Name)
	return "", ""
}

func TestEverySettingComesFromEverySource(t *testing.T) {
	for _, row := range Table() {
		a, b := taken(t, row)
		if row.Name == "max-vm-count" {
			a, b = b, a // a job may only ask for fewer
		}
		alone := func(v string) Settings {
			return settingsOf(mustResolve(t, Sources{Flags: map[string]string{row.Name: v}}))
		}
		check := func(what string, src Sources, want Settings, origin Origin) {
			t.Helper()
			s := mustResolve(t, src)
			if got := settingsOf(s); !reflect.DeepEqual(got, want) {
				t.Errorf("--%s from %s: got %+v\nwant %+v", row.Name, what, got, want)
			}
			if s.Origin(row.Name) != origin || s.IsDefault(row.Name) != (origin == DefaultOrigin) {
				t.Errorf("--%s from %s: origin is %q (default: %v), want %q", row.Name, what, s.Origin(row.Name), s.IsDefault(row.Name), origin)
			}
		}
		check("nowhere", Sources{}, settingsOf(mustResolve(t, Sources{})), DefaultOrigin)
		defaults := maps.Clone(hostDefaults)
		defaults[row.Name] = a
		check("the host's default", Sources{Defaults: defaults}, alone(a), DefaultOrigin)
		check("a flag", Sources{Flags: map[string]string{row.Name: a}}, alone(a), Origin("flag --"+row.Name))
		for i, name := range row.Variables {
			vars := map[string]string{name: b}
			check("variable "+name, Sources{Variables: vars}, alone(b), Origin("variable "+name))
			if row.Name == "softnet" || row.Name == "ssh-key" { // what the operator has turned on stays on, see TestPolicy
				continue
			}
			check("a flag and variable "+name, Sources{Flags: map[string]string{row.Name: a}, Variables: vars}, alone(b), Origin("variable "+name))
			check("an empty variable "+name, Sources{Flags: map[string]string{row.Name: a}, Variables: map[string]string{name: ""}}, alone(a),
				Origin("flag --"+row.Name))
			for _, second := range row.Variables[i+1:] {
				check(name+" and "+second, Sources{Variables: map[string]string{name: a, second: b}}, alone(a), Origin("variable "+name))
				check("an empty "+name+" and "+second, Sources{Variables: map[string]string{name: "", second: b}}, alone(b), Origin("variable "+second))
			}
		}
		other := "TART_" + strings.ToUpper(strings.ReplaceAll(row.Name, "-", "_"))
		if !slices.Contains(row.Variables, other) {
			check("a variable that is not its own", Sources{Variables: map[string]string{row.Name: a, "CUSTOM_ENV_" + other: a}},
				settingsOf(mustResolve(t, Sources{})), DefaultOrigin)
		}
	}
}

func TestDefaults(t *testing.T) {
	bare := map[string]string{"state-dir": "/var/state"}
	got := settingsOf(mustResolve(t, Sources{Defaults: bare}))
	// Only the settings that the README of the Python driver promises are spelled out.
	for what, ok := range map[string]bool{
		"tart":                 got.TartExecutable == "tart",
		"pull if-not-present":  slices.Equal(got.PullPolicies, []string{"if-not-present"}),
		"admin, twice":         got.SSHUsername == "admin" && got.SSHPassword == "admin",
		"/bin/zsh":             got.Shell == "/bin/zsh",
		"60 seconds":           got.Timeout == time.Minute,
		"1920x1200":            got.Display == "1920x1200",
		"headless":             got.Headless,
		"no VNC, no Softnet":   !got.VNC && !got.Softnet,
		"all the host's to it": got.AutoResources && got.Concurrency == 1 && got.CPU == 0 && got.MemoryMB == 0,
		"two places":           got.MaxVMs == 2 && got.Slots() == 2,
		"no registry":          got.RegistryHost == "" && got.RegistryUsername == "" && got.RegistryPassword == "",
	} {
		if !ok {
			t.Errorf("the default is not %s: %+v", what, got)
		}
	}
	if s := mustResolve(t, Sources{Flags: map[string]string{"concurrency": "5"}, Defaults: bare}); s.Slots() != 5 {
		t.Errorf("--concurrency 5 gives %d places", s.Slots())
	}
	if s := mustResolve(t, Sources{Flags: map[string]string{"concurrency": "1", "max-vm-count": "3"}, Defaults: bare}); s.Slots() != 3 {
		t.Errorf("--max-vm-count 3 gives %d places", s.Slots())
	}
	if s := mustResolve(t, Sources{Flags: map[string]string{"concurrency": "5"}, Variables: map[string]string{"TART_MAX_VM_COUNT": "1"}, Defaults: bare}); s.Slots() != 1 {
		t.Errorf("TART_MAX_VM_COUNT=1 gives %d places", s.Slots())
	}
}

// TestTableIsOneWhole checks what the command line and the reference take for granted.
func TestTableIsOneWhole(t *testing.T) {
	flags, variables, shorts := map[string]bool{}, map[string]bool{}, map[string]bool{}
	flagName := regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`)
	variableName := regexp.MustCompile(`^TART_[A-Z_]+$`)
	for _, row := range Table() {
		for _, name := range append([]string{row.Name}, row.Aliases...) {
			if flags[name] || !flagName.MatchString(name) {
				t.Errorf("flag --%s is there twice, or not a flag's name", name)
			}
			flags[name] = true
		}
		if row.Short != "" {
			if shorts[row.Short] || len(row.Short) != 1 {
				t.Errorf("flag -%s is there twice, or longer than a letter", row.Short)
			}
			shorts[row.Short] = true
		}
		for _, name := range row.Variables {
			if variables[name] || !variableName.MatchString(name) {
				t.Errorf("variable %s is there twice, or has an odd name", name)
			}
			variables[name] = true
		}
		if row.Help == "" || strings.HasSuffix(row.Help, ".") || unicode.IsUpper([]rune(row.Help)[0]) && !strings.HasPrefix(row.Help, "MAC") {
			t.Errorf("--%s: help is %q: a phrase in lower case without a full stop is expected", row.Name, row.Help)
		}
		if len(row.Stages) == 0 || row.set == nil {
			t.Errorf("--%s: no stage shows it, or nothing takes its value", row.Name)
		}
		for _, stage := range row.Stages {
			if !slices.Contains(allStages, stage) {
				t.Errorf("--%s: there is no stage %q", row.Name, stage)
			}
		}
		if strings.Contains(row.Name, "password") && !row.Secret {
			t.Errorf("--%s is not marked as secret", row.Name)
		}
	}
	for _, promised := range []string{"TART_REGISTRY", "TART_REGISTRY_USERNAME", "TART_REGISTRY_PASSWORD", "TART_PULL_POLICY", "TART_SSH_USERNAME",
		"TART_SSH_PASSWORD", "TART_EXECUTOR_HEADLESS", "TART_EXECUTOR_SOFTNET_ENABLED", "TART_EXECUTOR_VNC_ENABLED", "TART_EXECUTOR_SHELL",
		"TART_EXECUTOR_TIMEOUT", "TART_EXECUTOR_DISPLAY", "TART_REGISTRY_HOSTNAME"} {
		if !variables[promised] {
			t.Errorf("variable %s, which the Python driver has, is missing", promised)
		}
	}
}

// TestWhatOnlyTheOperatorMaySet keeps the host out of a job's reach.
func TestWhatOnlyTheOperatorMaySet(t *testing.T) {
	operators := []string{"tart-executable", "state-dir", "concurrency", "slot-timeout", "default-image", "max-cpu", "max-memory",
		"auto-resources", "guest-builds-dir", "guest-cache-dir", "volume", "dir", "disk", "builds-dir", "cache-dir", "tart-run-env", "allow-image",
		"exclude-image-expr", "allowed-pull-policy", "lock", "unlock", "nested", "image-budget", "disk-reserve", "log-days", "log-budget"}
	rows := map[string]Setting{}
	for _, row := range Table() {
		rows[row.Name] = row
	}
	for _, name := range operators {
		if row, ok := rows[name]; !ok || len(row.Variables) > 0 {
			t.Errorf("--%s: in the table: %v, variables %q", name, ok, row.Variables)
		}
	}
}

// TestSettingsOfRun are those that mean something where a script is run: the VM and the connection are there already. The Python driver's README shows
// --timeout, too.
func TestSettingsOfRun(t *testing.T) {
	var shown []string
	for _, row := range Table() {
		if slices.Contains(row.Stages, StageRun) {
			shown = append(shown, row.Name)
		}
	}
	if want := []string{"tart-executable", "state-dir", "lock", "unlock", "timeout", "shell"}; !slices.Equal(shown, want) {
		t.Errorf("run's help has %q, want %q", shown, want)
	}
}
