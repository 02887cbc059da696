package provision

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const zone = "Europe/Berlin"

// setZone runs a plan with a time zone; the guest knows Europe/Berlin and has UTC.
func setZone(s *sandbox, shell, zone string) ended {
	s.t.Helper()
	return s.run(shell, s.moved(Plan{Timezone: zone}.Script(), "/usr/share/zoneinfo", "/etc/localtime", "/etc/timezone"))
}

func newZoneSandbox(t *testing.T, system string) *sandbox {
	t.Helper()
	s := newSandbox(t, system)
	s.write("usr/share/zoneinfo/Europe/Berlin", "TZif")
	s.write("usr/share/zoneinfo/UTC", "TZif")
	s.dir("etc")
	if err := os.Symlink(s.path("usr/share/zoneinfo/UTC"), s.path("etc/localtime")); err != nil {
		t.Fatal(err)
	}
	return s
}

// zone is the sandbox's time zone.
func (s *sandbox) zone() string {
	s.t.Helper()
	to, err := os.Readlink(s.path("etc/localtime"))
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.TrimPrefix(to, s.path("usr/share/zoneinfo")+string(filepath.Separator))
}

func TestTimezone(t *testing.T) {
	const link = `rm -f "$ROOT/etc/localtime"; /bin/ln -s "$ROOT/usr/share/zoneinfo/$2" "$ROOT/etc/localtime"`
	const asRoot = `[ -n "$AS_ROOT" ] || exit 1; `
	for name, c := range map[string]struct {
		system string
		tools  map[string]string
		sudo   string // what sudo is asked for first
		ln     bool   // whether ln is needed
	}{
		"systemsetup":                    {system: "Darwin", tools: map[string]string{"systemsetup": asRoot + link}, sudo: "-n systemsetup -settimezone " + zone},
		"systemsetup that only claims":   {system: "Darwin", tools: map[string]string{"systemsetup": "exit 0"}, sudo: "-n ln -sf ", ln: true},
		"systemsetup that fails":         {system: "Darwin", tools: map[string]string{"systemsetup": "exit 1"}, sudo: "-n systemsetup ", ln: true},
		"macOS without systemsetup":      {system: "Darwin", sudo: "-n ln -sf ", ln: true},
		"timedatectl":                    {system: "Linux", tools: map[string]string{"timedatectl": asRoot + link}, sudo: "-n timedatectl set-timezone " + zone},
		"timedatectl without systemd":    {system: "Linux", tools: map[string]string{"timedatectl": "echo 'System has not been booted with systemd' >&2; exit 1"}, sudo: "-n timedatectl ", ln: true},
		"Linux without timedatectl":      {system: "Linux", sudo: "-n ln -sf ", ln: true},
		"Linux that has systemsetup too": {system: "Linux", tools: map[string]string{"systemsetup": "echo > $ROOT/wrong"}, sudo: "-n ln -sf ", ln: true},
	} {
		t.Run(name, func(t *testing.T) {
			eachShell(t, func(t *testing.T, shell string) {
				s := newZoneSandbox(t, c.system)
				s.onlyRoot("ln")
				for tool, body := range c.tools {
					s.tool(tool, body)
				}
				got := setZone(s, shell, zone)
				if got.code != 0 || len(got.answers) > 0 || s.zone() != zone {
					t.Errorf("got %+v, the zone is %q", got, s.zone())
				}
				if !strings.HasPrefix(s.read("sudo"), c.sudo) || (s.read("ln") != "") != c.ln {
					t.Errorf("sudo was asked for %q, ln for %q", s.read("sudo"), s.read("ln"))
				}
				if s.read("wrong") != "" {
					t.Error("the other system's tool was used")
				}
				if _, err := os.Lstat(s.path("etc/timezone")); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("there is an /etc/timezone now (%v)", err)
				}
			})
		})
	}
}

func TestTimezoneThatIsAlreadySet(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string) {
		s := newZoneSandbox(t, "Linux")
		s.tool("ln", "exit 1")
		s.tool("sudo", "exit 1")
		if got := setZone(s, shell, "UTC"); got.code != 0 || len(got.answers) > 0 {
			t.Errorf("got %+v", got)
		}
	})
}

func TestTimezoneFileIsWrittenWhereThereIsOne(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string) {
		s := newZoneSandbox(t, "Linux")
		s.write("etc/timezone", "Etc/UTC\n")
		s.tool("sh", `[ -n "$AS_ROOT" ] && exec `+realTool(t, "sh")+` "$@"; echo "Permission denied" >&2; exit 1`)
		if got := setZone(s, shell, zone); got.code != 0 || s.zone() != zone || s.read("etc/timezone") != zone+"\n" || strings.Contains(got.output, zone) {
			t.Errorf("got %+v, the zone is %q, the file has %q", got, s.zone(), s.read("etc/timezone"))
		}
	})
}

func TestTimezoneThatCannotBeSet(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string) {
		s := newZoneSandbox(t, "Linux")
		got := setZone(s, shell, "Europe/Atlantis")
		if got.code != ExitTimezone || len(got.answers) != 1 || got.answers[0] != "the VM does not know the time zone Europe/Atlantis" || s.zone() != "UTC" {
			t.Errorf("unknown: got %+v, the zone is %q", got, s.zone())
		}
		s.onlyRoot("ln")
		s.tool("sudo", "exit 1")
		got = setZone(s, shell, zone)
		if got.code != ExitTimezone || len(got.answers) != 1 || got.answers[0] != "the time zone cannot be set in the VM" || s.zone() != "UTC" {
			t.Errorf("without sudo: got %+v, the zone is %q", got, s.zone())
		}
	})
}
