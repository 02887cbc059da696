package keeper

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"gitlab-runner-tart-driver/internal/guest"
	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/tart"
)

// server is an SSH server on a loopback address. conn gets the number of each connection, from 1, and whether it may be served at all; login
// that of each password.
type server struct {
	listener net.Listener
	logins   atomic.Int32
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
				for range channels {
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
	if err := os.WriteFile(fake, []byte("#!/bin/sh\necho 127.0.0.1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	client, err := tart.New(fake, []string{"HOME=" + t.TempDir(), "PATH=/usr/bin:/bin"})
	if err != nil {
		t.Fatal(err)
	}
	port := netip.MustParseAddrPort(s.listener.Addr().String()).Port()
	return &Keeper{p: Params{VM: "vm", Port: int(port), Timeout: timeout, Login: guest.Login{User: "admin", Password: "admin"}}, tart: client}
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
	s := newServer(t, always, func(n int) bool { return n == loginAttempts })
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
	if n := s.logins.Load(); n != loginAttempts {
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
