package tartcmd

import (
	"crypto/rand"
	"math/big"
	"net"
	"strings"
	"time"

	"gitlab-runner-tart-driver/internal/tartsim/simconf"
)

// rfbGreeting is how a VNC server introduces itself, RFC 6143 section 7.1.1.
const rfbGreeting = "RFB 003.008\n"

// vncAddressWait is how long `--vnc` waits for the guest's address.
const vncAddressWait = 60 * time.Second

// startVNC plays the two kinds of VNC. It reports whether the run ends here.
func (r *runner) startVNC() (code int, ended bool) {
	url := ""
	switch {
	case r.args.Has("vnc"):
		if r.fault(simconf.NeverAddress) != nil || r.image.Lease.D() > vncAddressWait {
			return r.waitForNoAddress()
		}
		timer := time.NewTimer(r.image.Lease.D())
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.sigint:
			r.complain("CancellationError()\n")
			return exitFailure, true
		}
		url = "vnc://" + r.address.IP.String()
	case r.args.Has("vnc-experimental"):
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			r.complain(err.Error() + "\n")
			return exitFailure, true
		}
		go greet(listener)
		url = "vnc://:" + passphrase() + "@" + listener.Addr().String()
	default:
		return 0, false
	}
	_, ci := r.env["CI"]
	if r.args.Has("no-graphics") || ci {
		r.println("VNC server is running at %s", url)
	} else {
		r.println("Opening %s...", url)
	}
	return 0, false
}

func (r *runner) waitForNoAddress() (int, bool) {
	timer := time.NewTimer(vncAddressWait)
	defer timer.Stop()
	select {
	case <-timer.C:
		r.complain("IPNotFound()\n")
	case <-r.sigint:
		r.complain("CancellationError()\n")
	}
	return exitFailure, true
}

// greet answers connections like a VNC server, as far as its greeting.
func greet(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		_, _ = conn.Write([]byte(rfbGreeting))
		_ = conn.Close()
	}
}

// passphrase makes up the four-word password of the VNC server.
func passphrase() string {
	words := []string{"amber", "basket", "candle", "dolphin", "ember", "falcon", "garden", "harbor", "island", "jungle", "kettle", "lantern", "meadow", "nectar"}
	chosen := make([]string, 4)
	for i := range chosen {
		n, err := rand.Int(rand.Reader, big.NewInt(int64(len(words))))
		if err != nil {
			return strings.Join(words[:4], "-")
		}
		chosen[i] = words[n.Int64()]
	}
	return strings.Join(chosen, "-")
}
