package tart

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// keepsVMs is a fake that has VMs as tart has: a VM is a directory with a config.json. It runs while there is a file `running` in it.
const keepsVMs = `[ $1 != list ] || { echo '[{"Source":"local","Name":"vm"}]'; exit; }
eval "name=\${$#}"
vm="$here/.tart/vms/$name"
[ -e "$vm/config.json" ] || { echo "the specified VM \"$name\" does not exist" >&2; exit 2; }
case $1 in
delete)
	[ -e "$vm/running" ] && { echo "VM \"$name\" is running" >&2; exit 1; }
	[ -e "$vm/stuck" ] && { rm "$vm/stuck"; echo "something else went wrong" >&2; exit 1; }
	rm -r "$vm";;
stop)
	[ -e "$vm/running" ] || { echo "VM \"$name\" is not running" >&2; exit 2; }
	rm "$vm/running";;
esac`

func vm(t *testing.T, f *fake, name string, files ...string) (dir string) {
	t.Helper()
	dir = filepath.Join(f.dir, ".tart", "vms", name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if err := os.WriteFile(filepath.Join(dir, file), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestDestroy(t *testing.T) {
	for _, c := range []struct {
		name  string
		files []string
		calls []string
	}{
		{"stopped", []string{"config.json", "disk.img"}, []string{"delete vm"}},
		{"running", []string{"config.json", "running"}, []string{"delete vm", "stop --timeout 1 vm", "delete vm"}},
		{"leftover without config.json", []string{"disk.img"}, []string{"delete vm"}},
		{"fails once", []string{"config.json", "stuck"}, []string{"delete vm", "list --format json", "delete vm"}},
	} {
		f := newFake(t, keepsVMs)
		dir := vm(t, f, "vm", c.files...)
		other := vm(t, f, "other", "config.json")
		if err := f.client().Destroy(t.Context(), "vm"); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: its directory is still there (%v)", c.name, err)
		}
		if _, err := os.Lstat(other); err != nil {
			t.Errorf("%s: another VM is gone: %v", c.name, err)
		}
		if got := f.calls(); !slices.Equal(got, c.calls) {
			t.Errorf("%s: calls %q, want %q", c.name, got, c.calls)
		}
	}
}

func TestDestroyWithoutVM(t *testing.T) {
	f := newFake(t, keepsVMs)
	for range 2 {
		if err := f.client().Destroy(t.Context(), "vm"); err != nil {
			t.Errorf("no VM to destroy: %v", err)
		}
	}
}

func TestDestroyRefusesWhatIsNoName(t *testing.T) {
	f := newFake(t, "")
	for _, name := range []string{"", ".", "..", "/", "a/b", "../x", "/etc", "x/..", "ghcr.io/o/macos:15"} {
		if err := f.client().Destroy(t.Context(), name); err == nil {
			t.Errorf("%q passes", name)
		}
	}
	if calls := f.calls(); len(calls) != 0 {
		t.Errorf("tart was called: %q", calls)
	}
}

func TestDestroyEndsWithItsContext(t *testing.T) {
	f := newFake(t, `echo try > "$here/bell"; echo "a disk on fire" >&2; exit 1`)
	bell := newBell(t, filepath.Join(f.dir, "bell"))
	cause := errors.New("cleanup is to end")
	ctx, cancel := context.WithCancelCause(t.Context())
	failed := make(chan error, 1)
	go func() { failed <- f.client().Destroy(ctx, "vm") }()
	for range 3 { // it goes on trying
		bell.await()
	}
	cancel(cause)
	err := <-failed
	if !errors.Is(err, cause) {
		t.Errorf("error %v, want the cause", err)
	}
}

// TestDestroyKnowsWhatIsGone has a tart that says in its own words that there is no such VM.
func TestDestroyKnowsWhatIsGone(t *testing.T) {
	f := newFake(t, `case $1 in list) echo '[{"Source":"local","Name":"other"},{"Source":"OCI","Name":"vm"}]';; *) echo "VM not found: vm" >&2; exit 2;; esac`)
	if err := f.client().Destroy(t.Context(), "vm"); err != nil {
		t.Error(err)
	}
	if got := f.calls(); !slices.Equal(got, []string{"delete vm", "list --format json"}) {
		t.Errorf("calls %q", got)
	}
}

// TestDestroyIsPatient has a tart that takes longer to delete a VM than repetitions may take altogether.
func TestDestroyIsPatient(t *testing.T) {
	t.Parallel()
	f := newFake(t, keepsVMs)
	dir := vm(t, f, "vm", "config.json")
	slow := newFake(t, `sleep 6; exec `+f.path+` "$@"`)
	if err := slow.client().Destroy(t.Context(), "vm"); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the VM is still there (%v)", err)
	}
}
