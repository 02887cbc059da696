//go:build linux

package tartsim_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"gitlab-runner-tart-driver/internal/tartsim/guest"
	"gitlab-runner-tart-driver/internal/tartsim/simconf"
)

func TestExecInIsolatedGuests(t *testing.T) {
	t.Parallel()
	isolatedLevels(t, func(t *testing.T, b *bench, level guest.Level) {
		b.must("clone", "base", "vm")
		r := b.start("vm")
		r.record()
		if got := b.must("exec", "vm", "sh", "-c", "id -un; pwd; tty || true"); got != "admin\n/Users/admin\nnot a tty\n" {
			t.Errorf("a command: %q", got)
		}
		// More than any buffer on the way holds, through both directions.
		data := make([]byte, 3<<20)
		random := rand.New(rand.NewPCG(1, 2))
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		out := b.call(filepath.Join(binDir, "tart"), string(data), "exec", "-i", "vm", "cat")
		if out.code != 0 || !bytes.Equal([]byte(out.stdout), data) {
			t.Errorf("%d bytes of %d come back, exit status %d, stderr %q", len(out.stdout), len(data), out.code, out.stderr)
		}
		if out := b.tart("exec", "vm", "sh", "-c", "sudo id -u"); level == guest.LevelRoot && out.stdout != "0\n" {
			t.Errorf("sudo by the agent: %+v", out)
		}
	})
}

// TestCommandOfADeadClient checks what becomes of a command when the `tart exec` that started it is killed.
func TestCommandOfADeadClient(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.plain(nil)
	b.must("clone", "base", "new")
	b.must("clone", "base", "old")
	vm := filepath.Join(b.home, "vms", "old")
	image, err := simconf.LoadImage(vm)
	if err != nil {
		t.Fatal(err)
	}
	image.AgentKeeps = true
	if err := image.Save(vm); err != nil {
		t.Fatal(err)
	}
	for name, survives := range map[string]bool{"new": false, "old": true} {
		b.start(name).record()
		token := fmt.Sprint(200000 + rand.IntN(100000))
		exec := b.command(filepath.Join(binDir, "tart"), "exec", name, "sh", "-c", "sleep "+token+"; true")
		exec.SysProcAttr.Pdeathsig = 0
		if err := exec.Start(); err != nil {
			t.Fatal(err)
		}
		b.until("the command runs", func() error { return wantSleeping(token, true) })
		_ = exec.Process.Kill()
		_ = exec.Wait()
		if survives {
			// Another command has come and gone: there was time enough to end the first.
			b.must("exec", name, "true")
			if err := wantSleeping(token, true); err != nil {
				t.Errorf("an old agent: %v", err)
			}
			continue
		}
		b.until("the command is killed", func() error { return wantSleeping(token, false) })
	}
}

// TestBuiltinServerWithRootIsolation is the case of a machine without sshd.
func TestBuiltinServerWithRootIsolation(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.isolate(guest.LevelRoot)
	b.configure(map[string]any{"isolation": guest.LevelRoot, "ssh_server": simconf.SSHBuiltin})
	b.must("clone", "base", "vm")
	r := b.start("vm")
	client := r.login()
	if record := r.record(); record.SSHServer != simconf.SSHBuiltin || record.Port != 22 {
		t.Errorf("record: %+v", record)
	}
	if got := mustShell(t, client, "id -un; sudo id -u; cat /etc/hostname"); got != "admin\n0\nadmins-Virtual-Machine.local" {
		t.Errorf("a session: %q", got)
	}
}
