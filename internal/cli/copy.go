package cli

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"gitlab-runner-tart-driver/internal/filecopy"
	"gitlab-runner-tart-driver/internal/guest"
	"gitlab-runner-tart-driver/internal/host"
	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/keeper"
)

const copyLong = `Copies a file, or a directory with all that is in it, out of a job's VM or into it. A path in a VM stands behind the job's number, or the VM's name,
and a colon; it may begin with ~, and is relative to the home directory otherwise. In a directory that is there already the copy is made under
its own name.
  cp 4711:/opt/builds/group/project/build/report.xml .
  cp Tools 4711:~/Tools

Links that lead out of a directory that is copied out of a VM are left out.

Exit codes
  0    all is copied
  1    there is no such job, file or directory
  2    the VM has ended, or cannot be reached
  64   the command line is not understood`

func newCopyCommand(env Env) *cobra.Command {
	cmd, flags := newHostVerb("cp JOB:PATH LOCAL | cp LOCAL JOB:PATH", "Copy files out of a job's VM, or into it", copyLong, cobra.ExactArgs(2))
	cmd.ValidArgsFunction = func(_ *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return completeCopy(env, flags, args, typed)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		fromJob, from, out := inVM(args[0])
		toJob, to, in := inVM(args[1])
		name := fromJob + toJob
		if out == in {
			return &usageError{errors.New("one of the two paths is in a VM, as JOB:PATH, and the other one is not")}
		}
		state, rec, err := flags.job(env, name)
		if err != nil {
			return err
		}
		c := copying{env: env, state: state, rec: rec}
		if out {
			err = c.fetch(cmd.Context(), from, args[1])
		} else {
			err = c.store(cmd.Context(), args[0], to)
		}
		if cause := context.Cause(cmd.Context()); cause != nil {
			return job.Infrastructure(cause, "")
		}
		return err
	}
	return cmd
}

// completeCopy offers jobs for what is in a VM, and leaves files of this host to the shell: these where no job begins as what is typed, and where the other
// path is in a VM. What is in the VM is not looked up.
func completeCopy(env Env, flags *hostFlags, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 1 || strings.Contains(typed, ":") {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	if len(args) == 1 {
		if _, _, ok := inVM(args[0]); ok {
			return nil, cobra.ShellCompDirectiveDefault
		}
	}
	jobs := slices.DeleteFunc(liveJobs(env, flags, ":"), func(c cobra.Completion) bool { return !strings.HasPrefix(c, typed) })
	if len(jobs) == 0 && len(args) == 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return jobs, cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveNoFileComp
}

// inVM takes a path in a VM apart.
func inVM(arg string) (name, file string, ok bool) {
	name, file, ok = strings.Cut(arg, ":")
	if !ok || !host.IsJobVM(name) && !regexp.MustCompile(`^[0-9]+$`).MatchString(name) {
		return "", "", false
	}
	if file == "" {
		file = "~"
	}
	return name, file, true
}

// copying copies for one job.
type copying struct {
	env   Env
	state *host.State
	rec   host.Record
}

func (c copying) warn(text string) { fmt.Fprintln(c.env.Stderr, "warning:", job.Printable(text)) }

// visit runs a program in the VM. What it says on stderr goes to ours.
func (c copying) visit(ctx context.Context, program string, args []string, in io.Reader, out *os.File) error {
	stderr, ok := c.env.Stderr.(*os.File)
	if !ok {
		return errors.New("cp hands its output to another process, and so needs a real file for it")
	}
	code, err := keeper.Visit(ctx, c.state, c.rec.VM, c.rec.JobKey, keeper.Session{Program: program, Args: args}, keeper.Visitor{In: in, Out: out, Err: stderr})
	switch {
	case err != nil:
		return gone(c.rec, err)
	case code != 0:
		return job.Mistake(fmt.Errorf("the copy failed in VM %s of %s, with exit status %d", c.rec.VM, c.rec.Describe(), code), "")
	}
	return nil
}

// fetch copies out of the VM.
func (c copying) fetch(ctx context.Context, from, to string) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	mark := "grtd:copy:" + rand.Text() + ":"
	visited := make(chan error, 1)
	go func() {
		defer w.Close() // or what we read would never end
		visited <- c.visit(ctx, guest.FetchProgram, []string{from, mark}, nil, w)
	}()
	if err := c.unpack(bufio.NewReader(r), mark, from, to); err != nil {
		early := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if !early {
			cancel()
		}
		if verr := <-visited; early && verr != nil {
			return verr // why it ended early
		}
		return job.Infrastructure(fmt.Errorf("copy to %s: %w", to, err), "")
	}
	_, _ = io.Copy(io.Discard, r) // what tar adds to fill its last block
	return <-visited
}

// unpack takes what the program sends, behind its mark.
func (c copying) unpack(r *bufio.Reader, mark, from, to string) error {
	for {
		line, err := r.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
		kind, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte(mark))
		if !ok {
			continue
		}
		if info, err := os.Stat(to); err == nil && info.IsDir() {
			if base := path.Base(from); base != "/" && base != "." && base != ".." && base != "~" {
				to = filepath.Join(to, base)
			}
		}
		if string(kind) == "f" {
			return filecopy.UnpackFile(r, to)
		}
		return filecopy.Unpack(r, to, c.warn)
	}
}

// store copies into the VM.
func (c copying) store(ctx context.Context, from, to string) error {
	info, err := os.Stat(from)
	if err != nil {
		return job.Mistake(err, "")
	}
	devNull, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer devNull.Close()
	absolute, err := filepath.Abs(from)
	if err != nil {
		return err
	}
	base := filepath.Base(absolute)
	if info.IsDir() {
		r, w := io.Pipe()
		packed := make(chan error, 1)
		go func() {
			err := filecopy.Pack(w, from, c.warn)
			w.CloseWithError(err)
			packed <- err
		}()
		err := c.visit(ctx, guest.StoreProgram, []string{to, base, "d"}, r, devNull)
		r.Close() // ends the packing where nobody takes it
		if perr := <-packed; err == nil && perr != nil {
			err = job.Mistake(fmt.Errorf("copy %s: %w", from, perr), "")
		}
		return err
	}
	if !info.Mode().IsRegular() {
		return job.Mistake(fmt.Errorf("%s is neither a file nor a directory", from), "")
	}
	f, err := os.Open(from)
	if err != nil {
		return job.Mistake(err, "")
	}
	defer f.Close()
	args := []string{to, base, "f", strconv.FormatInt(info.Size(), 10), fmt.Sprintf("%o", info.Mode().Perm())}
	return c.visit(ctx, guest.StoreProgram, args, f, devNull)
}
