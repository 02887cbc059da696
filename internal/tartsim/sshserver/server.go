// Package sshserver is the SSH server of guests where OpenSSH's can't run. It behaves like OpenSSH's where a client can tell: a session
// per command, the exit status as soon as the command ends, end of file only when everybody has closed the streams, signals to the
// whole process group, environment variables by allow-list.
//
// It must not know how processes are started; Config.Start does.
package sshserver

import (
	"fmt"
	"io"
	"net"
	"sync"

	"golang.org/x/crypto/ssh"
)

// Request is a command, shell or subsystem to start.
type Request struct {
	Command   string // empty: a login shell
	Subsystem string // "sftp"; empty: none
	Env       []string
	TTY       bool
	Term      string
	Columns   uint16
	Rows      uint16
}

// Status is how a command ended.
type Status struct {
	Code   int
	Signal string // without "SIG"; empty: it exited by itself
	Core   bool
}

// Process is a started command.
type Process struct {
	Stdin  io.WriteCloser
	Stdout io.ReadCloser
	Stderr io.ReadCloser // nil with a terminal
	Done   <-chan Status
	// Signal sends a signal, by its name without "SIG", to the command's process group.
	Signal func(name string) error
	// Resize sets the terminal's size; nil without one.
	Resize func(columns, rows uint16) error
	// Drain makes reading from a terminal end soon after the command has ended; nil without one.
	Drain func()
}

// Config is what a server needs.
type Config struct {
	HostKey ssh.Signer
	// TakesPasswords is asked for each connection.
	TakesPasswords func() bool
	CheckPassword  func(user, password string) bool
	CheckKey       func(user string, key ssh.PublicKey) bool
	Start          func(Request) (*Process, error)
}

// maxSessions is OpenSSH's default for the sessions of one connection.
const maxSessions = 10

// connections are those under way, to be closed with their server.
type connections struct {
	mu   sync.Mutex
	open map[net.Conn]bool
}

func (c *connections) add(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open[conn] = true
}

func (c *connections) remove(conn net.Conn) {
	_ = conn.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, conn)
}

func (c *connections) closeAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.open {
		_ = conn.Close()
	}
}

// Serve accepts connections until the listener fails or is closed. Then it closes those that are still open.
func Serve(listener net.Listener, config Config) error {
	all := &connections{open: map[net.Conn]bool{}}
	defer all.closeAll()
	for {
		conn, err := listener.Accept()
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		all.add(conn)
		go func() {
			defer all.remove(conn)
			handle(conn, config)
		}()
	}
}

// logins is how a connection may log in.
func (c Config) logins() *ssh.ServerConfig {
	server := &ssh.ServerConfig{
		ServerVersion: "SSH-2.0-tartsim",
		MaxAuthTries:  6,
		PublicKeyCallback: func(meta ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			if !c.CheckKey(meta.User(), key) {
				return nil, fmt.Errorf("key of user %q refused", meta.User())
			}
			return nil, nil
		},
	}
	if c.TakesPasswords() {
		server.PasswordCallback = func(meta ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
			if !c.CheckPassword(meta.User(), string(password)) {
				return nil, fmt.Errorf("password of user %q refused", meta.User())
			}
			return nil, nil
		}
	}
	server.AddHostKey(c.HostKey)
	return server
}

func handle(conn net.Conn, config Config) {
	client, channels, requests, err := ssh.NewServerConn(conn, config.logins())
	if err != nil {
		return
	}
	defer func() { _ = client.Close() }()
	// Refuses everything, keepalives included, which is OpenSSH's answer to them too.
	go ssh.DiscardRequests(requests)
	var mu sync.Mutex
	sessions := 0
	for offer := range channels {
		switch offer.ChannelType() {
		case "session":
			mu.Lock()
			full := sessions >= maxSessions
			if !full {
				sessions++
			}
			mu.Unlock()
			if full {
				_ = offer.Reject(ssh.ResourceShortage, "no more sessions")
				continue
			}
			go func() {
				serveSession(offer, conn, config)
				mu.Lock()
				sessions--
				mu.Unlock()
			}()
		case "direct-tcpip":
			go forward(offer)
		default:
			_ = offer.Reject(ssh.UnknownChannelType, "unknown channel type")
		}
	}
}

// forward connects a channel to a TCP address, for `ssh -L`.
func forward(offer ssh.NewChannel) {
	var target struct {
		Host       string
		Port       uint32
		Originator string
		OriginPort uint32
	}
	if err := ssh.Unmarshal(offer.ExtraData(), &target); err != nil {
		_ = offer.Reject(ssh.ConnectionFailed, "malformed request")
		return
	}
	conn, err := net.Dial("tcp", net.JoinHostPort(target.Host, fmt.Sprint(target.Port)))
	if err != nil {
		_ = offer.Reject(ssh.ConnectionFailed, "Connection refused")
		return
	}
	defer func() { _ = conn.Close() }()
	channel, requests, err := offer.Accept()
	if err != nil {
		return
	}
	defer func() { _ = channel.Close() }()
	go ssh.DiscardRequests(requests)
	go func() {
		_, _ = io.Copy(conn, channel)
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.CloseWrite()
		}
	}()
	_, _ = io.Copy(channel, conn)
	_ = channel.CloseWrite()
}
