package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"gitlab-runner-tart-driver/internal/trial"
	"gitlab-runner-tart-driver/internal/trial/civar"
)

// variables are key, value, key, value…
func variables(kv ...string) civar.List {
	var list civar.List
	for i := 0; i+1 < len(kv); i += 2 {
		list = append(list, civar.Public(kv[i], kv[i+1]))
	}
	return list
}

// watch calls do once, with the stage's process, as soon as a stage has written a text. It goes into both hooks of a job.
type watch struct {
	stage, text string
	do          func(tr *trial.Trial, p trial.Process)

	mu      sync.Mutex
	process trial.Process
	seen    []byte
	done    bool
}

// into hooks the watch into a job's options.
func (w *watch) into(o *trial.Options) {
	o.Hooks.Started = func(_ *trial.Trial, p trial.Process) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if p.Stage == w.stage {
			w.process, w.seen = p, nil
		}
	}
	o.Hooks.Output = func(tr *trial.Trial, stage string, _ trial.Stream, data []byte) {
		w.mu.Lock()
		if stage == w.stage {
			w.seen = append(w.seen, data...)
		}
		now := stage == w.stage && !w.done && bytes.Contains(w.seen, []byte(w.text))
		w.done = w.done || now
		p := w.process
		w.mu.Unlock()
		if now {
			w.do(tr, p)
		}
	}
}

// when does something once a stage has written a text.
func when(stage, text string, do func(*trial.Trial, trial.Process)) func(*trial.Options) {
	return (&watch{stage: stage, text: text, do: do}).into
}

const secret = "s3cret-of-the"

func assertNoSecret(t *testing.T, h *mac, pid int, cmd string) {
	t.Helper()
	for _, file := range []string{"cmdline", "environ"} {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
		if err == nil && (strings.Contains(string(raw), secret) || strings.Contains(string(raw), "hunter2") || strings.Contains(string(raw), "CUSTOM_ENV_")) {
			t.Errorf("%s of process %d (%s) has a secret: %q", file, pid, cmd, raw)
		}
	}
}

func assertNoSecretInFiles(t *testing.T, dir string) {
	t.Helper()
	err := walkLiving(dir, func(path string, d fs.DirEntry) error {
		if !d.Type().IsRegular() {
			return nil
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		if st.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is open to others: %v", path, st.Mode())
		}
		raw, err := os.ReadFile(path)
		if strings.Contains(string(raw), secret) {
			t.Errorf("%s has a secret", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// walkLiving looks at all that is in a directory which programs work in. What vanishes meanwhile is left out.
func walkLiving(dir string, look func(path string, d fs.DirEntry) error) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			err = look(path, d)
		}
		if path != dir && errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
}

// await waits for what a job is to bring about, which it can't do any more when it has ended.
func await(t *testing.T, tr *trial.Trial, what string, happened <-chan struct{}) {
	t.Helper()
	awaitBefore(t, tr.Done(), what, happened)
}

// awaitBefore waits for something that can't happen any more when something else has.
func awaitBefore(t *testing.T, ended <-chan struct{}, what string, happened <-chan struct{}) {
	t.Helper()
	select {
	case <-happened:
		return
	case <-ended:
	}
	select {
	case <-happened: // at the last moment
	default:
		t.Fatalf("that did not happen: %s", what)
	}
}

// stage is the last stage of a job that has a name. That there is none is an error.
func stage(t *testing.T, r *trial.Result, name string) *trial.StageResult {
	t.Helper()
	if s := r.Stage(name); s != nil {
		return s
	}
	t.Errorf("the job has no stage %s, but %v", name, r.Names())
	return &trial.StageResult{Name: name, ExitCode: -1}
}

// waitFor is an output that tells when a text has been written to it.
type waitFor struct {
	text  string
	found chan struct{}
	ended chan struct{} // closed when nobody can write any more

	mu   sync.Mutex
	all  []byte
	once sync.Once
}

// startWith starts a program with its output, and with both of its outputs if that is wanted, going to a waitFor.
func (w *waitFor) startWith(cmd *exec.Cmd, both bool) error {
	w.found, w.ended = make(chan struct{}), make(chan struct{})
	out, in, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd.Stdout = in
	if both {
		cmd.Stderr = in
	}
	err = cmd.Start()
	in.Close() // or it would never end
	if err != nil {
		out.Close()
		return err
	}
	go func() {
		defer close(w.ended)
		defer out.Close()
		_, _ = io.Copy(w, out)
	}()
	return nil
}

func (w *waitFor) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, p...)
	if bytes.Contains(w.all, []byte(w.text)) {
		w.once.Do(func() { close(w.found) })
	}
	return len(p), nil
}

func (w *waitFor) seen() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.all)
}

// startRunner starts a GitLab Runner of its own, which a test may kill, and returns when the script of its job runs.
func (h *mac) startRunner() *exec.Cmd { return h.startRunnerUntil("\nstarted\n", "base") }

// startRunnerUntil starts one whose job has an image, and returns when text is in the job log. flags are those of all stages.
func (h *mac) startRunnerUntil(text, image string, flags ...string) *exec.Cmd {
	h.t.Helper()
	args := []string{"try", "--no-sources", "--image", image}
	for _, f := range slices.Concat(h.flags, flags) {
		for _, stage := range []string{"config", "prepare", "run", "cleanup"} {
			args = append(args, "--"+stage+"-args="+f)
		}
	}
	runner := exec.Command(h.bin, append(args, "--", "echo started; sleep 300")...)
	runner.Env = append(h.environ(), "TMPDIR="+h.temp())
	runner.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out := &waitFor{text: text}
	if err := out.startWith(runner, true); err != nil {
		h.t.Fatal(err)
	}
	defer func() {
		if h.t.Failed() {
			h.t.Log(out.seen())
		}
	}()
	awaitBefore(h.t, out.ended, "the job starts", out.found)
	return runner
}
