//go:build linux

package guest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Addresses of guests: in loopback mode 127.64.0.0/10, all of which is local on Linux without configuration; with networks of their own
// 192.168.64.0/24, macOS's default for virtual machines.
var (
	loopbackPool = netip.MustParsePrefix("127.64.0.0/10")
	netnsPool    = netip.MustParsePrefix("192.168.64.0/24")
)

// addressTries bounds the search for a free address.
const addressTries = 1000

// Address is a guest's address, held for as long as the guest lives.
type Address struct {
	IP   netip.Addr
	held net.Listener
}

// Hold takes an address for this process, or fails when a guest has it. The mark is an abstract Unix socket: those belong to the network
// namespace, as addresses do, so that guests of different TART_HOMEs don't collide, and they go with their process.
func holdAddress(ip netip.Addr) (*Address, error) {
	held, err := net.Listen("unix", "@tartsim/address/"+ip.String())
	if err != nil {
		return nil, fmt.Errorf("address %s: %w", ip, err)
	}
	return &Address{IP: ip, held: held}, nil
}

// TakeAddress takes the wanted address if it is valid and free, and else a random one: an address is not used again soon.
func TakeAddress(wanted netip.Addr, netns bool) (*Address, error) {
	pool := loopbackPool
	if netns {
		pool = netnsPool
	}
	if wanted.IsValid() && pool.Contains(wanted) {
		if a, err := holdAddress(wanted); err == nil {
			return a, nil
		}
	}
	for range addressTries {
		a, err := holdAddress(randomAddress(pool))
		if err == nil {
			return a, nil
		}
		if !errors.Is(err, unix.EADDRINUSE) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("no free address in %s", pool)
}

// Release gives the address back.
func (a *Address) Release() { _ = a.held.Close() }

// randomAddress is an address of the pool, but none that ends in .0, .1 (the gateway) or .255.
func randomAddress(pool netip.Prefix) netip.Addr {
	bytes := pool.Addr().As4()
	host := rand.Uint32N(1 << (32 - pool.Bits()))
	for i := range bytes {
		bytes[i] |= byte(host >> (24 - 8*i))
	}
	bytes[3] = 2 + byte(rand.Uint32N(253))
	return netip.AddrFrom4(bytes)
}
