package keeper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"

	"gitlab-runner-tart-driver/internal/guest"
	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/wait"
)

// link is a way to the guest.
type link struct {
	guest guest.Guest
	// addr is the guest's address; not known where it is reached by its agent.
	addr netip.Addr
	// seenFree is when the address was last seen to be no other VM's.
	seenFree time.Time
	// hostKey is the one of the first contact, which every later connection must prove; nil where there is none.
	hostKey ssh.PublicKey
	// login is how to log in there, once more if need be.
	login guest.Login
}

// lostHint is what may be behind a way that broke while the VM lived.
func (l *link) lostHint() string {
	if _, ok := l.guest.(*guest.Agent); ok {
		return "the VM itself still runs; perhaps the script ended the guest agent or logged its user out, or the VM has no memory left"
	}
	return "the VM itself still runs; perhaps the script stopped its SSH server or network, or the VM has no memory left"
}

// rung is a step of the readiness ladder, in the order in which a VM comes up.
type rung int

const (
	rungAddress rung = iota
	rungPort
	rungBanner
	rungLogin
	rungCommand // needs no login; it is not climbed by reach
)

// rungs say what to tell about each rung: once it is reached, and when it isn't in time.
var rungs = map[rung]struct {
	done    func(*Keeper, *link) string
	waiting string
	hint    string
}{
	rungAddress: {
		done:    func(_ *Keeper, l *link) string { return "address is " + l.addr.String() },
		waiting: "the VM got no IP address",
		hint: "either the guest does not boot, or the Mac's DHCP table is full: `sudo rm /var/db/dhcpd_leases` empties it, and " +
			"`sudo defaults write /Library/Preferences/SystemConfiguration/com.apple.InternetSharing.default.plist bootpd -dict DHCPLeaseTimeSecs -int 600` " +
			"keeps it from filling up. A slow image may need a higher --timeout or TART_EXECUTOR_TIMEOUT",
	},
	rungPort: {
		done:    func(k *Keeper, _ *link) string { return fmt.Sprintf("port %d answers", k.p.Port) },
		waiting: "the VM has an address, but its SSH port cannot be reached",
		hint:    "is Remote Login on in the image? A slow image may need a higher --timeout or TART_EXECUTOR_TIMEOUT",
	},
	rungBanner: {
		done:    func(*Keeper, *link) string { return "SSH server answers" },
		waiting: "the VM's SSH port takes connections, but no SSH server answers",
		hint:    "look at the SSH server in the image",
	},
	rungLogin: {
		done:    func(k *Keeper, _ *link) string { return "logged in as " + k.p.Login.User },
		waiting: "the VM's SSH server answers, but does not complete a login",
		hint:    "look at the SSH server in the image",
	},
	rungCommand: {waiting: "the login works, but no command has run"},
}

// reach climbs from where l is (with an address or without) to a login. Each rung has k.p.Timeout from the moment the one below was
// first reached. passed is called once for each rung.
func (k *Keeper) reach(ctx context.Context, l *link, passed func(rung, *link)) (*link, error) {
	began := time.Now()
	next := rungAddress
	pass := func(to rung) {
		for ; next <= to; next++ {
			passed(next, l)
			began = time.Now()
		}
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var addresses <-chan answer
	if !l.addr.IsValid() {
		addresses = k.lookUpAddress(ctx)
	}
	var last error
	refusals, limit := 0, attemptLimit
	for {
		left := k.p.Timeout - time.Since(began)
		switch {
		case left <= 0 && errors.Is(last, guest.ErrAuth):
			return nil, k.refused(l, last)
		case left <= 0:
			return nil, k.stuck(next, l, last)
		}
		actx, cancel := context.WithTimeoutCause(ctx, left, errAttemptTimeout)
		got, err := k.attempt(actx, limit, l, addresses, pass)
		cancel()
		if err == nil {
			pass(rungLogin)
			return got, nil
		}
		if ctx.Err() != nil {
			return nil, asFailure(context.Cause(ctx), "")
		}
		if f := (*job.Failure)(nil); errors.As(err, &f) {
			return nil, err
		}
		if errors.Is(err, errAttemptTimeout) {
			limit *= 2 // perhaps it is slow, and not forgetful
		} else {
			last = err
		}
		if addresses == nil { // what was known may be so no more
			addresses = k.lookUpAddress(ctx)
		}
		gap := pace(time.Since(began))
		switch {
		case errors.Is(err, guest.ErrAuth), errors.Is(err, guest.ErrOpen):
			if refusals == len(loginPauses) {
				return nil, k.refused(l, err)
			}
			gap = min(loginPauses[refusals], max(0, k.p.Timeout-time.Since(began))/2)
			refusals++
		case errors.Is(err, guest.ErrHostKey):
			return nil, job.Infrastructure(err, "something else answers at %s: another VM may have the same address", l.addr)
		}
		if err := wait.For(ctx, gap); err != nil {
			return nil, asFailure(err, "")
		}
	}
}

var errAttemptTimeout = errors.New("time is up")

const (
	// attemptLimit bounds the first attempt from the connection to the login, and twice as much each one after one that took too long. A server that was
	// still starting may have forgotten a connection that it took; one that makes its host keys first, or asks a name server that is not there, takes its time.
	attemptLimit = 10 * time.Second
)

// loginPauses are between logins that are refused: an SSH server may answer before the service that knows the users does, and refuses them then. OpenSSH
// bars an address for a while at the fourth refusal. https://man.openbsd.org/sshd_config#PerSourcePenalties
var loginPauses = []time.Duration{time.Second, 8 * time.Second}

// pace is the pause before the next attempt: short at first, for the moment of readiness should not be missed by much, and never so
// long that a slow guest waits noticeably. 5 ms up to a quarter of a second.
func pace(waited time.Duration) time.Duration {
	return min(max(waited/512, 5*time.Millisecond), 250*time.Millisecond)
}

// dialLimit bounds a single connection attempt. The VM is on this host: an answer that takes longer is to a packet that was lost while
// the guest had no network yet, and a new attempt is faster than waiting for TCP to send it again.
const dialLimit = 400 * time.Millisecond

// freeAgain is how often an address that nothing answers at is looked up in the records of the other VMs, of which there may be many.
const freeAgain = 100 * time.Millisecond

// attempt goes from the address to the login, as far as it gets; limit is for what comes after the address.
func (k *Keeper) attempt(ctx context.Context, limit time.Duration, l *link, addresses <-chan answer, pass func(rung)) (*link, error) {
	if err := l.updateAddress(ctx, addresses); err != nil {
		return nil, err
	}
	pass(rungAddress)
	if time.Since(l.seenFree) > freeAgain {
		if err := k.addressFree(l.addr); err != nil {
			return nil, err
		}
		l.seenFree = time.Now()
	}
	ctx, stop := context.WithTimeoutCause(ctx, limit, errAttemptTimeout)
	defer stop()
	dctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(dctx, "tcp", netip.AddrPortFrom(l.addr, uint16(k.p.Port)).String())
	if err != nil {
		return nil, err
	}
	pass(rungPort)
	conn, err = guest.Banner(ctx, conn)
	if err != nil {
		return nil, err
	}
	pass(rungBanner)
	s, err := guest.Connect(ctx, conn, l.login, l.hostKey)
	if err != nil {
		return nil, err
	}
	if err := k.claimAddress(ctx, l.addr); err != nil {
		s.Close()
		return nil, err
	}
	return &link{guest: s, addr: l.addr, hostKey: s.HostKey(), login: l.login}, nil
}

// updateAddress waits for the first address. Later it takes a new one if there is one, for the first may have been the lease of an
// earlier VM.
func (l *link) updateAddress(ctx context.Context, addresses <-chan answer) error {
	var a answer
	if l.addr.IsValid() {
		select {
		case a = <-addresses:
		default:
			return nil
		}
	} else {
		select {
		case a = <-addresses:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if a.err == nil && l.addr != a.addr {
		l.addr, l.seenFree = a.addr, time.Time{}
	}
	return a.err
}

// refused explains a login that was refused for good.
func (k *Keeper) refused(l *link, err error) error {
	if l.login.Key != nil {
		return job.Mistake(fmt.Errorf("%w (VM %s)", err, k.p.VM),
			"for --ssh-key the VM's SSH server must go by /etc/ssh/sshd_config and take ed25519 keys: look at both in the image, or do without")
	}
	return job.Mistake(fmt.Errorf("%w of VM %s (%s)", err, k.p.VM, k.p.LoginOrigin),
		"set TART_SSH_USERNAME and TART_SSH_PASSWORD, or --default-ssh-user and --default-ssh-password, to what the image has")
}

// stuck explains a rung that was not reached in time.
func (k *Keeper) stuck(at rung, l *link, last error) error {
	if errors.Is(last, errAddressTaken) {
		return job.Infrastructure(fmt.Errorf("the VM got no address of its own within %s: %w", k.p.Timeout, last),
			"VMs with one MAC address get one address; --mac random, the default, gives each its own")
	}
	r := rungs[at]
	hint := r.hint
	if at == rungPort && (errors.Is(last, syscall.EHOSTUNREACH) || errors.Is(last, syscall.EHOSTDOWN)) {
		// https://tart.run/faq/#connecting-to-a-vm-over-ssh-fails-with-no-route-to-host
		hint = "macOS 15 and later keep programs without the Local Network permission from reaching VMs; on the host, " +
			"`sudo defaults write com.apple.network.local-network AllowedEthernetLocalNetworkAddresses -array 10.0.0.0/8 172.16.0.0/12 192.168.0.0/16`, " +
			"the same for AllowedWiFiLocalNetworkAddresses, and a reboot mend it; or reach the VM without the network, with --transport agent"
	}
	err := fmt.Errorf("%s within %s", r.waiting, k.p.Timeout)
	if l.addr.IsValid() {
		err = fmt.Errorf("%w (%s port %d)", err, l.addr, k.p.Port)
	}
	if last != nil {
		err = fmt.Errorf("%w: %w", err, last)
	}
	return job.Infrastructure(err, "%s", hint)
}
