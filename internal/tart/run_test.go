package tart

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gitlab-runner-tart-driver/internal/proc"
)

// forever keeps a fake `tart run` alive until it gets SIGINT, and tells when it has armed itself.
const forever = `trap 'echo "Stopping VM..."; kill -KILL $!; exit 0' INT
sleep 600 > /dev/null 2>&1 &
echo armed > "$here/bell"
wait`

// startRun starts `tart run vm` and sees to it that nothing of it outlives the test.
func startRun(t *testing.T, f *fake, inherit ...*os.File) *Run {
	t.Helper()
	r, err := f.client().StartRun("vm", RunOptions{LogPath: filepath.Join(f.dir, "log")}, inherit, func(proc.ID) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.ID().SignalGroup(syscall.SIGKILL)
		<-r.Ended()
	})
	return r
}

func TestRunArguments(t *testing.T) {
	base := "run vm --no-audio --no-clipboard"
	for want, opt := range map[string]RunOptions{
		base + " --no-graphics":                     {},
		base:                                        {Graphics: true},
		"run vm --no-graphics":                      {Plain: true, RootDiskOpts: "sync=none"},
		base + " --no-graphics --vnc":               {VNC: true},
		base + " --no-graphics --net-softnet":       {Softnet: true},
		base + " --no-graphics --vnc --net-softnet": {Softnet: true, VNC: true},
		base + " --root-disk-opts=sync=none --no-graphics --nested --disk=/a b --disk=/c:ro --dir=x:/d": {
			RootDiskOpts: "sync=none", Nested: true, Disks: []string{"/a b", "/c:ro"}, Dirs: []string{"x:/d"},
		},
		base + " --no-graphics --net-softnet-allow=10.0.0.0/8,192.168.1.0/24": {Softnet: true, SoftnetAllow: []string{"10.0.0.0/8", "192.168.1.0/24"}},
		base + " --no-graphics --net-bridged=en0":                             {Bridged: "en0", Softnet: true},
	} {
		if got := strings.Join(opt.args("vm"), " "); got != want {
			t.Errorf("%+v gives %q, want %q", opt, got, want)
		}
	}
}

func TestRunHasItsOwnSessionAndLog(t *testing.T) {
	f := newFake(t, forever)
	bell := newBell(t, filepath.Join(f.dir, "bell"))
	logPath := filepath.Join(f.dir, "log")
	if err := os.WriteFile(logPath, []byte("earlier\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := startRun(t, f)
	if r.Reason() != nil {
		t.Error("there is a reason for its end while it runs")
	}
	bell.await()
	pid := r.ID().PID
	sid, err := unix.Getsid(pid)
	if err != nil || sid != pid {
		t.Errorf("its session is %d (%v), want its own, %d", sid, err, pid)
	}
	if ours, _ := unix.Getsid(0); ours == sid {
		t.Error("its session is ours")
	}
	if !r.ID().Alive() {
		t.Error("its ID is of no living process")
	}
	r.PowerOff(time.Minute)
	if got := f.file("log"); got != "earlier\nStopping VM...\n" {
		t.Errorf("log is %q", got)
	}
	reason := r.Reason()
	if reason == nil || reason.ExitCode != 0 || reason.Text != "Stopping VM..." || reason.Kind != KindOther {
		t.Errorf("reason %+v", reason)
	}
	if want := []string{"run vm --no-audio --no-clipboard --no-graphics"}; !slices.Equal(f.calls(), want) {
		t.Errorf("calls %q", f.calls())
	}
	if env := strings.Join(f.environ("run"), "\n"); strings.Contains(env, "TART_REGISTRY") || !strings.Contains(env, "CI=1\n") {
		t.Errorf("its environment is %s", env)
	}
}

func TestRunIsToldOfBeforeThereIsAVM(t *testing.T) {
	f := newFake(t, forever)
	bell := newBell(t, filepath.Join(f.dir, "bell"))
	var told proc.ID
	r, err := f.client().StartRun("vm", RunOptions{LogPath: filepath.Join(f.dir, "log")}, nil, func(id proc.ID) error {
		told = id
		if !id.Alive() {
			t.Error("the process that was told does not live")
		}
		if calls := f.calls(); len(calls) != 0 {
			t.Errorf("tart runs already: %q", calls)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	bell.await()
	if told != r.ID() {
		t.Errorf("told %v, is %v", told, r.ID())
	}
	r.PowerOff(time.Minute)
}

func TestNoVMWhereItCouldNotBeWrittenDown(t *testing.T) {
	f := newFake(t, forever)
	full := errors.New("disk is full")
	var told proc.ID
	r, err := f.client().StartRun("vm", RunOptions{LogPath: filepath.Join(f.dir, "log")}, nil, func(id proc.ID) error {
		told = id
		return full
	})
	if r != nil || !errors.Is(err, full) {
		t.Errorf("got %v, %v", r, err)
	}
	if told.PID == 0 || told.Alive() {
		t.Errorf("the process %v still lives", told)
	}
	if calls := f.calls(); len(calls) != 0 {
		t.Errorf("tart ran: %q", calls)
	}
}

func TestRunWithoutLog(t *testing.T) {
	f := newFake(t, forever)
	r, err := f.client().StartRun("vm", RunOptions{LogPath: filepath.Join(f.dir, "no", "log")}, nil, func(proc.ID) error {
		t.Error("started without a log")
		return nil
	})
	if r != nil || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, %v", r, err)
	}
}

func TestRunKeepsALockUntilItEnds(t *testing.T) {
	f := newFake(t, forever)
	bell := newBell(t, filepath.Join(f.dir, "bell"))
	path := filepath.Join(f.dir, "slot")
	slot, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(slot.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Fatal(err)
	}
	r := startRun(t, f, slot)
	bell.await()
	if err := slot.Close(); err != nil {
		t.Fatal(err)
	}
	other, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := unix.Flock(int(other.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("while it runs, locking gives %v, want EWOULDBLOCK", err)
	}
	r.ID().SignalGroup(syscall.SIGKILL) // with all that the fake has started
	<-r.Ended()
	// A killed process's children may take an instant longer to close what they have.
	if err := unix.Flock(int(other.Fd()), unix.LOCK_EX); err != nil {
		t.Errorf("after its end: %v", err)
	}
}

func TestPowerOffOfWhatIgnoresSIGINT(t *testing.T) {
	f := newFake(t, `trap '' INT
sleep 600 > /dev/null 2>&1 &
echo armed > "$here/bell"
wait`)
	bell := newBell(t, filepath.Join(f.dir, "bell"))
	for _, powerOff := range []func(*Run){
		func(r *Run) { r.PowerOff(20 * time.Millisecond) },
		func(r *Run) { PowerOffOrphan(r.ID(), 20*time.Millisecond) },
	} {
		r := startRun(t, f)
		bell.await()
		powerOff(r)
		<-r.Ended()
		if r.ID().Alive() {
			t.Error("it still lives")
		}
		reason := r.Reason()
		if reason.ExitCode != -1 || reason.Text != "killed by SIGKILL" {
			t.Errorf("reason %+v", reason)
		}
	}
}

func TestPowerOffOfWhatHasEnded(t *testing.T) {
	f := newFake(t, "exit 0")
	r := startRun(t, f)
	<-r.Ended()
	r.PowerOff(time.Minute)
	PowerOffOrphan(r.ID(), time.Minute)
	PowerOffOrphan(proc.ID{}, time.Minute)
}

func TestReasons(t *testing.T) {
	for _, c := range []struct {
		body, log string
		kind      Kind
		code      int
		text      string
	}{
		{"exit 0", "guest has stopped the virtual machine\n", KindOther, 0, "guest has stopped the virtual machine"},
		{"exit 1", "The number of VMs exceeds the system limit (other running VMs: a, b)\n", KindVMLimit, 1,
			"The number of VMs exceeds the system limit (other running VMs: a, b)"},
		{"exit 1", "Error: the specified VM \"vm\" does not exist\n", KindNoSuchVM, 1, "the specified VM \"vm\" does not exist"},
		{"exit 64", "Error: Unknown option '--no-audio'\nUsage: tart run\n", KindUsage, 64, "Unknown option '--no-audio'"},
		{"exit 1", "", KindOther, 1, ""},
	} {
		r := startRun(t, newFake(t, fmt.Sprintf("printf %%s %s >&2\n%s", shellQuote(c.log), c.body)))
		<-r.Ended()
		got := r.Reason()
		if got.Kind != c.kind || got.ExitCode != c.code || got.Text != c.text || got.Command != "run" {
			t.Errorf("%s after %q: got %+v", c.body, c.log, got)
		}
		if (got.Err != nil) != (c.code != 0) {
			t.Errorf("%s: underlying error %v", c.body, got.Err)
		}
	}
}

func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// TestReasonIsThisRunsOwn starts a VM again, in the log of a run that hit the limit.
func TestReasonIsThisRunsOwn(t *testing.T) {
	f := newFake(t, "echo Failed to restore >&2; exit 1")
	log := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(log, []byte("The number of VMs exceeds the system limit\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := f.client().StartRun("vm", RunOptions{LogPath: log}, nil, func(proc.ID) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	<-r.Ended()
	if got := r.Reason(); got.Kind != KindOther || got.Text != "Failed to restore" {
		t.Errorf("reason %+v", got)
	}
}

func TestTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if got := Tail(path, 10); len(got) != 0 {
		t.Errorf("of no file: %q", got)
	}
	if err := os.WriteFile(path, []byte("0123456789"), 0o600); err != nil {
		t.Fatal(err)
	}
	for n, want := range map[int64]string{0: "", 1: "9", 4: "6789", 10: "0123456789", 1 << 20: "0123456789"} {
		if got := Tail(path, n); string(got) != want {
			t.Errorf("last %d bytes: %q, want %q", n, got, want)
		}
	}
}
