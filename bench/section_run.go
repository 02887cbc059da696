package main

import (
	"context"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"time"

	"gitlab-runner-tart-driver/bench/report"
	"gitlab-runner-tart-driver/internal/guest"
	"gitlab-runner-tart-driver/internal/trial/script"
)

// measureRun calls the run stage with a script that does nothing, in turns with OpenSSH's client doing the same.
func (b *bench) measureRun(ctx context.Context) error {
	const name, open = "`run` with script `true`", "ssh, open ControlMaster"
	f := runFigures{
		shared: b.figure("run", name, report.Milliseconds, open, report.RatioAtMost(1.3)),
		fresh:  b.figure("run", name, report.Milliseconds, "ssh, its own connection", report.RatioAtMost(0.15)),
		bare:   b.figure("run", name, report.Milliseconds, open+", without a login shell"),
		cpu:    b.figure("run", name+", CPU of the client's processes", report.Milliseconds, open),
	}
	first := b.figure("run", "login and a first command `true`, without a process of their own", report.Milliseconds, "")
	return b.holdAll(ctx, script.Prepare, func(ctx context.Context, all []*held) error {
		own, remove, err := b.sshClient(all[0].guest)
		if err != nil {
			return err
		}
		defer remove()
		shared, end, err := own.open(ctx)
		if err != nil {
			return err
		}
		defer end()
		for range b.opts.repeat(4) {
			for _, h := range all {
				u, err := h.timeScript(ctx, nothing)
				if err != nil {
					return err
				}
				f.add(h.d.column, u)
			}
			if err := f.addSSH(ctx, own, shared); err != nil {
				return err
			}
			took, err := firstCommand(ctx, all[0].guest)
			if err != nil {
				return err
			}
			first.AddTime(report.Driver, took)
		}
		return nil
	})
}

// firstCommand is what `prepare` waits for at least, once a guest's SSH server listens.
func firstCommand(ctx context.Context, addr netip.AddrPort) (time.Duration, error) {
	began := time.Now()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return 0, err
	}
	s, err := guest.Connect(ctx, conn, guest.Login{User: guestUser, Password: guestUser}, nil)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	_, err = s.Exec(ctx, "true", guest.Streams{})
	return time.Since(began), err
}

// nothing is a script.
const nothing = "true\n"

// runFigures are the rows about a single script: the driver's time beside three ways to do the same by ssh.
type runFigures struct{ shared, fresh, bare, cpu *report.Figure }

func (f *runFigures) add(column report.Column, u usage) {
	for _, figure := range []*report.Figure{f.shared, f.fresh, f.bare} {
		figure.AddTime(column, u.wall)
	}
	f.cpu.AddTime(column, u.cpu)
}

// addSSH does it in each of the three ways.
func (f *runFigures) addSSH(ctx context.Context, own, shared *sshClient) error {
	u, err := measure(withScript(shared.command(ctx, loginShell()), nothing))
	if err != nil {
		return err
	}
	f.shared.AddTime(report.Yardstick, u.wall)
	f.cpu.AddTime(report.Yardstick, u.cpu)
	if u, err = measure(withScript(own.command(ctx, loginShell()), nothing)); err != nil {
		return err
	}
	f.fresh.AddTime(report.Yardstick, u.wall)
	if u, err = measure(shared.command(ctx, "true")); err != nil {
		return err
	}
	f.bare.AddTime(report.Yardstick, u.wall)
	return nil
}

// withScript hands a command a script on its stdin.
func withScript(cmd *exec.Cmd, text string) *exec.Cmd {
	cmd.Stdin = strings.NewReader(text)
	return cmd
}

// timeScript calls the run stage. The processor time is that of the stage and of the driver's processes that stay.
func (h *held) timeScript(ctx context.Context, text string) (usage, error) {
	cmd, err := h.stage(ctx, text)
	if err != nil {
		return usage{}, err
	}
	var u usage
	err = h.withKeepers(&u, func() (err error) {
		u, err = measure(cmd)
		return err
	})
	return u, err
}

// withKeepers adds the processor time of the driver's processes that stay to that of what call measures.
func (h *held) withKeepers(u *usage, call func() error) error {
	pids, err := h.keepers()
	if err != nil {
		return err
	}
	before, err := cpuTime(pids)
	if err != nil {
		return err
	}
	if err := call(); err != nil {
		return err
	}
	after, err := cpuTime(pids)
	u.cpu += after - before
	return err
}
