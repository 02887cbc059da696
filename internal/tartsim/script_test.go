//go:build linux

package tartsim_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"gitlab-runner-tart-driver/internal/tartsim/tartcmd"
	"gitlab-runner-tart-driver/internal/tartsim/tarthome"
)

// TestScripts are Tart's command-line contracts: streams, texts, exit statuses. Their guests need no isolation.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			home := filepath.Join(env.WorkDir, "tart")
			env.Setenv("PATH", binDir+string(filepath.ListSeparator)+filepath.Dir(program)+string(filepath.ListSeparator)+env.Getenv("PATH"))
			env.Setenv("TART_HOME", home)
			env.Setenv("HOME", filepath.Join(env.WorkDir, "user"))
			env.Setenv("CI", "1")
			if err := os.MkdirAll(home, 0o755); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(home, "tartsim.json"), []byte(`{"isolation": "none", "ssh_port": 2222}`), 0o644)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"status":  status,
			"started": started,
			"stopped": stopped,
		},
	})
}

// status runs a program and checks its exit status: `status 2 tart get missing`.
func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status CODE PROGRAM [ARGS...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		got = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%q: %v", args[1:], err)
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

func home(ts *testscript.TestScript) *tarthome.Home {
	return &tarthome.Home{Dir: ts.Getenv("TART_HOME")}
}

// started waits until a VM's guest is up: `started NAME`.
func started(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: started NAME")
	}
	vm := home(ts).VM(args[0])
	poll(ts, "the guest of "+args[0]+" is up", func() error {
		pid, err := vm.RunPID()
		if err != nil {
			return err
		}
		record, err := tartcmd.LoadRunRecord(vm)
		if err == nil && (pid == 0 || record.PID != pid) {
			err = fmt.Errorf("it is run by %d, the record is of %d", pid, record.PID)
		}
		if err == nil {
			err = takesOrders(vm)
		}
		return err
	})
}

// stopped waits until nobody runs a VM: `stopped NAME`.
func stopped(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: stopped NAME")
	}
	poll(ts, args[0]+" is stopped", func() error {
		pid, err := home(ts).VM(args[0]).RunPID()
		if err == nil && pid != 0 {
			err = fmt.Errorf("%d runs it", pid)
		}
		return err
	})
}

func poll(ts *testscript.TestScript, what string, try func() error) {
	deadline := time.Now().Add(patience)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s: not within %s: %v", what, patience, err)
		}
		<-time.After(5 * time.Millisecond)
	}
}
