package job

import (
	"maps"
	"reflect"
	"testing"

	"gitlab-runner-tart-driver/internal/proc"
)

func TestOfEqualNamesTheLastCounts(t *testing.T) {
	env := Environ{"A=1", "AA=2", "B=", "A=3=4", "C", "=D", "", "a=5", "B=6", "E=7", "E="}
	for name, want := range map[string]string{"A": "3=4", "AA": "2", "B": "6", "C": "", "a": "5", "E": "", "F": "", "": "D"} {
		if got := env.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

func TestVariablesAreThoseOfTheJob(t *testing.T) {
	env := Environ{"CUSTOM_ENV_A=1", "B=2", "CUSTOM_ENV_C=3\n4=5", "CUSTOM_ENV_", "CUSTOM_ENV_D", "custom_env_E=6", "XCUSTOM_ENV_F=7", "CUSTOM_ENV_A=8",
		"CUSTOM_ENV_CUSTOM_ENV_G=9"}
	want := map[string]string{"A": "8", "C": "3\n4=5", "": "", "D": "", "CUSTOM_ENV_G": "9"}
	if got := env.Variables(); !maps.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := Environ(nil).Variables(); got == nil || len(got) != 0 {
		t.Errorf("of nothing: %v", got)
	}
}

func TestHandoverComesThroughTheEnvironment(t *testing.T) {
	for _, want := range []Handover{
		{},
		{VM: "grtd-aaaaaa-42-bbbbbbbb", StateDir: "/var/s p", BuildsDir: "/opt/b", CacheDir: "/opt/c=d",
			Ancestors: []proc.ID{{PID: 7, Start: 8, Boot: "x"}, {PID: 1 << 30, Start: -1, Boot: `"`}}},
	} {
		var env Environ
		for name, value := range want.JobEnv() {
			env = append(env, "CUSTOM_ENV_"+name+"=forged", name+"="+value)
		}
		if got := env.Handover(); !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	var forged Environ
	for name := range (Handover{}).JobEnv() {
		forged = append(forged, "CUSTOM_ENV_"+name+"=[{}]")
	}
	if got := forged.Handover(); !reflect.DeepEqual(got, Handover{}) {
		t.Errorf("a job's own variables make the handover %+v", got)
	}
}

func TestDamagedAncestorsAreNone(t *testing.T) {
	for _, value := range []string{"", "null", "[", "{}", "7", `[{"pid":"7"}]`, `[{"pid":7},8]`, "[] x"} {
		if got := (Environ{"TART_DRIVER_ANCESTORS=" + value, "TART_DRIVER_VM=v"}).Handover(); got.Ancestors != nil || got.VM != "v" {
			t.Errorf("%q gives %+v", value, got)
		}
	}
}

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		env  Environ
		want ExitCodes
	}{
		{nil, ExitCodes{BuildFailure: 1, SystemFailure: 2}},
		{Environ{"BUILD_FAILURE_EXIT_CODE=7", "SYSTEM_FAILURE_EXIT_CODE=8", "BUILD_EXIT_CODE_FILE=/f"}, ExitCodes{7, 8, "/f"}},
		{Environ{"BUILD_FAILURE_EXIT_CODE=", "SYSTEM_FAILURE_EXIT_CODE=x"}, ExitCodes{BuildFailure: 1, SystemFailure: 2}},
		{Environ{"BUILD_FAILURE_EXIT_CODE=0", "SYSTEM_FAILURE_EXIT_CODE=256"}, ExitCodes{BuildFailure: 1, SystemFailure: 2}},
		{Environ{"BUILD_FAILURE_EXIT_CODE=-1", "SYSTEM_FAILURE_EXIT_CODE=99999999999999999999"}, ExitCodes{BuildFailure: 1, SystemFailure: 2}},
		{Environ{"BUILD_FAILURE_EXIT_CODE=255", "SYSTEM_FAILURE_EXIT_CODE=1"}, ExitCodes{BuildFailure: 255, SystemFailure: 1}},
		{Environ{"CUSTOM_ENV_BUILD_FAILURE_EXIT_CODE=9", "CUSTOM_ENV_BUILD_EXIT_CODE_FILE=/etc/passwd"}, ExitCodes{BuildFailure: 1, SystemFailure: 2}},
	} {
		if got := c.env.ExitCodes(); got != c.want {
			t.Errorf("%q: got %+v, want %+v", c.env, got, c.want)
		}
	}
}

func FuzzHandover(f *testing.F) {
	f.Add("grtd-a-1-b", `[{"pid":1,"start":2,"boot":"b"}]`)
	f.Fuzz(func(t *testing.T, vm, ancestors string) {
		first := Environ{"TART_DRIVER_VM=" + vm, "TART_DRIVER_ANCESTORS=" + ancestors}.Handover()
		if first.VM != vm {
			t.Errorf("%q became %q", vm, first.VM)
		}
		var env Environ
		for name, value := range first.JobEnv() {
			env = append(env, name+"="+value)
		}
		if second := env.Handover(); len(first.Ancestors) != len(second.Ancestors) || len(first.Ancestors) > 0 && !reflect.DeepEqual(first, second) {
			t.Errorf("%+v became %+v", first, second)
		}
	})
}
