package guest

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// Login is how to log in to a guest.
type Login struct {
	User     string
	Password string
	// Key takes the password's place if it is not nil. It stays in this process.
	Key ssh.Signer `json:"-"`
}

// ErrAuth means that the guest refused the login. Trying the same again is no use.
var ErrAuth = errors.New("login refused")

// ErrOpen means that the guest lets others in than those who have a key.
var ErrOpen = errors.New("the SSH server lets in who has no key")

// authentication is a login under way.
type authentication struct {
	login Login
	asked int   // what the server wanted to know
	open  error // what else it would take than a key
}

// configure sets up how a client answers the server's questions.
func (a *authentication) configure(c *ssh.ClientConfig) {
	c.User = a.login.User
	if a.login.Key != nil {
		c.Auth = []ssh.AuthMethod{ssh.PublicKeys(a.login.Key)}
		c.AuthCallback = a.onlyKeys
		return
	}
	c.Auth = []ssh.AuthMethod{
		ssh.PasswordCallback(func() (string, error) {
			a.asked++
			return a.login.Password, nil
		}),
		// A server set up for PAM alone asks its password question this way.
		ssh.KeyboardInteractive(func(_, _ string, questions []string, _ []bool) ([]string, error) {
			a.asked++
			answers := make([]string, len(questions))
			for i := range answers {
				answers[i] = a.login.Password
			}
			return answers, nil
		}),
	}
}

// onlyKeys ends a login to a server that takes anything but keys, RFC 4252, section 7. A client asks for nothing first, which no server counts as
// an attempt, and is told what would do.
func (a *authentication) onlyKeys(server *ssh.ClientAuthContext) (ssh.AuthMethod, error) {
	a.asked++
	if !slices.Equal(server.AllowedMethods, []string{"publickey"}) {
		a.open = fmt.Errorf("%w: it takes %.100q", ErrOpen, strings.Join(server.AllowedMethods, " "))
	}
	return nil, a.open // without an error, the next one of ClientConfig.Auth is tried
}

// result is what to say of a login that ended with err.
func (a *authentication) result(err error) error {
	switch {
	case a.open != nil:
		return a.open
	case err == nil && a.login.Key != nil && a.asked == 0:
		return fmt.Errorf("%w: it asks for nothing", ErrOpen)
	case err == nil || !refusal(err):
		return err
	case a.login.Key != nil:
		return fmt.Errorf("%w as user %q with this job's key", ErrAuth, a.login.User)
	case a.asked == 0:
		return fmt.Errorf("%w: the server takes no password: %w", ErrAuth, err)
	default:
		return fmt.Errorf("%w as user %q", ErrAuth, a.login.User)
	}
}

// refusal tells a login that was refused from a connection that broke. x/crypto has no types for this.
func refusal(err error) bool {
	text := err.Error()
	return strings.Contains(text, "unable to authenticate") ||
		// A server may offer keyboard-interactive and ask no question: OpenSSH does without PAM. 51 is SSH_MSG_USERAUTH_FAILURE. RFC 4256, section 3.1
		strings.Contains(text, "unexpected message type 51 (expected 60)") ||
		// https://man.openbsd.org/sshd_config#MaxAuthTries
		strings.Contains(strings.ToLower(text), "too many authentication failures")
}
