package lifecycle

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"time"

	"gitlab-runner-tart-driver/internal/host"
	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/settings"
	"gitlab-runner-tart-driver/internal/tart"
)

// setHardware gives the VM its CPUs, memory, display and MAC address, in one call.
// A guest that was suspended can only go on with the hardware that it had; it does so unless somebody asked for other hardware.
func (p *preparation) setHardware(ctx context.Context, client *tart.Client, name string) error {
	began := time.Now()
	s := p.Settings
	if p.tart.Suspended(name) {
		if s.CPU == 0 && s.MemoryMB == 0 && s.IsDefault("display") {
			p.step(began, "the image is suspended, and goes on with its own hardware")
			return nil
		}
		if err := client.Stop(ctx, name, 0); err != nil { // drops the state
			return job.Infrastructure(fmt.Errorf("make the suspended image boot: %w", err), "")
		}
		p.Log.Linef("the image is suspended; the VM boots, for it is to have other hardware")
	}
	opt := tart.SetOptions{CPU: s.CPU, MemoryMB: s.MemoryMB, Display: s.Display, RandomMAC: s.MAC == "random"}
	automatic := s.AutoResources && (s.CPU == 0 || s.MemoryMB == 0)
	if automatic {
		cpu, memory := share(runtime.NumCPU(), host.MemoryMB(), s.Concurrency)
		if s.CPU == 0 {
			opt.CPU = cpu
		}
		if s.MemoryMB == 0 {
			opt.MemoryMB = memory
		}
	}
	err := client.Set(ctx, name, opt)
	if tart.KindOf(err) == tart.KindResources && automatic {
		// The image wants more than this host's share; the image's own figures are better than no job.
		p.Log.Linef("the host's share of %d CPUs and %d MB is below the image's minimum (%v); the image's own figures are used", opt.CPU, opt.MemoryMB, err)
		opt.CPU, opt.MemoryMB = s.CPU, s.MemoryMB
		err = client.Set(ctx, name, opt)
	}
	switch tart.KindOf(err) {
	case tart.KindResources:
		return job.Mistake(fmt.Errorf("set up the VM: %w", err), "--cpu and --memory must be at least what the image wants")
	case tart.KindUsage:
		return job.Mistake(fmt.Errorf("set up the VM: this version of tart does not take a setting: %w", err), "update tart on the host, or leave the setting out")
	}
	if err != nil {
		return job.Infrastructure(fmt.Errorf("set up the VM: %w", err), "")
	}
	p.step(began, "hardware: %s", describe(opt))
	return nil
}

// resolverOf is how tart finds the VM's address; empty for tart's own way, the DHCP leases of shared networking, which bridged VMs have
// none of. https://tart.run/faq/
func resolverOf(s *settings.Settings) string {
	switch {
	case s.IPResolver != "auto":
		return s.IPResolver
	case s.Bridged != "":
		return "arp"
	default:
		return ""
	}
}

// share is one VM's part of the host, in CPUs and MB, when n VMs run at once. The host keeps an eighth of its memory, at least 2 GB,
// for itself; CPUs can be shared.
func share(cpus, memoryMB, n int) (cpu, memory int) {
	reserve := max(memoryMB/8, 2048)
	return max(1, cpus/n), max(0, (memoryMB-reserve)/n)
}

func describe(opt tart.SetOptions) string {
	var parts []string
	if opt.CPU > 0 {
		parts = append(parts, fmt.Sprintf("%d CPUs", opt.CPU))
	}
	if opt.MemoryMB > 0 {
		parts = append(parts, fmt.Sprintf("%d MB", opt.MemoryMB))
	}
	if opt.Display != "" {
		parts = append(parts, "display "+opt.Display)
	}
	if opt.RandomMAC {
		parts = append(parts, "random MAC")
	}
	return strings.Join(parts, ", ")
}
