package tart

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"gitlab-runner-tart-driver/internal/lazy"
	"gitlab-runner-tart-driver/internal/wait"
)

// VM is a row of `tart list --format json`. Fields that we don't use, and that come and go between versions, are left out.
type VM struct {
	// Source is "local" or "OCI".
	Source string `json:"Source"`
	// Name is a local VM's name, or an image's reference with its tag or digest.
	Name string `json:"Name"`
	// Size is what the files take on the disk, in GB (10⁹ bytes), rounded down. Blocks that a clone shares with its image count for both.
	Size Gigabytes `json:"Size"`
	// Accessed is when tart last opened it; the zero time for versions before 2.31.0.
	Accessed Time `json:"Accessed"`
	// State is "running", "suspended" or "stopped".
	State   string `json:"State"`
	Running bool   `json:"Running"`
}

// Local tells a VM from a cached image.
func (v VM) Local() bool { return v.Source == "local" }

// local finds a local VM in a list.
func local(vms []VM, name string) (VM, bool) {
	i := slices.IndexFunc(vms, func(vm VM) bool { return vm.Local() && vm.Name == name })
	if i < 0 {
		return VM{}, false
	}
	return vms[i], true
}

// listAttempts bounds the repetitions of a failed `tart list`.
const listAttempts = 4

// List lists local VMs and cached images. A VM or an image that is deleted while tart walks over them makes tart fail as a whole, so a failure is
// not taken for an answer at once. https://github.com/openai/tart/blob/main/Sources/tart/Commands/List.swift
func (c *Client) List(ctx context.Context) ([]VM, error) {
	for attempt := 1; ; attempt++ {
		done, err := c.run(ctx, options{}, "list", "--format", "json")
		if err == nil {
			return parseList(done.stdout)
		}
		switch KindOf(err) {
		case KindInterrupted, KindCannotRun, KindUsage:
			return nil, err
		}
		if attempt == listAttempts || wait.For(ctx, time.Duration(attempt)*50*time.Millisecond) != nil {
			return nil, err
		}
	}
}

func parseList(raw []byte) ([]VM, error) {
	var vms []VM
	if err := json.Unmarshal(raw, &vms); err != nil {
		return nil, &Error{Kind: KindOther, Command: "list", Err: fmt.Errorf("its JSON is not understood: %w", err)}
	}
	return vms, nil
}

var versionPattern = lazy.Regexp(`^\d+(\.\d+)*$`)

// Version is `tart --version`, "SNAPSHOT" for a development build.
func (c *Client) Version(ctx context.Context) (string, error) {
	done, err := c.run(ctx, options{}, "--version")
	if err != nil {
		return "", err
	}
	v := strings.TrimSpace(string(done.stdout))
	if !versionPattern().MatchString(v) && v != "SNAPSHOT" {
		return "", &Error{Kind: KindOther, Command: "--version", Err: fmt.Errorf("%q is not a version", v)}
	}
	return v, nil
}

// Credentials are a registry's user name and password, for one call.
type Credentials struct {
	// Host is the registry, with its port if it has one.
	Host     string
	Username string
	Password string
}

// environ hands credentials to tart where only that process sees them: not in its argv, and not through the keychain, which
// would keep them after the job. https://tart.run/integrations/vm-management/#working-with-a-remote-oci-container-registry
func (c *Credentials) environ() []string {
	if c == nil {
		return nil
	}
	return []string{"TART_REGISTRY_HOSTNAME=" + c.Host, "TART_REGISTRY_USERNAME=" + c.Username, "TART_REGISTRY_PASSWORD=" + c.Password}
}

// PullOptions are options of Pull.
type PullOptions struct {
	Credentials *Credentials
	// Insecure lets tart speak plain HTTP to the registry.
	Insecure bool
	// Concurrency is the number of layers at once, 0 for tart's default.
	Concurrency int
	// Line gets each line that tart prints.
	Line func(string)
}

// ErrDiscard as the cause of a context's end makes a pull give up what it has downloaded so far. Otherwise tart resumes that.
var ErrDiscard = errors.New("what was downloaded is given up")

// Pull brings the image into tart's cache. It always asks the registry.
func (c *Client) Pull(ctx context.Context, reference string, opt PullOptions) error {
	args := []string{"pull"}
	if opt.Insecure {
		args = append(args, "--insecure")
	}
	if opt.Concurrency > 0 {
		args = append(args, "--concurrency", strconv.Itoa(opt.Concurrency))
	}
	_, err := c.run(ctx, options{env: opt.Credentials.environ(), line: orIgnore(opt.Line), silence: pullSilence}, append(args, reference)...)
	return err
}

func orIgnore(line func(string)) func(string) {
	if line == nil {
		return func(string) {}
	}
	return line
}

// Clone makes the VM name from a local VM or a cached image. Tart would pull an image that is not cached, without credentials and without a
// word: that is ended as soon as it says so, with ErrNotCached.
func (c *Client) Clone(ctx context.Context, source, name string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	_, err := c.run(ctx, options{line: func(line string) {
		if strings.HasPrefix(line, "pulling ") { // with a cached image, clone says nothing
			cancel(ErrNotCached)
		}
	}}, "clone", source, name)
	if errors.Is(context.Cause(ctx), ErrNotCached) { // also where the pull was quicker than we
		return &Error{Kind: KindOther, Command: "clone", ExitCode: -1, Err: ErrNotCached}
	}
	return err
}

// FQN is the digest that a cached image's tag points at, as host/path@sha256:hex.
func (c *Client) FQN(ctx context.Context, reference string) (string, error) {
	done, err := c.run(ctx, options{}, "fqn", reference)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(done.stdout)), nil
}

// SetOptions are what Set can change. Zero values leave things as they are.
type SetOptions struct {
	CPU int
	// MemoryMB is in MiB, which tart calls megabytes.
	MemoryMB  int
	Display   string
	RandomMAC bool
}

// Set changes a VM's hardware, all at once.
func (c *Client) Set(ctx context.Context, name string, opt SetOptions) error {
	args := []string{"set", name}
	if opt.CPU > 0 {
		args = append(args, "--cpu", strconv.Itoa(opt.CPU))
	}
	if opt.MemoryMB > 0 {
		args = append(args, "--memory", strconv.Itoa(opt.MemoryMB))
	}
	if opt.Display != "" {
		args = append(args, "--display", opt.Display)
	}
	if opt.RandomMAC {
		args = append(args, "--random-mac")
	}
	if len(args) == 2 {
		return nil
	}
	_, err := c.run(ctx, options{}, args...)
	return err
}

// IP asks for the VM's address, waiting up to wait (in whole seconds, as tart counts) for it to be known. An address is no sign of
// life: tart also reports the lease of an earlier run.
func (c *Client) IP(ctx context.Context, name string, wait time.Duration, resolver string) (netip.Addr, error) {
	args := []string{"ip", "--wait", strconv.Itoa(int(wait.Seconds()))}
	if resolver != "" {
		args = append(args, "--resolver", resolver)
	}
	done, err := c.run(ctx, options{waits: wait}, append(args, name)...)
	if err != nil {
		return netip.Addr{}, err
	}
	addr, err := netip.ParseAddr(strings.TrimSpace(string(done.stdout)))
	if err != nil {
		return netip.Addr{}, &Error{Kind: KindOther, Command: "ip", Err: fmt.Errorf("not an address: %w", err)}
	}
	return addr, nil
}

// Stop powers the VM off, without asking its guest, and kills its `tart run` if that takes longer than timeout.
func (c *Client) Stop(ctx context.Context, name string, timeout time.Duration) error {
	_, err := c.run(ctx, options{waits: timeout}, "stop", "--timeout", strconv.Itoa(int(timeout.Seconds())), name)
	return err
}

// Delete deletes a VM that is not running.
func (c *Client) Delete(ctx context.Context, name string) error {
	_, err := c.run(ctx, options{}, "delete", name)
	return err
}

// Destroy deletes a VM whatever state it is in, and is content when there is none. A VM whose `tart run` was killed an instant ago
// may still count as running, so it tries for a while.
func (c *Client) Destroy(ctx context.Context, name string) error {
	if name == "" || name == "." || name == ".." || strings.ContainsRune(name, '/') {
		return fmt.Errorf("%q is not the name of a local VM", name)
	}
	const (
		patience = 5 * time.Second // after which there is no other try; each may take as long as a delete takes
		leastTry = 3               // on a host where two take all that time
	)
	pause := 20 * time.Millisecond
	var last error
	began, try := time.Now(), 0
	for ; try < leastTry || time.Since(began) < patience; try++ {
		if try > 0 {
			if err := wait.For(ctx, pause); err != nil {
				return errors.Join(err, last)
			}
			pause *= 2
		}
		last = c.Delete(ctx, name)
		switch KindOf(last) {
		case KindRunning:
			if err := c.Stop(ctx, name, time.Second); err != nil {
				last = errors.Join(last, err)
			}
		case KindNoSuchVM:
			return os.RemoveAll(c.VMDir(name)) // without its config.json a directory is no VM to tart, and stays for ever
		case KindCannotRun, KindInterrupted:
			return last
		default:
			if last == nil {
				return nil
			}
			if vms, err := c.List(ctx); err == nil {
				if _, there := local(vms, name); !there { // tart says so in words that we don't know
					return os.RemoveAll(c.VMDir(name))
				}
			}
		}
	}
	return fmt.Errorf("VM %q could not be deleted in %d tries: %w", name, try, last)
}
