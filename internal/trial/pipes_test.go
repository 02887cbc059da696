package trial

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

func TestStageLastsAsLongAsItsPipes(t *testing.T) {
	b := newBench(t)
	fifo, let := b.fifo()
	b.opts.Environ = append(b.opts.Environ, "FAKE_prepare=leave "+fifo+"; out parent is done")
	b.opts.Hooks.Output = func(t *Trial, stage string, _ Stream, data []byte) {
		if stage == StagePrepare && strings.Contains(string(data), "parent is done") {
			let()
		}
	}
	ended := ""
	b.opts.Hooks.Ended = func(_ *Trial, s StageResult) { ended += s.Name + " " }
	r := b.run()
	if r.Status != Success || !strings.HasPrefix(ended, "config prepare prepare_script ") {
		t.Errorf("%q: %s", r.Status, ended)
	}
}

func TestProcessLeftBehindOutlivesTheKill(t *testing.T) {
	b := newBench(t)
	fifo, let := b.fifo()
	defer let()
	b.opts.Environ = append(b.opts.Environ, "FAKE_build_script=leave "+fifo+"; out ready\n")
	b.opts.GracefulKillTimeout, b.opts.ForceKillTimeout = time.Millisecond, time.Millisecond
	b.job.AfterScript = []string{"true"}
	b.onReady("build_script", func(t *Trial) { t.Cancel() })
	r := b.run()
	s := r.Stage("build_script")
	if s.Err == nil || s.Err.Error() != fmt.Sprintf("failed to kill process PID=%d, likely process is dormant", s.PID) || s.ExitCode != -1 {
		t.Errorf("exit %d (%v)", s.ExitCode, s.Err)
	}
	if r.Status != Canceled || r.Stage("after_script") == nil || r.Stage("cleanup") == nil {
		t.Errorf("%q %v", r.Status, r.Names())
	}
}

func TestAbortDoesNotWaitForEver(t *testing.T) {
	b := newBench(t)
	fifo, let := b.fifo()
	defer let()
	b.opts.Environ = append(b.opts.Environ, "FAKE_build_script=leave "+fifo+"; out ready\n")
	b.opts.GracefulKillTimeout, b.opts.FinishTimeout = anHour, time.Millisecond
	b.onReady("build_script", func(t *Trial) { t.Abort() })
	r := b.run()
	if got := strings.Join(r.Names(), " "); got != "config prepare prepare_script get_sources cleanup" || r.Status != Canceled {
		t.Errorf("%s %q", got, r.Status)
	}
	if log := plain(string(r.Log)); !strings.Contains(log, "WARNING: Timed out waiting for the build to finish\n") {
		t.Errorf("log:\n%s", log)
	}
}

func TestOutputArrivesWhole(t *testing.T) {
	const size = 5 << 20
	b := newBench(t)
	b.job.Script = []string{fmt.Sprintf("head -c %d /dev/zero; head -c %d /dev/zero | tr '\\0' '\\377' >&2", size, size)}
	b.opts.Environ = append(b.opts.Environ, "FAKE_build_script=script", "FAKE_get_sources=script")
	r := b.run()
	if r.Status != Success {
		t.Fatal(r.Err)
	}
	s := r.Stage("build_script")
	if n := bytes.Count(s.Stdout, []byte{0}); n != size {
		t.Errorf("%d bytes of stdout", n)
	}
	if n := bytes.Count(s.Stderr, []byte{0xff}); n != size || len(s.Stderr) != size {
		t.Errorf("%d bytes of stderr", n)
	}
	if n := bytes.Count(r.Log, []byte{0}) + bytes.Count(r.Log, []byte{0xff}); n != 2*size {
		t.Errorf("%d bytes in the log", n)
	}
}

func TestLogOfAJob(t *testing.T) {
	b := newBench(t, "build_script", "script", "get_sources", "script", "after_script", "script", "prepare", "out preparing\n; err carefully\n")
	b.opts.Token = "glcbt-secret"
	b.job.Script = []string{"echo token: $CI_JOB_TOKEN", `printf 'section_start:1:x\r\033[0Khead\nsection_end:2:x\r\033[0K\nend\n'`, "exit 3"}
	b.job.AfterScript = []string{"echo status: $CI_JOB_STATUS"}
	b.opts.JobID = 42
	r := b.run()
	want := `Running one job in the way of GitLab Runner 19.3.0
  job 42 "try", image "ghcr.io/o/macos:15"
Preparing the "custom" executor
Using Custom executor...
preparing
carefully
Preparing environment
Getting source from Git repository
Skipping Git repository setup
Skipping Git checkout
Skipping Git submodules setup
Executing "step_script" stage of the job script
$ echo token: $CI_JOB_TOKEN
token: [MASKED]
$ printf 'section_start:1:x\r\033[0Khead\nsection_end:2:x\r\033[0K\nend\n'
head
end
$ exit 3
Running after_script
Running after script...
$ echo status: $CI_JOB_STATUS
status: failed
Cleaning up project directory and file based variables
ERROR: Job failed: exit status 3
`
	got := plain(string(r.Log))
	// the two outputs of prepare have no order between them
	got = strings.Replace(got, "carefully\npreparing\n", "preparing\ncarefully\n", 1)
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if r.ExitCode != 3 {
		t.Errorf("exit %d", r.ExitCode)
	}
	if bytes.Contains(b.out.Bytes(), []byte("glcbt-secret")) {
		t.Error("the token is in the log")
	}
}

func TestSealedTapIsFinal(t *testing.T) {
	var out bytes.Buffer
	seen := ""
	tap := &tap{to: &out, keep: true, hook: func(p []byte) { seen += string(p) }}
	tap.Write([]byte("in time"))
	kept := tap.seal()
	if n, err := tap.Write([]byte("late")); n != 4 || err != nil {
		t.Errorf("the process notices: %d %v", n, err)
	}
	if string(kept) != "in time" || out.String() != "in time" || seen != "in time" {
		t.Errorf("%q %q %q", kept, out.String(), seen)
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestNobodyReadsTheLog(t *testing.T) {
	b := newBench(t, "build_script", "hang 2")
	b.opts.Stdout = brokenPipe{}
	r := b.run()
	if r.Status != Canceled || r.Stage(StageCleanup) == nil {
		t.Errorf("%q %v", r.Status, r.Names())
	}
}

func TestRawLogHasSections(t *testing.T) {
	b := newBench(t)
	b.opts.RawLog = true
	log := string(b.run().Log)
	for _, name := range []string{"prepare_executor", "prepare_script", "get_sources", "step_script", "cleanup_file_variables"} {
		if strings.Count(log, ":"+name+"\r\x1b[0K") != 2 {
			t.Errorf("no section %s in %q", name, log)
		}
	}
}
