//go:build linux

package tartsim_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"gitlab-runner-tart-driver/internal/tartsim/guest"
)

// netns is a network namespace of the test's own, without a way out.
type netns struct{ pid int }

// newNetNS makes one; it lives as long as the process that holds it.
func newNetNS(t *testing.T) netns {
	t.Helper()
	for _, program := range []string{"ip", "nsenter", "sleep"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs the command %s: %v", program, err)
		}
	}
	holder := exec.Command("sleep", "1000")
	holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	if err := holder.Start(); err != nil {
		t.Skipf("no network namespace to be had: %v", err)
	}
	t.Cleanup(func() {
		_ = holder.Process.Kill()
		_ = holder.Wait()
	})
	return netns{pid: holder.Process.Pid}
}

// enter makes a bench call everything inside the namespace.
func (n netns) enter(b *bench) {
	b.wrap = []string{"nsenter", "--net=/proc/" + strconv.Itoa(n.pid) + "/ns/net", "--"}
}

// dial connects from inside the namespace. The thread that does it is thrown away.
func (n netns) dial(address string) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread()
		var r result
		defer func() { done <- r }()
		file, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", n.pid))
		if err != nil {
			r.err = err
			return
		}
		defer func() { _ = file.Close() }()
		if r.err = unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); r.err == nil {
			r.conn, r.err = net.DialTimeout("tcp", address, patience)
		}
	}()
	r := <-done
	return r.conn, r.err
}

func (n netns) login(t *testing.T, r *run) (*ssh.Client, net.Conn) {
	t.Helper()
	record := r.record()
	address := net.JoinHostPort(record.Address, strconv.Itoa(record.Port))
	var client *ssh.Client
	var raw net.Conn
	r.b.until("SSH to "+address, func() error {
		conn, err := n.dial(address)
		if err != nil {
			return err
		}
		c, channels, requests, err := ssh.NewClientConn(conn, address, clientConfig("admin", "admin"))
		if err != nil {
			_ = conn.Close()
			return err
		}
		client, raw = ssh.NewClient(c, channels, requests), conn
		return nil
	})
	t.Cleanup(func() { _ = client.Close() })
	return client, raw
}

func TestGuestsWithNetworksOfTheirOwn(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.isolate(guest.LevelRoot)
	n := newNetNS(t)
	n.enter(b)
	b.configure(map[string]any{"isolation": guest.LevelRoot, "network": "netns"})
	for _, name := range []string{"one", "two"} {
		b.must("clone", "base", name)
	}
	one, two := b.start("one"), b.start("two")
	client, raw := n.login(t, one)
	if ip := b.must("ip", "one"); !strings.HasPrefix(ip, "192.168.64.") || ip != one.record().Address+"\n" {
		t.Errorf("ip: %q, record %q", ip, one.record().Address)
	}
	// The guest's own loopback is not the host's, and guests reach each other.
	n.login(t, two)
	other := two.record().Address
	if got := mustShell(t, client, "exec 3<>/dev/tcp/"+other+"/22 && head -c 4 <&3 || bash -c 'exec 3<>/dev/tcp/"+other+"/22 && head -c 4 <&3'"); got != "SSH-" {
		t.Errorf("guest to guest: %q", got)
	}

	// A power cut: nobody tells the client that the guest is gone.
	b.sim("powercut", "one")
	if code := one.wait(); code != 128+int(syscall.SIGKILL) {
		t.Errorf("exit status after a power cut: %d", code)
	}
	if _, err := raw.Write(make([]byte, 1)); err != nil {
		t.Errorf("the connection knows of the power cut: %v", err)
	}
	if err := raw.SetReadDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if err := client.Wait(); err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection after a power cut: %v, want nothing but silence", err)
	}
	// The next run is not disturbed by what the kernel keeps of the cut one, and nothing at all is left of a stopped one.
	n.login(t, b.start("one"))
	b.must("stop", "one")
	b.must("stop", "two")
	two.wait()
	b.until("the links are gone", func() error {
		out, err := exec.Command("nsenter", "--net=/proc/"+strconv.Itoa(n.pid)+"/ns/net", "ip", "-o", "link").Output()
		if err == nil && strings.Contains(string(out), ": tsim") {
			err = fmt.Errorf("links: %s", out)
		}
		return err
	})
}

func TestNetNSIsRefusedWhereThereIsAWayOut(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("ip", "route", "show", "default").Output()
	if err != nil || len(out) == 0 {
		t.Skipf("this needs a machine with a default route: %q, %v", out, err)
	}
	b := newBench(t)
	b.configure(map[string]any{"network": "netns"})
	b.sim("init")
	b.must("clone", "base", "vm")
	if r := b.start("vm"); r.wait() != 125 || !strings.Contains(r.stderr.String(), "unshare --net") {
		t.Errorf("exit status %d, stderr %q", r.wait(), r.stderr)
	}
}
