package tartcmd

import (
	"errors"
	"io"
	"net"
	"os"
	"time"

	"gitlab-runner-tart-driver/internal/tartsim/guest"
	"gitlab-runner-tart-driver/internal/tartsim/simconf"
	"gitlab-runner-tart-driver/internal/tartsim/tarthome"
)

// Times of `tart ip`.
const (
	ipTick         = time.Second
	agentIPTimeout = time.Second
)

func (a *app) ip() error {
	vm, err := a.home.OpenVM(a.args.Arg("name"))
	if err != nil {
		return err
	}
	config, err := vm.Config()
	if err != nil {
		return err
	}
	resolver := a.args.Value("resolver", "dhcp")
	until := time.Now().Add(time.Duration(a.args.Uint("wait", 0)) * time.Second)
	for {
		address, err := a.resolve(vm, config, resolver)
		if err != nil {
			return err
		}
		if address != "" {
			a.println("%s", address)
			return nil
		}
		// Even without --wait Tart passes a second before it gives up.
		wait(ipTick)
		if !time.Now().Before(until) {
			break
		}
	}
	message := "no IP address found"
	if pid, err := vm.RunPID(); err != nil {
		return err
	} else if pid == 0 {
		message += ", is your VM running?"
	}
	switch {
	case resolver == "agent":
		message += " (also make sure that Guest agent for Tart is running inside of a VM)"
	case resolver == "arp" && config.OS == tarthome.Linux:
		message += " (not all Linux distributions are compatible with the ARP resolver)"
	}
	return tarthome.Failure("%s", message)
}

// resolve looks once; "" means not yet.
func (a *app) resolve(vm *tarthome.VM, config *tarthome.Config, resolver string) (string, error) {
	switch resolver {
	case "agent":
		return resolveByAgent(vm)
	case "arp":
		return a.resolveByARP(vm)
	}
	if a.fault(simconf.LeasesGarbage) != nil {
		_, err := tarthome.ParseLeases("{\n\tname=guest\n\tip_address=192.168.64.2\n")
		return "", err
	}
	mac, err := tarthome.ParseMAC(config.MAC)
	if err != nil {
		return "", tarthome.System("%v", err)
	}
	leases, err := a.home.Leases().Read()
	if err != nil {
		return "", err
	}
	if lease, found := tarthome.Lookup(leases, mac, time.Now()); found {
		return lease.IP.String(), nil
	}
	return "", nil
}

// resolveByARP plays a look into the host's ARP table: a running guest is in it once it has asked for an address, except behind Softnet.
func (a *app) resolveByARP(vm *tarthome.VM) (string, error) {
	pid, err := vm.RunPID()
	if err != nil || pid == 0 {
		return "", err
	}
	record, err := LoadRunRecord(vm)
	if err != nil || record.PID != pid || record.Network == "softnet" || record.Network == "host" {
		return "", nil
	}
	image, err := vm.Image()
	if err != nil {
		return "", tarthome.System("%v", err)
	}
	if time.Since(record.Started) < image.Lease.D() {
		return "", nil
	}
	return record.Address, nil
}

// resolveByAgent asks the guest agent. No connection is tried again; an agent that doesn't answer in time ends the command.
func resolveByAgent(vm *tarthome.VM) (string, error) {
	conn, err := guest.DialUnix(vm.Path(tarthome.ControlName))
	if err != nil {
		return "", nil
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(agentIPTimeout)); err != nil {
		return "", nil
	}
	if err := sendRequest(conn, guest.AgentRequest{}); err != nil {
		return "", nil
	}
	kind, data, err := guest.ReadFrame(conn)
	var timeout net.Error
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout():
		return "", tarthome.System("deadline exceeded (4): RPC timed out before completing")
	case errors.Is(err, io.EOF):
		return "", nil
	case err != nil || kind != guest.FrameAddress:
		return "", nil
	}
	return string(data), nil
}
