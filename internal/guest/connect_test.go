package guest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

func noCommands(string, *session) {}

func keyboardInteractiveOnly(c *ssh.ServerConfig) {
	c.PasswordCallback = nil
	c.KeyboardInteractiveCallback = func(meta ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
		answers, err := ask(meta.User(), "", []string{"Password: "}, []bool{false})
		if err != nil {
			return nil, err
		}
		return nil, checkLogin(meta.User(), answers[0])
	}
}

// asksNothing is OpenSSH without PAM: it offers keyboard-interactive, and refuses before the first question.
func asksNothing(c *ssh.ServerConfig) {
	c.KeyboardInteractiveCallback = func(ssh.ConnMetadata, ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
		return nil, errors.New("no")
	}
}

func publicKeyOnly(c *ssh.ServerConfig) {
	c.PasswordCallback = nil
	c.PublicKeyCallback = func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, errors.New("no") }
}

func TestLogin(t *testing.T) {
	for name, change := range map[string]func(*ssh.ServerConfig){"password": nil, "keyboard-interactive": keyboardInteractiveOnly} {
		s := newServer(t, noCommands, change)
		c, err := Connect(t.Context(), s.dial(), login, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if c.HostKey() == nil || c.Cause() != nil {
			t.Errorf("%s: host key %v, cause %v", name, c.HostKey(), c.Cause())
		}
		c.Close()
	}
}

func TestLoginRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*ssh.ServerConfig)
		login  Login
		says   string
	}{
		{"wrong password", nil, Login{User: "admin", Password: "hunter2"}, `as user "admin"`},
		{"wrong user", nil, Login{User: "somebody", Password: login.Password}, `as user "somebody"`},
		{"empty password", nil, Login{User: "admin"}, `as user "admin"`},
		{"wrong answer", keyboardInteractiveOnly, Login{User: "admin", Password: "hunter2"}, `as user "admin"`},
		{"wrong password, and no question", asksNothing, Login{User: "admin", Password: "hunter2"}, `as user "admin"`},
		{"no password taken, and no question", func(c *ssh.ServerConfig) { asksNothing(c); c.PasswordCallback = nil }, login, "takes no password"},
		{"one try only", func(c *ssh.ServerConfig) { c.MaxAuthTries = 1 }, Login{User: "admin", Password: "hunter2"}, `as user "admin"`},
		{"public key wanted", publicKeyOnly, login, "takes no password"},
	} {
		conn := newServer(t, noCommands, c.change).dial()
		got, err := Connect(t.Context(), conn, c.login, nil)
		if got != nil || !errors.Is(err, ErrAuth) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, %v, want ErrAuth that says %q", c.name, got, err, c.says)
		}
		if err != nil && (strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), login.Password)) {
			t.Errorf("%s: error %q has the password", c.name, err)
		}
		if _, err := conn.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: the connection is left open (%v)", c.name, err)
		}
	}
}

// TestLoginByKey is also about servers that would take something else: that shows before anything is tried that they would count.
func TestLoginByKey(t *testing.T) {
	key := newSigner(t)
	takes := func(known ssh.Signer, attempts *int) func(*ssh.ServerConfig) {
		return func(c *ssh.ServerConfig) {
			c.PasswordCallback = nil
			c.PublicKeyCallback = func(_ ssh.ConnMetadata, got ssh.PublicKey) (*ssh.Permissions, error) {
				if bytes.Equal(got.Marshal(), known.PublicKey().Marshal()) {
					return nil, nil
				}
				return nil, errors.New("no")
			}
			c.AuthLogCallback = func(_ ssh.ConnMetadata, method string, _ error) {
				if method != "none" {
					*attempts++
				}
			}
		}
	}
	for name, c := range map[string]struct {
		known    ssh.Signer
		change   func(*ssh.ServerConfig)
		err      error
		says     string
		attempts int
	}{
		"the key is known":     {known: key, attempts: 1},
		"another one is known": {known: newSigner(t), err: ErrAuth, says: `as user "admin" with this job's key`, attempts: 1},
		"passwords, too": {known: key, err: ErrOpen, says: "password", change: func(c *ssh.ServerConfig) {
			c.PasswordCallback = func(ssh.ConnMetadata, []byte) (*ssh.Permissions, error) { return nil, errors.New("no") }
		}},
		"questions, too": {known: key, err: ErrOpen, says: "keyboard-interactive", change: func(c *ssh.ServerConfig) {
			c.KeyboardInteractiveCallback = func(ssh.ConnMetadata, ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
				return nil, errors.New("no")
			}
		}},
		"nothing at all": {known: key, err: ErrOpen, says: "asks for nothing", change: func(c *ssh.ServerConfig) { c.NoClientAuth = true }},
	} {
		attempts := 0
		s := newServer(t, noCommands, func(config *ssh.ServerConfig) {
			takes(c.known, &attempts)(config)
			if c.change != nil {
				c.change(config)
			}
		})
		got, err := Connect(t.Context(), s.dial(), Login{User: "admin", Key: key}, nil)
		if got != nil {
			got.Close()
		}
		if (got != nil) != (c.err == nil) || !errors.Is(err, c.err) || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, %v, want %v with %q", name, got, err, c.err, c.says)
		}
		s.stop()
		if attempts != c.attempts {
			t.Errorf("%s: %d attempts, want %d", name, attempts, c.attempts)
		}
	}
}

func TestHostKeyIsThatOfTheFirstContact(t *testing.T) {
	s, other := newServer(t, noCommands, nil), newServer(t, noCommands, nil)
	first := s.connect()
	again, err := Connect(t.Context(), s.dial(), login, first.HostKey())
	if err != nil {
		t.Fatalf("the same server: %v", err)
	}
	again.Close()
	got, err := Connect(t.Context(), other.dial(), login, first.HostKey())
	if got != nil || !errors.Is(err, ErrHostKey) {
		t.Errorf("another server at its place gives %v, %v, want ErrHostKey", got, err)
	}
	if errors.Is(err, ErrAuth) {
		t.Error("a changed host key counts as a refused login")
	}
}

// talker is a server that says something and then waits for the other side's end.
func talker(t *testing.T, says string, stay bool) net.Conn {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, says)
		if stay {
			_, _ = io.Copy(io.Discard, conn)
		}
	}()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func TestBanner(t *testing.T) {
	for _, c := range []struct{ says, err string }{
		{"HTTP/1.1 400 Bad Request\r\n", `"HTTP/1.1 400 Bad Request", which is not SSH`},
		{"220 mail\n", "not SSH"},
		{"\n", "not SSH"},
		{"ssh-2.0-x\r\n", "not SSH"},
		{strings.Repeat("x", 10000), "not SSH"},
		{"\x00\xff\x1b[2J\n", `\x00\xff\x1b[2J`},
	} {
		got, err := Banner(t.Context(), talker(t, c.says, true))
		if got != nil || err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%.40q: got %v, %v, want an error with %q", c.says, got, err, c.err)
		}
	}
	for _, says := range []string{"", "SSH-2.0-", "HTTP"} {
		if got, err := Banner(t.Context(), talker(t, says, false)); got != nil || !errors.Is(err, io.EOF) {
			t.Errorf("%q, and then the end: got %v, %v", says, got, err)
		}
	}
}

func TestBannerIsStillThereForTheLogin(t *testing.T) {
	s := newServer(t, noCommands, nil)
	conn, err := Banner(t.Context(), s.dial())
	if err != nil {
		t.Fatal(err)
	}
	c, err := Connect(t.Context(), conn, login, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()

	conn, err = Banner(t.Context(), talker(t, "SSH-2.0-test\r\nmore", false))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); string(got) != "SSH-2.0-test\r\nmore" || err != nil {
		t.Errorf("what is left to read is %q, %v", got, err)
	}
}

// TestAMuteServerDoesNotOutlastTheContext is for both steps before a login.
func TestAMuteServerDoesNotOutlastTheContext(t *testing.T) {
	cause := errors.New("time is up")
	for name, step := range map[string]func(context.Context, net.Conn) error{
		"greeting": func(ctx context.Context, c net.Conn) error { _, err := Banner(ctx, c); return err },
		"login":    func(ctx context.Context, c net.Conn) error { _, err := Connect(ctx, c, login, nil); return err },
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		conn := &reading{Conn: talker(t, "", true), began: make(chan struct{})}
		go func() {
			<-conn.began
			cancel(cause)
		}()
		if err := step(ctx, conn); !errors.Is(err, cause) {
			t.Errorf("%s: error %v, want the cause", name, err)
		}
	}
}

// reading is a connection that tells when it is first read from.
type reading struct {
	net.Conn
	began chan struct{}
	once  bool
}

func (r *reading) Read(p []byte) (int, error) {
	if !r.once {
		r.once = true
		close(r.began)
	}
	return r.Conn.Read(p)
}

func TestTheEndOfAConnectionIsNoticed(t *testing.T) {
	s := newServer(t, noCommands, nil)
	for name, end := range map[string]func(*SSH){
		"closed here": func(c *SSH) { c.Close() },
		"closed there": func(*SSH) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.conns[len(s.conns)-1].Close()
		},
	} {
		c := s.connect()
		if c.Cause() != nil {
			t.Errorf("%s: it has ended before its end: %v", name, c.Cause())
		}
		end(c)
		<-c.Lost()
		if !errors.Is(c.Cause(), ErrLost) {
			t.Errorf("%s: cause %v, want ErrLost", name, c.Cause())
		}
		c.Close() // twice does no harm
		if _, err := c.Exec(t.Context(), "x", Streams{}); !errors.Is(err, ErrLost) {
			t.Errorf("%s: a command afterwards: %v, want ErrLost", name, err)
		}
	}
}
