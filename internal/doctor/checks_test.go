package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// parseSimply takes arguments apart as far as these tests need it.
func parseSimply(args []string) (StageArgs, error) {
	out := StageArgs{Flags: map[string]string{}}
	for i := 0; i < len(args); i++ {
		switch name, flag := strings.CutPrefix(args[i], "--"); {
		case i == 0:
			out.Stage = args[0]
		case !flag:
			out.Rest = append(out.Rest, args[i])
		case name == "config":
			out.File, i = args[i+1], i+1
		case name == "nonsense":
			return out, fmt.Errorf("unknown flag: --nonsense")
		default:
			out.Flags[name], i = args[i+1], i+1
		}
	}
	return out, nil
}

// stages is a runner whose stages all call this driver. more goes to prepare's arguments.
func stages(more string) string {
	return `
concurrent = 2
[[runners]]
  name = "r"
  url = "https://gitlab.example"
  token = "t"
  executor = "custom"
  limit = 2
  request_concurrency = 2
  [runners.custom]
    config_exec = "/opt/bin/gitlab-runner-tart-driver"
    config_args = ["config"]
    prepare_exec = "/opt/bin/gitlab-runner-tart-driver"
    prepare_args = ["prepare", "--concurrency", "2"` + more + `]
    run_exec = "/opt/bin/gitlab-runner-tart-driver"
    run_args = ["run"]
    cleanup_exec = "/opt/bin/gitlab-runner-tart-driver"
    cleanup_args = ["cleanup"]
    graceful_kill_timeout = 60
`
}

const driverFile = "-- opt/bin/gitlab-runner-tart-driver --\n#!/bin/sh\n"

// configFile is the runner as a file of the host.
func configFile(text string) string {
	return "-- Users/ci/.gitlab-runner/config.toml --\n" + text + driverFile
}

// look makes one check, and writes its findings one a line.
func look(t *testing.T, host *System, id string) string {
	t.Helper()
	s := newSurvey(t.Context(), Options{Host: host, Executable: "/opt/bin/gitlab-runner-tart-driver", Parse: parseSimply})
	for _, check := range Table() {
		if check.ID == id {
			var lines []string
			for _, f := range check.run(t.Context(), s).Findings {
				lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s %s | %s", f.Status, f.Reason, f.Fix)))
			}
			return strings.Join(lines, "\n")
		}
	}
	t.Fatalf("no check %q", id)
	return ""
}

func script(name, text string) string { return "-- bin/" + name + " --\n#!/bin/sh\n" + text + "\n" }

func macOS(version string) string { return script("sw_vers", "echo "+version) }

func TestChecks(t *testing.T) {
	apple := script("sysctl", "echo 1")
	defaults := func(cases string) string {
		return script("defaults", "case \"$*\" in\n"+cases+"\n*) echo 'does not exist' >&2; exit 1;; esac")
	}
	both := defaults(`"read com.apple.network.local-network") cat "$(dirname "$0")/../lists";;`) +
		"-- lists --\n{ AllowedEthernetLocalNetworkAddresses = (\"192.168.0.0/16\"); AllowedWiFiLocalNetworkAddresses = (\"0.0.0.0/0\"); }\n"
	keychain := "-- Users/ci/Library/Keychains/login.keychain-db --\n"
	tart := func(version string) string {
		return script("tart", `case $1 in --version) echo `+version+`;; list) echo '[{"Source":"OCI","Name":"i:1","Size":60}]';; esac`)
	}
	agent := configFile(stages(`, "--transport", "agent"`))
	softnet := configFile(stages(`, "--softnet", "true"`))
	for _, c := range []struct{ id, host, want string }{
		{"macos", "", "skip only a Mac has this |"},
		{"macos", macOS("15.6.1") + apple, "pass macOS 15.6.1 on Apple silicon |"},
		{"macos", macOS("12.7") + apple, "fail macOS 12.7 is too old for Tart | update"},
		{"macos", macOS("13.6") + apple + agent, "fail macOS 13.6 is too old for the guest agent"},
		{"macos", macOS("15.6.1") + script("sysctl", "echo unknown oid >&2; exit 1"), "fail macOS 15.6.1 on a Mac with an Intel processor"},
		{"macos", macOS("soon") + apple, `warn the version of macOS is not known: sw_vers says "soon"`},

		{"tart", "", "fail tart executable not found: tart | brew install openai/tools/tart"},
		{"tart", tart("2.35.0"), "pass tart 2.35.0 |"},
		{"tart", tart("SNAPSHOT"), "pass tart SNAPSHOT |"},
		{"tart", tart("1.7.0"), "fail tart 1.7.0 is too old | brew upgrade tart"},
		{"tart", tart("2.26.1") + agent, "fail tart 2.26.1 does not know what --transport agent needs; that came with 2.27.0"},
		{"tart", script("tart", "echo 'Error: no' >&2; exit 1"), "fail tart --version: no | run `tart list` as this user"},
		{"tart-licence", tart("2.32.1"), "pass tart 2.32.1 is under the Fair Source"},
		{"tart-licence", tart("2.33.0"), "pass tart 2.33.0 is under the Functional Source"},
		{"tart-licence", tart("0.38.0"), "pass tart 0.38.0 is under the GNU Affero"},

		{"gitlab-runner", script("gitlab-runner", "echo 'Version:      17.8.3'"), "warn GitLab Runner 17.8.3 takes every script that fails"},
		{"gitlab-runner", script("gitlab-runner", "echo 'Version:      13.12.0'"), "fail GitLab Runner 13.12.0 does not tell"},
		{"gitlab-runner", script("gitlab-runner", "exit 1"), "fail gitlab-runner --version: exit status 1 | run `gitlab-runner --version`"},

		{"keychain", macOS("15.1"), "fail there is no login keychain"},
		{"keychain", macOS("14.1"), "warn there is no login keychain"},
		{"keychain", macOS("15.1") + keychain + script("security", `echo "Keychain \"$2\" lock-on-sleep timeout=300s" >&2`), "warn the login keychain is unlocked, but locks itself when it is not used for 5m0s"},
		{"keychain", macOS("15.1") + keychain + script("security", `echo "Keychain \"$2\" lock-on-sleep no-timeout" >&2`), "warn the login keychain is unlocked, but locks itself when the Mac sleeps"},
		{"keychain", macOS("15.1") + keychain + script("security", `echo "Keychain \"$2\" no-timeout" >&2`), "pass unlocked |"},

		{"local-network", macOS("14.7") + defaults(""), "pass macOS 14.7 has no Local Network privacy |"},
		{"local-network", macOS("15.5") + defaults("") + agent, "pass VMs are reached by the guest agent"},
		{"local-network", macOS("15.5") + both, "pass all programs may reach VMs |"},
		{"local-network", macOS("15.5") + defaults("") + script("sudo", `shift; exec "$(dirname "$0")/as-root"`) + script("as-root", `cat "$(dirname "$0")/../lists"`) +
			"-- lists --\n{ AllowedEthernetLocalNetworkAddresses = (\"192.168.0.0/16\"); }\n",
			"warn as far as this user can see, VMs' addresses are not among those that all programs may reach (AllowedWiFiLocalNetworkAddresses)"},

		{"dhcp-lease", defaults(`*bootpd) echo '{ DHCPLeaseTimeSecs = 3600; }';;`), "pass 3600 s"},
		{"dhcp-lease", defaults(`*bootpd) echo '{ DHCPLeaseTimeSecs = 7200; }';;`), "warn a VM's address stays taken for 7200 s"},
		{"dhcp-lease", defaults(`*bootpd) echo '{ other = 1; }';;`), "warn a VM's address stays taken for 86400 s after its start (by default)"},
		{"dhcp-lease", defaults(`*bootpd) echo '{ DHCPLeaseTimeSecs = soon; }';;`), `warn DHCPLeaseTimeSecs in`},
		{"dhcp-lease", defaults(`*bootpd) echo '{';;`), "warn the lease time is not known"},
		{"dhcp-lease", defaults("") + softnet, "pass Softnet sets it by itself |"},
		{"dhcp-table", macOS("15.5"), "pass none yet |"},
		{"dhcp-table", "-- var/db/dhcpd_leases --\n{\n", "fail /var/db/dhcpd_leases is damaged"},
		{"dhcp-table", "-- var/db/dhcpd_leases --\n" + leases(250, noon.Add(-time.Hour)), "warn /var/db/dhcpd_leases has entries for 250 of 253 addresses, 0 of them still taken"},
		{"dhcp-table", "-- var/db/dhcpd_leases --\n" + leases(250, noon.Add(time.Hour)), "fail 250 of 253 addresses for VMs are taken"},
		{"dhcp-table", "-- var/db/dhcpd_leases --\n" + leases(250, noon.Add(time.Hour)) + defaults("*Shared_Net_Mask) echo 255.255.0.0;;"), "pass 250 of 65533 addresses are taken |"},

		{"softnet", "", "skip the settings do not ask for it |"},
		{"softnet", softnet, "fail the settings ask for Softnet, and there is no softnet"},
		{"softnet", softnet + script("softnet", "") + script("sudo", "exit 0"), "pass sudo lets it run without a password |"},

		{"disk", script("df", "cat \"$(dirname \"$0\")/../df\"") + "-- df --\n" + dfOf(30) + tart("2.35.0"), "warn 30.0 GB are free at /Users/ci/.tart: too little to pull a new version of i:1 (60 GB)"},
		{"disk", script("df", "cat \"$(dirname \"$0\")/../df\"") + "-- df --\n" + dfOf(30), "warn 30.0 GB are free at /Users/ci/.tart, and an image of macOS takes about 50 GB"},
		{"disk", script("df", "cat \"$(dirname \"$0\")/../df\"") + "-- df --\n" + dfOf(4) + configFile(stages("")), "fail 4.0 GB are free at /Users/ci/.tart, and jobs are refused below 5 GB"},
		{"disk", script("df", "cat \"$(dirname \"$0\")/../df\"") + "-- df --\n" + dfOf(4) + configFile(stages(`, "--disk-reserve", "0"`)), "warn 4.0 GB are free at /Users/ci/.tart, and an image of macOS takes about 50 GB"},
		{"disk", script("df", "echo nothing"), "warn free space at /Users/ci/.tart is not known"},

		{"auto-login", defaults("*autoLoginUser) echo other;;"), "warn other is logged in automatically, and not ci"},
		{"auto-login", defaults("*autoLoginUser) echo ci;;") + script("fdesetup", "echo FileVault is On."), "warn FileVault is on"},
		{"auto-login", defaults("*autoLoginUser) echo ci;;") + script("fdesetup", "echo FileVault is Off."), "pass ci is logged in automatically |"},

		{"service", script("launchctl", ""), "warn GitLab Runner is not a service"},
		{"service", script("launchctl", "") + "-- Users/ci/Library/LaunchAgents/gitlab-runner.plist --\n" + sample(t, "gitlab-runner.plist"),
			"fail /Users/ci/Library/LaunchAgents/gitlab-runner.plist: launchd cannot write the log /usr/local/var/log/gitlab-runner.out.log"},
		{"service", script("launchctl", "") + "-- Users/ci/Library/LaunchAgents/gitlab-runner.plist --\nbplist00\n" + script("plutil", "echo bad >&2; exit 1"),
			"warn /Users/ci/Library/LaunchAgents/gitlab-runner.plist cannot be read: exit status 1"},
	} {
		got := look(t, play(t, c.host), c.id)
		if !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: got\n\t%s\nwant\n\t%s", c.id, got, c.want)
		}
	}
}

func leases(n int, until time.Time) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "{\n\tip_address=192.168.64.%d\n\tlease=0x%x\n}\n", i+2, until.Unix())
	}
	return b.String()
}

func dfOf(gb int) string {
	return fmt.Sprintf("Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/disk3s5 1000000000 1 %d 1%% /\n", gb*1e9/1024)
}

func TestClockBehindItsFiles(t *testing.T) {
	host := play(t, configFile(stages("")))
	if got := look(t, host, "clock"); !strings.HasPrefix(got, "pass") {
		t.Error(got)
	}
	path := filepath.Join(host.Root, "Users/ci/.gitlab-runner/config.toml")
	if err := os.Chtimes(path, noon, noon.Add(25*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if got := look(t, host, "clock"); got != fmt.Sprintf("fail the clock says %s, but /Users/ci/.gitlab-runner/config.toml was written later, at %s | sudo sntp -sS time.apple.com",
		stamp(noon), stamp(noon.Add(25*time.Hour))) {
		t.Error(got)
	}
}
