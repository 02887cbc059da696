// Package guest is what is done inside a VM: reaching it, finding out what it is, running scripts in it and ending them.
//
// It speaks to one guest over one connection. It neither starts nor ends VMs, and knows nothing of GitLab.
package guest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// ErrLost means that the connection to the guest broke, or that the guest stopped answering.
var ErrLost = errors.New("connection to the VM lost")

// ErrHostKey means that the guest's SSH host key is not the one it had at first contact.
var ErrHostKey = errors.New("the VM's SSH host key has changed")

// SSH is a connection to the guest's SSH server, over which any number of commands run.
type SSH struct {
	conn    ssh.Conn
	hostKey ssh.PublicKey
	lost    chan struct{}
	once    sync.Once
	cause   error

	mu      sync.Mutex
	standby *standby
}

// keepalive: a guest is given up when nothing came back for keepaliveLimit. A busy guest may well be mute for some seconds.
const (
	keepaliveInterval = 5 * time.Second
	keepaliveLimit    = 30 * time.Second
	// keepaliveRequest is OpenSSH's; every server answers it, if only to say that it does not know it.
	keepaliveRequest = "keepalive@openssh.com"
)

// readBuffer is in bytes: several packets with output come in one read of a fast guest's connection, and none takes two.
const readBuffer = 256 << 10

// longestGreeting is in bytes, with its line end. RFC 4253, section 4.2
const longestGreeting = 255

// Banner waits for the server's identification line on a fresh TCP connection, to tell a port that merely accepts from a server that
// speaks SSH. The returned connection still has the line to be read; on an error, conn is closed.
func Banner(ctx context.Context, conn net.Conn) (net.Conn, error) {
	stop := closeWithContext(ctx, conn)
	defer stop()
	r := bufio.NewReaderSize(conn, readBuffer)
	var line []byte
	for n := 1; n <= longestGreeting && !bytes.HasSuffix(line, []byte("\n")); n++ {
		var err error
		if line, err = r.Peek(n); err != nil {
			conn.Close()
			return nil, fmt.Errorf("waiting for the SSH server's greeting: %w", contextOr(ctx, err))
		}
	}
	if !bytes.HasPrefix(line, []byte("SSH-")) {
		conn.Close()
		return nil, fmt.Errorf("the port answers with %q, which is not SSH", bytes.TrimSpace(line))
	}
	return &buffered{conn, r}, nil
}

// buffered is a connection that is read through a buffer.
type buffered struct {
	net.Conn
	r *bufio.Reader
}

func (b *buffered) Read(p []byte) (int, error) { return b.r.Read(p) }

// Connect logs in over conn, which it owns from then on. pinned is the host key of the first contact, nil at first contact: then
// any key is taken, for a fresh VM's can't be known. With a key, a server that would take anything else than keys is refused
// with ErrOpen.
func Connect(ctx context.Context, conn net.Conn, login Login, pinned ssh.PublicKey) (*SSH, error) {
	stop := closeWithContext(ctx, conn)
	defer stop()
	s := &SSH{lost: make(chan struct{})}
	auth := &authentication{login: login}
	config := &ssh.ClientConfig{
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			if pinned != nil && !bytes.Equal(pinned.Marshal(), key.Marshal()) {
				return ErrHostKey
			}
			s.hostKey = key
			return nil
		},
	}
	auth.configure(config)
	if pinned != nil {
		config.HostKeyAlgorithms = preferring(pinned.Type())
	}
	c, channels, requests, err := ssh.NewClientConn(conn, conn.RemoteAddr().String(), config)
	if why := auth.result(err); why != nil {
		conn.Close()
		if errors.Is(why, ErrAuth) || errors.Is(why, ErrOpen) {
			return nil, why
		}
		return nil, contextOr(ctx, why)
	}
	s.conn = c
	go s.answer(requests)
	go func() {
		for ch := range channels { // a guest has no reason to open channels to us
			_ = ch.Reject(ssh.Prohibited, "not offered")
		}
	}()
	go func() { s.lose(fmt.Errorf("%w: %w", ErrLost, orEOF(c.Wait()))) }()
	go s.keepAlive()
	return s, nil
}

// answer refuses what the server asks for, and says something to what it only announces. OpenSSH announces its host keys right after the login, and by
// Nagle's algorithm keeps what it says next, which is the answer to the first command, until that has been acknowledged. Systems are in no hurry to do so unless
// they have something to send: that cost 40 ms. https://github.com/openssh/openssh-portable/blob/master/PROTOCOL ("hostkeys-00@openssh.com")
func (s *SSH) answer(requests <-chan *ssh.Request) {
	for r := range requests {
		if r.WantReply {
			_ = r.Reply(false, nil)
		} else {
			_, _, _ = s.conn.SendRequest(keepaliveRequest, false, nil)
		}
	}
}

// preferring lists the host key algorithms with those of a known key first. The others stay: a server that has another key now should
// be told from one that is broken.
func preferring(keyType string) []string {
	var first, rest []string
	for _, algorithm := range ssh.SupportedAlgorithms().HostKeys {
		if algorithm == keyType || keyType == ssh.KeyAlgoRSA && strings.HasPrefix(algorithm, "rsa-sha2-") {
			first = append(first, algorithm)
		} else {
			rest = append(rest, algorithm)
		}
	}
	return append(first, rest...)
}

// HostKey is the key that the server proved to have.
func (s *SSH) HostKey() ssh.PublicKey { return s.hostKey }

// Lost is closed when the connection is no more; Cause then says why.
func (s *SSH) Lost() <-chan struct{} { return s.lost }

// Cause is why the connection ended, nil while it lives.
func (s *SSH) Cause() error {
	select {
	case <-s.lost:
		return s.cause
	default:
		return nil
	}
}

// Close ends the connection and everything that waits on it.
func (s *SSH) Close() { s.lose(fmt.Errorf("%w: closed", ErrLost)) }

func (s *SSH) lose(cause error) {
	s.once.Do(func() {
		s.cause = cause
		close(s.lost)
		s.conn.Close()
	})
}

// keepAlive asks the server for a sign of life now and then. Without, a guest that froze or lost its network would be waited for
// until the job's timeout.
func (s *SSH) keepAlive() {
	tick := time.NewTicker(keepaliveInterval)
	defer tick.Stop()
	for {
		select {
		case <-s.lost:
			return
		case <-tick.C:
		}
		answer := make(chan error, 1)
		go func() {
			_, _, err := s.conn.SendRequest(keepaliveRequest, true, nil)
			answer <- err
		}()
		limit := time.NewTimer(keepaliveLimit)
		select {
		case <-s.lost:
		case <-answer:
		case <-limit.C:
			s.lose(fmt.Errorf("%w: no answer for %s", ErrLost, keepaliveLimit))
		}
		limit.Stop()
	}
}

// closeWithContext closes conn when ctx ends first, until the returned function is called.
func closeWithContext(ctx context.Context, conn io.Closer) (stop func() bool) {
	return context.AfterFunc(ctx, func() { conn.Close() })
}

// contextOr prefers the reason why a context ended over the error that its end led to.
func contextOr(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

func orEOF(err error) error {
	if err == nil {
		return io.EOF
	}
	return err
}
