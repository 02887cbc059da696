//go:build linux

package tartsim_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"gitlab-runner-tart-driver/internal/tartsim/guest"
	"gitlab-runner-tart-driver/internal/tartsim/tartcmd"
	"gitlab-runner-tart-driver/internal/tartsim/tarthome"
)

// program is the built binary, and binDir a directory where it is named tart; TestMain makes them.
var program, binDir string

func TestMain(m *testing.M) {
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func runTests(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "tartsim")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	// Other users must be able to run it: tests without privileges do.
	if err := os.Chmod(dir, 0o755); err != nil {
		return 0, err
	}
	program, binDir = filepath.Join(dir, "tartsim"), filepath.Join(dir, "bin")
	build := exec.Command("go", "build", "-o", program, "gitlab-runner-tart-driver/cmd/tartsim")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("build tartsim: %w: %s", err, out)
	}
	if out, err := exec.Command(program, "install", binDir).CombinedOutput(); err != nil {
		return 0, fmt.Errorf("install: %w: %s", err, out)
	}
	return m.Run(), nil
}

// patience bounds every wait of the tests; none of them is expected to take long.
const patience = 2 * time.Minute

// bench is a TART_HOME of one test and a way to call tart in it.
type bench struct {
	t    *testing.T
	home string
	env  []string
	uid  int      // who calls; -1: whoever runs the tests
	wrap []string // put before every command line
}

func newBench(t *testing.T) *bench {
	t.Helper()
	home, err := os.MkdirTemp("", "ts")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tarthome.RemoveTree(home); err != nil {
			t.Errorf("what is left can't be removed: %v", err)
		}
	})
	return &bench{t: t, home: home, uid: -1, env: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home + "/nobody", "TART_HOME=" + home, "CI=1"}}
}

// outcome is how a call ended.
type outcome struct {
	stdout, stderr string
	code           int
}

func (b *bench) command(name string, args ...string) *exec.Cmd {
	words := append(append([]string{}, b.wrap...), append([]string{name}, args...)...)
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Env = b.env
	cmd.Dir = b.home
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if b.uid >= 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(b.uid), Gid: uint32(b.uid)}
	}
	return cmd
}

func (b *bench) call(name, stdin string, args ...string) outcome {
	b.t.Helper()
	cmd := b.command(name, args...)
	cmd.SysProcAttr.Pdeathsig = 0 // the thread of a test may end before its children
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		b.t.Fatalf("%s %q: %v", name, args, err)
	}
	return outcome{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// tart calls tart.
func (b *bench) tart(args ...string) outcome {
	b.t.Helper()
	return b.call(filepath.Join(binDir, "tart"), "", args...)
}

// must calls tart and fails the test unless it succeeds; it returns standard output.
func (b *bench) must(args ...string) string {
	b.t.Helper()
	out := b.tart(args...)
	if out.code != 0 {
		b.t.Fatalf("tart %q: exit status %d, stderr %q", args, out.code, out.stderr)
	}
	return out.stdout
}

// sim calls tartsim and fails the test unless it succeeds; it returns standard output.
func (b *bench) sim(args ...string) string {
	b.t.Helper()
	out := b.call(program, "", args...)
	if out.code != 0 {
		b.t.Fatalf("tartsim %q: exit status %d, stderr %q", args, out.code, out.stderr)
	}
	return out.stdout
}

// configure writes tartsim.json.
func (b *bench) configure(config map[string]any) {
	b.t.Helper()
	data, err := json.Marshal(config)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b.home, "tartsim.json"), data, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// run is a `tart run` under way.
type run struct {
	b              *bench
	name           string
	cmd            *exec.Cmd
	stdout, stderr *lockedBuffer
	ended          chan struct{}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// start starts `tart run NAME --no-graphics ARGS...`; the test's end kills it.
func (b *bench) start(name string, args ...string) *run {
	b.t.Helper()
	r := &run{b: b, name: name, stdout: &lockedBuffer{}, stderr: &lockedBuffer{}, ended: make(chan struct{})}
	r.cmd = b.command(filepath.Join(binDir, "tart"), append([]string{"run", name, "--no-graphics"}, args...)...)
	r.cmd.SysProcAttr.Pdeathsig = 0
	r.cmd.Stdout, r.cmd.Stderr = r.stdout, r.stderr
	if err := r.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	go func() {
		_ = r.cmd.Wait() // tests look at the state
		close(r.ended)
	}()
	b.t.Cleanup(func() {
		_ = r.cmd.Process.Kill()
		<-r.ended
	})
	return r
}

// wait waits for the end of the run and returns its exit status; a signal counts as 128 and its number.
func (r *run) wait() int {
	r.b.t.Helper()
	select {
	case <-r.ended:
	case <-time.After(patience):
		r.b.t.Fatalf("tart run %s doesn't end; stdout %q, stderr %q", r.name, r.stdout, r.stderr)
	}
	if status, ok := r.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return r.cmd.ProcessState.ExitCode()
}

// record waits until the guest has been started and returns what sim-run.json says of it.
func (r *run) record() tartcmd.RunRecord {
	r.b.t.Helper()
	var record tartcmd.RunRecord
	vm := &tarthome.VM{Dir: filepath.Join(r.b.home, "vms", r.name), Name: r.name}
	r.b.until("the guest of "+r.name+" is started", func() error {
		select {
		case <-r.ended:
			r.b.t.Fatalf("tart run %s has ended: stdout %q, stderr %q", r.name, r.stdout, r.stderr)
		default:
		}
		var err error
		record, err = tartcmd.LoadRunRecord(vm)
		if err == nil && record.PID != r.cmd.Process.Pid {
			err = errors.New("the record is of an earlier run")
		}
		if err == nil {
			err = takesOrders(vm)
		}
		return err
	})
	return record
}

// takesOrders fails while `tartsim freeze` and its like don't reach a run: its socket comes after the guest, and a run that was killed leaves one.
func takesOrders(vm *tarthome.VM) error {
	conn, err := guest.DialUnix(vm.Path(tarthome.SocketName))
	if err == nil {
		err = conn.Close()
	}
	return err
}

// until tries something until it works.
func (b *bench) until(what string, try func() error) {
	b.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("%s: not within %s: %v", what, patience, err)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func clientConfig(user, password string) *ssh.ClientConfig {
	return &ssh.ClientConfig{
		User: user, Auth: []ssh.AuthMethod{ssh.Password(password)}, Timeout: patience,
		// The guests make up their keys.
		HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	}
}

func (r *run) address() string {
	record := r.record()
	return net.JoinHostPort(record.Address, strconv.Itoa(record.Port))
}

// login logs into the guest as soon as it can be reached.
func (r *run) login() *ssh.Client {
	r.b.t.Helper()
	address := r.address()
	var client *ssh.Client
	r.b.until("SSH to "+address, func() error {
		var err error
		client, err = ssh.Dial("tcp", address, clientConfig("admin", "admin"))
		return err
	})
	r.b.t.Cleanup(func() { _ = client.Close() })
	return client
}

// shell runs a command over SSH.
func shell(t *testing.T, client *ssh.Client, command string) (stdout, stderr string, err error) {
	t.Helper()
	session, err := client.NewSession()
	if err != nil {
		t.Fatalf("session: %v", err)
	}
	defer func() { _ = session.Close() }()
	var out, errOut bytes.Buffer
	session.Stdout, session.Stderr = &out, &errOut
	err = session.Run(command)
	return out.String(), errOut.String(), err
}

func mustShell(t *testing.T, client *ssh.Client, command string) string {
	t.Helper()
	out, errOut, err := shell(t, client, command)
	if err != nil {
		t.Fatalf("%s: %v; stdout %q, stderr %q", command, err, out, errOut)
	}
	return strings.TrimSpace(out)
}

func readAll(t *testing.T, path string) string {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	data, err := io.ReadAll(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
