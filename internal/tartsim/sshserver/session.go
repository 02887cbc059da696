package sshserver

import (
	"io"
	"net"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
)

// session is one session channel.
type session struct {
	channel ssh.Channel
	conn    net.Conn
	config  Config
	request Request
	process *Process
	done    chan struct{} // closed when the process's last output is sent
}

func serveSession(offer ssh.NewChannel, conn net.Conn, config Config) {
	channel, requests, err := offer.Accept()
	if err != nil {
		return
	}
	s := &session{channel: channel, conn: conn, config: config, done: make(chan struct{})}
	defer s.close()
	for {
		select {
		case <-s.done:
			return
		case request, open := <-requests:
			if !open {
				return
			}
			ok := s.answer(request)
			if request.WantReply {
				_ = request.Reply(ok, nil)
			}
		}
	}
}

// close ends the channel. A process that still runs loses its streams and goes on, as with OpenSSH.
func (s *session) close() {
	_ = s.channel.Close()
	if s.process == nil {
		return
	}
	_ = s.process.Stdin.Close()
	_ = s.process.Stdout.Close()
	if s.process.Stderr != nil {
		_ = s.process.Stderr.Close()
	}
}

func (s *session) answer(request *ssh.Request) bool {
	switch request.Type {
	case "env":
		return s.acceptEnv(request.Payload)
	case "pty-req":
		return s.acceptTerminal(request.Payload)
	case "shell":
		return s.start("", "")
	case "exec":
		var payload struct{ Command string }
		return ssh.Unmarshal(request.Payload, &payload) == nil && s.start(payload.Command, "")
	case "subsystem":
		var payload struct{ Name string }
		return ssh.Unmarshal(request.Payload, &payload) == nil && s.start("", payload.Name)
	case "window-change":
		var size struct{ Columns, Rows, Width, Height uint32 }
		return ssh.Unmarshal(request.Payload, &size) == nil && s.process != nil && s.process.Resize != nil &&
			s.process.Resize(uint16(size.Columns), uint16(size.Rows)) == nil
	case "signal":
		var payload struct{ Name string }
		return ssh.Unmarshal(request.Payload, &payload) == nil && s.process != nil && s.process.Signal(payload.Name) == nil
	default:
		return false
	}
}

// acceptEnv takes the variables that the default configurations of macOS and Debian let through.
func (s *session) acceptEnv(data []byte) bool {
	var payload struct{ Name, Value string }
	if ssh.Unmarshal(data, &payload) != nil || payload.Name != "LANG" && !strings.HasPrefix(payload.Name, "LC_") {
		return false
	}
	s.request.Env = append(s.request.Env, payload.Name+"="+payload.Value)
	return true
}

func (s *session) acceptTerminal(data []byte) bool {
	var payload struct {
		Term                         string
		Columns, Rows, Width, Height uint32
		Modes                        string
	}
	if ssh.Unmarshal(data, &payload) != nil || s.process != nil {
		return false
	}
	s.request.TTY, s.request.Term = true, payload.Term
	s.request.Columns, s.request.Rows = uint16(payload.Columns), uint16(payload.Rows)
	return true
}

func (s *session) start(command, subsystem string) bool {
	if s.process != nil {
		return false
	}
	s.request.Command, s.request.Subsystem = command, subsystem
	s.request.Env = append(s.request.Env, connectionEnv(s.conn)...)
	process, err := s.config.Start(s.request)
	if err != nil {
		return false
	}
	s.process = process
	go func() {
		_, _ = io.Copy(process.Stdin, s.channel)
		if !s.request.TTY {
			_ = process.Stdin.Close()
		}
	}()
	go s.finish()
	return true
}

// finish sends the output and the exit status, each as it comes, and ends the session when both are out.
func (s *session) finish() {
	defer close(s.done)
	var output sync.WaitGroup
	output.Go(func() { _, _ = io.Copy(s.channel, s.process.Stdout) })
	if s.process.Stderr != nil {
		output.Go(func() { _, _ = io.Copy(s.channel.Stderr(), s.process.Stderr) })
	}
	s.sendStatus(<-s.process.Done)
	if s.process.Drain != nil {
		s.process.Drain()
	}
	output.Wait()
	_ = s.channel.CloseWrite()
}

func (s *session) sendStatus(status Status) {
	if status.Signal == "" {
		_, _ = s.channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Code uint32 }{uint32(status.Code)}))
		return
	}
	_, _ = s.channel.SendRequest("exit-signal", false, ssh.Marshal(struct {
		Name     string
		Core     bool
		Message  string
		Language string
	}{status.Signal, status.Core, "", ""}))
}

func connectionEnv(conn net.Conn) []string {
	clientHost, clientPort, err := net.SplitHostPort(conn.RemoteAddr().String())
	if err != nil {
		return nil
	}
	host, port, err := net.SplitHostPort(conn.LocalAddr().String())
	if err != nil {
		return nil
	}
	return []string{
		"SSH_CLIENT=" + strings.Join([]string{clientHost, clientPort, port}, " "),
		"SSH_CONNECTION=" + strings.Join([]string{clientHost, clientPort, host, port}, " "),
	}
}
