package guest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gitlab-runner-tart-driver/internal/proc"
)

// TestAProgramStartsAsALoginWould has an agent of which launchd or systemd has made nothing but a process, as both do for daemons.
func TestAProgramStartsAsALoginWould(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Skip(err)
	}
	if st, err := os.Stat(me.HomeDir); err != nil || !st.IsDir() {
		t.Skipf("the user of this test has no home directory: %v", err)
	}
	bare := func(extra ...string) *Agent {
		return NewAgent(func(ctx context.Context, argv []string, streams Streams) (int, error) {
			cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
			cmd.Env, cmd.Dir = append([]string{"PATH=" + os.Getenv("PATH")}, extra...), "/"
			cmd.Stdin, cmd.Stdout, cmd.Stderr = streams.Stdin, streams.Stdout, streams.Stderr
			err := cmd.Run()
			if exitErr := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exitErr) {
				return -1, err
			}
			return cmd.ProcessState.ExitCode(), nil
		})
	}
	const show = `printenv HOME USER LOGNAME; pwd; (echo leak >&3) 2> /dev/null || true`
	elsewhere := t.TempDir()
	for name, c := range map[string]struct {
		env  []string
		want []string
	}{
		"nothing":          {nil, []string{me.HomeDir, me.Username, me.Username, me.HomeDir}},
		"its own":          {[]string{"HOME=" + elsewhere, "USER=u", "LOGNAME=l"}, []string{elsewhere, "u", "l", elsewhere}},
		"no such home":     {[]string{"HOME=/no/such", "USER=u", "LOGNAME=l"}, []string{"/no/such", "u", "l", "/"}},
		"a home directory": {[]string{"HOME=" + elsewhere}, []string{elsewhere, me.Username, me.Username, elsewhere}},
	} {
		var out, errs bytes.Buffer
		status, err := bare(c.env...).run(t.Context(), show, nil, Streams{Stdout: &out, Stderr: &errs})
		if status != (Status{}) || err != nil || errs.Len() > 0 {
			t.Fatalf("%s: got %+v, %v, %q", name, status, err, errs.String())
		}
		lines := strings.Split(out.String(), "\n")
		if got := strings.Join(lines[:min(4, len(lines))], " "); got != strings.Join(c.want, " ") || strings.Contains(out.String(), "leak") {
			t.Errorf("%s: got %q, want %q", name, out.String(), c.want)
		}
	}
	// What a shell says about a child that a signal ended is not for the job log.
	for _, program := range []string{"kill -KILL $$", "kill -TERM $$", "kill -SEGV $$"} {
		var errs bytes.Buffer
		if _, err := bare().run(t.Context(), program, nil, Streams{Stderr: &errs}); err != nil || errs.Len() > 0 {
			t.Errorf("%s: got %v, %q", program, err, errs.String())
		}
	}
}

// showGroup prints the process and its group.
const showGroup = `if [ -r /proc/$$/stat ]; then read -r _ _ _ _ g _ < /proc/$$/stat; else g=$(ps -o pgid= -p $$); fi; echo $$ $g "$@"`

func TestProgramsLeadAGroupOfTheirOwn(t *testing.T) {
	for name, c := range map[string]struct {
		tools []string
		own   bool
	}{
		"setsid":                        {tools: []string{"setsid"}},
		"perl":                          {tools: []string{"perl"}},
		"both":                          {tools: []string{"setsid", "perl"}},
		"the agent does it, and setsid": {tools: []string{"setsid"}, own: true},
		"the agent does it, and perl":   {tools: []string{"perl"}, own: true},
	} {
		t.Run(name, func(t *testing.T) {
			bin := t.TempDir()
			for _, tool := range append(c.tools, "ps", "cat") {
				path, err := exec.LookPath(tool)
				if err != nil {
					if slices.Contains(c.tools, tool) {
						t.Skipf("there is no %s", tool)
					}
					continue
				}
				if err := os.Symlink(path, filepath.Join(bin, tool)); err != nil {
					t.Fatal(err)
				}
			}
			a, _ := newLocalAgent(t, bin, c.own)
			args := []string{"it's", "a b", "$x", `"`}
			var out, errs bytes.Buffer
			status, err := a.run(t.Context(), showGroup+"; exit 7", args, Streams{Stdout: &out, Stderr: &errs})
			if status != (Status{Code: 7}) || err != nil || errs.Len() > 0 {
				t.Fatalf("got %+v, %v, %q", status, err, errs.String())
			}
			pid, rest, _ := strings.Cut(strings.TrimSpace(out.String()), " ")
			group, rest, _ := strings.Cut(rest, " ")
			if pid == "" || pid != group || group == strconv.Itoa(syscall.Getpgrp()) || rest != strings.Join(args, " ") {
				t.Errorf("process %q is in group %q, its arguments are %q", pid, group, rest)
			}
		})
	}
}

func TestProgramsRunWithoutAWayToAGroup(t *testing.T) {
	a, _ := newLocalAgent(t, t.TempDir(), false)
	for program, code := range map[string]int{"exit 7": 7, "kill -KILL $$": 137, "true": 0} {
		if status, err := a.run(t.Context(), program, nil, Streams{}); status != (Status{Code: code}) || err != nil {
			t.Errorf("%q: got %+v, %v", program, status, err)
		}
	}
}

// only makes a directory for a PATH that has some tools and no others.
func only(t *testing.T, tools ...string) string {
	t.Helper()
	bin := t.TempDir()
	for _, tool := range tools {
		path, err := exec.LookPath(tool)
		if err != nil {
			t.Skipf("there is no %s", tool)
		}
		if err := os.Symlink(path, filepath.Join(bin, tool)); err != nil {
			t.Fatal(err)
		}
	}
	return bin
}

// TestAScriptWithoutAGroupIsEndedByItsTree has a guest with neither setsid nor perl. The group is that of this test: it must live on.
func TestAScriptWithoutAGroupIsEndedByItsTree(t *testing.T) {
	t.Parallel()
	a, _ := newLocalAgent(t, only(t, "ps", "dd", "sleep"), false)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	r, w := io.Pipe()
	script := "sleep 600 > /dev/null 2>&1 & (trap '' TERM; sleep 600 > /dev/null 2>&1 & echo $$ $!; wait) & wait; wait"
	type end struct {
		status Status
		err    error
	}
	ended := make(chan end, 1)
	go func() {
		status, err := a.RunScript(ctx, "/bin/sh", strings.NewReader(script), int64(len(script)), w, io.Discard)
		w.Close()
		ended <- end{status, err}
	}()
	var processes []proc.ID
	var pids [2]int
	if _, err := fmt.Fscan(r, &pids[0], &pids[1]); err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		id, err := proc.Of(pid)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { id.Signal(syscall.SIGKILL) })
		processes = append(processes, id)
	}
	cause := errors.New("canceled")
	cancel(cause)
	go io.Copy(io.Discard, r)
	if e := <-ended; !errors.Is(e.err, ErrEnded) || !errors.Is(e.err, cause) || strings.Contains(e.err.Error(), "not all of it") {
		t.Errorf("got %+v, %v", e.status, e.err)
	}
	for _, id := range processes {
		if !id.WaitGone(time.Minute) {
			t.Errorf("process %d still runs", id.PID)
		}
	}
}
