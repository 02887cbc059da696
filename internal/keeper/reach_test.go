package keeper

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"gitlab-runner-tart-driver/internal/guest"
	"gitlab-runner-tart-driver/internal/host"
	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/proc/proctest"
	"gitlab-runner-tart-driver/internal/tart"
)

// server is an SSH server on a loopback address. conn gets the number of each connection, from 1, and whether it may be served at all; login
// that of each password.
type server struct {
	listener net.Listener
	logins   atomic.Int32
	goesAway atomic.Int32 // so many sessions end their connection
}

// answerSurvey answers any command as a guest would the first one.
func answerSurvey(asked ssh.NewChannel) {
	ch, requests, err := asked.Accept()
	if err != nil {
		return
	}
	for r := range requests {
		_ = r.Reply(true, nil)
		if r.Type == "exec" {
			fmt.Fprint(ch, "\ngrtd:os=Darwin\ngrtd:shell=/bin/zsh\ngrtd:end=\n")
			_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Code uint32 }{0}))
			ch.Close()
		}
	}
}

func newServer(t *testing.T, serve func(n int) bool, login func(n int) bool) *server {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{}
	if s.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.listener.Close() })
	config := &ssh.ServerConfig{PasswordCallback: func(ssh.ConnMetadata, []byte) (*ssh.Permissions, error) {
		if login(int(s.logins.Add(1))) {
			return nil, nil
		}
		return nil, errors.New("not yet")
	}}
	config.AddHostKey(signer)
	go func() {
		for n := 1; ; n++ {
			conn, err := s.listener.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { conn.Close() })
			if !serve(n) {
				continue
			}
			go func() {
				c, channels, requests, err := ssh.NewServerConn(conn, config)
				if err != nil {
					return
				}
				go ssh.DiscardRequests(requests)
				for ch := range channels {
					if s.goesAway.Add(-1) >= 0 {
						c.Close()
						return
					}
					go answerSurvey(ch)
				}
				c.Wait()
			}()
		}
	}()
	return s
}

// climber is a keeper that knows how to reach the server, by a tart that has nothing but the address.
func climber(t *testing.T, s *server, timeout time.Duration) *Keeper {
	t.Helper()
	fake := filepath.Join(t.TempDir(), "tart")
	if err := proctest.WriteProgram(fake, []byte("#!/bin/sh\necho 127.0.0.1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	client, err := tart.New(fake, []string{"HOME=" + t.TempDir(), "PATH=/usr/bin:/bin"})
	if err != nil {
		t.Fatal(err)
	}
	port := netip.MustParseAddrPort(s.listener.Addr().String()).Port()
	state, err := host.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	entry, err := state.Create(host.Record{VM: state.NewName("1")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(entry.Release)
	return &Keeper{
		p:    Params{VM: entry.Record.VM, Port: int(port), Timeout: timeout, Login: guest.Login{User: "admin", Password: "admin"}},
		tart: client, state: state, entry: entry, log: log.New(io.Discard, "", 0),
	}
}

func (k *Keeper) climbTo(t *testing.T) (*link, error) {
	t.Helper()
	l, err := k.reach(t.Context(), &link{login: k.p.Login}, func(rung, *link) {})
	if err == nil {
		l.guest.Close()
	}
	return l, err
}

func always(int) bool { return true }

// TestEarlyRefusals has an SSH server that is up before the service that knows its users.
func TestEarlyRefusals(t *testing.T) {
	t.Parallel()
	s := newServer(t, always, func(n int) bool { return n == len(loginPauses)+1 })
	if _, err := climber(t, s, time.Minute).climbTo(t); err != nil {
		t.Error(err)
	}
}

func TestWrongPassword(t *testing.T) {
	t.Parallel()
	s := newServer(t, always, func(int) bool { return false })
	if _, err := climber(t, s, time.Minute).climbTo(t); !errors.Is(err, guest.ErrAuth) {
		t.Errorf("got %v", err)
	}
	if n := s.logins.Load(); int(n) != len(loginPauses)+1 {
		t.Errorf("%d attempts: at the fourth, OpenSSH bars the address", n)
	}
}

// TestAServerThatStaysOpen has one that takes passwords, where the keeper has a key: it says so, and no password is tried for it.
func TestAServerThatStaysOpen(t *testing.T) {
	t.Parallel()
	s := newServer(t, always, always)
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	k := climber(t, s, time.Minute)
	k.p.Login.Key = key
	f := (*job.Failure)(nil)
	if _, err := k.climbTo(t); !errors.Is(err, guest.ErrOpen) || !errors.As(err, &f) || !f.Job || !strings.Contains(f.Hint, "--ssh-key") {
		t.Errorf("got %+v", err)
	}
	if n := s.logins.Load(); n != 0 {
		t.Errorf("%d passwords", n)
	}
}

// TestForgottenConnection has an SSH server that never says a word on its first connection.
func TestForgottenConnection(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(n int) bool { return n > 1 }, always)
	ctx, cancel := context.WithTimeout(t.Context(), 3*attemptLimit)
	defer cancel()
	k := climber(t, s, time.Hour)
	l, err := k.reach(ctx, &link{login: k.p.Login}, func(rung, *link) {})
	if err != nil {
		t.Fatal(err)
	}
	l.guest.Close()
}

// TestSlowLogin has a server that takes longer for a login than the first attempt does.
func TestSlowLogin(t *testing.T) {
	t.Parallel()
	s := newServer(t, always, func(int) bool { time.Sleep(attemptLimit + time.Second); return true })
	if _, err := climber(t, s, time.Minute).climbTo(t); err != nil {
		t.Error(err)
	}
}

// TestRefusalsEndInTime has a server that knows nobody, and little time.
func TestRefusalsEndInTime(t *testing.T) {
	t.Parallel()
	s := newServer(t, always, func(int) bool { return false })
	if _, err := climber(t, s, 8*time.Second).climbTo(t); !errors.Is(err, guest.ErrAuth) {
		t.Errorf("got %v", err)
	}
	if n := s.logins.Load(); n < 2 {
		t.Errorf("%d attempts", n)
	}
}

// TestLostDuringTheFirstCommand has a guest whose connections end, at first, as soon as a command is to run there.
func TestLostDuringTheFirstCommand(t *testing.T) {
	t.Parallel()
	s := newServer(t, always, always)
	s.goesAway.Store(2)
	k := climber(t, s, time.Minute)
	c := k.bySSH(t.Context(), k.p.Login, func(rung, *link) {})
	if c.err != nil {
		t.Fatal(c.err)
	}
	c.link.guest.Close()
	if n := s.logins.Load(); n != 3 {
		t.Errorf("%d logins for a guest that went away twice", n)
	}
}
