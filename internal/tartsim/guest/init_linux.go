//go:build linux

package guest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"gitlab-runner-tart-driver/internal/tartsim/simconf"
	"gitlab-runner-tart-driver/internal/tartsim/tarthome"
)

// Descriptors of the guest's first process.
const (
	controlFD  = 3
	listenerFD = 4
)

// RunInit is the guest's first process. It returns only when the guest could not be made or its starter is gone; the guest ends with it.
func RunInit() int {
	control := os.NewFile(controlFD, "control")
	in := json.NewDecoder(control)
	g := &guestInit{out: json.NewEncoder(control)}
	if err := in.Decode(&g.spec); err != nil {
		return 1
	}
	g.spec.adjust()
	g.reaper = newReaper(&g.spec)
	dead := make(chan os.Signal, 1)
	signal.Notify(dead, unix.SIGCHLD)
	// Handlers, not SIG_IGN: what is ignored would be ignored by everything the guest starts.
	ignored := make(chan os.Signal, 1)
	signal.Notify(ignored, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2)
	go func() {
		for range dead {
			g.reaper.collect()
		}
	}()
	if err := g.boot(); err != nil {
		g.report(Event{Kind: EventFailed, Text: err.Error()})
		return 1
	}
	g.obey(in)
	if g.spec.Level == LevelNone {
		killDescendants()
	}
	return 0
}

// guestInit is the state of the guest's first process.
type guestInit struct {
	spec   Spec
	reaper *reaper
	mu     sync.Mutex // of what follows
	out    *json.Encoder
	// sshListener is that of an SSH server inside this process.
	sshListener net.Listener
}

func (g *guestInit) report(e Event) {
	g.mu.Lock()
	defer g.mu.Unlock()
	_ = g.out.Encode(e) // nobody is left to tell when this fails
}

// boot makes the guest and starts its services.
func (g *guestInit) boot() error {
	if g.spec.Level == LevelNone {
		if err := g.makeBareHome(); err != nil {
			return err
		}
	} else {
		t := &tree{spec: &g.spec}
		err := t.build()
		for _, note := range t.notes {
			g.report(Event{Kind: EventNote, Text: note})
		}
		if err != nil {
			return err
		}
		if err := unix.Sethostname([]byte(g.spec.Hostname)); err != nil {
			return fmt.Errorf("set host name: %w", err)
		}
		if err := g.makeLink(); err != nil {
			return err
		}
	}
	if err := g.reaper.ready(); err != nil {
		return err
	}
	listener, err := net.FileListener(os.NewFile(listenerFD, "control.sock"))
	if err != nil {
		return fmt.Errorf("agent's listener: %w", err)
	}
	if err := g.serveHelpers(); err != nil {
		return err
	}
	a := &agent{spec: &g.spec, reaper: g.reaper}
	go a.serve(listener)
	go g.startSSH()
	g.report(Event{Kind: EventReady})
	return nil
}

// obey carries out what the starter asks, until it is gone.
func (g *guestInit) obey(in *json.Decoder) {
	for {
		var o order
		if err := in.Decode(&o); err != nil {
			if !errors.Is(err, io.EOF) {
				g.report(Event{Kind: EventNote, Text: "control: " + err.Error()})
			}
			return
		}
		if o.Verb == orderShutdown {
			go g.shutdown()
		}
	}
}

// shutdownGrace is how long processes have between SIGTERM and the power going off.
const shutdownGrace = 300 * time.Millisecond

// shutdown ends the guest as its own system would: everything is asked to end, then the power goes.
func (g *guestInit) shutdown() {
	g.endAll()
	g.report(Event{Kind: EventPowerOff})
}

// endAll ends all processes but the first, which takes no connections any more.
func (g *guestInit) endAll() {
	g.closeSSH()
	timer := time.NewTimer(shutdownGrace)
	defer timer.Stop()
	if g.spec.Level == LevelNone {
		for _, pid := range descendants(os.Getpid()) {
			_ = unix.Kill(pid, unix.SIGTERM) // it may have ended meanwhile
		}
		<-timer.C
		killDescendants()
		return
	}
	_ = unix.Kill(-1, unix.SIGTERM)
	<-timer.C
	_ = unix.Kill(-1, unix.SIGKILL)
}

// reboot ends everything and starts the services again; the virtual machine goes on running.
func (g *guestInit) reboot() {
	g.endAll()
	g.report(Event{Kind: EventNote, Text: "reboot"})
	g.startSSH()
}

// startSSH starts the SSH server after its delay.
func (g *guestInit) startSSH() {
	timer := time.NewTimer(g.spec.SSHDelay)
	defer timer.Stop()
	<-timer.C
	var err error
	switch {
	case g.spec.SSHFault == SSHNever:
		return
	case g.spec.SSHFault == SSHDrops:
		err = g.eachConnection(g.dropConnection)
	case g.spec.SSHServer == simconf.SSHOpenSSH:
		err = g.startOpenSSH()
	default:
		err = g.serveBuiltinSSH()
	}
	if err != nil && !errors.Is(err, net.ErrClosed) {
		g.report(Event{Kind: EventNote, Text: "ssh server: " + err.Error()})
	}
}

// adjust fills in what depends on the level: without isolation the guest's home can't be at its usual place.
func (s *Spec) adjust() {
	if s.Level != LevelNone {
		return
	}
	s.HomeDir = filepath.Join(s.VMDir, tarthome.TreeName, "home")
	if !isFile(s.Shell) {
		s.Shell = "/bin/sh"
	}
}

func (g *guestInit) makeBareHome() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become the reaper of the guest's orphans: %w", err)
	}
	return os.MkdirAll(g.spec.HomeDir, 0o755)
}
