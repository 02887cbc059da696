package keeper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"gitlab-runner-tart-driver/internal/guest"
	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/tart"
)

func TestPace(t *testing.T) {
	last := time.Duration(0)
	for waited := time.Duration(0); waited < 2*time.Minute; waited += 50 * time.Millisecond {
		got := pace(waited)
		if got < 10*time.Millisecond || got > 500*time.Millisecond || got < last {
			t.Fatalf("after %s: %s, and before that %s", waited, got, last)
		}
		last = got
	}
	for waited, want := range map[time.Duration]time.Duration{
		-time.Second: 10 * time.Millisecond, 0: 10 * time.Millisecond, 640 * time.Millisecond: 10 * time.Millisecond,
		6400 * time.Millisecond: 100 * time.Millisecond, time.Hour: 500 * time.Millisecond,
	} {
		if got := pace(waited); got != want {
			t.Errorf("after %s: %s, want %s", waited, got, want)
		}
	}
}

func TestPauseEndsWithItsContext(t *testing.T) {
	if err := pause(t.Context(), 0); err != nil {
		t.Error(err)
	}
	cause := errors.New("the VM is gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if err := pause(ctx, time.Hour); !errors.Is(err, cause) {
		t.Errorf("error %v, want the cause", err)
	}
}

func TestAddressesAreTakenAsTheyCome(t *testing.T) {
	first, second := netip.MustParseAddr("192.168.64.2"), netip.MustParseAddr("192.168.64.3")
	answers := make(chan answer, 1)
	l := &link{}

	cause := errors.New("time is up")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if err := l.updateAddress(ctx, answers); !errors.Is(err, cause) || l.addr.IsValid() {
		t.Errorf("no answer: %v, address %s", err, l.addr)
	}
	failed := errors.New("tart is broken")
	answers <- answer{err: failed}
	if err := l.updateAddress(t.Context(), answers); !errors.Is(err, failed) || l.addr.IsValid() {
		t.Errorf("a failed look-up: %v, address %s", err, l.addr)
	}
	answers <- answer{addr: first}
	if err := l.updateAddress(t.Context(), answers); err != nil || l.addr != first {
		t.Errorf("the first: %v, address %s", err, l.addr)
	}
	if err := l.updateAddress(t.Context(), answers); err != nil || l.addr != first { // waits for nothing now
		t.Errorf("nothing new: %v, address %s", err, l.addr)
	}
	answers <- answer{addr: second}
	if err := l.updateAddress(t.Context(), answers); err != nil || l.addr != second {
		t.Errorf("a new one: %v, address %s", err, l.addr)
	}
	answers <- answer{err: failed}
	if err := l.updateAddress(t.Context(), answers); !errors.Is(err, failed) || l.addr != second {
		t.Errorf("a failed look-up later: %v, address %s", err, l.addr)
	}
}

func TestEachRungSaysWhatIsWrong(t *testing.T) {
	k := &Keeper{p: Params{Timeout: time.Minute, Port: 2222, Login: guest.Login{User: "somebody"}}}
	addr := netip.MustParseAddr("192.168.64.2")
	noRoute := &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EHOSTUNREACH)}
	refused := &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	for _, c := range []struct {
		at   rung
		l    link
		last error
		says []string
		hint string
	}{
		{rungAddress, link{}, nil, []string{"no IP address", "1m0s"}, "dhcpd_leases"},
		{rungPort, link{addr: addr}, refused, []string{"192.168.64.2 port 2222", "connection refused"}, "Remote Login"},
		{rungPort, link{addr: addr}, noRoute, []string{"no route to host"}, "com.apple.network.local-network"},
		{rungPort, link{addr: addr}, nil, []string{"cannot be reached within 1m0s"}, "Remote Login"},
		{rungBanner, link{addr: addr}, noRoute, []string{"no SSH server answers"}, "SSH server"},
		{rungLogin, link{addr: addr}, errors.New("reset"), []string{"does not complete a login", "reset"}, "SSH server"},
	} {
		err := k.stuck(c.at, &c.l, c.last)
		f := (*job.Failure)(nil)
		if !errors.As(err, &f) || f.Job || !strings.Contains(f.Hint, c.hint) || strings.Contains(f.Hint, "%!") {
			t.Errorf("rung %d: %#v, want a hint with %s", c.at, err, c.hint)
		}
		for _, s := range c.says {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("rung %d: %q does not say %q", c.at, err, s)
			}
		}
		if c.last != nil && !errors.Is(err, c.last) {
			t.Errorf("rung %d: the last error is not in the chain of %q", c.at, err)
		}
	}
	for at := rungAddress; at <= rungLogin; at++ {
		r, ok := rungs[at]
		if !ok || r.waiting == "" || r.hint == "" || r.done(k, &link{addr: addr}) == "" {
			t.Errorf("rung %d has nothing to say", at)
		}
	}
	if len(rungs) != int(rungLogin)+1 {
		t.Errorf("%d rungs are described, and there are %d", len(rungs), rungLogin+1)
	}
}

func TestFailuresStayWhatTheyAre(t *testing.T) {
	mistake := job.Mistake(errors.New("x"), "hint")
	if got := asFailure(fmt.Errorf("outer: %w", mistake), "other"); got != error(mistake) && !errors.Is(got, mistake) {
		t.Errorf("a mistake became %#v", got)
	}
	f := (*job.Failure)(nil)
	if got := asFailure(errors.New("100%"), "50% sure"); !errors.As(got, &f) || f.Job || f.Error() != "100%" || f.Hint != "50% sure" {
		t.Errorf("a plain error became %#v", got)
	}
}

func TestReasonText(t *testing.T) {
	for want, e := range map[string]*tart.Error{
		"guest has stopped":                            {Text: "guest has stopped"},
		"tart run exited with code 0 and said nothing": {},
		"tart run exited with code 1 and said nothing": {ExitCode: 1},
	} {
		if got := reasonText(e); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
