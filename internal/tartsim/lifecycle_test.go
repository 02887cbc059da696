//go:build linux

package tartsim_test

import (
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"gitlab-runner-tart-driver/internal/tartsim/guest"
	"gitlab-runner-tart-driver/internal/tartsim/simconf"
	"gitlab-runner-tart-driver/internal/tartsim/tarthome"
)

// plain makes the bench use guests without isolation, which start quickest, and prepares an image.
func (b *bench) plain(extra map[string]any) {
	b.t.Helper()
	config := map[string]any{"isolation": simconf.IsolationNone, "ssh_port": 2222}
	for key, value := range extra {
		config[key] = value
	}
	b.configure(config)
	b.sim("init")
}

func TestSSHFaults(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.plain(nil)
	for fault, check := range map[string]func(address string) error{
		simconf.SSHDNever: func(address string) error {
			_, err := net.Dial("tcp", address)
			if !errors.Is(err, syscall.ECONNREFUSED) {
				return errors.Join(errors.New("want connection refused"), err)
			}
			return nil
		},
		simconf.SSHDDrops: func(address string) error {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				return err
			}
			defer func() { _ = conn.Close() }()
			if data, err := io.ReadAll(conn); err != nil || len(data) > 0 {
				return errors.Join(errors.New("want the end at once"), err)
			}
			return nil
		},
		simconf.SSHDRefusesAuth: func(address string) error {
			_, err := ssh.Dial("tcp", address, clientConfig("admin", "admin"))
			if err == nil || !strings.Contains(err.Error(), "unable to authenticate") {
				return errors.Join(errors.New("want a refused login"), err)
			}
			return nil
		},
	} {
		b.sim("fault", "set", fault, "--vm", "vm-"+fault)
		b.must("clone", "base", "vm-"+fault)
		b.sim("fault", "list")
		r := b.start("vm-" + fault)
		address := r.address()
		b.until(fault, func() error { return check(address) })
		b.must("stop", "vm-"+fault)
		r.wait()
	}
}

func TestFrozenGuestDoesNotAnswer(t *testing.T) {
	t.Parallel()
	levels(t, func(t *testing.T, b *bench, _ guest.Level) { frozen(t, b) })
}

func frozen(t *testing.T, b *bench) {
	b.must("clone", "base", "vm")
	r := b.start("vm")
	client := r.login()
	mustShell(t, client, "true")
	b.sim("freeze", "vm")
	answered := make(chan error, 1)
	go func() {
		_, _, err := client.SendRequest("keepalive@openssh.com", true, nil)
		answered <- err
	}()
	select {
	case err := <-answered:
		t.Errorf("a frozen guest answers: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	b.sim("thaw", "vm")
	select {
	case err := <-answered:
		if err != nil {
			t.Errorf("after thawing: %v", err)
		}
	case <-time.After(patience):
		t.Error("a thawed guest doesn't answer")
	}
	b.sim("freeze", "vm")
	b.must("stop", "vm")
	if code := r.wait(); code != 0 {
		t.Errorf("exit status of a run that was stopped frozen: %d", code)
	}
}

func TestProgressIsWrittenOverItselfWithoutCI(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.plain(nil)
	b.env = append(b.env[:3:3], "TART_NO_AUTO_PRUNE=") // all but CI
	if out := b.must("pull", "registry.test/macos/base:latest"); !strings.Contains(out, "\n0%\n\x1b[1A\r\x1b[J100%\n") {
		t.Errorf("%q", out)
	}
}

func TestStaleLease(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.plain(nil)
	b.sim("image", "create", "slow", "--lease-delay", "1h")
	b.sim("fault", "set", simconf.StaleLease)
	b.must("clone", "slow", "waits")
	waits := b.start("waits")
	real, stale := waits.record().Address, ""
	b.until("a lease", func() error {
		stale = strings.TrimSpace(b.tart("ip", "waits").stdout)
		if stale == "" {
			return errors.New("none")
		}
		return nil
	})
	if stale == real {
		t.Fatalf("the stale lease is the real one, %s", real)
	}
	b.must("clone", "base", "vm")
	real = b.start("vm").record().Address
	b.until("the real lease", func() error {
		if got := strings.TrimSpace(b.tart("ip", "vm").stdout); got != real {
			return errors.New("still " + got)
		}
		return nil
	})
}

func TestAddressesAreNotShared(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for range 2 {
		b := newBench(t)
		b.plain(map[string]any{"max_vms": 3})
		for _, name := range []string{"a", "b", "c"} {
			b.must("clone", "base", name)
			address := b.start(name).record().Address
			if other, taken := seen[address]; taken {
				t.Errorf("%s and %s have the address %s", other, name, address)
			}
			seen[address] = name
		}
	}
	// The same VM gets its old address again, as from a DHCP server that remembers.
	b := newBench(t)
	b.plain(nil)
	b.must("clone", "base", "vm")
	first := b.start("vm")
	was := first.record().Address
	b.must("ip", "vm", "--wait", "120")
	b.must("stop", "vm")
	first.wait()
	if got := b.start("vm").record().Address; got != was {
		t.Errorf("address after a restart: %s, before %s", got, was)
	}
}

func TestMACAddressOfClones(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.plain(nil)
	mac := func(name string) string {
		config, err := (&tarthome.Home{Dir: b.home}).VM(name).Config()
		if err != nil {
			t.Fatal(err)
		}
		return config.MAC
	}
	b.must("clone", "base", "one")
	if mac("one") == mac("base") {
		t.Error("a clone of a local VM keeps the address that the VM has")
	}
	// The first clone of an image keeps the image's, the next one does not.
	b.must("clone", "registry.test/macos/base:latest", "two")
	b.must("clone", "registry.test/macos/base:latest", "three")
	if mac("two") == mac("three") {
		t.Error("two clones of an image have one address")
	}
	b.must("delete", "two", "three")
	b.must("clone", "registry.test/macos/base:latest", "four")
	was := mac("four")
	b.must("delete", "four")
	b.must("clone", "registry.test/macos/base:latest", "five")
	if mac("five") != was {
		t.Error("a lone clone of an image has another address than the last one")
	}
	b.must("set", "five", "--random-mac")
	if mac("five") == was {
		t.Error("--random-mac keeps the address")
	}
}

func TestCloneReplacesARunningVM(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.plain(nil)
	b.must("clone", "base", "vm")
	old := b.start("vm")
	old.login()
	b.must("clone", "base", "vm")
	if out := b.must("list", "--format", "json"); strings.Contains(out, `"running"`) {
		t.Errorf("the replaced VM is still listed as running: %s", out)
	}
	if out := b.tart("stop", "vm"); out.code != 2 {
		t.Errorf("stop of the new VM: %+v", out)
	}
	// The old run lives on until somebody ends it.
	select {
	case <-old.ended:
		t.Fatalf("the old run has ended: %q", old.stdout)
	default:
	}
	fresh := b.start("vm")
	fresh.record()
	if err := old.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := old.wait(); code != 0 {
		t.Errorf("exit status of the old run: %d", code)
	}
	b.sim("poweroff", "vm")
	if code := fresh.wait(); code != 0 {
		t.Errorf("exit status of the new run: %d", code)
	}
}
