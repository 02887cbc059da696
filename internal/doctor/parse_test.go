package doctor

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

func sample(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestVersions(t *testing.T) {
	for text, want := range map[string]string{"15.6.1\n": "15.6.1", "tart 2.35.0": "2.35.0", "Version:      18.5.0\nGit": "18.5.0", "26": "26"} {
		if v, ok := parseVersion(text); !ok || v.String() != want {
			t.Errorf("%q: %v %v", text, v, ok)
		}
	}
	if v, ok := parseVersion("SNAPSHOT"); ok {
		t.Errorf("SNAPSHOT is version %v", v)
	}
	for _, c := range []struct {
		v     version
		other []int
		want  bool
	}{
		{version{15}, []int{15}, true}, {version{15, 0, 1}, []int{15}, true}, {version{14, 7}, []int{15}, false}, {version{2, 9}, []int{2, 10}, false},
		{version{2, 10}, []int{2, 10, 0}, true}, {version{2, 10}, []int{2, 10, 1}, false}, {version{3}, []int{2, 33}, true},
	} {
		if got := c.v.atLeast(c.other...); got != c.want {
			t.Errorf("%v at least %v: %v", c.v, c.other, got)
		}
	}
}

func TestLeases(t *testing.T) {
	leases, err := parseLeases(sample(t, "dhcpd_leases.txt"))
	if err != nil || len(leases) != 2 {
		t.Fatalf("%v %v", leases, err)
	}
	if want := time.Date(2025, 1, 20, 11, 0, 55, 0, time.UTC); leases[0].address.String() != "192.168.64.3" || !leases[0].expires.Equal(want) {
		t.Errorf("%v until %v, want %v", leases[0].address, leases[0].expires.UTC(), want)
	}
	for _, text := range []string{sample(t, "dhcpd_leases_cut.txt"), "garbage", "{\n{\n}\n", "}\n"} {
		if leases, err := parseLeases(text); err == nil {
			t.Errorf("%q: %v", text, leases)
		}
	}
	if leases, err := parseLeases(""); err != nil || len(leases) != 0 {
		t.Errorf("empty: %v %v", leases, err)
	}
}

func TestDF(t *testing.T) {
	for name, want := range map[string]struct {
		free   int64
		remote bool
	}{"df_apfs.txt": {400_000_000_000, false}, "df_smb.txt": {976248832 * 1024, true}, "df_nfs.txt": {100000 * 1024, true}} {
		if disk, ok := parseDF(sample(t, name)); !ok || disk.bytes != want.free || disk.remote() != want.remote {
			t.Errorf("%s: %+v %v", name, disk, ok)
		}
	}
	for _, text := range []string{"", "df: /nowhere: No such file or directory\n", "Filesystem 1024-blocks Used Available Capacity Mounted on\n"} {
		if disk, ok := parseDF(text); ok {
			t.Errorf("%q: %+v", text, disk)
		}
	}
}

func TestKeychainInfo(t *testing.T) {
	for text, want := range map[string]keychainInfo{
		"Keychain \"/Users/ci/Library/Keychains/login.keychain-db\" no-timeout\n":                {},
		"Keychain \"/Users/ci/a b\" lock-on-sleep timeout=300s\n":                                {locksOnSleep: true, timeout: 5 * time.Minute},
		"Keychain \"<NULL>\" lock-on-sleep no-timeout\n":                                         {locksOnSleep: true},
		"Keychain \"/Users/ci/login.keychain\" lock-on-sleep use-lock-interval timeout=21600s\n": {locksOnSleep: true, timeout: 6 * time.Hour},
	} {
		if info, ok := parseKeychain(text); !ok || info != want {
			t.Errorf("%q: %+v %v", text, info, ok)
		}
	}
	for _, text := range []string{"", "security: SecKeychainCopySettings: no", "Keychain \"a\" timeout=soon"} {
		if info, ok := parseKeychain(text); ok {
			t.Errorf("%q: %+v", text, info)
		}
	}
}

func TestDefaults(t *testing.T) {
	got, err := parseDefaults(sample(t, "local_network.txt"))
	want := map[string]any{
		"AllowedEthernetLocalNetworkAddresses": []any{"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"},
		"AllowedWiFiLocalNetworkAddresses":     []any{"192.168.1.2/32"},
		`quoted "key"`:                         map[string]any{"number": "600", "empty": "", "none": []any{}},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := parseDefaults("ci\n"); err != nil || got != "ci" {
		t.Errorf("a word: %v %v", got, err)
	}
	for _, text := range []string{"", "{", "(a b)", "{a}", "{a = 1}", "\"open", "{a = 1;} more", "(((((((((((((((((((((((((((((((((((((((("} {
		if got, err := parseDefaults(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestServiceFiles(t *testing.T) {
	s := parseService([]byte(sample(t, "gitlab-runner.plist")))
	if s.Err != nil || s.label != "gitlab-runner" || s.args[0] != "/usr/local/bin/gitlab-runner" || s.option("--config") != "/Users/ci/A & B/config.toml" ||
		s.option("--service") != "gitlab-runner" || len(s.logs) != 2 || !reflect.DeepEqual(s.SearchPath(), []string{"/usr/bin", "/bin", "/usr/sbin", "/sbin"}) {
		t.Errorf("%+v", s)
	}
	for _, text := range []string{"", "bplist00", "<plist><dict><key>a</key>", "<plist><string>a</string></plist>", "<plist><dict><key><b/></key></dict></plist>"} {
		if s := parseService([]byte(text)); s.Err == nil {
			t.Errorf("%q: %+v", text, s)
		}
	}
}

func FuzzParsers(f *testing.F) {
	for _, name := range []string{"dhcpd_leases.txt", "df_smb.txt", "local_network.txt", "gitlab-runner.plist"} {
		raw, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(raw))
	}
	f.Fuzz(func(t *testing.T, text string) { // none may panic or hang, whatever a program says
		_, _ = parseLeases(text)
		_, _ = parseDF(text)
		_, _ = parseKeychain(text)
		_, _ = parseDefaults(text)
		_, _ = ParsePlist([]byte(text))
		_, _ = parseVersion(text)
	})
}
