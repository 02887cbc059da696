package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"gitlab-runner-tart-driver/bench/timeline"
	"gitlab-runner-tart-driver/internal/tartsim/simconf"
	"gitlab-runner-tart-driver/internal/trial"
)

// stageSample is what one process of a driver took, from the start of the process to its exit.
type stageSample struct {
	name string
	pid  int
	span timeline.Span
	// cpu is its processor time and that of all that it waited for.
	cpu time.Duration
	// maxRSS is the peak of its resident memory, or of a process that it waited for if that had more. Bytes.
	maxRSS int64
}

func (s stageSample) wall() time.Duration { return s.span.To.Sub(s.span.From) }

// jobSample is what a whole job took.
type jobSample struct {
	// stages are those of the last attempt at prepare, and what followed.
	stages []stageSample
	// attempts is how often prepare was tried.
	attempts int
	// calls are those of tart.
	calls []simconf.Call
	// ready is the first moment at which a login would have succeeded.
	ready time.Time
	// ssh is what the guest's SSH server saw.
	ssh sshCounts
	// total is from the start of the job to the end of cleanup.
	total time.Duration
}

// stage is the sample of a stage that there is once.
func (s *jobSample) stage(name string) stageSample {
	for _, st := range s.stages {
		if st.name == name {
			return st
		}
	}
	return stageSample{}
}

// trialOptions are those of a GitLab Runner on the host.
func (b *bench) trialOptions(d *driver, wrapper ...string) trial.Options {
	o := trial.Options{
		Driver: d.programs(wrapper...), Environ: b.host.environ(), TempDir: b.host.temp(), Capture: true,
		RetryDelay: 10 * time.Millisecond, StageRetryDelay: 10 * time.Millisecond, GracefulKillTimeout: 10 * time.Second,
	}
	if d.noConfig {
		o.BuildsDir, o.CacheDir = "/tmp/builds", "/tmp/cache"
	}
	return o
}

// job is a job with four scripts, of which that of the user does nothing.
func (d *driver) job(image string) *trial.Job {
	return &trial.Job{Image: trial.Image{Name: image}, Script: []string{"true"}, Variables: d.variables}
}

// failure is nil for a job that went well, be it with a second attempt.
func failure(d *driver, r *trial.Result) error {
	if r.Status == trial.Success {
		return nil
	}
	log := bytes.ToValidUTF8(r.Log, []byte("?"))
	return fmt.Errorf("a job of %s failed (attempts at prepare: %d): %w; the end of its log:\n%s", d.name, r.PrepareAttempts, r.Err, log[max(0, len(log)-4000):])
}

// meteredJob runs a job and measures its stages. hook is told the end of each stage; it may be nil.
func (b *bench) meteredJob(ctx context.Context, d *driver, image string, hook func(trial.StageResult)) (*jobSample, error) {
	notes, err := os.MkdirTemp(b.host.dir, "notes-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(notes)
	opts := b.trialOptions(d, b.host.programs.meter, notes)
	opts.Hooks.Ended = func(_ *trial.Trial, s trial.StageResult) {
		if hook != nil {
			hook(s)
		}
	}
	result, err := trial.Run(ctx, d.job(image), opts)
	if err != nil {
		return nil, err
	}
	if err := failure(d, result); err != nil {
		return nil, err
	}
	sample := &jobSample{total: result.Duration, attempts: result.PrepareAttempts}
	for _, s := range result.Stages {
		if s.Attempt != result.PrepareAttempts {
			continue
		}
		st, err := readNote(filepath.Join(notes, strconv.Itoa(s.PID)+".json"))
		if err != nil {
			return nil, fmt.Errorf("stage %s: %w", s.Name, err)
		}
		st.name = s.Name
		sample.stages = append(sample.stages, st)
	}
	return sample, nil
}

// readNote reads what command meter has written.
func readNote(path string) (stageSample, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return stageSample{}, err
	}
	var note struct {
		PID        int
		Start, End time.Time
		CPU        time.Duration
		MaxRSS     int64
	}
	if err := json.Unmarshal(raw, &note); err != nil {
		return stageSample{}, err
	}
	return stageSample{pid: note.PID, span: timeline.Span{From: note.Start, To: note.End}, cpu: note.CPU, maxRSS: note.MaxRSS << 10}, nil
}

// observedJob runs a job, alone on the host, and watches tart and the guest as well.
func (b *bench) observedJob(ctx context.Context, d *driver, image string) (*jobSample, error) {
	if err := b.host.forgetCalls(); err != nil {
		return nil, err
	}
	wctx, stop := context.WithCancel(ctx)
	defer stop()
	ready := b.host.watchReady(wctx, b.host.vms())
	var ssh sshCounts
	sample, err := b.meteredJob(ctx, d, image, func(s trial.StageResult) {
		switch s.Name {
		case trial.StagePrepare:
			stop()
		case trial.StageConfig, trial.StageCleanup:
		default:
			ssh = b.host.countSSH() // the log goes with the VM
		}
	})
	stop()
	moment := <-ready
	if err != nil {
		return nil, err
	}
	if sample.attempts > 1 {
		return nil, fmt.Errorf("a job of %s, alone on the host, took %d attempts at prepare", d.name, sample.attempts)
	}
	if moment.IsZero() {
		return nil, fmt.Errorf("a job of %s: nobody saw its guest's SSH server begin to listen", d.name)
	}
	sample.ready, sample.ssh = moment, ssh
	sample.calls, err = simconf.ReadCalls(b.host.tartHome())
	return sample, err
}
