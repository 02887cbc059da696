package main

import (
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"gitlab-runner-tart-driver/internal/trial"
	"gitlab-runner-tart-driver/internal/trial/civar"
)

func TestArgs(t *testing.T) {
	d := (&driver{words: []string{"--all", "prepare:--concurrency=2", "run:-v", "--url=http://host:80"}}).with("config:last")
	for stage, want := range map[string][]string{
		"config":  {"config", "--all", "--url=http://host:80", "last"},
		"prepare": {"prepare", "--all", "--concurrency=2", "--url=http://host:80"},
		"run":     {"run", "--all", "-v", "--url=http://host:80"},
		"cleanup": {"cleanup", "--all", "--url=http://host:80"},
	} {
		if got := d.args(stage); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", stage, got, want)
		}
	}
}

func TestPrograms(t *testing.T) {
	d := &driver{path: "/bin/driver", words: []string{"-x"}}
	p := d.programs("/bin/meter", "/notes")
	if p.Run.Path != "/bin/meter" || !slices.Equal(p.Run.Args, []string{"/notes", "/bin/driver", "run", "-x"}) {
		t.Errorf("got %q %q", p.Run.Path, p.Run.Args)
	}
	if p := d.programs(); p.Config.Path != "/bin/driver" || !slices.Equal(p.Config.Args, []string{"config", "-x"}) {
		t.Errorf("without a wrapper: got %q %q", p.Config.Path, p.Config.Args)
	}
	d.noConfig = true
	if p := d.programs(); p.Config.Path != "" {
		t.Errorf("a driver without a config stage gets %q", p.Config.Path)
	}
}

func TestPeer(t *testing.T) {
	program := filepath.Join(t.TempDir(), "other-driver")
	parse := func(args ...string) (*driver, error) {
		t.Helper()
		var o peerOptions
		f := flag.NewFlagSet("", flag.ContinueOnError)
		o.addFlags(f)
		if err := f.Parse(args); err != nil {
			t.Fatal(err)
		}
		return o.driver()
	}
	if d, err := parse(); d != nil || err != nil {
		t.Errorf("no peer: got %v, %v", d, err)
	}
	if _, err := parse("-peer", program); err == nil {
		t.Error("a program that is not there is no error")
	}
	if err := os.WriteFile(program, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	d, err := parse("-peer", program, "-peer-args", "--a  run:--b", "-peer-variables", "A=1 B=x=y", "-peer-no-config")
	if err != nil {
		t.Fatal(err)
	}
	if want := (civar.List{civar.Public("A", "1"), civar.Public("B", "x=y")}); !slices.Equal(d.variables, want) {
		t.Errorf("variables: %v", d.variables)
	}
	if d.name != "other-driver" || !d.noConfig || !slices.Equal(d.args("run"), []string{"run", "--a", "--b"}) {
		t.Errorf("got %+v", d)
	}
	if got := d.job("base").Variables; !slices.Equal(got, d.variables) {
		t.Errorf("its jobs have the variables %v", got)
	}
	if _, err := parse("-peer", program, "-peer-variables", "A"); err == nil {
		t.Error("a variable without a value is no error")
	}
}

func TestFailure(t *testing.T) {
	d := &driver{name: "x"}
	for name, c := range map[string]struct {
		result trial.Result
		fails  bool
	}{
		"well":                 {trial.Result{Status: trial.Success, PrepareAttempts: 1}, false},
		"failed":               {trial.Result{Status: trial.Failed, PrepareAttempts: 1}, true},
		"only the second time": {trial.Result{Status: trial.Success, PrepareAttempts: 2}, false},
	} {
		if err := failure(d, &c.result); (err != nil) != c.fails {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestParse(t *testing.T) {
	for _, args := range [][]string{{"-only", "nothing"}, {"word"}, {"-runs", "-1"}, {"-jobs", "0"}, {"-unknown"}} {
		if _, err := parse(args, io.Discard); err == nil {
			t.Errorf("%q is no error", args)
		}
	}
	o, err := parse([]string{"-quick", "-only", "run,keeper"}, io.Discard)
	if err != nil || o.runs != 2 || !o.wants("run") || !o.wants("keeper") || o.wants("config") {
		t.Errorf("got %+v, %v", o, err)
	}
	if o, err = parse(nil, io.Discard); err != nil || o.runs != 10 || !o.wants("config") {
		t.Errorf("got %+v, %v", o, err)
	}
}

func TestTimeIn(t *testing.T) {
	got, err := timeIn([]byte("a greeting of 2026\n1795520812651885971\n"))
	if err != nil || got.UnixNano() != 1795520812651885971 {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := timeIn([]byte("17955208126\n")); err == nil {
		t.Error("no time is no error")
	}
}

func TestDescribeCalls(t *testing.T) {
	got := describeCalls(map[string][]float64{"ip": {3, 4, 4}, "clone": {1, 1, 1}, "stop": {1}}, 3)
	if want := "clone 1, ip 4, stop 0"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
