package trial

import (
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func TestObey(t *testing.T) {
	tests := []struct {
		name   string
		first  os.Signal
		second os.Signal // sent when the after_script runs
		stages string
		said   string
	}{
		{"^C once", syscall.SIGINT, nil, "build_script after_script cleanup_file_variables cleanup", "canceling as GitLab does; once more aborts"},
		{"SIGTERM once", syscall.SIGTERM, nil, "build_script after_script cleanup_file_variables cleanup", "canceling as GitLab does; once more aborts"},
		{"^C twice", syscall.SIGINT, syscall.SIGINT, "build_script after_script cleanup", "canceling as GitLab does; once more aborts|aborting: only cleanup follows"},
		{"terminal gone", syscall.SIGHUP, nil, "build_script cleanup", "aborting: only cleanup follows"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			after := "ok"
			if tt.second != nil {
				after = "hang 2"
			}
			b := newBench(t, "build_script", "hang 2", "after_script", after)
			b.opts.GracefulKillTimeout = anHour
			b.job.AfterScript = []string{"true"}
			signals := make(chan os.Signal, 2)
			var once, twice sync.Once
			b.opts.Hooks.Output = func(_ *Trial, stage string, _ Stream, data []byte) {
				switch ready := strings.Contains(string(data), "ready"); {
				case ready && stage == "build_script":
					once.Do(func() { signals <- tt.first })
				case ready && stage == "after_script":
					twice.Do(func() { signals <- tt.second })
				}
			}
			trial, err := Start(t.Context(), b.job, b.opts)
			if err != nil {
				t.Fatal(err)
			}
			var said []string
			trial.Obey(signals, func(text string) { said = append(said, text) })
			r := trial.Wait()
			names := strings.Join(r.Names()[slices.Index(r.Names(), "build_script"):], " ")
			if names != tt.stages || strings.Join(said, "|") != tt.said || r.Status != Canceled {
				t.Errorf("%s; said %q; %q", names, said, r.Status)
			}
		})
	}
}

func TestObeyWhenTheScriptIsOver(t *testing.T) {
	b := newBench(t, "after_script", "hang 0")
	b.job.AfterScript = []string{"true"}
	signals := make(chan os.Signal, 1)
	b.onReady("after_script", func(*Trial) { signals <- syscall.SIGINT })
	trial, err := Start(t.Context(), b.job, b.opts)
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	trial.Obey(signals, func(text string) {
		said = append(said, text)
		b.signal(syscall.SIGTERM) // lets the after_script end
	})
	if r := trial.Wait(); r.Status != Success || len(said) != 1 || !strings.HasPrefix(said[0], "the script is over") {
		t.Errorf("%q %q", r.Status, said)
	}
}

func TestDriverArgs(t *testing.T) {
	for want, args := range map[string][]string{"prepare": nil, "prepare -x tart": {"-x", "tart"}, "prepare --cpu 4": {"prepare", "--cpu", "4"}} {
		if got := strings.Join(DriverArgs("prepare", args), " "); got != want {
			t.Errorf("%q became %q", args, got)
		}
	}
}
