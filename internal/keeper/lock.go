package keeper

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"

	"gitlab-runner-tart-driver/internal/guest"
	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/provision"
)

// lock has the guest's SSH server take a new key and nothing else, and returns the connection that proves it. The key is in this process's memory
// only; the password is not needed any more. A guest that is reached by its agent needs no connection: it says itself what its server takes.
func (k *Keeper) lock(ctx context.Context, l *link) (*link, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, job.Infrastructure(fmt.Errorf("make an SSH key: %w", err), "")
	}
	key, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return nil, job.Infrastructure(fmt.Errorf("make an SSH key: %w", err), "")
	}
	_, byAgent := l.guest.(*guest.Agent)
	script := provision.Lock{Key: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key.PublicKey()))), Check: byAgent}
	if err := k.setLock(ctx, l.guest, script); err != nil {
		return nil, err
	}
	k.p.Login.Password = ""
	if byAgent {
		return l, nil
	}
	locked, err := k.reach(ctx, &link{addr: l.addr, hostKey: l.hostKey, login: guest.Login{User: k.p.Login.User, Key: key}}, func(rung, *link) {})
	if err != nil {
		return nil, asFailure(fmt.Errorf("after the VM's SSH server was told to take this job's key only: %w", err), "")
	}
	l.guest.Close()
	return locked, nil
}

// setLock runs the script, and explains what it could not do.
func (k *Keeper) setLock(ctx context.Context, g guest.Guest, lock provision.Lock) error {
	sctx, cancel := context.WithTimeoutCause(ctx, k.p.Timeout, fmt.Errorf("no answer within %s", k.p.Timeout))
	defer cancel()
	out, status, err := guest.Ask(sctx, g, lock.Script())
	if cause := context.Cause(ctx); cause != nil && err != nil {
		err = cause
	}
	if err != nil {
		return asFailure(fmt.Errorf("have the VM's SSH server take this job's key only: %w", err), "")
	}
	if status.Code == 0 {
		return nil
	}
	said := fmt.Errorf("the script ended with exit status %d and said %q", status.Code, out)
	if answers := provision.Answers(out); len(answers) > 0 {
		said = errors.New(answers[len(answers)-1])
	}
	hint := "look at the SSH server in the image, or do without --ssh-key"
	if status.Code == provision.ExitNoRoot {
		hint = "let the image's user use sudo without a password, or do without --ssh-key"
	}
	return job.Mistake(fmt.Errorf("other logins cannot be turned off: %w", said), "%s", hint)
}
