package simconf

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{`"1.5s"`: 1500 * time.Millisecond, `2`: 2 * time.Second, `0.25`: 250 * time.Millisecond, `"0s"`: 0} {
		var d Duration
		if err := json.Unmarshal([]byte(text), &d); err != nil || d.D() != want {
			t.Errorf("%s: %s, %v", text, d, err)
		}
		data, err := json.Marshal(d)
		var back Duration
		if err == nil {
			err = json.Unmarshal(data, &back)
		}
		if err != nil || back != d {
			t.Errorf("%s written and read: %s, %v", d, back, err)
		}
	}
	for _, bad := range []string{`"soon"`, `[]`, `"5"`} {
		var d Duration
		if err := json.Unmarshal([]byte(bad), &d); err == nil {
			t.Errorf("%s is accepted: %s", bad, d)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	dir := t.TempDir()
	if c, err := LoadConfig(dir); err != nil || c.TartVersion() != DefaultVersion || c.RegistryDir("/h") != "/h/registry" {
		t.Errorf("without a file: %+v, %v", c, err)
	}
	for text, want := range map[string]string{
		`{"isolation": "some"}`:                                              "unknown value",
		`{"faults": [{"name": "none"}]}`:                                     "unknown fault",
		`{"faults": [{"name": "slow", "command": "ip"}]}`:                    "needs after",
		`{"faults": [{"name": "vm-limit", "vm": "["}]}`:                      "pattern",
		`{"faults": [{"name": "dies-after", "after": "1s", "how": "well"}]}`: "unknown how",
		`{`: "unexpected end",
	} {
		if err := os.WriteFile(filepath.Join(dir, ConfigFile), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if c, err := LoadConfig(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v; want %q", text, c, err, want)
		}
	}
}

func TestFaultsAreCountedAcrossProcesses(t *testing.T) {
	dir := t.TempDir()
	faults := Faults{Home: dir, Host: []Fault{{ID: "f1", Name: CloneENOSPC, Times: 3, Skip: 2}, {Name: VMLimit, VM: "job-*"}, {Name: TartExits, Command: "clone"}}}
	var mu sync.Mutex
	var group sync.WaitGroup
	happened := 0
	for range 20 {
		group.Go(func() {
			fault, err := faults.Take(CloneENOSPC, "vm", "clone")
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			if fault != nil {
				happened++
			}
		})
	}
	group.Wait()
	if happened != 3 {
		t.Errorf("happened %d times, want 3", happened)
	}
	if err := ResetCounters(dir, faults.Host[0]); err != nil {
		t.Fatal(err)
	}
	for n := range 6 {
		if fault, err := faults.Take(CloneENOSPC, "vm", "clone"); err != nil || (fault != nil) != (n >= 2 && n < 5) {
			t.Errorf("occurrence %d: %v, %v", n+1, fault, err)
		}
	}
	for _, test := range []struct {
		name, vm, command string
		want              bool
	}{
		{VMLimit, "job-1", "run", true}, {VMLimit, "other", "run", false}, {TartExits, "x", "clone", true}, {TartExits, "x", "ip", false}, {DeleteFails, "x", "delete", false},
	} {
		if fault, err := faults.Take(test.name, test.vm, test.command); err != nil || (fault != nil) != test.want {
			t.Errorf("%+v: %v, %v", test, fault, err)
		}
	}
}

func TestImageFaultsComeFirst(t *testing.T) {
	faults := Faults{Home: t.TempDir(), Host: []Fault{{Name: StartFailure, Text: "host"}}, Image: []Fault{{Name: StartFailure, Text: "image"}}}
	if fault, err := faults.Take(StartFailure, "vm", "run"); err != nil || fault == nil || fault.Text != "image" {
		t.Errorf("%+v, %v", fault, err)
	}
}

func TestCallsAreRecordedByConcurrentWriters(t *testing.T) {
	dir := t.TempDir()
	const writers = 50
	var group sync.WaitGroup
	for n := range writers {
		group.Go(func() {
			journal, err := StartCall(dir, []string{"tart", fmt.Sprint(n), strings.Repeat("x", 5000)}, []string{"TART_HOME=/h", "SECRET=s", "CI=1"})
			if err == nil && n%2 == 0 {
				err = journal.End(n)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	calls, err := ReadCalls(dir)
	if err != nil || len(calls) != writers {
		t.Fatalf("%d calls, %v", len(calls), err)
	}
	for _, call := range calls {
		var n int
		if _, err := fmt.Sscan(call.Argv[1], &n); err != nil {
			t.Fatal(err)
		}
		if (call.Exit != nil) != (n%2 == 0) || call.Exit != nil && *call.Exit != n {
			t.Errorf("call %d: %+v", n, call.Exit)
		}
		if call.Env["CI"] != "1" || call.Env["SECRET"] != "" || strings.Join(call.EnvNames, " ") != "CI SECRET TART_HOME" {
			t.Errorf("environment: %v, %v", call.Env, call.EnvNames)
		}
	}
}

func TestNextID(t *testing.T) {
	if got := NextID([]Fault{{ID: "f1"}, {ID: "f3"}, {}}); got != "f2" {
		t.Errorf("got %s", got)
	}
}
