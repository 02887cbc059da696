package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os/exec"
	"runtime"

	"github.com/spf13/cobra"

	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/tart"
)

const vncLong = `Prints the address of a VM's screen, for a job that runs or a VM that is held. The VM must have been started with --vnc: by the job's variable
TART_EXECUTOR_VNC_ENABLED=true, or for all jobs by --vnc in prepare_args.

A password in the address is shown at a terminal only, or with --show-password.

Exit codes
  0    the address is printed
  1    there is no such job, or its VM has no VNC
  64   the command line is not understood`

func newVNCCommand(env Env) *cobra.Command {
	cmd, flags := newHostVerb("vnc JOB|VM", "Show where the screen of a job's VM is", vncLong, cobra.ExactArgs(1))
	show := cmd.Flags().Bool("show-password", false, "print a password wherever the output goes")
	open := cmd.Flags().Bool("open", false, "open the screen, with Screen Sharing on macOS")
	cmd.ValidArgsFunction = completeLiveJobs(env, flags)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *open && runtime.GOOS != "darwin" {
			return &usageError{errors.New("--open works on macOS only; any VNC viewer opens the address")}
		}
		state, rec, err := flags.job(env, args[0])
		if err != nil {
			return err
		}
		const most = 1 << 20 // the address comes early, and little comes after it
		address, ok := tart.VNCAddress(tart.Tail(state.RunLog(rec.VM), most))
		if !ok {
			return job.Mistake(fmt.Errorf("VM %s of %s has no VNC", rec.VM, rec.Describe()),
				"a VM is started with it or never has it: set TART_EXECUTOR_VNC_ENABLED=true as a variable of the next job, or give --vnc in prepare_args")
		}
		shown, bare := *address, withoutPassword(address)
		if !*show && !isTerminal(env.Stdout) {
			shown = *bare
		}
		fmt.Fprintln(env.Stdout, job.Printable(shown.String()))
		if *open {
			return openScreen(cmd.Context(), bare, env.Stderr)
		}
		return nil
	}
	return cmd
}

func withoutPassword(u *url.URL) *url.URL {
	bare := *u
	bare.User = nil
	if name := u.User.Username(); name != "" {
		bare.User = url.User(name)
	}
	return &bare
}

// openScreen opens an address without the password, which every user of the host could see in the arguments: Screen Sharing asks for it.
func openScreen(ctx context.Context, u *url.URL, stderr io.Writer) error {
	cmd := exec.CommandContext(ctx, "/usr/bin/open", u.String())
	cmd.Stderr = stderr
	if err := cmd.Run(); err != nil {
		return job.Infrastructure(fmt.Errorf("open %s: %w", u, err), "")
	}
	return nil
}
