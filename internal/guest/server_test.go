package guest

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/crypto/ssh"
)

// login is what the servers of these tests take.
var login = Login{User: "admin", Password: "pass word"}

// server is an SSH server on a loopback address.
type server struct {
	t        *testing.T
	config   *ssh.ServerConfig
	listener net.Listener
	// run runs a command; it has the session to itself.
	run func(command string, s *session)
	// roundTrip runs the command `exit`, which Exec sends to learn how far the server has come.
	roundTrip func(s *session)
	// noRoom is for how many more sessions there is none.
	noRoom atomic.Int32
	// mute has it say nothing to sessions.
	mute atomic.Bool

	mu    sync.Mutex
	conns []net.Conn
	all   sync.WaitGroup
}

// session is a command as the server sees it.
type session struct {
	ssh.Channel
	server *server
	conn   net.Conn
}

func newSigner(t *testing.T) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// newServer starts a server that takes passwords. change, which may be nil, sets it up differently.
func newServer(t *testing.T, run func(string, *session), change func(*ssh.ServerConfig)) *server {
	t.Helper()
	s := &server{t: t, run: run, roundTrip: func(s *session) { s.exit(0) }}
	s.config = &ssh.ServerConfig{PasswordCallback: func(c ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
		return nil, checkLogin(c.User(), string(password))
	}}
	if change != nil {
		change(s.config)
	}
	s.config.AddHostKey(newSigner(t))
	var err error
	if s.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	s.all.Go(func() {
		for {
			conn, err := s.listener.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns = append(s.conns, conn)
			s.mu.Unlock()
			s.all.Go(func() { s.handle(conn) })
		}
	})
	t.Cleanup(s.stop)
	return s
}

// stop ends all connections and waits for what they are for.
func (s *server) stop() {
	s.listener.Close()
	s.mu.Lock()
	for _, c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.all.Wait()
}

func checkLogin(user, password string) error {
	if user != login.User || password != login.Password {
		return fmt.Errorf("no")
	}
	return nil
}

func (s *server) handle(conn net.Conn) {
	defer conn.Close()
	_, channels, requests, err := ssh.NewServerConn(conn, s.config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for open := range channels {
		if s.mute.Load() {
			continue
		}
		if s.noRoom.Add(-1) >= 0 {
			_ = open.Reject(ssh.ConnectionFailed, "open failed") // OpenSSH's words
			continue
		}
		ch, requests, err := open.Accept()
		if err != nil {
			return
		}
		s.all.Go(func() { s.session(&session{Channel: ch, server: s, conn: conn}, requests) })
	}
}

// session runs the first command of a channel.
func (s *server) session(se *session, requests <-chan *ssh.Request) {
	for req := range requests {
		var exec struct{ Command string }
		if req.Type != "exec" || ssh.Unmarshal(req.Payload, &exec) != nil {
			_ = req.Reply(false, nil)
			continue
		}
		_ = req.Reply(true, nil)
		go ssh.DiscardRequests(requests)
		if exec.Command == "exit" {
			s.roundTrip(se)
		} else {
			s.run(exec.Command, se)
		}
		_ = se.Close()
		return
	}
}

// exit tells the command's exit status, and no more: the session stays open.
func (s *session) exit(code uint32) {
	_, _ = s.SendRequest("exit-status", false, ssh.Marshal(struct{ Code uint32 }{code}))
}

// exitSignal tells that a signal ended the command.
func (s *session) exitSignal(name string) {
	_, _ = s.SendRequest("exit-signal", false, ssh.Marshal(struct {
		Name       string
		CoreDumped bool
		Error      string
		Lang       string
	}{name, false, "", ""}))
}

func (s *server) dial() net.Conn {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.listener.Addr().String())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	return conn
}

// connect logs in.
func (s *server) connect() *SSH {
	s.t.Helper()
	c, err := Connect(s.t.Context(), s.dial(), login, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(c.Close)
	return c
}
