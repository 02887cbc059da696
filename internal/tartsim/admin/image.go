package admin

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gitlab-runner-tart-driver/internal/tartsim/registry"
	"gitlab-runner-tart-driver/internal/tartsim/simconf"
	"gitlab-runner-tart-driver/internal/tartsim/tartcmd"
	"gitlab-runner-tart-driver/internal/tartsim/tarthome"
)

// What a fresh image is, unless told otherwise.
const (
	defaultName     = "base"
	defaultRegistry = "registry.test/macos/base:latest"
	defaultCPU      = 4
	defaultMemoryMB = 4096
	defaultDiskGB   = 50
	gigabyte        = 1000 * 1000 * 1000
)

// imageOptions are the flags of `image create`.
type imageOptions struct {
	os                     string
	image                  simconf.Image
	bootDelay              time.Duration
	lease, ssh, agent      time.Duration
	clone                  time.Duration
	cpu, diskGB            int
	memoryMB               uint64
	registry               string
	registryUser, password string
	pullDuration           time.Duration
	size                   int64
	registryOnly           bool
	faults                 []string
}

func (o *imageOptions) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.os, "os", tarthome.Darwin, "guest system: darwin or linux")
	f.StringVar(&o.image.User, "user", "admin", "the guest's user")
	f.StringVar(&o.image.Password, "password", "admin", "the user's password")
	f.StringVar(&o.image.Shell, "shell", "", "the user's login shell (default: zsh for darwin if there is one, else bash)")
	f.StringVar(&o.image.Hostname, "hostname", "", "the guest's host name")
	f.StringVar(&o.image.Rootfs, "rootfs", "", "directory with the guest's root file system (default: the host's system directories)")
	f.StringVar(&o.image.Network, "network", "", "loopback or netns")
	f.StringVar(&o.image.SSHServer, "ssh-server", "", "openssh or builtin (default: openssh where it can run)")
	f.BoolVar(&o.image.PAM, "use-pam", false, "let sshd use PAM, and with it keyboard-interactive logins")
	f.BoolVar(&o.image.HostUname, "host-uname", false, "leave uname alone in macOS guests")
	f.DurationVar(&o.bootDelay, "boot-delay", 0, "lease, SSH and agent come so long after the start")
	f.DurationVar(&o.lease, "lease-delay", 0, "the DHCP lease comes so long after the start")
	f.DurationVar(&o.ssh, "ssh-delay", 0, "the SSH server comes so long after the start")
	f.DurationVar(&o.agent, "agent-delay", 0, "the guest agent comes so long after the start")
	f.DurationVar(&o.clone, "clone-delay", 0, "a clone takes so long")
	f.IntVar(&o.cpu, "cpu", defaultCPU, "number of CPUs, which is the minimum too")
	f.Uint64Var(&o.memoryMB, "memory", defaultMemoryMB, "memory in MB, which is the minimum too")
	f.IntVar(&o.diskGB, "disk-size", defaultDiskGB, "disk size in GB (takes no space)")
	f.StringVar(&o.registry, "registry", "", "publish the image under this remote name as well")
	f.StringVar(&o.registryUser, "registry-user", "", "user that the registry asks for")
	f.StringVar(&o.password, "registry-password", "", "password that the registry asks for")
	f.DurationVar(&o.pullDuration, "pull-duration", 0, "how long a pull takes")
	f.Int64Var(&o.size, "size", 0, "bytes that a pull says it downloads")
	f.StringArrayVar(&o.faults, "fault", nil, "a fault of the image's guests as JSON, such as '{\"name\": \"sshd-never\"}' (repeatable)")
	f.BoolVar(&o.registryOnly, "registry-only", false, "make no local VM")
}

func (t *tool) imageCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "image", Short: "Create and list images"}
	var o imageOptions
	create := &cobra.Command{
		Use: "create NAME", Short: "Create a local VM to clone, and an image in the registry if asked to", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			home, err := t.home()
			if err != nil {
				return err
			}
			return createImage(cmd, home, args[0], o)
		},
	}
	o.addFlags(create)
	list := &cobra.Command{
		Use: "list", Short: "List local VMs and the registry's images", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			home, err := t.home()
			if err != nil {
				return err
			}
			return listImages(cmd, home)
		},
	}
	cmd.AddCommand(create, list)
	return cmd
}

func (t *tool) initCommand() *cobra.Command {
	var name, os string
	cmd := &cobra.Command{
		Use: "init", Short: "Prepare TART_HOME with a base image, local and in the registry", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			home, err := t.home()
			if err != nil {
				return err
			}
			o := imageOptions{os: os, cpu: defaultCPU, memoryMB: defaultMemoryMB, diskGB: defaultDiskGB, registry: strings.Replace(defaultRegistry, "base", name, 1)}
			if os == tarthome.Linux {
				o.registry = strings.Replace(o.registry, "macos", "linux", 1)
			}
			o.image.User, o.image.Password = "admin", "admin"
			return createImage(cmd, home, name, o)
		},
	}
	cmd.Flags().StringVar(&name, "image", defaultName, "name of the local VM")
	cmd.Flags().StringVar(&os, "os", tarthome.Darwin, "guest system: darwin or linux")
	return cmd
}

func createImage(cmd *cobra.Command, home *tarthome.Home, name string, o imageOptions) error {
	if o.os != tarthome.Darwin && o.os != tarthome.Linux {
		return fmt.Errorf("image create: --os %q: want %s or %s", o.os, tarthome.Darwin, tarthome.Linux)
	}
	if strings.Contains(name, "/") {
		return fmt.Errorf("image create: %q is not a local name", name)
	}
	image := o.image
	for _, delay := range []struct {
		field *simconf.Duration
		own   time.Duration
	}{{&image.Lease, o.lease}, {&image.SSH, o.ssh}, {&image.Agent, o.agent}} {
		*delay.field = simconf.Duration(max(delay.own, o.bootDelay))
	}
	image.Clone = simconf.Duration(o.clone)
	for i, text := range o.faults {
		fault := simconf.Fault{ID: fmt.Sprintf("%s-i%d", name, i+1)}
		if err := json.Unmarshal([]byte(text), &fault); err != nil {
			return fmt.Errorf("image create: --fault %s: %w", text, err)
		}
		if err := fault.Validate(); err != nil {
			return fmt.Errorf("image create: --fault %s: %w", text, err)
		}
		image.Faults = append(image.Faults, fault)
	}
	if image.Rootfs != "" {
		rootfs, err := filepath.Abs(image.Rootfs)
		if err != nil {
			return fmt.Errorf("image create: %w", err)
		}
		image.Rootfs = rootfs
	}
	dir, lock, err := home.TempDir("image-" + tarthome.UUID())
	if err != nil {
		return err
	}
	defer lock.Close()
	config := tarthome.NewConfig(o.os, o.cpu, o.memoryMB<<20)
	if err := tartcmd.NewVM(dir, config, int64(o.diskGB)*gigabyte, image); err != nil {
		return err
	}
	if o.registry != "" {
		if err := publish(cmd, home, dir, o); err != nil {
			return err
		}
		// Two machines, two addresses: or else no clone of the image could ever keep the image's.
		if err := (&tarthome.VM{Dir: dir}).RegenerateMAC(); err != nil {
			return err
		}
	}
	if o.registryOnly {
		return tarthome.RemoveTree(dir)
	}
	if err := home.Place(dir, name); err != nil {
		return err
	}
	cmd.Printf("local VM %s (%s, user %s)\n", name, o.os, image.User)
	return nil
}

func publish(cmd *cobra.Command, home *tarthome.Home, dir string, o imageOptions) error {
	name, err := tarthome.ParseRemoteName(o.registry)
	if err != nil {
		return err
	}
	if name.Digest != "" {
		return fmt.Errorf("image create: --registry %q: want a tag, not a digest", o.registry)
	}
	config, err := simconf.LoadConfig(home.Dir)
	if err != nil {
		return err
	}
	store := registry.Registry{Dir: config.RegistryDir(home.Dir), Home: home.Dir}
	digest, err := store.Publish(dir, name, o.size, func(r *registry.Repository) {
		r.Username, r.Password, r.Duration = o.registryUser, o.password, simconf.Duration(o.pullDuration)
	})
	if err != nil {
		return err
	}
	cmd.Printf("registry image %s (%s)\n", name, digest)
	return nil
}

func listImages(cmd *cobra.Command, home *tarthome.Home) error {
	vms, err := home.ListVMs()
	if err != nil {
		return err
	}
	for _, vm := range vms {
		config, err := vm.Config()
		if err != nil {
			return err
		}
		cmd.Printf("local     %-40s %s\n", vm.Name, config.OS)
	}
	config, err := simconf.LoadConfig(home.Dir)
	if err != nil {
		return err
	}
	repositories, err := registry.Registry{Dir: config.RegistryDir(home.Dir), Home: home.Dir}.List()
	if err != nil {
		return err
	}
	for _, repository := range repositories {
		tags := make([]string, 0, len(repository.Tags))
		for tag := range repository.Tags {
			tags = append(tags, tag)
		}
		sort.Strings(tags)
		for _, tag := range tags {
			cmd.Printf("registry  %-40s %s\n", repository.Host+"/"+repository.Namespace+":"+tag, repository.Tags[tag])
		}
	}
	return nil
}
